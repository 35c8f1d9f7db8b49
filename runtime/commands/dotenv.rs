//! The text of `.env` files: variables as every dotenv reader understands them.
//!
//! In: values, or a file's text. Out: a value as such a file writes it; the variables of a file.
//! Invariant: what is written is read back as the same value, by us and by the npm package dotenv,
//! whose rules these are; of a value that no such file can hold, that is said. The rules: an end
//! quote is one that ends its line, or stands before a comment; quoted text may have several lines;
//! no quote is escaped, and only between double quotes `\n` and `\r` stand for a character.

/// What may stand around a value.
const QUOTES: [char; 3] = ['\'', '"', '`'];

/// A value as a `.env` file writes it, quoted wherever a shell would split it; `None` if no way of
/// writing gives it back.
pub fn written(value: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@%+,=|".contains(&byte);
    if value.bytes().all(plain) {
        return Some(value.to_owned());
    }
    let escaped = value.replace('\n', "\\n").replace('\r', "\\r");
    let quoted = [format!("'{value}'"), format!("\"{escaped}\""), format!("`{value}`")];
    // A backslash would hide the end quote, and so might a quote that nothing ends: what follows
    // in the file would be part of it.
    let quoted = quoted.into_iter().filter(|_| !value.ends_with('\\'));
    let bare = (!value.starts_with(QUOTES)).then(|| value.to_owned());
    let returns = |way: &String| read(&format!("A={way}")) == [("A".to_owned(), value.to_owned())];
    quoted.chain(bare).find(returns)
}

/// The variables of a file, in its order. Lines that set none are passed over.
pub fn read(text: &str) -> Vec<(String, String)> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut rest = text.as_str();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let line = first_line(rest);
        let Some((name, start)) = assigned(line) else {
            rest = rest.get(line.len() + 1..).unwrap_or_default();
            continue;
        };
        let (value, length) = value_of(&rest[start..]);
        found.push((name.to_owned(), value));
        rest = &rest[start + length..];
        rest = rest.get(first_line(rest).len() + 1..).unwrap_or_default();
    }
    found
}

fn first_line(text: &str) -> &str {
    text.split('\n').next().unwrap_or_default()
}

/// The name that a line sets, and where its value begins.
fn assigned(line: &str) -> Option<(&str, usize)> {
    let (before, _) = line.split_once('=')?;
    let name = before.trim();
    let name = name.strip_prefix("export ").map_or(name, str::trim_start);
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let is_name = !name.is_empty() && name.chars().all(is_part);
    is_name.then_some((name, before.len() + 1))
}

/// The value at the start of a text, and the length of what says it.
fn value_of(text: &str) -> (String, usize) {
    let margin = text.len() - text.trim_start_matches([' ', '\t']).len();
    let body = &text[margin..];
    let mark = body.chars().next().filter(|first| QUOTES.contains(first));
    let expanded = |inner: &str| match mark {
        Some('"') => inner.replace("\\n", "\n").replace("\\r", "\r"),
        _ => inner.to_owned(),
    };
    if let Some(mark) = mark
        && let Some(inner) = quoted(&body[1..], mark)
    {
        return (expanded(inner), margin + inner.len() + 2);
    }
    let line = first_line(text);
    let said = line.split('#').next().unwrap_or_default();
    let bare = said.trim();
    let inside = mark.and_then(|mark| bare.strip_prefix(mark)?.strip_suffix(mark));
    (expanded(inside.unwrap_or(bare)), line.len())
}

/// What stands before the end quote: the first quote without a backslash before it, if that ends
/// its line, else the last one before it that does.
fn quoted(text: &str, mark: char) -> Option<&str> {
    let is_bare = |at: &usize| !text[..*at].ends_with('\\');
    let mut ends: Vec<usize> = Vec::new();
    for (at, _) in text.match_indices(mark) {
        ends.push(at);
        if is_bare(&at) {
            break;
        }
    }
    let ends_line = |at: &usize| {
        let tail = first_line(&text[at + 1..]).trim_start();
        tail.is_empty() || tail.starts_with('#')
    };
    ends.into_iter().rev().find(ends_line).map(|at| &text[..at])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn values_are_quoted_only_where_a_shell_would_split_them() {
        let written = |value| written(value).unwrap();
        assert_eq!(written("https://a.example/x?"), "'https://a.example/x?'");
        assert_eq!(written("a|b=c"), "a|b=c");
        assert_eq!(written("two words"), "'two words'");
        assert_eq!(written("-- KEY\nab\\n=\n--"), "'-- KEY\nab\\n=\n--'", "lines stay lines");
        assert_eq!(written("it's\nnew"), "\"it's\\nnew\"");
        assert_eq!(written("it's # \"new\""), "`it's # \"new\"`");
        assert_eq!(written("a\r\nb"), "\"a\\r\\nb\"");
        assert_eq!(written("C:\\a b\\"), "C:\\a b\\", "no quote ends after a backslash");
        assert_eq!(super::written("'\n\"\n`\\n"), None);
    }

    #[test]
    fn a_file_is_read_as_dotenv_reads_it() {
        let text = "# note\nA=1\n export B = two words # note\nC='x\n# y' # z\nD=\"a\\nb\"\r\n\
                    no line\nE=\nF='it's'\nG=\"open\\n\nH=a#b\nI='x\\'\nJ=`'\"`";
        let expected = [
            one("A", "1"),
            one("B", "two words"),
            one("C", "x\n# y"),
            one("D", "a\nb"),
            one("E", ""),
            one("F", "it's"),
            one("G", "\"open\n"),
            one("H", "a"),
            one("I", "x\\"),
            one("J", "'\""),
        ];
        assert_eq!(read(text), expected);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            values in prop::collection::vec("['\"`\\\\nr\n\r#= \ta$\u{e9}\u{1f600}]{0,12}", 1..5),
        ) {
            let kept: Vec<_> = values
                .iter()
                .filter_map(|value| Some((value.clone(), written(value)?)))
                .enumerate()
                .map(|(at, (value, text))| (one(&format!("V{at}"), &value), text))
                .collect();
            let line = |((name, _), text): &((String, String), String)| format!("{name}={text}");
            let file = kept.iter().map(line).collect::<Vec<_>>().join("\n");
            let expected: Vec<_> = kept.into_iter().map(|(variable, _)| variable).collect();
            prop_assert_eq!(read(&file), expected);
        }

        #[test]
        fn what_has_no_backtick_and_ends_in_no_backslash_can_be_written(
            value in "['\"\\\\n\n#= \ta$\u{e9}\u{1f600}]{0,12}",
        ) {
            prop_assume!(!value.ends_with('\\'));
            prop_assert!(written(&value).is_some(), "{value:?}");
        }
    }
}
