//! YAML output.

use super::value::{Value, key_text};
use crate::text::is_unsafe;

/// Returns the value as a YAML document in block style.
pub(super) fn document(value: &Value) -> String {
    let mut out = String::new();
    write(value, 0, &mut out);
    out
}

/// Writes a value with its line break, at the current position; its further lines are indented.
fn write(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Map(entries) if has_lines(value) => block_map(entries, indent, out),
        Value::List(elements) if has_lines(value) => block_list(elements, indent, out),
        other => {
            inline(other, indent.max(2), out);
            out.push('\n');
        }
    }
}

/// Returns whether a value is written as lines of its own.
fn has_lines(value: &Value) -> bool {
    match value {
        Value::Map(entries) => !entries.is_empty(),
        Value::List(elements) => !elements.is_empty() && value.bytes_text().is_none(),
        _ => false,
    }
}

/// Writes `key: value` lines; the first key is written at the current position.
fn block_map(entries: &[(Value, Value)], indent: usize, out: &mut String) {
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            pad(indent, out);
        }
        match key {
            Value::Plain(name) => out.push_str(name),
            Value::Number(number) => out.push_str(&number_text(number)),
            key => out.push_str(&scalar(&key_text(key))),
        }
        out.push(':');
        match has_lines(value) {
            true => {
                out.push('\n');
                pad(indent + 2, out);
            }
            false => out.push(' '),
        }
        write(value, indent + 2, out);
    }
}

/// Writes `- value` lines; the first dash is written at the current position.
fn block_list(elements: &[Value], indent: usize, out: &mut String) {
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            pad(indent, out);
        }
        out.push_str("- ");
        write(element, indent + 2, out);
    }
}

