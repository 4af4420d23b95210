//! Duplicate members in JSON objects.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeSet;
use std::fmt;

/// JSON in which no object has duplicate members; deserializing other JSON fails.
pub(crate) struct UniqueMembers;

impl<'de> Deserialize<'de> for UniqueMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Members.deserialize(deserializer)
    }
}

struct Members;

impl<'de> DeserializeSeed<'de> for Members {
    type Value = UniqueMembers;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<UniqueMembers, D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! scalars {
    ($($name:ident($ty:ty),)*) => {
        $(fn $name<E>(self, _: $ty) -> Result<UniqueMembers, E> {
            Ok(UniqueMembers)
        })*
    };
}

impl<'de> Visitor<'de> for Members {
    type Value = UniqueMembers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    scalars! {
        visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str),
    }

    fn visit_unit<E>(self) -> Result<UniqueMembers, E> {
        Ok(UniqueMembers)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<UniqueMembers, A::Error> {
        while seq.next_element_seed(Members)?.is_some() {}
        Ok(UniqueMembers)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMembers, A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if names.contains(&name) {
                map.next_value::<IgnoredAny>()?;
                return Err(A::Error::custom(format_args!("duplicate member {name:?}")));
            }
            map.next_value_seed(Members)?;
            names.insert(name);
        }
        Ok(UniqueMembers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_members_are_found_at_any_depth() {
        let read = |text| serde_json::from_str::<UniqueMembers>(text);
        for text in ["1", "null", "[{\"a\":1},{\"a\":2.5}]", "{\"a\":{\"a\":true},\"b\":\"a\"}"] {
            assert!(read(text).is_ok(), "{text}");
        }
        for text in ["{\"a\":1,\"a\":2}", "[0,{\"b\":[{\"a\":1,\"b\":2,\"\\u0061\":3}]}]"] {
            let error = read(text).err().expect("it is refused").to_string();
            assert!(error.contains("duplicate member \"a\""), "{error}");
        }
    }
}
