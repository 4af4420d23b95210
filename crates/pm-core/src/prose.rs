//! Human-readable text in databases whose encoding cannot store every character.

use crate::wire::Value;
use crate::{Plan, Reason};
use std::borrow::Cow;

/// The human-readable texts of one plan, escaped for a database's encoding.
///
/// Descriptions, reasons and names of workers are stored with escapes where necessary, because an operation must not
/// fail only for their sake. Every other text identifies something and is sent unchanged, and the database refuses it
/// if it cannot store it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FittedTexts {
    /// The index of the parameter.
    index: usize,
    texts: Vec<Option<String>>,
}

impl Plan<'_> {
    /// Returns whether a human-readable text has a character outside ASCII, which some encodings cannot store.
    pub fn has_uncommon_text(&self) -> bool {
        self.human_texts().is_some_and(|(_, texts)| texts.into_iter().flatten().any(|text| !text.is_ascii()))
    }

    /// Returns the human-readable texts with escapes like `\u{2192}` for characters that `encoding`, as named by
    /// `getdatabaseencoding()`, cannot store; `None` when it can store them all.
    ///
    /// An unknown encoding is expected to store ASCII only. An escaped text is cut at 8 KiB, never inside an escape.
    pub fn fitted_texts(&self, encoding: &str) -> Option<FittedTexts> {
        let can_store: fn(char) -> bool = match encoding {
            // The server keeps bytes as they are in a database of SQL_ASCII.
            "UTF8" | "SQL_ASCII" => return None,
            "LATIN1" => |c| c <= '\u{ff}',
            _ => |c| c.is_ascii(),
        };
        let (index, texts) = self.human_texts()?;
        let fits = texts.iter().flatten().all(|text| text.chars().all(can_store));
        let fitted = || texts.iter().map(|text| Some(fit((*text)?, can_store))).collect();
        (!fits).then(|| FittedTexts { index, texts: fitted() })
    }

    /// Returns the parameter that holds human-readable text, if there is one, with its index.
    fn human_texts(&self) -> Option<(usize, Vec<Option<&str>>)> {
        let index = self.statement.declaration().human_text?;
        match self.params.get(index)? {
            Value::Text(text) => Some((index, vec![Some(*text)])),
            Value::TextArray(texts) => Some((index, texts.iter().map(Option::as_deref).collect())),
            _ => None,
        }
    }
}

impl FittedTexts {
    /// Returns the plan with these texts instead of the original ones.
    pub fn plan<'a>(&'a self, plan: &'a Plan<'a>) -> Plan<'a> {
        let mut fitted = plan.clone();
        let text = |text: &'a Option<String>| text.as_deref().map(Cow::Borrowed);
        match (&mut fitted.params[self.index], self.texts.as_slice()) {
            (Value::Text(old), [Some(new)]) => *old = new,
            (Value::TextArray(old), new) => *old = new.iter().map(text).collect(),
            _ => {}
        }
        fitted
    }
}

