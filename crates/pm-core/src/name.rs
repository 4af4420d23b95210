//! Checked names.

use crate::Error;
use std::fmt;

/// A valid queue name: 1 to 200 bytes of UTF-8, without control characters, and without white space at either end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName(String);

impl QueueName {
    /// The maximum length of a name, in bytes.
    pub const MAX_BYTES: usize = 200;

    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if `name` breaks one of the rules; the message names the rule.
    pub fn new(name: &str) -> Result<Self, Error> {
        check("queue", name)?;
        Ok(QueueName(name.to_owned()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A valid schedule name, by the rules of [`QueueName`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScheduleName(String);

impl ScheduleName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if `name` breaks one of the rules; the message names the rule.
    pub fn new(name: &str) -> Result<Self, Error> {
        check("schedule", name)?;
        Ok(ScheduleName(name.to_owned()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScheduleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(what: &str, name: &str) -> Result<(), Error> {
    let problem = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > QueueName::MAX_BYTES {
        format!("is {} bytes long; at most {} are allowed", name.len(), QueueName::MAX_BYTES)
    } else if name.chars().any(char::is_control) {
        "contains a control character".to_owned()
    } else if name.trim() != name {
        "starts or ends with a blank".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("{what} name {name:?}"), problem))
}

/// A valid name for the schema of pm's tables: 1 to 63 bytes, without control characters, quotes, backslashes, dollar
/// signs and braces, and not one of Postgres's own schemas.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SchemaName(String);

impl SchemaName {
    /// Checks a name.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if `name` breaks one of the rules; the message names the rule.
    pub fn new(name: &str) -> Result<Self, Error> {
        let problem = if name.is_empty() {
            "is empty"
        } else if name.len() > 63 {
            "is longer than 63 bytes, the limit of Postgres"
        } else if name.chars().any(|c| c.is_control() || matches!(c, '"' | '\'' | '\\' | '$' | '{' | '}')) {
            "contains a quote, backslash, dollar sign, brace or control character"
        } else if name.starts_with("pg_") {
            "starts with pg_, which Postgres reserves"
        } else if name == "information_schema" {
            "is the schema of the SQL standard's views"
        } else {
            return Ok(SchemaName(name.to_owned()));
        };
        Err(Error::invalid(format!("schema name {name:?}"), problem))
    }

    /// Returns the name, unquoted.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for SchemaName {
    /// Returns `pm`.
    fn default() -> Self {
        SchemaName("pm".to_owned())
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Names near the limits of the rules, more often than random text would be.
    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[ \\t\u{a0}\u{3000}]?[a-zé🦀 ]{0,6}[ \\n\u{85}\u{2003}]?",
            "[a-zß]{190,205}",
            "[a-z]{60,65}",
            "(pg|PG|p)_?[a-z\"'$\\{\\}\\\\]{0,3}",
            "[\u{0}-\u{20}\u{7f}-\u{a0}]{1,2}",
        ]
    }

    proptest! {
        #[test]
        fn exactly_the_documented_queue_names_are_accepted_and_kept_unchanged(text in texts()) {
            let blank = |c: Option<char>| c.is_none_or(char::is_whitespace);
            let allowed = (1..=200).contains(&text.len())
                && !text.chars().any(|c| matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'))
                && !blank(text.chars().next())
                && !blank(text.chars().next_back());
            match QueueName::new(&text) {
                Ok(name) => prop_assert!(allowed && name.as_str() == text && name.to_string() == text),
                Err(error) => prop_assert!(!allowed && matches!(error, Error::Invalid { .. }), "{error}"),
            }
        }

        #[test]
        fn schema_names_stay_inside_their_quotes(text in texts()) {
            let Ok(name) = SchemaName::new(&text) else { return Ok(()) };
            prop_assert!((1..=63).contains(&name.as_str().len()) && name.to_string() == text);
            let rendered = crate::render::render("select 1 from {schema}.job -- {schema}\n", &name);
            prop_assert_eq!(rendered, format!("select 1 from \"{text}\".job -- \"{text}\""));
        }
    }

    #[test]
    fn valid_queue_names_are_accepted() {
        for name in ["a", "mail", "e-mail/out 2", "Grüße 🦀", &"x".repeat(200)] {
            assert_eq!(QueueName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn errors_name_the_rule_that_a_name_breaks() {
        let long = "x".repeat(201);
        for (name, why) in [
            ("", "is empty"),
            (long.as_str(), "201 bytes"),
            ("a\nb", "control character"),
            ("a\0b", "control character"),
            (" a", "blank"),
            ("a ", "blank"),
            ("\u{a0}a", "blank"),
        ] {
            let error = QueueName::new(name).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            let error = ScheduleName::new(name).unwrap_err().to_string();
            assert!(error.starts_with("schedule name") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn schema_names_cannot_break_out_of_their_quotes() {
        assert_eq!(SchemaName::new("my jobs").unwrap().as_str(), "my jobs");
        for name in ["", "a\"b", "a'b", "pg_jobs", "information_schema", "{schema}", "a$b", &"x".repeat(64)] {
            assert!(SchemaName::new(name).is_err(), "{name}");
        }
    }
}
