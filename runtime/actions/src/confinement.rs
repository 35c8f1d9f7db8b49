//! What a process of actions may do to other processes: nothing. The host is its parent and runs
//! as the same user, so the system itself would let it be signalled, traced and starved.
//!
//! In: a process that is about to run code of a deployment. Out: the same process with a filter of
//! its system calls (seccomp-bpf). Invariant: what aims at another process answers EPERM; what a
//! process does to itself and its threads works; it stays so for what the process starts.

use std::io;
use std::sync::OnceLock;

use libc::{c_long, sock_filter, sock_fprog};

/// Where things are in what a filter reads (`struct seccomp_data`), in bytes. Both architectures
/// put the low half of an argument first.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE_HERE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE_HERE: u32 = 0xc000_00b7;

/// Numbers from here on are those of another ABI (x32), which knows all calls once more; aarch64
/// has none up there.
const NUMBERS_END: u32 = 0x4000_0000;

/// Instructions of the filter: each acts on one accumulator.
const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const IF_LESS_NOT: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// What makes somebody the owner of a descriptor, who then gets its signals.
const F_SETOWN_EX: u32 = 15;
const FIOSETOWN: u32 = 0x8901;
const SIOCSPGRP: u32 = 0x8902;

/// When a system call is let through.
enum Rule {
    Never,
    /// When this argument is the process itself.
    Own(u32),
    /// When this argument is the process itself, or 0, which stands for it.
    OwnOrZero(u32),
    /// When it is about one process, and that is the process itself.
    OwnPriority,
    /// When the second argument, which says what to do, is none of these.
    Without([u32; 2]),
}

/// The calls by which one process acts on another of the same user.
const RULES: &[(c_long, Rule)] = &[
    (libc::SYS_kill, Rule::Own(0)),
    (libc::SYS_tkill, Rule::Own(0)),
    (libc::SYS_tgkill, Rule::Own(0)),
    (libc::SYS_rt_sigqueueinfo, Rule::Own(0)),
    (libc::SYS_rt_tgsigqueueinfo, Rule::Own(0)),
    (libc::SYS_pidfd_send_signal, Rule::Never),
    (libc::SYS_pidfd_getfd, Rule::Never),
    (libc::SYS_process_madvise, Rule::Never),
    (libc::SYS_ptrace, Rule::Never),
    (libc::SYS_kcmp, Rule::Never),
    (libc::SYS_process_vm_readv, Rule::Own(0)),
    (libc::SYS_process_vm_writev, Rule::Own(0)),
    (libc::SYS_migrate_pages, Rule::OwnOrZero(0)),
    (libc::SYS_move_pages, Rule::OwnOrZero(0)),
    (libc::SYS_prlimit64, Rule::OwnOrZero(0)),
    (libc::SYS_setpriority, Rule::OwnPriority),
    (libc::SYS_fcntl, Rule::Without([libc::F_SETOWN.cast_unsigned(), F_SETOWN_EX])),
    (libc::SYS_ioctl, Rule::Without([FIOSETOWN, SIOCSPGRP])),
];

/// Whether this system can confine a process.
pub fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let nothing = std::ptr::null::<sock_fprog>();
        // SAFETY: a plain system call. Without a filter it changes nothing, and says EFAULT where
        // there could have been one.
        let answer =
            unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, nothing) };
        answer < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
    })
}

/// A filter that is made before a process is forked, where memory can be had, and set after that.
pub(crate) struct Filter {
    program: Vec<sock_filter>,
    /// Which instructions compare with the number of the process.
    own: Vec<usize>,
}

impl Filter {
    /// `None` where the system has no filters.
    pub(crate) fn new() -> Option<Self> {
        is_available().then(Self::made)
    }

    fn made() -> Self {
        let mut filter = Self { program: Vec::new(), own: Vec::new() };
        filter.add(LOAD, ARCHITECTURE, 0, 0);
        filter.add(IF_EQUAL, ARCHITECTURE_HERE, 1, 0);
        filter.answer(false);
        filter.add(LOAD, NUMBER, 0, 0);
        filter.add(IF_LESS_NOT, NUMBERS_END, 0, 1);
        filter.answer(false);
        for (number, rule) in RULES {
            filter.add_rule(*number, rule);
        }
        filter.answer(true);
        filter
    }

