//! Enqueues without keys, and the follow-ups of all enqueues.

use super::item::{DESCRIPTION, item_params, keyed_item_params};
use super::{all, index_of, odd};
use crate::statement::{Declaration, roles};
use crate::wire::{Rows, column, columns, optional_column};
use crate::{Error, NewJob, Operation, Params, Plan, State, StatementId};
use std::collections::BTreeMap;
use uuid::Uuid;

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
/// It fails with a unique violation, and inserts nothing, if a job with one of the ids exists. Two of them may be in
/// flight, and run in the order in which they are sent, because that is the order of the jobs.
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
        Plan { statement: Self::STATEMENT, params: item_params(jobs) }
    }
}

impl Operation for Enqueue<'_> {
    type Row = EnqueueRow;
    type Output = EnqueueReply;
    const DECLARATION: Declaration =
        Declaration::hot(StatementId::Enqueue, include_str!("enqueue.sql"), roles::ENQUEUE)
            .human_text(DESCRIPTION)
            .in_transaction();

    fn params(&self) -> Params<'_> {
        item_params(self.jobs)
    }

    fn interpret(&self, rows: &Rows) -> Result<EnqueueReply, Error> {
        EnqueueReply::read::<Self>(rows, self.jobs.len())
    }
}

impl<'a> EnqueueFresh<'a> {
    /// Returns the plan for these jobs.
    pub(crate) fn plan_of(jobs: &'a [NewJob]) -> Plan<'a> {
        Plan { statement: Self::STATEMENT, params: item_params(jobs) }
    }
}

impl Operation for EnqueueFresh<'_> {
    type Row = KnownQueue;
    type Output = EnqueueReply;
    const DECLARATION: Declaration =
        Declaration::hot(StatementId::EnqueueFresh, include_str!("enqueue_fresh.sql"), roles::ENQUEUE)
            .human_text(DESCRIPTION)
            .in_order();

    fn params(&self) -> Params<'_> {
        item_params(self.jobs)
    }

    fn interpret(&self, rows: &Rows) -> Result<EnqueueReply, Error> {
        let known = all::<Self>(rows)?;
        let mut idle: BTreeMap<_, _> = known
            .iter()
            .map(|known| (&known.queue[..], known.may_be_idle.and_then(|is| is.then_some(known.queue_id))))
            .collect();
        let mut reply = EnqueueReply::default();
        for (index, job) in self.jobs.iter().enumerate() {
            match idle.get_mut(job.queue.as_str()) {
                Some(idle) => reply.idle.extend(idle.take().map(|queue_id| (index, queue_id))),
                None => reply.unexplained.push(index),
            }
        }
        let placed = self.jobs.len() - reply.unexplained.len();
        if known.first().is_some_and(|known| known.inserted != placed as i64) {
            // A trigger of the user has dropped some of them.
            return Ok(EnqueueReply { unexplained: (0..self.jobs.len()).collect(), ..EnqueueReply::default() });
        }
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

    /// A queue that exists, whether it may have idle workers, and how many jobs were inserted in all queues.
    pub struct KnownQueue {
        pub queue_id: i32,
        pub queue: String,
        pub may_be_idle: Option<bool>,
        pub inserted: i64,
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
        Plan { statement: Self::STATEMENT, params: keyed_item_params(jobs) }
    }
}

impl Operation for ReplaceJobs<'_> {
    type Row = ReplacedRow;
    /// The existing job of each item, in order.
    type Output = Vec<Option<Holder>>;
    const DECLARATION: Declaration =
        Declaration::keyed(StatementId::ReplaceJobs, include_str!("replace_jobs.sql"), roles::ENQUEUE)
            .human_text(DESCRIPTION)
            .in_transaction();

    fn params(&self) -> Params<'_> {
        keyed_item_params(self.jobs)
    }

    fn interpret(&self, rows: &Rows) -> Result<Self::Output, Error> {
        let mut holders = vec![None; self.jobs.len()];
        for ReplacedRow { holder: HolderRow { ordinal, id, state }, replaced } in all::<Self>(rows)? {
            holders[index_of::<Self>(ordinal, self.jobs.len())?] = Some(Holder { id, state, replaced });
        }
        Ok(holders)
    }
}
