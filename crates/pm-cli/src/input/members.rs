//! Objects of JSON that name a member twice.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeSet;
use std::fmt;

/// A JSON text in which no object names a member twice: reading any other fails.
pub(crate) struct OnceEach;

impl<'de> Deserialize<'de> for OnceEach {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Members.deserialize(deserializer)
    }
}

struct Members;

impl<'de> DeserializeSeed<'de> for Members {
    type Value = OnceEach;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<OnceEach, D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! scalars {
    ($($name:ident($ty:ty),)*) => {
        $(fn $name<E>(self, _: $ty) -> Result<OnceEach, E> {
            Ok(OnceEach)
        })*
    };
}

impl<'de> Visitor<'de> for Members {
    type Value = OnceEach;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    scalars! {
        visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str),
    }

    fn visit_unit<E>(self) -> Result<OnceEach, E> {
        Ok(OnceEach)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OnceEach, A::Error> {
        while seq.next_element_seed(Members)?.is_some() {}
        Ok(OnceEach)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OnceEach, A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if names.contains(&name) {
                map.next_value::<IgnoredAny>()?;
                return Err(A::Error::custom(format_args!("the member {name:?} is there twice")));
            }
            map.next_value_seed(Members)?;
            names.insert(name);
        }
        Ok(OnceEach)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_named_twice_is_found_at_any_depth() {
        let read = |text| serde_json::from_str::<OnceEach>(text);
        for text in ["1", "null", "[{\"a\":1},{\"a\":2.5}]", "{\"a\":{\"a\":true},\"b\":\"a\"}"] {
            assert!(read(text).is_ok(), "{text}");
        }
        for text in ["{\"a\":1,\"a\":2}", "[0,{\"b\":[{\"a\":1,\"b\":2,\"\\u0061\":3}]}]"] {
            let error = read(text).err().expect("it is refused").to_string();
            assert!(error.contains("\"a\" is there twice"), "{error}");
        }
    }
}
