//! Enqueues without keys, and the follow-ups of all enqueues.

use super::{all, index_of, odd};
use crate::statement::{Declaration, roles};
use crate::time::whole_ms;
use crate::wire::{Rows, Type, Value, column, columns, optional_column};
use crate::{Error, KeyHold, NewJob, Operation, Params, Plan, RunAt, State, StatementId};
use uuid::Uuid;

/// A column of the items of an enqueue: a parameter of its statements, and its values.
struct ItemColumn {
    name: &'static str,
    /// Whether the values are stored as they are, in the column of `job` of the same name.
    is_stored: bool,
    /// The cast to the type of that column, if it is another one.
    cast: &'static str,
    values: fn(&[NewJob]) -> Value<'_>,
}

/// The columns of an item, in the order of their parameters.
const ITEM: [ItemColumn; 12] = [
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
        cast: "::pg_catalog.int8[]",
        ..ItemColumn::stored("backoff_ms", |jobs| optional_column(jobs, backoff_text))
    },
    ItemColumn::stored("jitter_percent", |jobs| optional_column(jobs, jitter_percent)),
];

/// The further columns of an item that may have a key.
const KEY: [ItemColumn; 2] = [
    ItemColumn::new("key", |jobs| optional_column(jobs, |job| job.options.key.as_deref())),
    ItemColumn::new("key_until", |jobs| optional_column(jobs, key_until)),
];

impl ItemColumn {
    const fn new(name: &'static str, values: fn(&[NewJob]) -> Value<'_>) -> Self {
        ItemColumn { name, is_stored: false, cast: "", values }
    }

    const fn stored(name: &'static str, values: fn(&[NewJob]) -> Value<'_>) -> Self {
        ItemColumn { is_stored: true, ..Self::new(name, values) }
    }
}

/// Returns the parts of statements that follow from the columns of items.
pub(crate) fn item_parts() -> [(&'static str, String); 8] {
    let param = |(index, column): (usize, &ItemColumn)| {
        format!("${}::pg_catalog.{}", index + 1, (column.values)(&[]).ty().name())
    };
    let params: Vec<_> = ITEM.iter().chain(&KEY).enumerate().map(param).collect();
    let (item_params, key_params) = params.split_at(ITEM.len());
    let stored = |shown: fn(&ItemColumn) -> String| {
        ITEM.iter().filter(|column| column.is_stored).map(shown).collect::<Vec<_>>().join(", ")
    };
    [
        ("item_params", item_params.join(", ")),
        ("item_columns", ITEM.map(|column| column.name).join(", ")),
        ("key_params", key_params.join(", ")),
        // What is stored of an item (@): the columns of `job`, the values, and both as arguments of a function.
        ("stored_columns", stored(|column| column.name.to_owned())),
        ("stored_values", stored(|column| format!("@{}{}", column.name, column.cast))),
        ("stored_arguments", stored(|column| format!("{0} => {0}{1}", column.name, column.cast))),
        ("first_after_items", format!("${}", params.len() + 1)),
        ("second_after_items", format!("${}", params.len() + 2)),
    ]
}

/// Inserts jobs without keys. The reply names the items that were not inserted; all others were.
///
/// It waits for no lock on a queue. Jobs with keys are inserted by [`EnqueueKeyed`](super::EnqueueKeyed).
#[derive(Debug, Clone, PartialEq)]
pub struct Enqueue<'a> {
    /// The jobs, each of which passed [`NewJob::check`]; none has a key.
    pub jobs: &'a [NewJob],
}

/// Inserts jobs without keys that were never sent before, for about four fifths of the cost of [`Enqueue`].
///
/// It fails with a unique violation, and inserts nothing, if a job with one of the ids exists.
#[derive(Debug, Clone, PartialEq)]
pub struct EnqueueFresh<'a> {
    /// The jobs, each of which passed [`NewJob::check`]; none has a key.
    pub jobs: &'a [NewJob],
}

