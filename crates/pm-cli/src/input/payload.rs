//! Payloads from arguments, files and stdin.

use super::scalars::{check_depth, check_members, check_numbers, check_strings};
use crate::error::CommandError;
use pm_core::{Codec, MAX_PAYLOAD_BYTES};
use pm_driver_tokio_postgres::RawPayload;
use serde::de::IgnoredAny;
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

/// Where a payload comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The command line.
    Argument(String),
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl Source {
    /// Returns the source given by an argument, in which `-` is stdin, or by the option `--file`.
    pub(crate) fn given(argument: Option<&str>, file: Option<&PathBuf>) -> Option<Self> {
        match argument {
            Some("-") => Some(Source::Stdin),
            Some(text) => Some(Source::Argument(text.to_owned())),
            None => file.cloned().map(Source::File),
        }
    }

    /// Opens the source for reading. Errors: exit code 2 when the file cannot be opened.
    pub(crate) fn open(&self) -> Result<Box<dyn Read>, CommandError> {
        Ok(match self {
            Source::Argument(text) => Box::new(io::Cursor::new(text.clone().into_bytes())),
            Source::Stdin => Box::new(io::stdin().lock()),
            Source::File(path) => Box::new(File::open(path).map_err(|error| self.unreadable(&error))?),
        })
    }

    /// Returns the error for a source that cannot be read.
    pub(crate) fn unreadable(&self, error: &io::Error) -> CommandError {
        match self {
            Source::Argument(_) | Source::Stdin => CommandError::usage(format!("cannot read stdin: {error}")),
            Source::File(path) => CommandError::usage(format!("cannot read {}: {error}", path.display())),
        }
    }
}