/// Writes a value on the line of its key or dash; the lines of a text are indented.
fn inline(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(bool) => out.push_str(if *bool { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number_text(number)),
        Value::Plain(text) => out.push_str(text),
        Value::Text(text) if is_block(text) => {
            out.push_str(if text.ends_with('\n') { "|" } else { "|-" });
            for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
                out.push('\n');
                if !line.is_empty() {
                    pad(indent, out);
                    out.push_str(line);
                }
            }
        }
        Value::Text(text) => out.push_str(&scalar(text)),
        Value::Bytes(_) | Value::Extension(..) => out.push_str(&quoted(&value.bytes_text().unwrap_or_default())),
        Value::List(_) => match value.bytes_text() {
            Some(text) => out.push_str(&quoted(&text)),
            None => out.push_str("[]"),
        },
        Value::Map(_) => out.push_str("{}"),
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn number_text(number: &str) -> String {
    match number {
        "NaN" => ".nan".to_owned(),
        "inf" => ".inf".to_owned(),
        "-inf" => "-.inf".to_owned(),
        number => number.to_owned(),
    }
}

/// Returns text on one line: bare when that is unambiguous, quoted otherwise.
fn scalar(text: &str) -> String {
    if is_bare(text) { text.to_owned() } else { quoted(text) }
}

/// Returns whether text is unambiguous without quotes.
fn is_bare(text: &str) -> bool {
    const PUNCTUATION: &str = " -_.,/()@+:;=!?'<>%…";
    const RESERVED: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let starts_well = text.starts_with(|c: char| c.is_alphabetic() || matches!(c, '/' | '_' | '<'));
    let ends_well = !text.ends_with([' ', ':']);
    let lower = text.to_lowercase();
    starts_well
        && ends_well
        && !text.contains(": ")
        && !text.contains(" #")
        && !text.contains(is_unsafe)
        && text.chars().all(|c| c.is_alphanumeric() || PUNCTUATION.contains(c))
        && !RESERVED.contains(&lower.as_str())
        && lower.parse::<f64>().is_err()
}

/// Returns whether multi-line text may be a literal block.
fn is_block(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with(['\n', ' '])
        && !text.ends_with("\n\n")
        && !text.chars().any(|c| c != '\n' && is_unsafe(c))
        && text.split('\n').all(|line| !line.ends_with(' '))
        && text != "\n"
}

fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if !is_unsafe(c) && !is_noncharacter(c) => quoted.push(c),
            c if u32::from(c) < 0x100 => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if u32::from(c) < 0x1_0000 => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// Returns whether this is a Unicode noncharacter, which YAML does not allow unescaped.
fn is_noncharacter(c: char) -> bool {
    matches!(u32::from(c) & 0xffff, 0xfffe | 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use yaml_rust2::{Yaml, YamlLoader};

    fn text(text: &str) -> Value {
        Value::text(text)
    }

    #[test]
    fn a_document_has_block_style() {
        let value = Value::named(vec![
            ("id", Value::plain("0196-7")),
            ("reason", text("panicked:\n  at line 3\nbye")),
            ("note", text("a: b")),
            ("empty", Value::List(vec![])),
            (
                "attempts",
                Value::List(vec![
                    Value::named(vec![("attempt", Value::plain(1)), ("reason", text("one\ntwo\n"))]),
                    Value::List(vec![Value::Null, Value::Bytes(vec![1])]),
                ]),
            ),
            ("payload", Value::Map(vec![(text("to"), text("Ada")), (text("a b"), Value::Map(vec![]))])),
        ]);
        let expected = "\
id: 0196-7
reason: |-
  panicked:
    at line 3
  bye
note: \"a: b\"
empty: []
attempts:
  - attempt: 1
    reason: |
      one
      two
  - - null
    - \"0x01\"
payload:
  to: Ada
  a b: {}
";
        assert_eq!(document(&value), expected);
    }

    #[test]
    fn ambiguous_text_is_quoted() {
        for text in
            ["", "true", "No", "null", "12", "1e3", "0x1f", "~", "- a", "a #b", "a:", "2030-05-01", "nan", "inf", "*a"]
        {
            assert!(scalar(text).starts_with('"'), "{text}");
        }
        for text in ["Ada", "lease expired", "Grüße", "host-7:12", "it's", "<3 bytes>"] {
            assert_eq!(scalar(text), text);
        }
    }

    fn expected(value: &Value) -> Yaml {
        match value {
            Value::Null => Yaml::Null,
            Value::Bool(bool) => Yaml::Boolean(*bool),
            Value::Number(number) => Yaml::Integer(number.parse().unwrap()),
            Value::Text(text) | Value::Plain(text) => Yaml::String(text.clone()),
            Value::List(elements) => Yaml::Array(elements.iter().map(expected).collect()),
            Value::Map(entries) => {
                Yaml::Hash(entries.iter().map(|(key, value)| (expected(key), expected(value))).collect())
            }
            other => Yaml::String(other.bytes_text().unwrap()),
        }
    }

    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof!["[ -~\n]{0,12}", "\\PC{0,6}", any::<String>(), "(yes|null|[0-9.e-]{1,5}|[a-z]: [a-z]|- a|#b)"]
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i32>().prop_map(|number| Value::Number(number.to_string())),
            any_text().prop_map(Value::Text),
            any::<[u8; 4]>().prop_map(|bytes| Value::Bytes(bytes.to_vec())),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::btree_map(any_text(), inner, 0..4).prop_map(|entries| {
                    Value::Map(entries.into_iter().map(|(key, value)| (Value::Text(key), value)).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn another_parser_reads_the_same_value(value in any_value()) {
            let document = document(&value);
            let read = YamlLoader::load_from_str(&document);
            prop_assert!(read.is_ok(), "{:?}\n{}", read, document);
            prop_assert_eq!(&read.unwrap()[0], &expected(&value), "\n{}", document);
        }

        #[test]
        fn no_control_characters_are_written(text in any::<String>()) {
            prop_assert!(!document(&Value::Text(text)).chars().any(|c| c != '\n' && is_unsafe(c)));
        }
    }
}
