//! Conditions of `--where`: `priority>=5`, `reason~timeout`, `created<2026-01-01`.

use super::parse_time;
use crate::text::with_caret;
use pm_core::{JobMetadata, Timestamp};

/// The operators; a longer one comes before its prefix.
const OPERATORS: [Operator; 8] = [
    Operator { sign: "!=", purpose: Purpose::Equality, holds: |found, wanted| found != wanted },
    Operator { sign: "!~", purpose: Purpose::Containment, holds: |found, wanted| !found.contains(wanted) },
    Operator { sign: "<=", purpose: Purpose::Order, holds: |found, wanted| found <= wanted },
    Operator { sign: ">=", purpose: Purpose::Order, holds: |found, wanted| found >= wanted },
    Operator { sign: "=", purpose: Purpose::Equality, holds: |found, wanted| found == wanted },
    Operator { sign: "~", purpose: Purpose::Containment, holds: Operand::contains },
    Operator { sign: "<", purpose: Purpose::Order, holds: |found, wanted| found < wanted },
    Operator { sign: ">", purpose: Purpose::Order, holds: |found, wanted| found > wanted },
];
const FIELDS: [Field; 11] = [
    Field { name: "description", kind: Kind::Text, of: |job| Operand::text(&job.description) },
    Field { name: "key", kind: Kind::Text, of: |job| Operand::text(&job.key) },
    Field { name: "reason", kind: Kind::Text, of: |job| Operand::text(&job.reason) },
    Field { name: "worker", kind: Kind::Text, of: |job| Operand::text(&job.worker) },
    Field { name: "priority", kind: Kind::Number, of: |job| Operand::number(job.priority) },
    Field { name: "attempts", kind: Kind::Number, of: |job| Operand::number(job.attempt) },
    Field { name: "retries", kind: Kind::Number, of: |job| Operand::number(job.retry_count) },
    Field { name: "bytes", kind: Kind::Number, of: |job| Operand::number(job.payload_bytes) },
    Field { name: "created", kind: Kind::Time, of: |job| Some(Operand::Time(job.created_at)) },
    Field { name: "ended", kind: Kind::Time, of: |job| job.ended_at.map(Operand::Time) },
    Field { name: "due", kind: Kind::Time, of: |job| job.run_at.map(Operand::Time) },
];
const FORM: &str = "write a condition like description~invoice, priority>=5 or created<2026-01-01";
const FIELD_NAMES: &str =
    "fields are description, key, reason, worker, priority, attempts, retries, bytes, created, ended and due";

/// A condition on a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    /// The index in [`FIELDS`].
    field: usize,
    /// The index in [`OPERATORS`].
    operator: usize,
    wanted: Operand,
}

/// A field of a job.
struct Field {
    name: &'static str,
    kind: Kind,
    of: fn(&JobMetadata) -> Option<Operand>,
}

enum Kind {
    Text,
    Number,
    Time,
}

struct Operator {
    sign: &'static str,
    purpose: Purpose,
    holds: fn(&Operand, &Operand) -> bool,
}

enum Purpose {
    Equality,
    /// For texts only; case-insensitive.
    Containment,
    /// Not for texts.
    Order,
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
        let found = (FIELDS[self.field].of)(job);
        found.is_some_and(|found| (OPERATORS[self.operator].holds)(&found, &self.wanted))
    }
}

impl Operand {
    fn text(text: &Option<String>) -> Option<Self> {
        Some(Operand::Text(text.clone().unwrap_or_default()))
    }

