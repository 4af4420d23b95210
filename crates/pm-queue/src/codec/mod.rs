//! Payloads: any serde type, encoded as JSON, MessagePack or raw bytes.

mod raw;

pub use raw::RawPayload;

use crate::{Error, ErrorKind};
use bytes::Bytes;
use pm_core::Codec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::{Any, TypeId};

/// Encodes a payload with `codec`; a [`RawPayload`] keeps its own.
pub(crate) fn encode<T: Serialize + ?Sized>(codec: Codec, payload: &T) -> Result<RawPayload, Error> {
    if let Some(stored) = raw::passed_through(payload) {
        return Ok(stored);
    }
    let refuse =
        |error: String| Error::new(ErrorKind::Payload, format!("the payload cannot be encoded as {codec}: {error}"));
    let bytes = match codec {
        Codec::Json => serde_json::to_vec(payload).map_err(|error| refuse(error.to_string()).with_source(error))?,
        Codec::MessagePack => {
            rmp_serde::to_vec_named(payload).map_err(|error| refuse(error.to_string()).with_source(error))?
        }
        Codec::Raw => raw::to_vec(payload).map_err(|error| refuse(error.to_string()).with_source(error))?,
        Codec::Unknown(_) => return Err(refuse("this version does not know the codec".to_owned())),
    };
    Ok(RawPayload { codec, bytes: bytes.into() })
}

/// Decodes a stored payload with the codec it was stored with.
pub(crate) fn decode<T: DeserializeOwned + 'static>(codec: Codec, bytes: Bytes) -> Result<T, String> {
    if TypeId::of::<T>() == TypeId::of::<RawPayload>() {
        let stored: Box<dyn Any> = Box::new(RawPayload { codec, bytes });
        return stored.downcast::<T>().map(|stored| *stored).map_err(|_| "two types with one id".to_owned());
    }
    match codec {
        Codec::Json => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        Codec::MessagePack => rmp_serde::from_slice(&bytes).map_err(|error| error.to_string()),
        Codec::Raw => raw::from_slice(&bytes).map_err(|error| error.to_string()),
        Codec::Unknown(code) => {
            Err(format!("codec {code} is unknown to this version: a newer one has encoded the payload"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Mail {
        to: String,
        tries: u32,
        body: Vec<u8>,
    }

    #[test]
    fn every_codec_reads_what_it_wrote() {
        let mail = Mail { to: "a@example.org".to_owned(), tries: 3, body: vec![0, 255] };
        for codec in [Codec::Json, Codec::MessagePack] {
            let stored = encode(codec, &mail).unwrap();
            assert_eq!(stored.codec, codec);
            assert_eq!(decode::<Mail>(codec, stored.bytes).as_ref(), Ok(&mail));
        }
    }

    #[test]
    fn json_is_plain_text_and_messagepack_has_field_names() {
        assert_eq!(&encode(Codec::Json, &json!({"a": 1})).unwrap().bytes[..], br#"{"a":1}"#);
        assert_eq!(&encode(Codec::MessagePack, &json!({"a": 1})).unwrap().bytes[..], b"\x81\xa1a\x01");
    }

    #[test]
    fn raw_takes_bytes_strings_and_sequences_of_bytes_only() {
        assert_eq!(&encode(Codec::Raw, "text").unwrap().bytes[..], b"text");
        assert_eq!(&encode(Codec::Raw, &vec![1u8, 2]).unwrap().bytes[..], [1, 2]);
        assert_eq!(&encode(Codec::Raw, &raw::AsBytes(&[1, 2])).unwrap().bytes[..], [1, 2]);
        assert_eq!(&encode(Codec::Raw, &Some("text")).unwrap().bytes[..], b"text");
        for odd in [json!({"a": 1}), json!(1), json!(null), json!([256]), json!([[1]])] {
            assert_eq!(encode(Codec::Raw, &odd).unwrap_err().kind(), ErrorKind::Payload, "{odd}");
        }
        assert_eq!(decode::<String>(Codec::Raw, Bytes::from_static(b"text")), Ok("text".to_owned()));
        assert_eq!(decode::<Vec<u8>>(Codec::Raw, Bytes::from_static(b"text")), Ok(b"text".to_vec()));
        assert_eq!(decode::<Option<String>>(Codec::Raw, Bytes::from_static(b"x")), Ok(Some("x".to_owned())));
        assert!(decode::<String>(Codec::Raw, Bytes::from_static(&[0xff])).unwrap_err().contains("utf-8"));
        assert!(decode::<u32>(Codec::Raw, Bytes::from_static(b"1")).is_err());
    }

    #[test]
    fn a_raw_payload_passes_through_whatever_its_codec() {
        for codec in Codec::ALL {
            let stored = RawPayload { codec, bytes: Bytes::from_static(b"\x00not json") };
            assert_eq!(encode(Codec::Json, &stored).unwrap(), stored);
            assert_eq!(decode::<RawPayload>(codec, stored.bytes.clone()), Ok(stored));
        }
        let newer = RawPayload { codec: Codec::Unknown(9), bytes: Bytes::new() };
        assert_eq!(encode(Codec::Json, &newer).unwrap_err().kind(), ErrorKind::Payload);
        assert_eq!(decode::<RawPayload>(Codec::Unknown(9), Bytes::new()), Ok(newer));
        assert!(decode::<String>(Codec::Unknown(9), Bytes::new()).unwrap_err().contains("newer"));
    }

    #[test]
    fn a_raw_payload_inside_another_type_is_just_bytes() {
        let inner = RawPayload { codec: Codec::Json, bytes: Bytes::from_static(b"1") };
        assert_eq!(&encode(Codec::Json, &vec![inner]).unwrap().bytes[..], b"[[49]]");
    }
}
