//! JSON texts that are stored with a job.

use crate::Error;

/// The maximum size of a result, in bytes as it is stored. Larger ones are refused before anything is sent.
pub const MAX_RESULT_BYTES: usize = 1 << 20;

/// The maximum size of progress, in bytes as it is stored. Larger is refused before anything is sent.
pub const MAX_PROGRESS_BYTES: usize = 8 * 1024;

/// A JSON text that is stored with a job: how far it has come, or what came of it.
///
/// It is stored in ASCII, with escapes such as `\u00e9` for other characters: a database with any encoding can store
/// it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonText(String);

impl JsonText {
    /// Returns a JSON text as the result of a job. That it is JSON is not checked.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when it is longer than [`MAX_RESULT_BYTES`].
    pub fn result(json: String) -> Result<Self, Error> {
        Self::new("the result", json, MAX_RESULT_BYTES)
    }

    /// Returns a JSON text as the progress of a job. That it is JSON is not checked.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when it is longer than [`MAX_PROGRESS_BYTES`].
    pub fn progress(json: String) -> Result<Self, Error> {
        Self::new("the progress", json, MAX_PROGRESS_BYTES)
    }

    fn new(what: &str, json: String, max_bytes: usize) -> Result<Self, Error> {
        let json = if json.is_ascii() { json } else { in_ascii(&json) };
        if json.len() > max_bytes {
            let problem = format!("is {} bytes long; at most {max_bytes} are allowed", json.len());
            return Err(Error::invalid(what, problem));
        }
        Ok(JsonText(json))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns the same JSON in ASCII. Characters beyond it occur within strings only, where each may be escaped.
fn in_ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    for c in json.chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ascii_is_escaped_as_json_does() {
        let stored = JsonText::result("{\"é\":\"→ 🦀\\n\"}".to_owned()).unwrap();
        assert_eq!(stored.as_str(), "{\"\\u00e9\":\"\\u2192 \\ud83e\\udd80\\n\"}");
    }

    #[test]
    fn the_limit_counts_the_stored_bytes() {
        let result = |text: &str, count: usize| JsonText::result(format!("\"{}\"", text.repeat(count)));
        assert!(result("a", MAX_RESULT_BYTES - 2).is_ok());
        let refused = result("a", MAX_RESULT_BYTES - 1).unwrap_err();
        assert_eq!(refused.to_string(), "the result is 1048577 bytes long; at most 1048576 are allowed");
        assert!(result("é", MAX_RESULT_BYTES / 6).is_ok() && result("é", MAX_RESULT_BYTES / 4).is_err());
    }
}
