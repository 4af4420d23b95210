//! Paths into a payload: `items[0].pdf`, `items["a.b"]`.

use std::fmt;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into a map, by its key.
    Key(String),
    /// Into a list, by its place from 0.
    Index(usize),
}

/// A way into a payload; without steps it is the whole payload.
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
                Step::Key(key) if key.is_empty() || key.contains(['.', '[', ']', '"']) || !is_visible(key) => {
                    write!(f, "[{}]", serde_json::Value::from(key.as_str()))?;
                }
                Step::Key(key) => write!(f, "{}{key}", if index > 0 { "." } else { "" })?,
            }
        }
        Ok(())
    }
}

fn is_visible(key: &str) -> bool {
    !key.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Reads a path. `.` and nothing at all are the whole payload; a dot at the beginning does no harm.
pub(crate) fn parse_path(text: &str) -> Result<Path, String> {
    let mut steps = Vec::new();
    let mut at = usize::from(text.starts_with('.') && !text.starts_with(".."));
    let is_done = |at: usize| at == text.len();
    // At the beginning a key needs no dot.
    let mut wants_key = !is_done(at) && !text[at..].starts_with('[');
    while !is_done(at) {
        let rest = &text[at..];
        if wants_key {
            let end = rest.find(['.', '[', ']']).unwrap_or(rest.len());
            if end == 0 {
                return Err(problem(text, at, "a key is missing here"));
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
            return Err(problem(text, at, "a . or a [ belongs here"));
        }
    }
    if wants_key { Err(problem(text, at, "a key is missing here")) } else { Ok(Path(steps)) }
}

/// Reads `[0]` or `["key"]` at `at`, and returns how long it is.
fn in_brackets(text: &str, at: usize) -> Result<(Step, usize), String> {
    let inner = &text[at + 1..];
    let (step, length) = if inner.starts_with('"') {
        let end = closing_quote(inner).ok_or_else(|| problem(text, text.len(), "the closing \" is missing"))?;
        let key = serde_json::from_str(&inner[..=end])
            .map_err(|_| problem(text, at + 1, "this is no text in double quotes, as JSON has it"))?;
        (Step::Key(key), end + 1)
    } else {
        let digits = inner.find(|c: char| !c.is_ascii_digit()).unwrap_or(inner.len());
        if digits == 0 {
            return Err(problem(text, at + 1, "a number or a \"key\" belongs here"));
        }
        let index = inner[..digits].parse().map_err(|_| problem(text, at + 1, "this number is too large"))?;
        (Step::Index(index), digits)
    };
    match inner[length..].starts_with(']') {
        true => Ok((step, length + 2)),
        false => Err(problem(text, at + 1 + length, "a ] belongs here")),
    }
}

/// Returns where the quote is that ends the text beginning with one.
fn closing_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.char_indices().skip(1).find_map(|(at, c)| {
        let ends = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends.then_some(at)
    })
}

/// Returns the words, with a caret under the place.
fn problem(text: &str, at: usize, words: &str) -> String {
    let before = crate::render::width(&crate::render::printable(&text[..at]));
    format!("{words}\n  {}\n  {}^", crate::render::printable(text), " ".repeat(before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(key: &str) -> Step {
        Step::Key(key.to_owned())
    }

    #[test]
    fn paths_of_all_forms_are_read() {
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
    fn a_caret_stands_under_the_bad_place() {
        for (text, words, column) in [
            ("a..b", "a key is missing", 2),
            ("..", "a key is missing", 0),
            ("a.", "a key is missing", 2),
            ("items[0]pdf", "a . or a [", 8),
            ("items[", "a number or a \"key\"", 6),
            ("items[x]", "a number or a \"key\"", 6),
            ("items[-1]", "a number or a \"key\"", 6),
            ("items[0", "a ] belongs", 7),
            ("items[0 ]", "a ] belongs", 7),
            ("items[\"a", "closing \"", 8),
            ("items[\"a\"", "a ] belongs", 9),
            ("items[\"\\x\"]", "no text in double quotes", 6),
            ("items[99999999999999999999999]", "too large", 6),
            ("日本[", "a number", 5),
            ("a]", "a . or a [", 1),
        ] {
            let said = parse_path(text).unwrap_err();
            let lines: Vec<_> = said.lines().collect();
            assert!(lines[0].contains(words), "{text}: {said}");
            assert_eq!(lines[2].find('^'), Some(2 + column), "{said}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(
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
        fn no_text_makes_it_panic(text in any::<String>(), odd in "[a.\\[\\]\"\\\\0]{0,8}") {
            drop((parse_path(&text), parse_path(&odd)));
        }
    }
}
