//! JSON that is safe to print on a terminal.

use crate::text::is_unsafe;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};
use std::io::{self, Write};

/// Returns the value as indented JSON.
pub(super) fn pretty<T: Serialize + ?Sized>(value: &T) -> String {
    serialized(value, Escaping(PrettyFormatter::new()))
}

/// Returns the value as JSON on one line.
pub(super) fn line<T: Serialize + ?Sized>(value: &T) -> String {
    serialized(value, Escaping(CompactFormatter))
}

fn serialized<T: Serialize + ?Sized, F: Formatter>(value: &T, formatter: Escaping<F>) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    // Views contain only what JSON can represent, and writing to a vector cannot fail.
    value.serialize(&mut serializer).expect("a view can be serialized");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A formatter that also escapes characters that JSON allows but terminals interpret.
struct Escaping<F>(F);

/// Delegates methods to the wrapped formatter.
macro_rules! delegate {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {$(
        fn $method<W: ?Sized + Write>(&mut self, writer: &mut W $(, $argument: $type)*) -> io::Result<()> {
            self.0.$method(writer $(, $argument)*)
        }
    )*};
}

impl<F: Formatter> Formatter for Escaping<F> {
    delegate! {
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
    fn strings_round_trip_and_are_safe_on_a_terminal() {
        let odd = "a\u{1b}[31m\u{9b}\u{7f}\u{202e}\u{e0001}\"\\\n日本";
        for text in [line(odd), pretty(&[odd])] {
            assert!(!text.chars().any(|c| is_unsafe(c) && c != '\n'), "{text}");
        }
        assert_eq!(serde_json::from_str::<String>(&line(odd)).unwrap(), odd);
    }
}