    fn number(number: impl TryInto<i64>) -> Option<Self> {
        Some(Operand::Number(number.try_into().unwrap_or(i64::MAX)))
    }

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
    let operator = OPERATORS.iter().position(|operator| text[at..].starts_with(operator.sign));
    let operator = operator.ok_or_else(|| with_caret(text, at, "operators are =, !=, ~, !~, <, <=, > and >="))?;
    let name_at = text.len() - text.trim_start().len();
    let field = FIELDS.iter().position(|field| field.name == text[..at].trim());
    let field = field.ok_or_else(|| with_caret(text, name_at, FIELD_NAMES))?;
    let Operator { sign, purpose, .. } = &OPERATORS[operator];
    let rest = text[at + sign.len()..].trim_start();
    let (value, value_at) = (rest.trim_end(), text.len() - rest.len());
    let unsupported = |problem: &str| Err(with_caret(text, at, problem));
    let wanted = match (&FIELDS[field].kind, purpose) {
        (Kind::Text, Purpose::Order) => return unsupported("text fields support =, !=, ~ and !~"),
        (Kind::Number, Purpose::Containment) => {
            return unsupported("numeric fields support =, !=, <, <=, > and >=");
        }
        (Kind::Time, Purpose::Containment) => return unsupported("time fields support =, !=, <, <=, > and >="),
        (Kind::Text, Purpose::Containment) if value.is_empty() => {
            let problem = "a value is missing here; to test for an empty text use = or !=";
            return Err(with_caret(text, value_at, problem));
        }
        (Kind::Text, _) => Operand::Text(value.to_owned()),
        (Kind::Number, _) => {
            Operand::Number(value.parse().map_err(|_| with_caret(text, value_at, "expected an integer here"))?)
        }
        (Kind::Time, _) => Operand::Time(parse_time(value).map_err(|problem| with_caret(text, value_at, &problem))?),
    };
    Ok(Condition { field, operator, wanted })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(name: &str) -> usize {
        FIELDS.iter().position(|field| field.name == name).unwrap()
    }

    fn operator(sign: &str) -> usize {
        OPERATORS.iter().position(|operator| operator.sign == sign).unwrap()
    }

    fn holds(sign: &str, found: &Operand, wanted: &Operand) -> bool {
        (OPERATORS[operator(sign)].holds)(found, wanted)
    }

    #[test]
    fn conditions_are_parsed() {
        let condition = |name, sign, wanted| Condition { field: field(name), operator: operator(sign), wanted };
        let text = |name, sign, text: &str| condition(name, sign, Operand::Text(text.to_owned()));
        let number = |name, sign, number| condition(name, sign, Operand::Number(number));
        for (written, expected) in [
            ("description~two words", text("description", "~", "two words")),
            ("key=a=b,c", text("key", "=", "a=b,c")),
            ("key!=", text("key", "!=", "")),
            (" reason !~ <timeout> ", text("reason", "!~", "<timeout>")),
            ("worker=日本", text("worker", "=", "日本")),
            ("priority>=-5", number("priority", ">=", -5)),
            ("retries > 2", number("retries", ">", 2)),
            ("bytes<1000", number("bytes", "<", 1_000)),
            ("attempts!=1", number("attempts", "!=", 1)),
        ] {
            assert_eq!(parse_condition(written), Ok(expected), "{written}");
        }
        let time = parse_time("2026-01-01T00:00:00Z").unwrap();
        for name in ["created", "ended", "due"] {
            let parsed = parse_condition(&format!("{name}<=2026-01-01T00:00:00Z"));
            assert_eq!(parsed, Ok(condition(name, "<=", Operand::Time(time))));
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
            ("=", "a", "a", true),
            ("=", "A", "a", false),
            ("!=", "", "", false),
            ("!=", "k", "", true),
            ("~", "Grüße, ADA", "ada", true),
            ("~", "", "a", false),
            ("!~", "", "a", true),
            ("!~", "BAD", "a", false),
        ] {
            let [found, searched] = [text, wanted].map(|text| Operand::Text(text.to_owned()));
            assert_eq!(holds(test, &found, &searched), expected, "{test} {text:?} {wanted:?}");
        }
        let all = [
            ("=", [false, true, false]),
            ("!=", [true, false, true]),
            ("<", [true, false, false]),
            ("<=", [true, true, false]),
            (">", [false, false, true]),
            (">=", [false, true, true]),
        ];
        for (comparison, expected) in all {
            assert_eq!(
                [1, 2, 3].map(|number| holds(comparison, &Operand::Number(number), &Operand::Number(2))),
                expected,
                "{comparison}"
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
