//! Job ids, and the suffixes by which users refer to them.

use crate::Error;
use uuid::Uuid;

/// Returns a job id: the UUIDv7 (RFC 9562 section 5.7) of `unix_ms` milliseconds since 1970 and ten random bytes.
///
/// Ids of later milliseconds sort after earlier ones. The time is the client's and is used for nothing else.
pub fn job_id(unix_ms: u64, random: [u8; 10]) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid()
}

/// The last 1 to 32 hex digits of a job id, as a user types them; dashes are allowed anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdSuffix(String);

impl IdSuffix {
    /// Returns the checked suffix.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when there are no digits, a character that is not a hex digit, or more than 32 digits.
    pub fn new(text: &str) -> Result<Self, Error> {
        let digits: String = text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
        let problem = if digits.is_empty() {
            "has no hex digit".to_owned()
        } else if let Some(odd) = digits.chars().find(|c| !c.is_ascii_hexdigit()) {
            format!("contains {odd:?}, which is not a hex digit (0-9, a-f)")
        } else if digits.len() > 32 {
            format!("has {} hex digits; an id has 32", digits.len())
        } else {
            return Ok(IdSuffix(digits));
        };
        Err(Error::invalid(format!("job id {text:?}"), problem))
    }

    /// Returns the digits in lower case, without dashes.
    pub fn digits(&self) -> &str {
        &self.0
    }

    /// Returns the id if all 32 digits were given.
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
            prop_assert!(texts.is_sorted(), "the text form must sort in the same order");
        }

        #[test]
        fn ids_of_one_time_differ_exactly_when_their_random_bits_do(at in 0u64..1 << 48, a: [u8; 10], b: [u8; 10]) {
            prop_assert_eq!(job_id(at, a), job_id(at, a));
            // The version and the variant replace six of the 80 bits.
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
            // An error is fine; only a panic fails the test.
            drop(IdSuffix::new(&text));
        }
    }

    #[test]
    fn errors_name_the_problem_of_a_suffix() {
        for (text, why) in
            [("", "no hex digit"), ("--", "no hex digit"), ("xyz", "'x'"), (&"a".repeat(33), "33 hex digits")]
        {
            let error = IdSuffix::new(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