/// The outcome of an enqueue, by the indexes of items. Items that are not named were inserted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnqueueReply {
    /// Items whose queue does not exist.
    pub unknown_queue: Vec<usize>,
    /// Items whose id or key exists already; [`KeyHolder`] returns the existing jobs.
    pub present: Vec<usize>,
    /// Items whose queue's row another transaction has locked. They may be sent again.
    pub queue_locked: Vec<usize>,
    /// Items whose key another transaction has locked. They may be sent again.
    pub key_locked: Vec<usize>,
    /// Items that were not inserted, for a reason that only [`Enqueue`] reports.
    pub unexplained: Vec<usize>,
    /// Queues that may have idle workers in other processes: the index of one of its items, and the id of the queue.
    pub idle: Vec<(usize, i32)>,
}

impl<'a> Enqueue<'a> {
    /// Returns the plan for these jobs.
    pub(crate) fn plan_of(jobs: &'a [NewJob]) -> Plan<'a> {
        Plan { statement: Self::STATEMENT, params: Self::params_of(jobs) }
    }

    fn params_of(jobs: &'a [NewJob]) -> Params<'a> {
        ITEM.iter().map(|column| (column.values)(jobs)).collect()
    }
}

impl Operation for Enqueue<'_> {
    type Row = EnqueueRow;
    type Output = EnqueueReply;
    const DECLARATION: Declaration =
        Declaration::hot(StatementId::Enqueue, include_str!("enqueue.sql"), roles::ENQUEUE)
            .human_text(8)
            .in_transaction();

    fn params(&self) -> Params<'_> {
        Self::params_of(self.jobs)
    }

    fn interpret(&self, rows: &Rows) -> Result<EnqueueReply, Error> {
        EnqueueReply::read::<Self>(rows, self.jobs.len())
    }
}

impl<'a> EnqueueFresh<'a> {
    /// Returns the plan for these jobs.
    pub(crate) fn plan_of(jobs: &'a [NewJob]) -> Plan<'a> {
        Plan { statement: Self::STATEMENT, params: Enqueue::params_of(jobs) }
    }
}

impl Operation for EnqueueFresh<'_> {
    type Row = KnownQueue;
    type Output = EnqueueReply;
    const DECLARATION: Declaration =
        Declaration::hot(StatementId::EnqueueFresh, include_str!("enqueue_fresh.sql"), roles::ENQUEUE).human_text(8);

    fn params(&self) -> Params<'_> {
        Enqueue::params_of(self.jobs)
    }

    fn interpret(&self, rows: &Rows) -> Result<EnqueueReply, Error> {
        let known = all::<Self>(rows)?;
        let index_in = |job: &NewJob| known.iter().position(|known| known.queue == job.queue.as_str());
        let mut first_items = vec![None; known.len()];
        let mut reply = EnqueueReply::default();
        for (index, job) in self.jobs.iter().enumerate() {
            match index_in(job) {
                Some(known) => first_items[known] = first_items[known].or(Some(index)),
                None => reply.unexplained.push(index),
            }
        }
        let idle = known.iter().zip(first_items).filter(|(known, _)| known.may_be_idle == Some(true));
        reply.idle = idle.filter_map(|(known, first)| Some((first?, known.queue_id))).collect();
        Ok(reply)
    }
}

impl EnqueueReply {
    /// Reads the reply to an enqueue of this many jobs.
    pub(super) fn read<O: Operation<Row = EnqueueRow>>(rows: &Rows, jobs: usize) -> Result<EnqueueReply, Error> {
        let mut reply = EnqueueReply::default();
        for row in all::<O>(rows)? {
            let index = index_of::<O>(row.ordinal, jobs)?;
            match (row.outcome, row.queue_id) {
                (1, _) => reply.unknown_queue.push(index),
                (2, _) => reply.present.push(index),
                (3, Some(queue_id)) => reply.idle.push((index, queue_id)),
                (4, _) => reply.queue_locked.push(index),
                (5, _) => reply.key_locked.push(index),
                (outcome, _) => return Err(odd::<O>(format!("outcome {outcome}"))),
            }
        }
        Ok(reply)
    }
}