/// Reads a source to its end, up to the maximum size of a payload. Errors: exit code 2 when it cannot be read or is too
/// large.
pub(crate) fn read_all(source: &Source) -> Result<Vec<u8>, CommandError> {
    let mut bytes = Vec::new();
    let limit = MAX_PAYLOAD_BYTES as u64 + 1;
    source.open()?.take(limit).read_to_end(&mut bytes).map_err(|error| source.unreadable(&error))?;
    if bytes.len() > MAX_PAYLOAD_BYTES {
        return Err(CommandError::usage(format!("the payload is larger than {MAX_PAYLOAD_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Returns the payload to store: JSON as written, without surrounding whitespace; MessagePack converted from JSON, or
/// unchanged when it is MessagePack already; raw bytes unchanged. Errors: exit code 2 with the problem and its
/// position.
pub(crate) fn encode(codec: Codec, bytes: Vec<u8>) -> Result<RawPayload, CommandError> {
    let bytes = match codec {
        Codec::Json => {
            json(&bytes)?;
            bytes.trim_ascii().to_vec()
        }
        Codec::MessagePack => message_pack(bytes)?,
        Codec::Raw | Codec::Unknown(_) => bytes,
    };
    Ok(RawPayload { codec, bytes: bytes.into() })
}

fn json(bytes: &[u8]) -> Result<&str, CommandError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        CommandError::usage(format!("the payload is not valid JSON: byte {} is not UTF-8", error.valid_up_to() + 1))
    })?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| {
        let error = CommandError::usage(format!("the payload is not valid JSON: {error}"));
        let is_bare_word = !text.trim().is_empty() && !text.trim_start().starts_with(['{', '[', '"']);
        if is_bare_word {
            error.hint("a JSON string needs double quotes: '\"like this\"'; or use --codec raw")
        } else {
            error
        }
    })?;
    check_depth(text).map_err(|problem| CommandError::usage(format!("the payload cannot be read: {problem}")))?;
    check_strings(text).map_err(|problem| CommandError::usage(format!("the payload is not valid JSON: {problem}")))?;
    Ok(text)
}

/// Tries JSON first: the only JSON texts that are also MessagePack are single digits.
fn message_pack(bytes: Vec<u8>) -> Result<Vec<u8>, CommandError> {
    let not_json = match json(&bytes) {
        Ok(text) => return message_pack_from_json(text),
        Err(error) => error,
    };
    let mut rest = bytes.as_slice();
    let is_message_pack = rmpv::decode::read_value_ref(&mut rest).is_ok() && rest.is_empty();
    if is_message_pack { Ok(bytes) } else { Err(not_json.within("the payload is not MessagePack either")) }
}

fn message_pack_from_json(json: &str) -> Result<Vec<u8>, CommandError> {
    check_numbers(json).map_err(|problem| {
        CommandError::usage(problem).hint("write it as a string, in quotes; or use --codec json, which keeps it")
    })?;
    check_members(json).map_err(|problem| {
        CommandError::usage(format!("MessagePack would keep only one of the members: {problem}"))
            .hint("remove one; or use --codec json, which keeps both")
    })?;
    let unencodable = |problem: String| CommandError::usage(format!("the payload cannot be encoded: {problem}"));
    let value: Value = serde_json::from_str(json).map_err(|error| unencodable(error.to_string()))?;
    rmp_serde::to_vec_named(&value).map_err(|error| unencodable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(codec: Codec, text: &[u8]) -> Vec<u8> {
        encode(codec, text.to_vec()).unwrap().bytes.to_vec()
    }

    #[test]
    fn json_is_kept_as_written() {
        assert_eq!(bytes(Codec::Json, b" {\"b\": 1.10, \"a\": 2}\n"), b"{\"b\": 1.10, \"a\": 2}");
    }

    #[test]
    fn message_pack_is_converted_from_json_or_kept_as_it_is() {
        assert_eq!(bytes(Codec::MessagePack, b"{\"a\":1}"), b"\x81\xa1a\x01");
        assert_eq!(bytes(Codec::MessagePack, b"\x81\xa1a\x01"), b"\x81\xa1a\x01");
        let error = encode(Codec::MessagePack, b"{a".to_vec()).unwrap_err();
        assert!(error.report(&Default::default()).contains("line 1 column 2"));
        assert!(encode(Codec::MessagePack, b"\x81\xa1".to_vec()).is_err(), "truncated");
    }

    #[test]
    fn payloads_that_could_not_be_decoded_unchanged_are_refused() {
        for codec in [Codec::Json, Codec::MessagePack] {
            let error = encode(codec, br#"{"a": "\ud800"}"#.to_vec()).unwrap_err().report(&Default::default());
            assert!(error.contains("surrogate"), "{error}");
        }
        let error = encode(Codec::MessagePack, b"18446744073709551616".to_vec()).unwrap_err();
        assert!(error.report(&Default::default()).contains("18446744073709551616"));
        assert_eq!(bytes(Codec::Json, b"18446744073709551616"), b"18446744073709551616", "JSON keeps any number");
        let twice = b"{\"a\":1,\"a\":2}";
        let error = encode(Codec::MessagePack, twice.to_vec()).unwrap_err().report(&Default::default());
        assert!(error.contains("duplicate member \"a\""), "{error}");
        assert_eq!(bytes(Codec::Json, twice), twice, "JSON keeps both");
        let nested = |levels: usize| format!("{}\"[{{\"{}", "[".repeat(levels), "]".repeat(levels)).into_bytes();
        for codec in [Codec::Json, Codec::MessagePack] {
            assert!(encode(codec, nested(127)).is_ok(), "{codec:?}");
            assert!(serde_json::from_slice::<Value>(&nested(127)).is_ok(), "as deep as serde_json reads");
            let error = encode(codec, nested(128)).unwrap_err().report(&Default::default());
            assert!(error.contains("127 levels"), "{error}");
            assert!(serde_json::from_slice::<Value>(&nested(128)).is_err());
        }
    }

    #[test]
    fn raw_bytes_are_not_changed() {
        assert_eq!(bytes(Codec::Raw, b" \x00\xff\n"), b" \x00\xff\n");
    }

    #[test]
    fn errors_of_json_give_the_position() {
        let report = |text: &[u8]| encode(Codec::Json, text.to_vec()).unwrap_err().report(&Default::default());
        assert!(report(b"{\"a\": }").contains("line 1 column 7"), "{}", report(b"{\"a\": }"));
        assert!(report(b"hello").contains("double quotes"));
        assert!(report(b"\"\xff\"").contains("byte 2"));
        assert!(report(b"").contains("EOF"));
    }
}
