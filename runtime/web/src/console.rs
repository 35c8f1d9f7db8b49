//! The length of a line of the console.
//!
//! In: the rendered arguments of one call. Out: as much of them as a line may have.
//! Invariant: what is cut is cut at a character's boundary.

/// Cuts a line to `limit` bytes, counting a space between two arguments; says whether it did.
pub fn truncate(messages: &mut Vec<String>, limit: u64) -> bool {
    let mut left = usize::try_from(limit).unwrap_or(usize::MAX);
    for at in 0..messages.len() {
        if messages[at].len() > left {
            let end = messages[at].floor_char_boundary(left);
            messages[at].truncate(end);
            messages.truncate(at + 1);
            return true;
        }
        left = left.saturating_sub(messages[at].len() + 1);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_between_characters_and_loses_what_follows() {
        let mut messages = ["ab", "ceé", "d"].map(str::to_owned).to_vec();
        assert!(truncate(&mut messages, 6));
        assert_eq!(messages, ["ab", "ce"]);
    }

    #[test]
    fn a_line_that_fits_stays_whole() {
        let mut messages = ["ab", "cd"].map(str::to_owned).to_vec();
        assert!(!truncate(&mut messages, 5));
        assert_eq!(messages, ["ab", "cd"]);
    }
}