columns! {
    /// The number of an item, its outcome, and the id of its queue if that may have idle workers.
    pub struct EnqueueRow {
        pub ordinal: i64,
        pub outcome: i16,
        pub queue_id: Option<i32>,
    }

    /// A queue that exists, and whether it may have idle workers.
    pub struct KnownQueue {
        pub queue_id: i32,
        pub queue: String,
        pub may_be_idle: Option<bool>,
    }

    /// The number of an item, and the existing job.
    pub struct HolderRow {
        pub ordinal: i64,
        pub id: Uuid,
        pub state: State,
    }

    /// The number of an item, the existing job, and whether the item has replaced it.
    pub struct ReplacedRow {
        pub holder: HolderRow,
        pub replaced: bool,
    }
}

/// Returns the parameters of new jobs, including keys.
pub(super) fn job_params(jobs: &[NewJob]) -> Params<'_> {
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

fn key_until(job: &NewJob) -> Option<crate::Timestamp> {
    match job.options.key_hold {
        KeyHold::WhileActive => None,
        KeyHold::Until(at) => Some(at),
        KeyHold::ForEver => Some(crate::Timestamp::INFINITY),
    }
}

/// The existing job with the id or the key of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its id: that of the item itself if it had been inserted before.
    pub id: Uuid,
    /// Its state.
    pub state: State,
    /// Whether the item has replaced it.
    pub replaced: bool,
}

/// Follow-up of an enqueue: looks up the existing jobs for items whose id or key exists already.
///
/// An item without a job may be sent again: the existing job is gone, or no longer reserves the key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyHolder<'a> {
    /// The items.
    pub jobs: &'a [NewJob],
}

impl<'a> KeyHolder<'a> {
    /// Returns the plan for these jobs.
    pub(crate) fn plan_of(jobs: &'a [NewJob]) -> Plan<'a> {
        let params = vec![
            column(jobs, |job| job.id),
            column(jobs, |job| job.queue.as_str()),
            optional_column(jobs, |job| job.options.key.as_deref()),
        ];
        Plan { statement: Self::STATEMENT, params }
    }
}

impl Operation for KeyHolder<'_> {
    type Row = HolderRow;
    /// The existing job of each item, in order.
    type Output = Vec<Option<Holder>>;
    const DECLARATION: Declaration =
        Declaration::keyed(StatementId::KeyHolder, include_str!("key_holder.sql"), roles::ENQUEUE).in_transaction();

    fn params(&self) -> Params<'_> {
        Self::plan_of(self.jobs).params
    }

    fn interpret(&self, rows: &Rows) -> Result<Self::Output, Error> {
        let mut holders = vec![None; self.jobs.len()];
        for HolderRow { ordinal, id, state } in all::<Self>(rows)? {
            holders[index_of::<Self>(ordinal, self.jobs.len())?] = Some(Holder { id, state, replaced: false });
        }
        Ok(holders)
    }
}

/// Follow-up of an enqueue: replaces the jobs that have reserved the keys of items.
///
/// An existing job that has not started gets the payload and the options of the item, and keeps its id. The replacement
/// is recorded, so that an item that is sent again has the same outcome. An item without a job may be sent again after
/// a while: the existing job is gone, or is being changed, or another transaction has locked it.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplaceJobs<'a> {
    /// The items.
    pub jobs: &'a [NewJob],
}

impl<'a> ReplaceJobs<'a> {
    /// Returns the plan for these jobs.
    pub(crate) fn plan_of(jobs: &'a [NewJob]) -> Plan<'a> {
        Plan { statement: Self::STATEMENT, params: job_params(jobs) }
    }
}

impl Operation for ReplaceJobs<'_> {
    type Row = ReplacedRow;
    /// The existing job of each item, in order.
    type Output = Vec<Option<Holder>>;
    const DECLARATION: Declaration =
        Declaration::keyed(StatementId::ReplaceJobs, include_str!("replace_jobs.sql"), roles::ENQUEUE)
            .human_text(8)
            .in_transaction();

    fn params(&self) -> Params<'_> {
        job_params(self.jobs)
    }

    fn interpret(&self, rows: &Rows) -> Result<Self::Output, Error> {
        let mut holders = vec![None; self.jobs.len()];
        for ReplacedRow { holder: HolderRow { ordinal, id, state }, replaced } in all::<Self>(rows)? {
            holders[index_of::<Self>(ordinal, self.jobs.len())?] = Some(Holder { id, state, replaced });
        }
        Ok(holders)
    }
}
