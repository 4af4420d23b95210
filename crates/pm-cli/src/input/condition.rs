//! Conditions of `--where`: `priority>=5`, `reason~timeout`, `created<2026-01-01`.

use super::parse_time;
use crate::text::with_caret;
use pm_core::{JobMetadata, Timestamp};

/// The operators; a longer one comes before its prefix.
const OPERATORS: [(&str, Operator); 8] = [
    ("!=", Operator::Unequal),
    ("!~", Operator::ContainsNot),
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("=", Operator::Equal),
    ("~", Operator::Contains),
    ("<", Operator::Less),
    (">", Operator::More),
];
const FIELDS: [(&str, Field); 11] = [
    ("description", Field::Description),
    ("key", Field::Key),
    ("reason", Field::Reason),
    ("worker", Field::Worker),
    ("priority", Field::Priority),
    ("attempts", Field::Attempts),
    ("retries", Field::Retries),
    ("bytes", Field::Bytes),
    ("created", Field::Created),
    ("ended", Field::Ended),
    ("due", Field::Due),
];
const FORM: &str = "write a condition like description~invoice, priority>=5 or created<2026-01-01";
const FIELD_NAMES: &str =
    "fields are description, key, reason, worker, priority, attempts, retries, bytes, created, ended and due";

/// A condition on a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    field: Field,
    operator: Operator,
    wanted: Operand,
}

/// A field of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Description,
    Key,
    Reason,
    Worker,
    Priority,
    Attempts,
    Retries,
    Bytes,
    Created,
    Ended,
    Due,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    /// For texts only; case-insensitive.
    Contains,
    ContainsNot,
    /// This and the following are not for texts.
    Less,
    AtMost,
    More,
    AtLeast,
}

/// What an operator compares; both sides are of the same kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd)]
enum Operand {
    Text(String),
    Number(i64),
    Time(Timestamp),
}

impl Condition {
    /// Returns whether the job meets the condition. A missing text counts as empty; a missing time meets none.
    pub(crate) fn matches(&self, job: &JobMetadata) -> bool {
        self.field.of(job).is_some_and(|found| self.operator.holds(&found, &self.wanted))
    }
}

impl Field {
    fn of(self, job: &JobMetadata) -> Option<Operand> {
        let text = |text: &Option<String>| Operand::Text(text.clone().unwrap_or_default());
        Some(match self {
            Field::Description => text(&job.description),
            Field::Key => text(&job.key),
            Field::Reason => text(&job.reason),
            Field::Worker => text(&job.worker),
            Field::Priority => Operand::Number(job.priority.into()),
            Field::Attempts => Operand::Number(job.attempt.into()),
            Field::Retries => Operand::Number(job.retry_count.into()),
            Field::Bytes => Operand::Number(i64::try_from(job.payload_bytes).unwrap_or(i64::MAX)),
            Field::Created => Operand::Time(job.created_at),
            Field::Ended => Operand::Time(job.ended_at?),
            Field::Due => Operand::Time(job.run_at?),
        })
    }
}

impl Operator {
    fn holds(self, found: &Operand, wanted: &Operand) -> bool {
        match self {
            Operator::Equal => found == wanted,
            Operator::Unequal => found != wanted,
            Operator::Contains => found.contains(wanted),
            Operator::ContainsNot => !found.contains(wanted),
            Operator::Less => found < wanted,
            Operator::AtMost => found <= wanted,
            Operator::More => found > wanted,
            Operator::AtLeast => found >= wanted,
        }
    }
}

impl Operand {
    fn contains(&self, wanted: &Operand) -> bool {
        match (self, wanted) {
            (Operand::Text(text), Operand::Text(wanted)) => text.to_lowercase().contains(&wanted.to_lowercase()),
            _ => false,
        }
    }
}

