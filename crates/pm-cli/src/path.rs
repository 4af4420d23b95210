//! Paths into a payload: `items[0].pdf`, `items["a.b"]`.

use crate::json::first_value;
use crate::text::with_caret;
use std::fmt;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A key of a map.
    Key(String),
    /// An index into a list, from 0.
    Index(usize),
}

/// A path into a payload; without steps it is the whole payload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Path(pub(crate) Vec<Step>);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(at) => write!(f, "[{at}]")?,
                Step::Key(key) if key.is_empty() || key.contains(['.', '[', ']', '"']) || !has_no_spaces(key) => {
                    write!(f, "[{}]", serde_json::Value::from(key.as_str()))?;
                }
                Step::Key(key) => write!(f, "{}{key}", if index > 0 { "." } else { "" })?,
            }
        }
        Ok(())
    }
}

fn has_no_spaces(key: &str) -> bool {
    !key.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Parses a path. `.` and the empty text are the whole payload; a leading dot is ignored.
pub(crate) fn parse_path(text: &str) -> Result<Path, String> {
    let mut steps = Vec::new();
    let mut at = usize::from(text.starts_with('.') && !text.starts_with(".."));
    let is_done = |at: usize| at == text.len();
    // The first key needs no dot.
    let mut wants_key = !is_done(at) && !text[at..].starts_with('[');
    while !is_done(at) {
        let rest = &text[at..];
        if wants_key {
            let end = rest.find(['.', '[', ']']).unwrap_or(rest.len());
            if end == 0 {
                return Err(with_caret(text, at, "a key is missing here"));
            }
            steps.push(Step::Key(rest[..end].to_owned()));
            (at, wants_key) = (at + end, false);
        } else if rest.starts_with('.') {
            (at, wants_key) = (at + 1, true);
        } else if rest.starts_with('[') {
            let (step, length) = in_brackets(text, at)?;
            steps.push(step);
            at += length;
        } else {
            return Err(with_caret(text, at, "expected . or [ here"));
        }
    }
    if wants_key { Err(with_caret(text, at, "a key is missing here")) } else { Ok(Path(steps)) }
}

/// Parses `[0]` or `["key"]` at `at`; returns the step and its length in bytes.
fn in_brackets(text: &str, at: usize) -> Result<(Step, usize), String> {
    let inner = &text[at + 1..];
    let (step, length) = if inner.starts_with('"') {
        first_value(inner).map(|(key, length)| (Step::Key(key), length)).map_err(|error| match error.is_eof() {
            true => with_caret(text, text.len(), "the closing \" is missing"),
            false => with_caret(text, at + 1, "this is not a JSON string"),
        })?
    } else {
        let digits = inner.find(|c: char| !c.is_ascii_digit()).unwrap_or(inner.len());
        if digits == 0 {
            return Err(with_caret(text, at + 1, "expected a number or a \"key\" here"));
        }
        let index = inner[..digits].parse().map_err(|_| with_caret(text, at + 1, "this number is too large"))?;
        (Step::Index(index), digits)
    };
    match inner[length..].starts_with(']') {
        true => Ok((step, length + 2)),
        false => Err(with_caret(text, at + 1 + length, "expected ] here")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(key: &str) -> Step {
        Step::Key(key.to_owned())
    }

    #[test]
    fn paths_of_all_forms_are_parsed() {
        for (text, steps) in [
            ("", vec![]),
            (".", vec![]),
            ("to", vec![key("to")]),
            (".to", vec![key("to")]),
            ("items[0].pdf", vec![key("items"), Step::Index(0), key("pdf")]),
            ("[2][10]", vec![Step::Index(2), Step::Index(10)]),
            (".[2]", vec![Step::Index(2)]),
            (r#"items["a.b"].c"#, vec![key("items"), key("a.b"), key("c")]),
            (r#"["a\"]b"]"#, vec![key("a\"]b")]),
            (r#"["\u00e9"][""]"#, vec![key("é"), key("")]),
            ("grüße an.日本", vec![key("grüße an"), key("日本")]),
        ] {
            assert_eq!(parse_path(text), Ok(Path(steps)), "{text}");
        }
    }

    #[test]
    fn a_caret_points_at_the_problem() {
        for (text, expected, column) in [
            ("a..b", "a key is missing", 2),
            ("..", "a key is missing", 0),
            ("a.", "a key is missing", 2),
            ("items[0]pdf", "expected . or [", 8),
            ("items[", "a number or a \"key\"", 6),
            ("items[x]", "a number or a \"key\"", 6),
            ("items[-1]", "a number or a \"key\"", 6),
            ("items[0", "expected ]", 7),
            ("items[0 ]", "expected ]", 7),
            ("items[\"a", "closing \"", 8),
            ("items[\"a\"", "expected ]", 9),
            ("items[\"\\x\"]", "not a JSON string", 6),
            ("items[99999999999999999999999]", "too large", 6),
            ("日本[", "a number", 5),
            ("a]", "expected . or [", 1),
        ] {
            let error = parse_path(text).unwrap_err();
            let lines: Vec<_> = error.lines().collect();
            assert!(lines[0].contains(expected), "{text}: {error}");
            assert_eq!(lines[2].find('^'), Some(2 + column), "{error}");
        }
    }

    proptest! {
        #[test]
        fn formatted_paths_can_be_parsed(
            steps in prop::collection::vec(prop_oneof![
                any::<usize>().prop_map(Step::Index),
                any::<String>().prop_map(Step::Key),
                "[a-z.\\[\\]\"]{0,4}".prop_map(Step::Key),
            ], 0..5)
        ) {
            let path = Path(steps);
            prop_assert_eq!(parse_path(&path.to_string()), Ok(path));
        }

        #[test]
        fn parsing_never_panics(text in any::<String>(), odd in "[a.\\[\\]\"\\\\0]{0,8}") {
            drop((parse_path(&text), parse_path(&odd)));
        }
    }
}