    /// What is done for one call, and skipped for others; it ends with an answer.
    fn add_rule(&mut self, number: c_long, rule: &Rule) {
        let length = match rule {
            Rule::Never => 1,
            Rule::Own(_) => 4,
            Rule::OwnOrZero(_) | Rule::Without(_) => 5,
            Rule::OwnPriority => 8,
        };
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        self.add(IF_EQUAL, number, 0, length);
        match rule {
            Rule::Never => self.answer(false),
            Rule::Own(argument) => {
                self.load(*argument);
                self.if_own(0, 1);
                self.answer(true);
                self.answer(false);
            }
            Rule::OwnOrZero(argument) => self.own_or_zero(*argument),
            Rule::OwnPriority => {
                self.load(0);
                self.add(IF_EQUAL, libc::PRIO_PROCESS, 1, 0);
                self.answer(false);
                self.own_or_zero(1);
            }
            Rule::Without([one, other]) => {
                self.load(1);
                self.add(IF_EQUAL, *one, 2, 0);
                self.add(IF_EQUAL, *other, 1, 0);
                self.answer(true);
                self.answer(false);
            }
        }
    }

    fn own_or_zero(&mut self, argument: u32) {
        self.load(argument);
        self.add(IF_EQUAL, 0, 1, 0);
        self.if_own(0, 1);
        self.answer(true);
        self.answer(false);
    }

    fn load(&mut self, argument: u32) {
        self.add(LOAD, ARGUMENTS + 8 * argument, 0, 0);
    }

    fn if_own(&mut self, yes: u8, no: u8) {
        self.own.push(self.program.len());
        self.add(IF_EQUAL, 0, yes, no);
    }

    fn answer(&mut self, lets: bool) {
        let refusal = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
        self.add(RETURN, if lets { libc::SECCOMP_RET_ALLOW } else { refusal }, 0, 0);
    }

    fn add(&mut self, code: u32, k: u32, jt: u8, jf: u8) {
        let code = u16::try_from(code).unwrap_or_default();
        self.program.push(sock_filter { code, jt, jf, k });
    }

    /// Confines the calling thread and all that it starts. Makes system calls and nothing else.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn enter(&mut self) -> io::Result<()> {
        // SAFETY: a plain system call that always works.
        let own = unsafe { libc::getpid() };
        for at in &self.own {
            if let Some(instruction) = self.program.get_mut(*at) {
                instruction.k = own.cast_unsigned();
            }
        }
        let program = sock_fprog {
            len: u16::try_from(self.program.len()).unwrap_or_default(),
            filter: self.program.as_mut_ptr(),
        };
        let none: libc::c_ulong = 0;
        let yes: libc::c_ulong = 1;
        // SAFETY: `program` and the instructions that it points to live for the length of the
        // call, which copies them.
        let answers = unsafe {
            [
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, yes, none, none, none),
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
            ]
        };
        if answers.contains(&-1) { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;

    /// Runs a shell that is confined; its `$PPID` is this test.
    fn confined(script: &str) -> String {
        let mut filter = Filter::new().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        // SAFETY: `enter` makes system calls only.
        unsafe { command.pre_exec(move || filter.enter()) };
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    #[test]
    fn a_process_signals_itself_and_nobody_else() {
        assert_eq!(confined("kill -0 $$ && echo yes"), "yes");
        for other in ["$PPID", "0", "-1", "-$PPID"] {
            let said = confined(&format!("kill -0 {other} 2>/dev/null || echo no"));
            assert_eq!(said, "no", "kill {other}");
        }
        assert_eq!(confined("ulimit -n 64 && ulimit -n"), "64", "its own limits are its own");
    }

    #[test]
    fn what_it_starts_is_confined_too() {
        let script = "export HOST=$PPID; sh -c 'kill -0 $HOST 2>/dev/null || echo no'; true";
        assert_eq!(confined(script), "no");
    }

    #[test]
    fn every_jump_lands_in_the_program() {
        let filter = Filter::made();
        let length = filter.program.len();
        for (at, instruction) in filter.program.iter().enumerate() {
            let furthest = at + 1 + usize::from(instruction.jt.max(instruction.jf));
            let returns = u32::from(instruction.code) == RETURN;
            assert!(returns || furthest < length, "at {at}");
        }
        assert_eq!(u32::from(filter.program[length - 1].code), RETURN);
    }
}
