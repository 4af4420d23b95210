//! Payloads as bytes: `RawPayload`, which is encoded already, and the raw codec, which stores bytes, strings and
//! sequences of bytes unchanged.

use bytes::Bytes;
use pm_core::Codec;
use serde::de::value::{Error, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::ser::{Error as _, Impossible, SerializeSeq, SerializeTuple, Serializer};
use serde::{Deserialize, Serialize};

/// An encoded payload, as it is stored.
///
/// As the payload type of a stream it gives the stored bytes without decoding them, whatever their codec. When it is
/// enqueued, its own codec is used, whatever the options say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawPayload {
    /// How the bytes are encoded.
    pub codec: Codec,
    /// The encoded payload.
    pub bytes: Bytes,
}

impl Serialize for RawPayload {
    /// Passes the codec to our own serializer in the name of a newtype; any other serializer gets bytes.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = newtype_name(self.codec)
            .ok_or_else(|| serde::ser::Error::custom("this version does not know its codec"))?;
        serializer.serialize_newtype_struct(name, &AsBytes(&self.bytes))
    }
}

impl<'de> Deserialize<'de> for RawPayload {
    /// Reads bytes. A stream of `RawPayload` does not use this; see `decode`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = OwnedBytes::deserialize(deserializer)?.0.into();
        Ok(RawPayload { codec: Codec::Raw, bytes })
    }
}

/// Returns the newtype name by which a [`RawPayload`] passes its codec to [`passed_through`].
fn newtype_name(codec: Codec) -> Option<&'static str> {
    match codec {
        Codec::Json => Some("pm_queue::RawPayload::Json"),
        Codec::MessagePack => Some("pm_queue::RawPayload::MessagePack"),
        Codec::Raw => Some("pm_queue::RawPayload::Raw"),
        Codec::Unknown(_) => None,
    }
}

/// Returns `payload` unchanged if it is a [`RawPayload`].
pub(super) fn passed_through<T: Serialize + ?Sized>(payload: &T) -> Option<RawPayload> {
    payload.serialize(Probe).ok()
}

/// Returns the bytes of a value that consists of bytes.
pub(super) fn to_vec<T: Serialize + ?Sized>(payload: &T) -> Result<Vec<u8>, Error> {
    payload.serialize(BytesOnly)
}

/// Builds a value from these bytes.
pub(super) fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    T::deserialize(RawDeserializer(bytes))
}

/// Bytes that serialize as bytes, not as a sequence.
#[derive(Debug)]
pub(super) struct AsBytes<'a>(pub(super) &'a [u8]);

impl Serialize for AsBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Bytes read from bytes, a string or a sequence.
struct OwnedBytes(Vec<u8>);

impl<'de> Deserialize<'de> for OwnedBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = OwnedBytes;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes, a string or a sequence of bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<OwnedBytes, E> {
                Ok(OwnedBytes(bytes.to_vec()))
            }
            fn visit_str<E>(self, text: &str) -> Result<OwnedBytes, E> {
                Ok(OwnedBytes(text.as_bytes().to_vec()))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut elements: A) -> Result<OwnedBytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = elements.next_element()? {
                    bytes.push(byte);
                }
                Ok(OwnedBytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Bytes)
    }
}

/// Accepts only the newtype of a [`RawPayload`]; refuses anything else at the first call.
struct Probe;
/// Accepts values that consist of bytes.
struct BytesOnly;
/// Accepts one byte of a sequence.
struct OneByte;

fn refused() -> Error {
    Error::custom("only bytes, strings and sequences of u8 are supported")
}

/// Generates the methods in which a serializer refuses.
macro_rules! refuse {
    ($($method:ident($($argument:ty),*);)*) => {$(
        fn $method(self, $(_: $argument),*) -> Result<Self::Ok, Error> { Err(refused()) }
    )*};
    (compounds) => {
        fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<Self::Ok, Error> { Err(refused()) }
        fn serialize_newtype_variant<T: Serialize + ?Sized>(self, _: &'static str, _: u32, _: &'static str, _: &T) -> Result<Self::Ok, Error> { Err(refused()) }
        fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Error> { Err(refused()) }
        fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self::SerializeTupleVariant, Error> { Err(refused()) }
        fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Error> { Err(refused()) }
        fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeStruct, Error> { Err(refused()) }
        fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self::SerializeStructVariant, Error> { Err(refused()) }
        type Error = Error;
        type SerializeTupleStruct = Impossible<Self::Ok, Error>;
        type SerializeTupleVariant = Impossible<Self::Ok, Error>;
        type SerializeMap = Impossible<Self::Ok, Error>;
        type SerializeStruct = Impossible<Self::Ok, Error>;
        type SerializeStructVariant = Impossible<Self::Ok, Error>;
    };
    (sequences) => {
        fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Error> { Err(refused()) }
        fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Error> { Err(refused()) }
        fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<Self::Ok, Error> { Err(refused()) }
        type SerializeSeq = Impossible<Self::Ok, Error>;
        type SerializeTuple = Impossible<Self::Ok, Error>;
    };
}