/// Parses a condition. Everything after the operator is the value, spaces inside it included.
pub(crate) fn parse_condition(text: &str) -> Result<Condition, String> {
    let at = text
        .find(['=', '!', '~', '<', '>'])
        .ok_or_else(|| with_caret(text, text.len(), &format!("missing operator; {FORM}")))?;
    let operator = OPERATORS.into_iter().find(|(sign, _)| text[at..].starts_with(sign));
    let (sign, operator) =
        operator.ok_or_else(|| with_caret(text, at, "operators are =, !=, ~, !~, <, <=, > and >="))?;
    let name_at = text.len() - text.trim_start().len();
    let field = FIELDS.into_iter().find(|(name, _)| *name == text[..at].trim());
    let (_, field) = field.ok_or_else(|| with_caret(text, name_at, FIELD_NAMES))?;
    let rest = text[at + sign.len()..].trim_start();
    let (value, value_at) = (rest.trim_end(), text.len() - rest.len());
    let is_contains = matches!(operator, Operator::Contains | Operator::ContainsNot);
    let is_equality = matches!(operator, Operator::Equal | Operator::Unequal);
    let wanted = match field {
        Field::Description | Field::Key | Field::Reason | Field::Worker => {
            if !is_contains && !is_equality {
                return Err(with_caret(text, at, "text fields support =, !=, ~ and !~"));
            }
            if value.is_empty() && is_contains {
                let problem = "a value is missing here; to test for an empty text use = or !=";
                return Err(with_caret(text, value_at, problem));
            }
            Operand::Text(value.to_owned())
        }
        Field::Priority | Field::Attempts | Field::Retries | Field::Bytes => {
            if is_contains {
                return Err(with_caret(text, at, "numeric fields support =, !=, <, <=, > and >="));
            }
            let number = value.parse().map_err(|_| with_caret(text, value_at, "expected an integer here"))?;
            Operand::Number(number)
        }
        Field::Created | Field::Ended | Field::Due => {
            if is_contains {
                return Err(with_caret(text, at, "time fields support =, !=, <, <=, > and >="));
            }
            Operand::Time(parse_time(value).map_err(|problem| with_caret(text, value_at, &problem))?)
        }
    };
    Ok(Condition { field, operator, wanted })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn conditions_are_parsed() {
        let condition = |field, operator, wanted| Condition { field, operator, wanted };
        let text = |field, operator, text: &str| condition(field, operator, Operand::Text(text.to_owned()));
        let number = |field, operator, number| condition(field, operator, Operand::Number(number));
        for (written, expected) in [
            ("description~two words", text(Field::Description, Operator::Contains, "two words")),
            ("key=a=b,c", text(Field::Key, Operator::Equal, "a=b,c")),
            ("key!=", text(Field::Key, Operator::Unequal, "")),
            (" reason !~ <timeout> ", text(Field::Reason, Operator::ContainsNot, "<timeout>")),
            ("worker=日本", text(Field::Worker, Operator::Equal, "日本")),
            ("priority>=-5", number(Field::Priority, Operator::AtLeast, -5)),
            ("retries > 2", number(Field::Retries, Operator::More, 2)),
            ("bytes<1000", number(Field::Bytes, Operator::Less, 1_000)),
            ("attempts!=1", number(Field::Attempts, Operator::Unequal, 1)),
        ] {
            assert_eq!(parse_condition(written), Ok(expected), "{written}");
        }
        let time = parse_time("2026-01-01T00:00:00Z").unwrap();
        for (written, field) in [("created<=", Field::Created), ("ended<=", Field::Ended), ("due<=", Field::Due)] {
            let parsed = parse_condition(&format!("{written}2026-01-01T00:00:00Z"));
            assert_eq!(parsed, Ok(condition(field, Operator::AtMost, Operand::Time(time))));
        }
    }

    #[test]
    fn errors_point_at_the_problem() {
        for (written, column, expected) in [
            ("", 0, "missing operator"),
            ("description", 11, "missing operator"),
            ("descriptoin~x", 0, "fields are description"),
            ("=x", 0, "fields are"),
            ("priority!5", 8, "operators are"),
            ("priority~5", 8, "numeric fields support"),
            ("priority>=high", 10, "an integer"),
            ("priority> 99999999999999999999", 10, "an integer"),
            ("key<a", 3, "text fields support"),
            ("reason~", 7, "a value is missing"),
            ("created~2026", 7, "time fields support"),
            ("created<soon", 8, "2030-05-01"),
            ("日本~x", 0, "fields are"),
        ] {
            let problem = parse_condition(written).unwrap_err();
            let caret = problem.lines().last().unwrap();
            assert!(problem.contains(expected), "{written}: {problem}");
            assert_eq!(caret.chars().count() - 3, column, "{written}: {problem}");
        }
    }

    #[test]
    fn tests_and_comparisons_of_all_kinds() {
        for (test, text, wanted, expected) in [
            (Operator::Equal, "a", "a", true),
            (Operator::Equal, "A", "a", false),
            (Operator::Unequal, "", "", false),
            (Operator::Unequal, "k", "", true),
            (Operator::Contains, "Grüße, ADA", "ada", true),
            (Operator::Contains, "", "a", false),
            (Operator::ContainsNot, "", "a", true),
            (Operator::ContainsNot, "BAD", "a", false),
        ] {
            let [found, searched] = [text, wanted].map(|text| Operand::Text(text.to_owned()));
            assert_eq!(test.holds(&found, &searched), expected, "{test:?} {text:?} {wanted:?}");
        }
        let all = [
            (Operator::Equal, [false, true, false]),
            (Operator::Unequal, [true, false, true]),
            (Operator::Less, [true, false, false]),
            (Operator::AtMost, [true, true, false]),
            (Operator::More, [false, false, true]),
            (Operator::AtLeast, [false, true, true]),
        ];
        for (comparison, expected) in all {
            assert_eq!(
                [1, 2, 3].map(|number| comparison.holds(&Operand::Number(number), &Operand::Number(2))),
                expected,
                "{comparison:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[a-z=!~<> 日\\-0-9]{0,20}") {
            drop(parse_condition(&text));
        }
    }
}