fn fit(text: &str, can_store: fn(char) -> bool) -> String {
    let mut fitted = String::with_capacity(text.len());
    for c in text.chars() {
        let end = fitted.len();
        match can_store(c) {
            true => fitted.push(c),
            false => fitted.extend(c.escape_unicode()),
        }
        if fitted.len() > Reason::MAX_BYTES {
            fitted.truncate(end);
            break;
        }
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{
        CancelJobs, Claim, CopyJob, EndJobs, Enqueue, EnqueueEach, EnqueueFresh, EnqueueKeyed, FetchJob, Precondition,
        ReplaceJobs, SetSchedule, Settle, SettleItem,
    };
    use crate::{
        Cron, EnqueueOptions, Lease, Missed, NewJob, NewSchedule, Operation, Overlap, QueueName, ScheduleName, State,
        StatementId, Timestamp, Verdict,
    };
    use bytes::Bytes;
    use uuid::Uuid;

    const TEXT: &str = "é → 🦀";

    fn new_job() -> NewJob {
        let options = EnqueueOptions {
            description: Some(TEXT.to_owned()),
            key: Some("ключ".to_owned()),
            ..EnqueueOptions::default()
        };
        NewJob { id: Uuid::nil(), queue: QueueName::new("очередь").unwrap(), payload: Bytes::new(), options }
    }

    /// Calls `visit` with a plan of each statement that carries human-readable text.
    fn each_plan(mut visit: impl FnMut(Plan<'_>)) {
        let lease = Lease { job: Uuid::nil(), number: 1 };
        let job = new_job();
        let (queue, options) = (job.queue.clone(), job.options.clone());
        let verdict = Verdict::HardFail(Reason::new(TEXT));
        let items = [SettleItem { lease, verdict, state: State::Failed, delay: None }];
        let schedule = NewSchedule {
            name: ScheduleName::new("имя").unwrap(),
            queue: queue.clone(),
            cron: Cron::new("* * * * *", "UTC").unwrap(),
            missed: Missed::Skip,
            overlap: Overlap::Allow,
            payload: Bytes::new(),
            options: EnqueueOptions { key: None, ..options.clone() },
        };
        let worker = TEXT.to_owned();
        visit(Claim { lines: Vec::new(), limit: 1, lease: 1, worker: worker.clone(), due_bound: None }.plan());
        visit(FetchJob { lease, worker }.plan());
        visit(Settle { items: &items, passes: false }.plan());
        visit(EnqueueKeyed { jobs: std::slice::from_ref(&job), in_transaction: false }.plan());
        visit(EnqueueEach { jobs: std::slice::from_ref(&job) }.plan());
        let keyless = NewJob { options: EnqueueOptions { key: None, ..options.clone() }, ..job.clone() };
        visit(Enqueue { jobs: std::slice::from_ref(&keyless) }.plan());
        visit(EnqueueFresh { jobs: &[keyless] }.plan());
        visit(ReplaceJobs { jobs: std::slice::from_ref(&job) }.plan());
        visit(CopyJob { source: Uuid::nil(), job }.plan());
        visit(SetSchedule::new(schedule, Timestamp::from_unix_us(0)).unwrap().plan());
        visit(EndJobs::failed(vec![Uuid::nil()], TEXT).plan());
        let (ids, reason, precondition) = (vec![Uuid::nil()], Reason::new(TEXT), Precondition::default());
        visit(CancelJobs { ids, force: false, reason, precondition }.plan());
    }

    #[test]
    fn human_texts_are_escaped_and_names_and_keys_are_not() {
        let mut statements = Vec::new();
        each_plan(|plan| {
            assert!(plan.has_uncommon_text(), "{:?}", plan.statement);
            assert_eq!(plan.fitted_texts("UTF8"), None);
            assert_eq!(plan.fitted_texts("SQL_ASCII"), None);
            for (encoding, expected) in [("LATIN1", "é \\u{2192} \\u{1f980}"), ("", "\\u{e9} \\u{2192} \\u{1f980}")] {
                let fitted = plan.fitted_texts(encoding).unwrap();
                let shown = format!("{:?}", plan.params).replace(TEXT, &expected.replace('\\', "\\\\"));
                assert_eq!(format!("{:?}", fitted.plan(&plan).params), shown, "{:?}", plan.statement);
                assert!(!shown.contains('→'), "{:?}", plan.statement);
            }
            statements.push(plan.statement);
        });
        let with_texts = StatementId::ALL.into_iter().filter(|id| id.declaration().human_text.is_some()).count();
        assert_eq!(statements.len(), with_texts, "{statements:?}");
    }

    #[test]
    fn an_escaped_text_is_bounded_and_not_cut_inside_an_escape() {
        let fitted = fit(&"→".repeat(2_000), |c| c.is_ascii());
        assert!(fitted.len() <= Reason::MAX_BYTES && fitted.ends_with("\\u{2192}"), "{}", fitted.len());
        assert_eq!(fit("plain", |c| c.is_ascii()), "plain");
    }
}
