//! Conditions of `--where`: `priority>=5`, `reason~timeout`, `created<2026-01-01`.

use super::parse_time;
use pm_core::{JobMetadata, Timestamp};
use std::cmp::Ordering;

/// The operators; a longer one comes before its prefix.
const OPERATORS: [&str; 8] = ["!=", "!~", "<=", ">=", "=", "~", "<", ">"];
const FORM: &str = "write a condition like description~invoice, priority>=5 or created<2026-01-01";
const FIELDS: &str =
    "fields are description, key, reason, worker, priority, attempts, retries, bytes, created, ended and due";

/// A condition on a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// A text field; a missing text counts as empty.
    Text(TextField, TextTest, String),
    /// A numeric field.
    Number(NumberField, Comparison, i64),
    /// A time field; a missing time matches no condition.
    Time(TimeField, Comparison, Timestamp),
}

/// A text field of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextField {
    Description,
    Key,
    Reason,
    Worker,
}

/// A test of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextTest {
    Is,
    IsNot,
    /// Case-insensitive.
    Contains,
    ContainsNot,
}

/// A numeric field of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberField {
    Priority,
    Attempts,
    Retries,
    Bytes,
}

/// A time field of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeField {
    Created,
    Ended,
    Due,
}

/// A comparison of numbers or times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

impl Condition {
    /// Returns whether the job meets the condition.
    pub(crate) fn matches(&self, job: &JobMetadata) -> bool {
        match self {
            Condition::Text(field, test, wanted) => {
                let text = match field {
                    TextField::Description => &job.description,
                    TextField::Key => &job.key,
                    TextField::Reason => &job.reason,
                    TextField::Worker => &job.worker,
                };
                test.matches(text.as_deref().unwrap_or_default(), wanted)
            }
            Condition::Number(field, comparison, wanted) => {
                let number = match field {
                    NumberField::Priority => job.priority.into(),
                    NumberField::Attempts => job.attempt.into(),
                    NumberField::Retries => job.retry_count.into(),
                    NumberField::Bytes => i64::try_from(job.payload_bytes).unwrap_or(i64::MAX),
                };
                comparison.matches(number.cmp(wanted))
            }
            Condition::Time(field, comparison, wanted) => {
                let time = match field {
                    TimeField::Created => Some(job.created_at),
                    TimeField::Ended => job.ended_at,
                    TimeField::Due => job.run_at,
                };
                time.is_some_and(|time| comparison.matches(time.cmp(wanted)))
            }
        }
    }
}

impl TextTest {
    fn matches(self, text: &str, wanted: &str) -> bool {
        match self {
            TextTest::Is => text == wanted,
            TextTest::IsNot => text != wanted,
            TextTest::Contains => text.to_lowercase().contains(&wanted.to_lowercase()),
            TextTest::ContainsNot => !text.to_lowercase().contains(&wanted.to_lowercase()),
        }
    }
}

impl Comparison {
    fn matches(self, order: Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::Unequal => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::AtMost => order.is_le(),
            Comparison::More => order.is_gt(),
            Comparison::AtLeast => order.is_ge(),
        }
    }
}

/// A field of a job.
#[derive(Clone, Copy)]
enum Field {
    Text(TextField),
    Number(NumberField),
    Time(TimeField),
}

/// Parses a condition. Everything after the operator is the value, spaces inside it included.
pub(crate) fn parse_condition(text: &str) -> Result<Condition, String> {
    let at = text
        .find(['=', '!', '~', '<', '>'])
        .ok_or_else(|| with_caret(text, text.len(), &format!("missing operator; {FORM}")))?;
    let operator = OPERATORS.iter().find(|operator| text[at..].starts_with(**operator));
    let operator = operator.ok_or_else(|| with_caret(text, at, "operators are =, !=, ~, !~, <, <=, > and >="))?;
    let name = text[..at].trim();
    let name_at = text.len() - text.trim_start().len();
    let field = field(name).ok_or_else(|| with_caret(text, name_at, FIELDS))?;
    let value_at = at + operator.len();
    let value = text[value_at..].trim();
    let value_at = value_at + (text[value_at..].len() - text[value_at..].trim_start().len());
    match field {
        Field::Text(field) => {
            let test =
                text_test(operator).ok_or_else(|| with_caret(text, at, "text fields support =, !=, ~ and !~"))?;
            if value.is_empty() && matches!(test, TextTest::Contains | TextTest::ContainsNot) {
                return Err(with_caret(
                    text,
                    value_at,
                    "a value is missing here; to test for an empty text use = or !=",
                ));
            }
            Ok(Condition::Text(field, test, value.to_owned()))
        }
        Field::Number(field) => {
            let comparison = comparison(operator)
                .ok_or_else(|| with_caret(text, at, "numeric fields support =, !=, <, <=, > and >="))?;
            let number = value.parse().map_err(|_| with_caret(text, value_at, "expected an integer here"))?;
            Ok(Condition::Number(field, comparison, number))
        }
        Field::Time(field) => {
            let comparison = comparison(operator)
                .ok_or_else(|| with_caret(text, at, "time fields support =, !=, <, <=, > and >="))?;
            let time = parse_time(value).map_err(|problem| with_caret(text, value_at, &problem))?;
            Ok(Condition::Time(field, comparison, time))
        }
    }
}