impl Serializer for Probe {
    type Ok = RawPayload;
    refuse!(compounds);
    refuse!(sequences);
    refuse! {
        serialize_bool(bool); serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64);
        serialize_u8(u8); serialize_u16(u16); serialize_u32(u32); serialize_u64(u64); serialize_f32(f32);
        serialize_f64(f64); serialize_char(char); serialize_str(&str); serialize_bytes(&[u8]);
        serialize_none(); serialize_unit(); serialize_unit_struct(&'static str);
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<RawPayload, Error> {
        let codec = Codec::ALL.into_iter().find(|codec| newtype_name(*codec) == Some(name)).ok_or_else(refused)?;
        Ok(RawPayload { codec, bytes: to_vec(value)?.into() })
    }
}

impl Serializer for BytesOnly {
    type Ok = Vec<u8>;
    type SerializeSeq = ByteSequence;
    type SerializeTuple = ByteSequence;
    refuse!(compounds);
    refuse! {
        serialize_bool(bool); serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64);
        serialize_u8(u8); serialize_u16(u16); serialize_u32(u32); serialize_u64(u64); serialize_f32(f32);
        serialize_f64(f64); serialize_char(char);
        serialize_none(); serialize_unit(); serialize_unit_struct(&'static str);
    }

    fn serialize_str(self, text: &str) -> Result<Vec<u8>, Error> {
        Ok(text.as_bytes().to_vec())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(bytes.to_vec())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Vec<u8>, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<Vec<u8>, Error> {
        value.serialize(self)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<ByteSequence, Error> {
        Ok(ByteSequence(Vec::with_capacity(length.unwrap_or_default())))
    }

    fn serialize_tuple(self, length: usize) -> Result<ByteSequence, Error> {
        Ok(ByteSequence(Vec::with_capacity(length)))
    }
}

impl Serializer for OneByte {
    type Ok = u8;
    refuse!(compounds);
    refuse!(sequences);
    refuse! {
        serialize_bool(bool); serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64);
        serialize_u16(u16); serialize_u32(u32); serialize_f32(f32);
        serialize_f64(f64); serialize_char(char); serialize_str(&str); serialize_bytes(&[u8]);
        serialize_none(); serialize_unit(); serialize_unit_struct(&'static str);
    }

    fn serialize_u8(self, byte: u8) -> Result<u8, Error> {
        Ok(byte)
    }

    fn serialize_u64(self, number: u64) -> Result<u8, Error> {
        u8::try_from(number).map_err(|_| refused())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<u8, Error> {
        value.serialize(self)
    }
}

/// Collects a sequence of bytes.
struct ByteSequence(Vec<u8>);

impl SerializeSeq for ByteSequence {
    type Ok = Vec<u8>;
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), Error> {
        self.0.push(element.serialize(OneByte)?);
        Ok(())
    }

    fn end(self) -> Result<Vec<u8>, Error> {
        Ok(self.0)
    }
}

impl SerializeTuple for ByteSequence {
    type Ok = Vec<u8>;
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, element: &T) -> Result<(), Error> {
        SerializeSeq::serialize_element(self, element)
    }

    fn end(self) -> Result<Vec<u8>, Error> {
        Ok(self.0)
    }
}

struct RawDeserializer<'a>(&'a [u8]);

impl<'de> Deserializer<'de> for RawDeserializer<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_bytes(self.0)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let text = std::str::from_utf8(self.0).map_err(<Error as serde::de::Error>::custom)?;
        visitor.visit_borrowed_str(text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        SeqDeserializer::new(self.0.iter().copied()).deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf
        unit unit_struct tuple tuple_struct map struct enum identifier ignored_any
    }
}
