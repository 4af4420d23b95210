//! JSON for programs, which may still end up on a terminal.

use super::text::is_unsafe;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};
use std::io::{self, Write};

/// Returns the value over several lines.
pub(super) fn pretty<T: Serialize + ?Sized>(value: &T) -> String {
    written(value, Escaping(PrettyFormatter::new()))
}

/// Returns the value in one line.
pub(super) fn line<T: Serialize + ?Sized>(value: &T) -> String {
    written(value, Escaping(CompactFormatter))
}

fn written<T: Serialize + ?Sized, F: Formatter>(value: &T, formatter: Escaping<F>) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    // Our views hold nothing that JSON cannot say, and a vector takes everything.
    value.serialize(&mut serializer).expect("a view is JSON");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Escapes in strings what JSON allows and a terminal obeys.
struct Escaping<F>(F);

/// Hands methods of a formatter on to the wrapped one.
macro_rules! hand_on {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {$(
        fn $method<W: ?Sized + Write>(&mut self, writer: &mut W $(, $argument: $type)*) -> io::Result<()> {
            self.0.$method(writer $(, $argument)*)
        }
    )*};
}

impl<F: Formatter> Formatter for Escaping<F> {
    hand_on! {
        begin_array(); end_array(); begin_array_value(first: bool); end_array_value();
        begin_object(); end_object(); begin_object_key(first: bool); end_object_key();
        begin_object_value(); end_object_value();
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_unsafe) {
            let (before, from) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let Some(c) = from.chars().next() else { break };
            c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(writer, "\\u{unit:04x}"))?;
            rest = &from[c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_survive_and_are_safe_on_a_terminal() {
        let odd = "a\u{1b}[31m\u{9b}\u{7f}\u{202e}\u{e0001}\"\\\n日本";
        for text in [line(odd), pretty(&[odd])] {
            assert!(!text.chars().any(|c| is_unsafe(c) && c != '\n'), "{text}");
        }
        assert_eq!(serde_json::from_str::<String>(&line(odd)).unwrap(), odd);
    }
}
