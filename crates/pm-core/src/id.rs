//! Job ids, and the suffixes people type for them.

use crate::Error;
use uuid::Uuid;

/// Returns the id of a job made at `unix_ms` milliseconds since 1970 with ten random bytes (UUIDv7, RFC 9562 section 5.7).
///
/// Ids made in a later millisecond sort after those made earlier. The time is the client's and decides nothing.
pub fn job_id(unix_ms: u64, random: [u8; 10]) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid()
}

/// The last 1 to 32 hex digits of a job id, as people type them; dashes are allowed anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdSuffix(String);

impl IdSuffix {
    /// Returns the checked suffix.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when there is no digit, one that is not hex, or more than 32.
    pub fn new(text: &str) -> Result<Self, Error> {
        let digits: String = text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
        let problem = if digits.is_empty() {
            "has no hex digit".to_owned()
        } else if let Some(odd) = digits.chars().find(|c| !c.is_ascii_hexdigit()) {
            format!("contains {odd:?}, which is no hex digit (0-9, a-f)")
        } else if digits.len() > 32 {
            format!("has {} hex digits; an id has 32", digits.len())
        } else {
            return Ok(IdSuffix(digits));
        };
        Err(Error::invalid(format!("job id {text:?}"), problem))
    }

    /// Returns the digits, lower case, without dashes.
    pub fn digits(&self) -> &str {
        &self.0
    }

    /// Returns the whole id when all 32 digits were given.
    pub fn whole_id(&self) -> Option<Uuid> {
        (self.0.len() == 32).then(|| Uuid::try_parse(&self.0).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn later_ids_sort_later(earlier in 0u64..1 << 47, gap in 1u64..1 << 40, a: [u8; 10], b: [u8; 10]) {
            let (first, second) = (job_id(earlier, a), job_id(earlier + gap, b));
            prop_assert!(first < second);
            prop_assert_eq!(first.get_version_num(), 7);
        }

        #[test]
        fn ids_in_any_order_sort_by_their_times(times in prop::collection::vec((0u64..1 << 48, any::<[u8; 10]>()), 0..20)) {
            let mut ids: Vec<_> = times.iter().map(|(at, random)| job_id(*at, *random)).collect();
            ids.sort();
            let read: Vec<_> = ids.iter().map(|id| (id.as_u128() >> 80) as u64).collect();
            let mut expected: Vec<_> = times.iter().map(|(at, _)| *at).collect();
            expected.sort();
            prop_assert_eq!(read, expected);
            let texts: Vec<_> = ids.iter().map(Uuid::to_string).collect();
            prop_assert!(texts.is_sorted(), "what people see sorts alike");
        }

        #[test]
        fn the_same_time_and_bits_make_the_same_id_and_other_bits_another(at in 0u64..1 << 48, a: [u8; 10], b: [u8; 10]) {
            prop_assert_eq!(job_id(at, a), job_id(at, a));
            // Six of the 80 bits make room for the version and the variant.
            let kept = |mut bits: [u8; 10]| { bits[0] &= 0x0F; bits[2] &= 0x3F; bits };
            prop_assert_eq!(job_id(at, a) == job_id(at, b), kept(a) == kept(b));
        }

        #[test]
        fn every_suffix_of_an_id_is_accepted(random: [u8; 10], length in 1usize..=32) {
            let id = job_id(1_700_000_000_000, random);
            let digits = id.simple().to_string();
            let suffix = IdSuffix::new(&digits[32 - length..].to_uppercase()).unwrap();
            prop_assert_eq!(suffix.digits(), &digits[32 - length..]);
            prop_assert_eq!(suffix.whole_id(), (length == 32).then_some(id));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            // Refusing is an answer like any other; only a panic would fail here.
            drop(IdSuffix::new(&text));
        }
    }

    #[test]
    fn bad_suffixes_are_told_why() {
        for (text, why) in
            [("", "no hex digit"), ("--", "no hex digit"), ("xyz", "'x'"), (&"a".repeat(33), "33 hex digits")]
        {
            let error = IdSuffix::new(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
