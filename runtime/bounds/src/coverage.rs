//! What V8 answers when it is asked what ran.
//!
//! In: an answer to `Profiler.takePreciseCoverage` of the Chrome DevTools Protocol. Out: scripts,
//! functions, ranges. Invariant: offsets are UTF-16 units of the script's source.

use serde::Deserialize;

/// The scripts of an answer `{"id": …, "result": {"result": […]}}`. `None`: it is no such answer.
#[must_use]
pub fn scripts(answer: &str) -> Option<Vec<Script>> {
    let Answer { result: Scripts { result } } = serde_json::from_str(answer).ok()?;
    Some(result)
}

#[derive(Deserialize)]
struct Answer {
    result: Scripts,
}

#[derive(Deserialize)]
struct Scripts {
    result: Vec<Script>,
}

/// A script with a function that was compiled.
#[derive(Deserialize)]
pub struct Script {
    /// Its address, as it was compiled with.
    pub url: String,
    /// Its functions; the script as a whole is one.
    pub functions: Vec<Function>,
}

/// A function.
#[derive(Deserialize)]
pub struct Function {
    /// Its name; empty where it has none.
    #[serde(rename = "functionName")]
    pub name: String,
    /// The first is the whole function; the others are its blocks, where those were asked for.
    pub ranges: Vec<Range>,
}

/// A part of a source, and how often it ran.
#[derive(Deserialize)]
pub struct Range {
    /// Where it starts.
    #[serde(rename = "startOffset")]
    pub start: u32,
    /// Where it ends: the offset after it.
    #[serde(rename = "endOffset")]
    pub end: u32,
    /// How often it ran since it was asked last.
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::scripts;

    #[test]
    fn scripts_are_read_and_errors_are_none() {
        let answer = r#"{"id":1,"result":{"timestamp":1.5,"result":[{"scriptId":"3","url":"a.js",
            "functions":[{"functionName":"f","isBlockCoverage":true,
            "ranges":[{"startOffset":2,"endOffset":9,"count":4}]}]}]}}"#;
        let [script] = &scripts(answer).unwrap()[..] else { panic!("one script") };
        let function = &script.functions[0];
        assert_eq!((&*script.url, &*function.name), ("a.js", "f"));
        let range = &function.ranges[0];
        assert_eq!((range.start, range.end, range.count), (2, 9, 4));
        assert!(scripts(r#"{"id":1,"error":{"code":-32000,"message":"not enabled"}}"#).is_none());
    }
}
