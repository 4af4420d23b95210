//! A model of the database that runs one statement at a time.

mod enqueue;
mod jobs;
mod leases;
mod lines;
mod queues;
mod schedules;
pub(crate) mod tables;
mod values;

use pm_core::op::VersionRow;
use pm_core::wire::{Column, Columns, RowsBuilder};
use pm_core::{Failure, MIGRATIONS, Rows, Statement, StatementId, Timestamp, Value};
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

    fn run(&mut self, statement: StatementId) -> Result<(), Failure> {
        match statement {
            StatementId::Enqueue | StatementId::EnqueueKeyed | StatementId::EnqueueEach => {
                return self.enqueue(statement);
            }
            StatementId::KeyHolder => self.key_holder(),
            StatementId::ReplaceJobs => self.replace_jobs(),
            StatementId::Claim => self.claim(),
            StatementId::Poll => self.poll(),
            StatementId::Settle => self.settle(),
            StatementId::Outcome => self.outcome(),
            StatementId::Extend => self.extend(),
            StatementId::Reap => self.reap(),
            StatementId::Promote => self.promote(),
            StatementId::ReleaseClaim => self.release_claim(),
            StatementId::CreateQueue => self.create_queue(),
            StatementId::PauseQueue => self.pause_queue(),
            StatementId::ResumeQueue => self.resume_queue(),
            StatementId::CountPending => self.count_pending(),
            StatementId::ListQueues => self.list_queues(),
            StatementId::Settings => self.settings(),
            StatementId::SetQueue => self.set_queue(),
            StatementId::ListJobs => self.list_jobs(),
            StatementId::Job => self.job(),
            StatementId::Payload => self.payload(),
            StatementId::ResolveSuffix => self.resolve_suffix(),
            StatementId::Attempts => self.attempts(),
            StatementId::NextJobs => self.next_jobs(),
            StatementId::Notify => self.notify(),
            StatementId::NotifyIdle => self.notify_idle(),
            StatementId::RestartJobs => self.restart_jobs(),
            StatementId::EndJobs => self.end_jobs(),
            StatementId::DeleteJobs => self.delete_jobs(),
            StatementId::MoveJobs => self.move_jobs(),
            StatementId::CopyJob => return self.copy_job(),
            StatementId::FetchJob => self.fetch_job(),
            StatementId::BeginQueueDeletion => self.begin_queue_deletion(),
            StatementId::RenameQueue => return self.rename_queue(),
            StatementId::PruneJobs => self.prune_jobs(),
            StatementId::DeleteEmptyQueues => self.delete_empty_queues(),
            StatementId::Activity => self.activity(),
            StatementId::TableSizes => self.table_sizes(),
            StatementId::QueueHealths => self.queue_health(),
            // Nothing is vacuumed, no index can be missing, every role has all privileges, no sequence can be behind,
            // there are no orphans and no schemas.
            StatementId::RowHolders
            | StatementId::TableHealths
            | StatementId::IndexHealths
            | StatementId::Relations
            | StatementId::Privileges
            | StatementId::Sequences
            | StatementId::Orphans
            | StatementId::SearchPaths => {}
            StatementId::ListSchedules => self.list_schedules(),
            StatementId::SetSchedule => self.set_schedule(),
            StatementId::HoldSchedule => self.hold_schedule(),
            StatementId::DeleteSchedule => self.delete_schedule(),
            StatementId::DueSchedules => self.due_schedules(),
            StatementId::FireSchedules => self.fire_schedules(),
            StatementId::SchemaVersion => {
                for migration in &MIGRATIONS {
                    self.add(VersionRow { version: migration.version, fingerprint: Some(migration.fingerprint()) });
                }
            }
            StatementId::Encoding => self.add(if self.tables.is_latin1 { "LATIN1" } else { "UTF8" }.to_owned()),
            other => return Err(Failure::unsendable(format!("the memory driver does not know {other:?}"))),
        }
        Ok(())
    }
}

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
