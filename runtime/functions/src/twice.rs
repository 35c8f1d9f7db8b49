//! Two executions of one call that should be one.
//!
//! In: the outcomes of a call on the same snapshot, at the same time, with the same seed. Out: what
//! differs, for whoever wrote the function. Invariant: what it says is the same in both orders but
//! for the values that it shows.

use database::record::{Call, Outcome};

/// In what two executions of a call in fresh contexts differ.
pub(crate) fn difference(call: &Call, first: &Outcome, second: &Outcome) -> Option<String> {
    let what = differences(first, second);
    (!what.is_empty()).then(|| {
        format!(
            "{} is not deterministic: run twice on the same data, at the same time, with the same \
             seed, it differs in {}. Does it depend on something outside of its arguments and the \
             database, such as a module's variable?",
            call.path,
            what.join(", ")
        )
    })
}

fn differences(first: &Outcome, second: &Outcome) -> Vec<String> {
    let mut found = Vec::new();
    let text = |outcome: &Outcome| match &outcome.result {
        Ok(text) => text.to_string(),
        Err(error) => error.message.lines().next().unwrap_or_default().to_owned(),
    };
    let (one, other) = (text(first), text(second));
    if one != other {
        found.push(format!("its result ({} and {})", shortened(&one), shortened(&other)));
    }
    if first.writes_digest != second.writes_digest {
        found.push("what it writes".to_owned());
    }
    if first.reads != second.reads {
        found.push("what it reads".to_owned());
    }
    if first.log_lines != second.log_lines {
        found.push("what it logs".to_owned());
    }
    found
}

fn shortened(text: &str) -> String {
    const MOST: usize = 200;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain("…".chars()).collect()
}

#[cfg(test)]
mod tests {
    use database::record::{FunctionError, Given, Outcome};

    use super::differences;

    #[test]
    fn what_differs_is_named_and_shown() {
        let one = Outcome::of_nothing(Given::default());
        assert!(differences(&one, &one.clone()).is_empty());
        let mut other = one.clone();
        other.writes_digest = [1; 32];
        assert_eq!(differences(&one, &other), ["what it writes"]);
        other.result = Ok("2".into());
        assert_eq!(differences(&one, &other)[0], "its result (null and 2)");
        let failed = |message: &str| {
            let error = FunctionError { message: message.to_owned(), data: None };
            let mut outcome = one.clone();
            outcome.result = Err(error);
            outcome
        };
        // Frames are no part of what a caller is told.
        assert!(differences(&failed("no\n    at a"), &failed("no\n    at b")).is_empty());
        assert_eq!(differences(&failed("no 1"), &failed("no 2")), ["its result (no 1 and no 2)"]);
    }
}
