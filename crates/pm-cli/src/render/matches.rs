//! Searching for text in jobs.

use super::output::Json;
use super::payload::decode;
use super::value::{Value, key_text};
use crate::path::{Path, Step};
use pm_driver_tokio_postgres::{JobMetadata, RawPayload};

/// How many characters an excerpt has before the match, and from the match on.
const EXCERPT: (usize, usize) = (20, 50);

/// A text to search for, ignoring case.
pub(crate) struct Needle(String);

/// Where the text was found, with an excerpt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    /// `description`, `key`, `reason`, or `payload` and the path in it.
    name: String,
    excerpt: String,
}

/// A job that contains the text.
pub(crate) struct JobMatch {
    pub(crate) job: JobMetadata,
    pub(crate) found: Location,
}

impl Json for JobMatch {
    fn json(&self) -> Value {
        let Location { name, excerpt } = &self.found;
        let found = Value::named([("place", name.as_str().into()), ("excerpt", excerpt.as_str().into())]);
        self.job.json().and(Value::named([("found", found)]))
    }
}

impl JobMatch {
    /// Returns the match as a human-readable line.
    pub(crate) fn line(&self) -> String {
        let JobMatch { job, found: Location { name, excerpt } } = self;
        let line = format!("{}  {}  {}  {name}: {excerpt}", job.id, job.queue, job.state);
        crate::text::printable(&line).into_owned()
    }
}

impl Needle {
    /// Returns a needle for this text.
    pub(crate) fn new(text: &str) -> Self {
        Needle(text.to_lowercase())
    }

    /// Returns where the job contains the text; the payload is not searched.
    pub(crate) fn in_job(&self, job: &JobMetadata) -> Option<Location> {
        let texts = [("description", &job.description), ("key", &job.key), ("reason", &job.reason)];
        texts.into_iter().find_map(|(name, text)| self.in_text(text.as_deref()?, || name.to_owned()))
    }

    /// Returns where the payload contains the text: in strings, keys, numbers as written, and bytes that are text.
    pub(crate) fn in_payload(&self, payload: &RawPayload) -> Option<Location> {
        match decode(payload) {
            Ok(value) => self.in_value(&value, &mut Path::default()),
            Err(_) => self.in_text(&String::from_utf8_lossy(&payload.bytes), || "payload".to_owned()),
        }
    }

    fn in_value(&self, value: &Value, path: &mut Path) -> Option<Location> {
        let here = |path: &Path| format!("payload at {path}");
        match value {
            Value::Text(text) | Value::Plain(text) | Value::Number(text) => self.in_text(text, || here(path)),
            Value::Bytes(bytes) => self.in_text(&String::from_utf8_lossy(bytes), || here(path)),
            Value::List(elements) => {
                elements.iter().enumerate().find_map(|(index, value)| self.in_child(Step::Index(index), value, path))
            }
            Value::Map(entries) => entries.iter().find_map(|(key, value)| {
                let text = key_text(key);
                let in_key = self.in_text(&text, || format!("key of the payload at {path}"));
                in_key.or_else(|| self.in_child(Step::Key(text), value, path))
            }),
            Value::Null | Value::Bool(_) | Value::Extension(..) => None,
        }
    }

    fn in_child(&self, step: Step, value: &Value, path: &mut Path) -> Option<Location> {
        path.0.push(step);
        let found = self.in_value(value, path);
        path.0.pop();
        found
    }

    fn in_text(&self, text: &str, name: impl FnOnce() -> String) -> Option<Location> {
        let lower = text.to_lowercase();
        let at = lower[..lower.find(&self.0)?].chars().count();
        let first = at.saturating_sub(EXCERPT.0);
        let mut rest = text.chars().skip(first);
        let shown: String = rest.by_ref().take(at - first + EXCERPT.1).collect();
        let before = if first > 0 { "…" } else { "" };
        let after = if rest.next().is_some() { "…" } else { "" };
        Some(Location { name: name(), excerpt: format!("{before}{shown}{after}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pm_core::Codec;

    fn found(text: &str, codec: Codec, bytes: &[u8]) -> Option<String> {
        let payload = RawPayload { codec, bytes: bytes.to_vec().into() };
        Needle::new(text).in_payload(&payload).map(|Location { name, excerpt }| format!("{name}: {excerpt}"))
    }

    #[test]
    fn strings_keys_numbers_and_bytes_are_searched_ignoring_case() {
        let json = br#"{"To": ["x", "Grace HOPPER"], "n": 1.50, "t": true}"#;
        for (text, expected) in [
            ("hopper", Some("payload at To[1]: Grace HOPPER")),
            ("TO", Some("key of the payload at .: To")),
            ("1.50", Some("payload at n: 1.50")),
            ("1.5", Some("payload at n: 1.50")),
            ("true", None),
            ("grace  hopper", None),
            ("nowhere", None),
        ] {
            assert_eq!(found(text, Codec::Json, json).as_deref(), expected, "{text}");
        }
        assert_eq!(found("grüße", Codec::Raw, "GRÜẞE".as_bytes()), Some("payload at .: GRÜẞE".to_owned()));
        assert_eq!(found("é", Codec::Raw, b"\xff\xc3\x89t\xc3\xa9"), Some("payload at .: \u{fffd}Été".to_owned()));
        assert!(found("ab", Codec::Json, b"{ab").is_some(), "an undecodable payload is searched as text");
    }

    #[test]
    fn an_excerpt_is_short_and_contains_the_match() {
        let long = format!("{}İNEEDLE{}", "a".repeat(5_000), "b".repeat(5_000));
        let found = found("needle", Codec::Raw, long.as_bytes()).unwrap();
        assert!(found.contains("NEEDLE") && found.chars().count() < 100, "{found}");
        assert!(found.contains(": …a") && found.ends_with("b…"), "{found}");
    }
}
