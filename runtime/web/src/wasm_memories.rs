//! The memories that a WebAssembly module declares: what an instance of it may grow to.
//!
//! In: a module's bytes. Out: sizes, and whether threads share one. Invariant: total: what is no
//! module declares nothing.

/// Bytes of a page.
const PAGE: usize = 64 << 10;

/// The most that each memory which a module makes for itself may become, in bytes; `most` where it
/// says nothing, and nothing for what is no module.
pub fn declared(module: &[u8], most: usize) -> Vec<usize> {
    let bytes =
        |memory: Declared| memory.bound.map_or(most, |pages| pages.saturating_mul(PAGE).min(most));
    all(module).map(bytes).collect()
}

/// Whether one of the memories that a module makes for itself is there for several threads.
pub fn are_shared(module: &[u8]) -> bool {
    all(module).any(|memory| memory.is_shared)
}

/// What a module says of a memory.
struct Declared {
    /// The most that it may become, in pages.
    bound: Option<usize>,
    is_shared: bool,
}

fn all(module: &[u8]) -> impl Iterator<Item = Declared> {
    sections(module).unwrap_or_default().into_iter().flat_map(memories)
}

/// The bodies of the memory sections, of which a valid module has at most one.
fn sections(module: &[u8]) -> Option<Vec<&[u8]>> {
    const MEMORY: u8 = 5;
    let mut rest = module.strip_prefix(b"\0asm")?.get(4..)?;
    let mut found = Vec::new();
    while let Some((id, after)) = rest.split_first() {
        rest = after;
        let size = number(&mut rest)?;
        let (body, after) = rest.split_at_checked(size)?;
        if *id == MEMORY {
            found.push(body);
        }
        rest = after;
    }
    Some(found)
}

fn memories(mut section: &[u8]) -> Vec<Declared> {
    let count = number(&mut section).unwrap_or(0);
    let mut found = Vec::new();
    for _ in 0..count {
        let Some((flags, rest)) = section.split_first() else { break };
        section = rest;
        let _least = number(&mut section);
        let bound = if flags & 1 == 1 { number(&mut section) } else { None };
        found.push(Declared { bound, is_shared: flags & 2 == 2 });
    }
    found
}

/// An unsigned number in LEB128.
fn number(text: &mut &[u8]) -> Option<usize> {
    let mut value: usize = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = text.split_first()?;
        *text = rest;
        value |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_says_what_its_memories_may_become() {
        let module = |sections: &[u8]| [b"\0asm\x01\0\0\0", sections].concat();
        assert_eq!(declared(&module(&[]), 9), [0; 0]);
        // A custom section, then one memory of 1 to 2 pages.
        let bounded = module(&[0, 3, 1, b'x', 7, 5, 4, 1, 1, 1, 2]);
        assert_eq!(declared(&bounded, 1 << 30), [2 * PAGE]);
        assert_eq!(declared(&bounded, PAGE), [PAGE]);
        assert!(!are_shared(&bounded));
        assert!(are_shared(&module(&[5, 4, 1, 3, 1, 2])));
        // Two memories without a bound, their least size in two bytes.
        let unbounded = module(&[5, 7, 2, 0, 0x80, 1, 0, 0x80, 1]);
        assert_eq!(declared(&unbounded, 5 * PAGE), [5 * PAGE, 5 * PAGE]);
        for cut in 0..unbounded.len() {
            assert!(declared(&unbounded[..cut], 1).is_empty(), "cut at {cut}");
        }
        assert_eq!(declared(b"no module", 1), [0; 0]);
    }
}
