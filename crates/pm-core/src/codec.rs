//! The encodings of payloads.

use std::fmt;

/// The encoding of a stored payload. Readers decode a payload by its stored codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Codec {
    /// JSON text in UTF-8: the default, readable by SQL and by other languages.
    #[default]
    Json,
    /// MessagePack with field names, for payloads with much binary data.
    MessagePack,
    /// The bytes unchanged, for bytes and strings.
    Raw,
    /// A codec that this version does not know, with its number. The payload can be stored and moved, but not decoded.
    Unknown(i16),
}

impl Codec {
    /// All codecs that this version knows.
    pub const ALL: [Codec; 3] = [Codec::Json, Codec::MessagePack, Codec::Raw];

    /// Returns the name that the CLI uses: `json`, `msgpack`, `raw`, or `unknown`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Json => "json",
            Codec::MessagePack => "msgpack",
            Codec::Raw => "raw",
            Codec::Unknown(_) => "unknown",
        }
    }

    /// Returns the codec with this name: `json`, `msgpack` or `raw`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Invalid`] for any other name; the message lists the names.
    pub fn from_name(name: &str) -> Result<Codec, crate::Error> {
        let found = Codec::ALL.into_iter().find(|codec| codec.name() == name);
        found.ok_or_else(|| crate::Error::invalid(format!("codec {name:?}"), "is not one of json, msgpack, raw"))
    }

    pub(crate) fn code(self) -> i16 {
        match self {
            Codec::Json => 0,
            Codec::MessagePack => 1,
            Codec::Raw => 2,
            Codec::Unknown(code) => code,
        }
    }

    /// Returns the codec that is stored as this number.
    pub fn from_code(code: i16) -> Codec {
        Codec::ALL.into_iter().find(|codec| codec.code() == code).unwrap_or(Codec::Unknown(code))
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
