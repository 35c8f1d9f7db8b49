//! Contexts that serve more than one call, one after another.
//!
//! In: contexts whose call has ended. Out: the same, for the next call of their module at their
//! depth. Invariant: an attempt in which anything threw is decided by one in fresh contexts
//! ([`Traces::threw`]), even if it was caught (`sentinel.rs`), and a context that is not frozen is
//! dropped then; at most one call uses a context at a time; no call waits while a context is
//! frozen: that is done between calls.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

use database::limits;

use crate::code::Code;
use crate::context::{Purpose, Ready};
use crate::execution::Visits;
use crate::reuse::Keeping;
use crate::{engine, execution, harden, sentinel};

/// Whether an attempt may use kept contexts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Each function of it runs in a context of its own.
    #[default]
    Fresh,
    /// Where the module's standing allows it, in kept ones.
    MayKeep,
    /// The same, and where nothing speaks against it: another execution decides.
    MayTry,
}

/// A context that is kept.
pub(crate) struct Kept {
    ready: Ready,
    of: Use,
    depth: usize,
    keeping: Keeping,
    /// Calls that it will serve.
    runs_left: u64,
}

/// What makes calls of one module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Use {
    /// [`Code::part`].
    pub(crate) part: usize,
    pub(crate) module: Arc<str>,
}

/// What an attempt did with kept contexts.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    /// The modules whose contexts served it.
    pub(crate) served: Vec<Use>,
    /// Whether something threw in one of them, even if it was caught.
    pub(crate) threw: bool,
}

thread_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode::Fresh) };
    static TRACES: RefCell<Traces> = RefCell::default();
    /// The one used last comes first.
    static KEPT: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
    /// A frozen context that a call at this depth went without, and that is due.
    static WISH: RefCell<Option<(Use, usize)>> = const { RefCell::new(None) };
    /// Of which contexts were frozen before, and how many calls went without one since.
    static FROZEN: RefCell<BTreeMap<(Use, usize), u64>> = const { RefCell::new(BTreeMap::new()) };
    static PACE: Cell<Pace> = const { Cell::new(Pace { rests_until: None }) };
}

/// Held while a context is frozen: calls find another isolate then that does not.
static FREEZING: Mutex<()> = Mutex::new(());

/// Begins an attempt.
pub(crate) fn begin(mode: Mode) {
    MODE.set(mode);
    TRACES.take();
    sentinel::take_thrown();
}

/// Ends it.
pub(crate) fn end() -> Traces {
    MODE.set(Mode::Fresh);
    let Traces { served, threw } = TRACES.take();
    Traces { served, threw: threw | sentinel::take_thrown() }
}

/// Drops all contexts: before their isolate goes.
pub(crate) fn clear() {
    KEPT.take();
    WISH.take();
    FROZEN.take();
    sentinel::end();
}

/// A kept context for a call of a function of `module` at `depth`. `None`: there is none, the
/// module's contexts are not kept, or not in this attempt.
pub(crate) fn take(
    scope: &mut v8::PinScope<'_, '_, ()>,
    code: &Code,
    module: &Arc<str>,
    depth: usize,
) -> Option<Kept> {
    let standing = code.standings.get(module)?;
    match MODE.get() {
        Mode::Fresh => return None,
        Mode::MayKeep if standing.is_tried() => return None,
        Mode::MayKeep | Mode::MayTry => {}
    }
    // What has run something elsewhere cannot be decided by another execution.
    if execution::with(|execution| execution.visits) == Some(Visits::Some) {
        return None;
    }
    let kept = find_or_make(scope, code, module, depth)?;
    TRACES.with_borrow_mut(|traces| traces.served.push(kept.of.clone()));
    Some(kept)
}

/// Makes sure that there is one for the next call from outside, where the module's standing allows
/// it. Returns whether there is.
pub(crate) fn ensure(scope: &mut v8::PinScope<'_, '_, ()>, code: &Code, module: &Arc<str>) -> bool {
    find_or_make(scope, code, module, 0).map(keep).is_some()
}

/// The frozen context that is to be made next.
pub(crate) fn wished() -> Option<(Use, usize)> {
    WISH.take()
}

/// Makes a frozen context for calls of `of` at `depth`: between calls, and not while another
/// isolate does such, nor soon after the last one: whoever goes without wishes for it again.
pub(crate) fn freeze(scope: &mut v8::PinScope<'_, '_, ()>, code: &Code, of: &Use, depth: usize) {
    let (begun, mut pace) = (Instant::now(), PACE.get());
    let _turn = match FREEZING.try_lock() {
        Ok(turn) => turn,
        // It guards nothing but the time.
        Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
        Err(TryLockError::WouldBlock) => return,
    };
    if !pace.allows(begun) {
        return;
    }
    FROZEN.with_borrow_mut(|all| all.insert((of.clone(), depth), 0));
    if let Some(kept) = make(scope, code, &of.module, depth) {
        keep(kept);
    }
    pace.rest(begun.elapsed(), Instant::now());
    PACE.set(pace);
}

/// How often an isolate freezes.
#[derive(Clone, Copy)]
struct Pace {
    rests_until: Option<Instant>,
}

impl Pace {
    fn allows(self, now: Instant) -> bool {
        self.rests_until.is_none_or(|until| now >= until)
    }

