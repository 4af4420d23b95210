//! The items of enqueues and of copies: their columns, as parameters and in the texts of statements.

use crate::time::whole_ms;
use crate::wire::{Type, Value, column, optional_column};
use crate::{KeyHold, NewJob, Params, RunAt, TraceContext};

/// A column of the items of an enqueue: a parameter of its statements, and its values.
struct ItemColumn {
    name: &'static str,
    /// The column of `job` that stores the values, if they are stored as they are or after a conversion.
    stored_as: Option<&'static str>,
    /// What stands before and after the value to convert it to the type of that column.
    conversion: [&'static str; 2],
    values: fn(&[NewJob]) -> Value<'_>,
}

/// The index of the human-readable text among the parameters of items.
pub(super) const DESCRIPTION: usize = 8;

/// The columns of an item, in the order of their parameters. The statements know the first two by number.
const ITEM: [ItemColumn; 15] = [
    ItemColumn::new("id", |jobs| column(jobs, |job| job.id)),
    ItemColumn::new("queue", |jobs| column(jobs, |job| job.queue.as_str())),
    ItemColumn::stored("priority", |jobs| column(jobs, |job| job.options.priority)),
    ItemColumn::new("paused", |jobs| optional_column(jobs, |job| job.options.is_paused().then_some(true))),
    ItemColumn::new("run_at", |jobs| optional_column(jobs, run_at)),
    ItemColumn::new("delay_ms", |jobs| optional_column(jobs, delay_ms)),
    ItemColumn::stored("codec", |jobs| column(jobs, |job| job.options.codec.code())),
    ItemColumn::stored("payload", |jobs| column(jobs, |job| &job.payload[..])),
    ItemColumn::stored("description", |jobs| optional_column(jobs, |job| job.options.description.as_deref())),
    ItemColumn::stored("max_retries", |jobs| optional_column(jobs, max_retries)),
    ItemColumn {
        conversion: ["", "::pg_catalog.int8[]"],
        ..ItemColumn::stored("backoff_ms", |jobs| optional_column(jobs, backoff_text))
    },
    ItemColumn::stored("jitter_percent", |jobs| optional_column(jobs, jitter_percent)),
    ItemColumn {
        stored_as: Some("expires_at"),
        conversion: ["pg_catalog.statement_timestamp() + ", "::pg_catalog.float8 * interval '1 ms'"],
        ..ItemColumn::new("expires_ms", |jobs| optional_column(jobs, expires_ms))
    },
    ItemColumn::stored("timeout_ms", |jobs| optional_column(jobs, timeout_ms)),
    ItemColumn::stored("trace", |jobs| {
        optional_column(jobs, |job| job.options.trace.as_ref().map(TraceContext::as_str))
    }),
];

/// The further columns of an item that may have a key.
const KEY: [ItemColumn; 2] = [
    ItemColumn::new("key", |jobs| optional_column(jobs, |job| job.options.key.as_deref())),
    ItemColumn::new("key_until", |jobs| optional_column(jobs, key_until)),
];

impl ItemColumn {
    const fn new(name: &'static str, values: fn(&[NewJob]) -> Value<'_>) -> Self {
        ItemColumn { name, stored_as: None, conversion: ["", ""], values }
    }

    const fn stored(name: &'static str, values: fn(&[NewJob]) -> Value<'_>) -> Self {
        ItemColumn { stored_as: Some(name), ..Self::new(name, values) }
    }
}

/// Returns the parts of statements that follow from the columns of items.
pub(crate) fn item_parts() -> [(&'static str, String); 8] {
    // An empty list of items shows the type of a column.
    let param = |(index, column): (usize, &ItemColumn)| {
        format!("${}::pg_catalog.{}", index + 1, (column.values)(&[]).ty().name())
    };
    let params: Vec<_> = ITEM.iter().chain(&KEY).enumerate().map(param).collect();
    let (item_params, key_params) = params.split_at(ITEM.len());
    // With the column of `job`, and the value of `prefix` and the item's column.
    let stored = |prefix: &str, shown: fn(&str, &str) -> String| {
        let shown = |column: &ItemColumn| {
            let [before, after] = column.conversion;
            column.stored_as.map(|stored| shown(stored, &format!("{before}{prefix}{}{after}", column.name)))
        };
        ITEM.iter().filter_map(shown).collect::<Vec<_>>().join(", ")
    };
    [
        ("item_params", item_params.join(", ")),
        ("item_columns", ITEM.map(|column| column.name).join(", ")),
        ("key_params", key_params.join(", ")),
        // What is stored of an item: the columns of `job`, the values (of the table or alias @, a name and a dot, or
        // nothing), and both as arguments of a function.
        ("stored_columns", stored("", |column, _| column.to_owned())),
        ("stored_values", stored("@", |_, value| value.to_owned())),
        ("stored_arguments", stored("", |column, value| format!("{column} => {value}"))),
        ("first_after_items", format!("${}", params.len() + 1)),
        ("second_after_items", format!("${}", params.len() + 2)),
    ]
}

/// Returns the parameters of the items without their keys.
pub(super) fn item_params(jobs: &[NewJob]) -> Params<'_> {
    ITEM.iter().map(|column| (column.values)(jobs)).collect()
}

/// Returns the parameters of the items with their keys.
pub(super) fn keyed_item_params(jobs: &[NewJob]) -> Params<'_> {
    ITEM.iter().chain(&KEY).map(|column| (column.values)(jobs)).collect()
}

/// Returns the ids of the jobs that may have replaced another job when they were sent before.
pub(super) fn replacing(jobs: &[NewJob]) -> Value<'_> {
    let ids: Vec<_> = jobs.iter().filter(|job| job.replaces()).map(|job| Some(job.id)).collect();
    if ids.is_empty() { Value::Null(Type::UuidArray) } else { Value::UuidArray(ids) }
}

fn max_retries(job: &NewJob) -> Option<i32> {
    job.options.retry.max_retries.map(|retries| retries as i32)
}

/// Returns the delays as the text of an `int8[]`, because `unnest` would flatten an array of arrays.
fn backoff_text(job: &NewJob) -> Option<String> {
    let table = job.options.retry.backoff.as_ref()?;
    let delays: Vec<_> = table.iter().map(|delay| whole_ms(*delay).to_string()).collect();
    Some(format!("{{{}}}", delays.join(",")))
}

fn jitter_percent(job: &NewJob) -> Option<i16> {
    job.options.retry.jitter_percent.map(i16::from)
}

fn run_at(job: &NewJob) -> Option<crate::Timestamp> {
    match job.options.run_at {
        Some(RunAt::At(at)) => Some(at),
        Some(RunAt::In(_)) | None => None,
    }
}

fn delay_ms(job: &NewJob) -> Option<i64> {
    match job.options.run_at {
        Some(RunAt::In(delay)) => Some(whole_ms(delay)),
        Some(RunAt::At(_)) | None => None,
    }
}

fn expires_ms(job: &NewJob) -> Option<i64> {
    job.options.expires_in.map(whole_ms)
}

fn timeout_ms(job: &NewJob) -> Option<i64> {
    job.options.timeout.map(whole_ms)
}

fn key_until(job: &NewJob) -> Option<crate::Timestamp> {
    match job.options.key_hold {
        KeyHold::WhileActive => None,
        KeyHold::Until(at) => Some(at),
        KeyHold::ForEver => Some(crate::Timestamp::INFINITY),
    }
}
