//! A model of the database that runs one statement at a time.

mod enqueue;
mod jobs;
mod leases;
mod lines;
mod queues;
mod schedules;
mod server;
pub(crate) mod tables;
mod values;

use pm_core::wire::{Column, Columns, RowsBuilder};
use pm_core::{Failure, Rows, Statement, StatementId, Timestamp, Value};
use std::collections::BTreeSet;
use tables::Tables;
use values::Args;

/// The execution of one statement.
struct Work<'a> {
    tables: &'a mut Tables,
    args: Args<'a>,
    columns: &'static [Column],
    reply: RowsBuilder,
    /// The database's time, which is constant during a statement.
    now: Timestamp,
    /// The notifications to be sent: channel and payload.
    notifications: &'a mut BTreeSet<(String, String)>,
}

/// Runs a statement at the database's time `now`. Adds its notifications (channel and payload) to `notifications`.
pub(crate) fn run(
    tables: &mut Tables,
    statement: &Statement,
    params: &[Value<'_>],
    now: Timestamp,
    notifications: &mut BTreeSet<(String, String)>,
) -> Result<Rows, Failure> {
    if tables.is_latin1 && params.iter().any(is_beyond_latin1) {
        return Err(Failure::reported("22P05", None, "a character has no equivalent in encoding \"LATIN1\""));
    }
    let (columns, reply) = (statement.columns, Rows::builder(statement.columns.len()));
    let mut work = Work { tables, args: Args(params.iter()), columns, reply, now, notifications };
    work.run(statement.id)?;
    Ok(work.reply.finish())
}

impl Work<'_> {
    /// Adds a row to the reply.
    fn add<R: Columns>(&mut self, row: R) {
        debug_assert_eq!(R::COLUMNS, self.columns, "a row of another statement");
        row.write(&mut self.reply);
    }

    fn add_all<R: Columns>(&mut self, rows: Vec<R>) {
        rows.into_iter().for_each(|row| self.add(row));
    }
}

/// What the execution of a statement returns.
trait Executed {
    fn result(self) -> Result<(), Failure>;
}

impl Executed for () {
    fn result(self) -> Result<(), Failure> {
        Ok(())
    }
}

impl Executed for Result<(), Failure> {
    fn result(self) -> Result<(), Failure> {
        self
    }
}

macro_rules! executions {
    ($($name:ident $execute:ident)*) => {
        impl Work<'_> {
            fn run(&mut self, statement: StatementId) -> Result<(), Failure> {
                match statement {
                    $(StatementId::$name => self.$execute().result(),)*
                    other => Err(Failure::unsendable(format!("the memory driver does not know {other:?}"))),
                }
            }
        }
    };
}
pm_core::each_statement!(executions);

/// Returns whether a text has a character that LATIN1 cannot store.
fn is_beyond_latin1(param: &Value<'_>) -> bool {
    let is_beyond = |text: &str| text.chars().any(|c| c > '\u{ff}');
    match param {
        Value::Text(text) => is_beyond(text),
        Value::TextArray(texts) => texts.iter().flatten().any(|text| is_beyond(text)),
        _ => false,
    }
}

/// Returns the time `ms` milliseconds after `at`.
fn later(at: Timestamp, ms: i64) -> Timestamp {
    Timestamp::from_unix_us(at.unix_us().saturating_add(ms.saturating_mul(1_000)))
}

/// Returns the trace of a job that is copied or restarted: the next attempt only links to it.
fn link_only(trace: String) -> String {
    format!("link {}", trace.trim_start_matches(['l', 'i', 'n', 'k', ' ']))
}

/// Returns the milliseconds from `now` to `at`, rounded as Postgres does.
fn ms_until(at: Timestamp, now: Timestamp) -> i64 {
    let us = at.unix_us().saturating_sub(now.unix_us());
    (us.abs() + 500) / 1_000 * us.signum()
}

/// Returns the failure that Postgres reports after a lock timeout.
fn locked() -> Failure {
    Failure::reported("55P03", None, "canceling statement due to lock timeout")
}

/// Returns the failure that Postgres reports for a violated unique constraint.
fn taken(constraint: &str) -> Failure {
    let message = format!("duplicate key value violates unique constraint \"{constraint}\"");
    Failure::reported("23505", Some(constraint), message)
}
