//! The scripts of the web platform: deno's streams, blobs and converters, and our `js/web`.
//!
//! In: a specifier as scripts give to `loadExtScript`. Out: the text of a function of `__bootstrap`
//! that returns the script's exports. Invariant: the text lives in the program, not in snapshots:
//! whoever never asks for a script pays nothing for it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use deno_core::Extension;

/// Our own scripts, by specifier; in the order in which they build on each other.
const OURS: &[(&str, &str)] = &[
    ("ext:concave_web/headers.js", include_str!("../../../js/web/headers.js")),
    ("ext:concave_web/multipart.js", include_str!("../../../js/web/multipart.js")),
    ("ext:concave_web/form_data.js", include_str!("../../../js/web/form_data.js")),
    ("ext:concave_web/body.js", include_str!("../../../js/web/body.js")),
    ("ext:concave_web/request.js", include_str!("../../../js/web/request.js")),
    ("ext:concave_web/response.js", include_str!("../../../js/web/response.js")),
];

/// The script called `specifier`, as the expression `(__bootstrap) => exports`. ASCII only.
#[must_use]
pub fn script(specifier: &str) -> Option<&'static str> {
    static SCRIPTS: OnceLock<BTreeMap<&'static str, String>> = OnceLock::new();
    let scripts = SCRIPTS.get_or_init(|| {
        let ours = OURS.iter().map(|(specifier, text)| (*specifier, function_of(text)));
        ours.chain(theirs()).collect()
    });
    scripts.get(specifier).map(String::as_str)
}

/// deno's scripts: they are given out as parts of extensions.
fn theirs() -> Vec<(&'static str, String)> {
    let blobs = Arc::new(deno_web::BlobStore::default());
    let channel = deno_web::InMemoryBroadcastChannel::default();
    let extensions: [Extension; 2] =
        [deno_webidl::deno_webidl::init(), deno_web::deno_web::init(blobs, None, false, channel)];
    let files = extensions.iter().flat_map(|extension| extension.lazy_loaded_js_files.iter());
    let texts = files.map(|file| {
        let text = file.load().expect("deno compiles its scripts into the program");
        (file.specifier, function_of(text.as_str()))
    });
    texts.collect()
}

/// A script is one call of a function without parameters, after comments; this makes the call
/// happen when a `__bootstrap` is given.
fn function_of(text: &str) -> String {
    let start = text.find("\n(function").map_or(0, |at| at + 1);
    let call = text[start..].trim_end_matches(|c: char| c.is_whitespace() || c == ';');
    // The lines before it, empty: positions in stack traces stay those of the file.
    let lines = "\n".repeat(text[..start].matches('\n').count());
    format!("(__bootstrap) => {{ 'use strict'; {lines}return {call}; }}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_expressions_of_one_function() {
        for name in ["ext:deno_webidl/00_webidl.js", "ext:deno_web/06_streams.js"] {
            let text = script(name).unwrap();
            assert!(text.starts_with("(__bootstrap) =>") && text.ends_with("; }"), "{name}");
            assert!(text.contains("return (function"), "{name}");
        }
        assert!(script("ext:deno_web/none.js").is_none());
    }

    #[test]
    fn our_scripts_are_ascii() {
        for (name, text) in OURS {
            let at = text.bytes().position(|byte| !byte.is_ascii());
            assert_eq!(at, None, "{name}: deno_core takes only ASCII");
        }
    }

    #[test]
    fn lines_keep_their_numbers() {
        let text = function_of("// One.\n// Two.\n(function () {\nreturn 1;\n})();\n");
        assert_eq!(text.lines().nth(2), Some("return (function () {"));
    }
}
