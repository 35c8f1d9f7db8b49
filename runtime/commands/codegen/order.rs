//! The order of names in generated files: that of English dictionaries, numbers by their value.
//!
//! In: names of functions, tables and fields. Out: which comes first. Invariant: for ASCII names
//! the order is that of `Intl.Collator("en-US", { numeric: true, sensitivity: "case" })`, which the
//! official generator sorts with.

use std::cmp::Ordering;

/// Compares two names.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    // What letters they are comes first, which of them are capitals second.
    weights(a).cmp(&weights(b)).then_with(|| capitals(a).cmp(&capitals(b)))
}

/// One unit of a name.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Weight {
    /// Punctuation and symbols, by their place in the table.
    Mark(usize),
    /// A run of digits: its length without leading zeros, then the digits.
    Number(usize, String),
    Letter(char),
}

/// The collation order of ASCII's punctuation and symbols.
const MARKS: &str = " _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$";

fn weights(name: &str) -> Vec<Weight> {
    let mut weights = vec![];
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        if let Some(place) = MARKS.chars().position(|mark| mark == c) {
            weights.push(Weight::Mark(place));
        } else if c.is_ascii_digit() {
            let mut digits = String::from(c);
            while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            let digits = digits.trim_start_matches('0').to_owned();
            weights.push(Weight::Number(digits.len(), digits));
        } else {
            weights.extend(c.to_lowercase().map(Weight::Letter));
        }
    }
    weights
}

fn capitals(name: &str) -> Vec<bool> {
    name.chars().filter(|c| c.is_alphabetic()).map(char::is_uppercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_as_the_official_generator_sorts_them() {
        // names.sort(new Intl.Collator("en-US", { numeric: true, sensitivity: "case" }).compare)
        let sorted = ["_id", "a_9", "a.b", "a{b", "a$", "a9", "A9", "a10", "aB", "ac", "Ad", "b"];
        let mut names = sorted;
        names.reverse();
        names.sort_by(|a, b| compare(a, b));
        assert_eq!(names, sorted);
    }
}