    /// A context was frozen, in so long: the next one is not before that is a small share of all
    /// time.
    fn rest(&mut self, took: Duration, now: Instant) {
        let parts = u32::try_from(limits::FREEZING_PARTS).expect("a small count fits");
        self.rests_until = now.checked_add(took * (parts - 1));
    }
}

/// Whether a kept context has served the attempt.
pub(crate) fn is_serving() -> bool {
    TRACES.with_borrow(|traces| !traces.served.is_empty())
}

fn find_or_make(
    scope: &mut v8::PinScope<'_, '_, ()>,
    code: &Code,
    module: &Arc<str>,
    depth: usize,
) -> Option<Kept> {
    if let Some(kept) = find(code, module, depth) {
        return Some(kept);
    }
    match code.standings.get(module)?.keeping()? {
        Keeping::AsItIs => make(scope, code, module, depth),
        Keeping::Frozen => {
            wish(Use { part: code.part, module: Arc::clone(module) }, depth);
            None
        }
    }
}

/// A call goes without a frozen context. The first is due at once; another, where one had to go
/// or will have to, only after so many calls that freezing costs each of them little.
fn wish(of: Use, depth: usize) {
    let of = (of, depth);
    let has_room = KEPT.with_borrow(|all| all.len() < most_kept());
    let is_due = FROZEN.with_borrow_mut(|all| {
        if has_room && !all.contains_key(&of) {
            return true;
        }
        let calls = all.entry(of.clone()).or_default();
        *calls += 1;
        *calls >= limits::CALLS_BETWEEN_FREEZES
    });
    if is_due {
        WISH.set(Some(of));
    }
}

fn find(code: &Code, module: &Arc<str>, depth: usize) -> Option<Kept> {
    code.standings.get(module)?.keeping()?;
    let fits =
        |kept: &Kept| kept.depth == depth && kept.of.part == code.part && kept.of.module == *module;
    KEPT.with_borrow_mut(|all| {
        let at = all.iter().position(fits)?;
        Some(all.remove(at))
    })
}

fn make(
    scope: &mut v8::PinScope<'_, '_, ()>,
    code: &Code,
    module: &Arc<str>,
    depth: usize,
) -> Option<Kept> {
    let standing = code.standings.get(module)?;
    let keeping = standing.keeping()?;
    let queue = engine::queue_at(scope, depth);
    // A failure shows again in the fresh context that the call gets instead.
    let ready = Ready::make(scope, code, queue, Purpose::Calls(&code.origin(module))).ok()?;
    if keeping == Keeping::Frozen
        && let Err(why) = harden::harden(scope, &ready)
    {
        standing.refuse(why);
        return None;
    }
    let of = Use { part: code.part, module: Arc::clone(module) };
    Some(Kept { ready, of, depth, keeping, runs_left: runs_of(keeping) })
}

/// How many calls a context serves.
fn runs_of(keeping: Keeping) -> u64 {
    match keeping {
        Keeping::AsItIs => limits::CALLS_PER_CONTEXT,
        Keeping::Frozen => limits::CALLS_PER_FROZEN_CONTEXT,
    }
}

impl Kept {
    /// The context.
    pub(crate) fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Its call ended with a result.
    pub(crate) fn give_back(mut self) {
        self.runs_left -= 1;
        if self.runs_left > 0 {
            return keep(self);
        }
        // It has served its time, so the next one is due as the first was.
        FROZEN.with_borrow_mut(|all| all.remove(&(self.of, self.depth)));
    }

    /// Its call threw. Nothing of that can stay in a frozen one either.
    pub(crate) fn give_back_after_error(self) {
        TRACES.with_borrow_mut(|traces| traces.threw = true);
        if self.keeping == Keeping::Frozen {
            self.give_back();
        }
    }

    /// Its call was stopped, and its isolate with it.
    pub(crate) fn drop_after_stop(self) {
        TRACES.with_borrow_mut(|traces| traces.threw = true);
    }
}

fn keep(kept: Kept) {
    KEPT.with_borrow_mut(|all| {
        all.insert(0, kept);
        all.truncate(most_kept());
    });
}

fn most_kept() -> usize {
    usize::try_from(limits::KEPT_CONTEXTS).expect("a small count fits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_context_serves_more_calls() {
        assert_eq!(runs_of(Keeping::AsItIs), limits::CALLS_PER_CONTEXT);
        assert_eq!(runs_of(Keeping::Frozen), limits::CALLS_PER_FROZEN_CONTEXT);
    }

    #[test]
    fn freezing_takes_a_small_share_of_the_time() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut pace = Pace { rests_until: None };
        assert!(pace.allows(start));
        pace.rest(second, start + second);
        let next = start + second * u32::try_from(limits::FREEZING_PARTS).unwrap();
        assert!(!pace.allows(next - second / 100));
        assert!(pace.allows(next));
    }

    #[test]
    fn a_context_that_had_to_go_is_frozen_again_only_after_many_calls() {
        let of = || Use { part: 0, module: "m.js".into() };
        clear();
        wish(of(), 1);
        assert_eq!(wished(), Some((of(), 1)), "the first");
        FROZEN.with_borrow_mut(|all| all.insert((of(), 1), 0));
        for _ in 1..limits::CALLS_BETWEEN_FREEZES {
            wish(of(), 1);
            assert_eq!(wished(), None);
        }
        wish(of(), 2);
        assert_eq!(wished(), Some((of(), 2)), "another depth");
        wish(of(), 1);
        assert_eq!(wished(), Some((of(), 1)));
    }
}
