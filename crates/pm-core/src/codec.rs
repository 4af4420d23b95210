//! How payloads are written down.

use std::fmt;

/// The codec of a stored payload. Readers go by it, whatever they would have written themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Codec {
    /// JSON text in UTF-8: the default, readable by SQL and by other languages.
    #[default]
    Json,
    /// MessagePack with field names, for payloads with much binary in them.
    MessagePack,
    /// The bytes as they are: for bytes and strings.
    Raw,
    /// One that this version does not know, by its number: it can be carried, not read.
    Unknown(i16),
}

impl Codec {
    /// All codecs this version knows.
    pub const ALL: [Codec; 3] = [Codec::Json, Codec::MessagePack, Codec::Raw];

    /// Returns the name the CLI uses: `json`, `msgpack`, `raw`; `unknown` for one of a newer version.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Json => "json",
            Codec::MessagePack => "msgpack",
            Codec::Raw => "raw",
            Codec::Unknown(_) => "unknown",
        }
    }

    /// Returns the codec of this name.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Invalid`] lists the names.
    pub fn from_name(name: &str) -> Result<Codec, crate::Error> {
        let found = Codec::ALL.into_iter().find(|codec| codec.name() == name);
        found.ok_or_else(|| crate::Error::invalid(format!("codec {name:?}"), "is none of json, msgpack, raw"))
    }

    pub(crate) fn code(self) -> i16 {
        match self {
            Codec::Json => 0,
            Codec::MessagePack => 1,
            Codec::Raw => 2,
            Codec::Unknown(code) => code,
        }
    }

    pub(crate) fn from_code(code: i16) -> Codec {
        Codec::ALL.into_iter().find(|codec| codec.code() == code).unwrap_or(Codec::Unknown(code))
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