fn field(name: &str) -> Option<Field> {
    let field = match name {
        "description" => Field::Text(TextField::Description),
        "key" => Field::Text(TextField::Key),
        "reason" => Field::Text(TextField::Reason),
        "worker" => Field::Text(TextField::Worker),
        "priority" => Field::Number(NumberField::Priority),
        "attempts" => Field::Number(NumberField::Attempts),
        "retries" => Field::Number(NumberField::Retries),
        "bytes" => Field::Number(NumberField::Bytes),
        "created" => Field::Time(TimeField::Created),
        "ended" => Field::Time(TimeField::Ended),
        "due" => Field::Time(TimeField::Due),
        _ => return None,
    };
    Some(field)
}

fn text_test(operator: &str) -> Option<TextTest> {
    let test = match operator {
        "=" => TextTest::Is,
        "!=" => TextTest::IsNot,
        "~" => TextTest::Contains,
        "!~" => TextTest::ContainsNot,
        _ => return None,
    };
    Some(test)
}

fn comparison(operator: &str) -> Option<Comparison> {
    let comparison = match operator {
        "=" => Comparison::Equal,
        "!=" => Comparison::Unequal,
        "<" => Comparison::Less,
        "<=" => Comparison::AtMost,
        ">" => Comparison::More,
        ">=" => Comparison::AtLeast,
        _ => return None,
    };
    Some(comparison)
}

/// Returns the problem, and the text with a caret under position `at`.
fn with_caret(text: &str, at: usize, problem: &str) -> String {
    let shown = crate::text::printable(text);
    let before = crate::text::width(&crate::text::printable(&text[..at]));
    format!("{problem}\n  {shown}\n  {}^", " ".repeat(before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn conditions_are_parsed() {
        let text = |field, test, text: &str| Condition::Text(field, test, text.to_owned());
        for (written, expected) in [
            ("description~two words", text(TextField::Description, TextTest::Contains, "two words")),
            ("key=a=b,c", text(TextField::Key, TextTest::Is, "a=b,c")),
            ("key!=", text(TextField::Key, TextTest::IsNot, "")),
            (" reason !~ <timeout> ", text(TextField::Reason, TextTest::ContainsNot, "<timeout>")),
            ("worker=日本", text(TextField::Worker, TextTest::Is, "日本")),
            ("priority>=-5", Condition::Number(NumberField::Priority, Comparison::AtLeast, -5)),
            ("retries > 2", Condition::Number(NumberField::Retries, Comparison::More, 2)),
            ("bytes<1000", Condition::Number(NumberField::Bytes, Comparison::Less, 1_000)),
            ("attempts!=1", Condition::Number(NumberField::Attempts, Comparison::Unequal, 1)),
        ] {
            assert_eq!(parse_condition(written), Ok(expected), "{written}");
        }
        let time = parse_time("2026-01-01T00:00:00Z").unwrap();
        for (written, field) in
            [("created<=", TimeField::Created), ("ended<=", TimeField::Ended), ("due<=", TimeField::Due)]
        {
            let condition = parse_condition(&format!("{written}2026-01-01T00:00:00Z"));
            assert_eq!(condition, Ok(Condition::Time(field, Comparison::AtMost, time)));
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
            (TextTest::Is, "a", "a", true),
            (TextTest::Is, "A", "a", false),
            (TextTest::IsNot, "", "", false),
            (TextTest::IsNot, "k", "", true),
            (TextTest::Contains, "Grüße, ADA", "ada", true),
            (TextTest::Contains, "", "a", false),
            (TextTest::ContainsNot, "", "a", true),
            (TextTest::ContainsNot, "BAD", "a", false),
        ] {
            assert_eq!(test.matches(text, wanted), expected, "{test:?} {text:?} {wanted:?}");
        }
        let all = [
            (Comparison::Equal, [false, true, false]),
            (Comparison::Unequal, [true, false, true]),
            (Comparison::Less, [true, false, false]),
            (Comparison::AtMost, [true, true, false]),
            (Comparison::More, [false, false, true]),
            (Comparison::AtLeast, [false, true, true]),
        ];
        for (comparison, expected) in all {
            assert_eq!([1, 2, 3].map(|number| comparison.matches(number.cmp(&2))), expected, "{comparison:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[a-z=!~<> 日\\-0-9]{0,20}") {
            drop(parse_condition(&text));
        }
    }
}
