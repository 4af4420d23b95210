//! Bulk actions of operators, with an outcome per job.

use super::{all, index_of, odd};
use crate::statement::{Declaration, roles};
use crate::wire::{Parameter, Rows, Value, column, columns};
use crate::{Ending, Error, Operation, Params, QueueName, Reason, State, StatementId};
use std::collections::BTreeSet;
use uuid::Uuid;

/// What a job must still be for an action to change it. The default accepts any job.
///
/// It protects jobs that were selected earlier by their state, queue or lease. It is checked on the locked row, in the
/// statement that changes the job. The name of the queue, and whether it is paused, are those of when the statement
/// began.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Precondition {
    /// The job is in this state, as shown.
    pub state: Option<State>,
    /// The job is in the queue of this name.
    pub queue: Option<QueueName>,
    /// The job is in progress under this lease number.
    pub lease: Option<i64>,
}

impl Precondition {
    /// Returns the first parameters of a bulk statement: the ids and this precondition.
    pub(super) fn params<'a>(&'a self, ids: &'a [Uuid]) -> Params<'a> {
        vec![
            column(ids, |id| *id),
            self.state.map(|state| state.code()).param(),
            self.queue.as_ref().map(|queue| queue.as_str()).param(),
            self.lease.param(),
        ]
    }
}

/// The outcome of an action for one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The job was changed.
    Changed,
    /// The job is in progress, and its handler is asked to stop.
    Requested,
    /// Nothing was changed, because of the job's state (this one, as shown) or its lease.
    Refused(State),
    /// Nothing was changed, because another job of the queue has reserved the job's key.
    KeyTaken,
    /// Nothing was changed, because the job is not in the required queue.
    InOtherQueue,
    /// Nothing was changed, because another transaction has locked the job.
    Locked,
    /// It is not known whether the job was changed: it was locked at first, and a later try failed without an answer.
    Unknown,
    /// The job does not exist.
    NotFound,
}

/// The outcomes of a bulk action.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BulkReply {
    /// The outcome of each job, in the order of the ids.
    pub changes: Vec<Change>,
    /// The ids of the queues of the jobs that were changed or asked to stop; after a move, of the target queue.
    pub queues: BTreeSet<i32>,
}

columns! {
    /// The outcome of one job of a bulk action, its state before, and the id of its queue; after a move, of the target.
    pub struct BulkRow {
        pub ordinal: i64,
        pub outcome: i16,
        pub state: Option<State>,
        pub queue_id: Option<i32>,
    }
}

pub(super) fn read_bulk<O: Operation<Row = BulkRow>>(jobs: usize, rows: &Rows) -> Result<BulkReply, Error> {
    let mut reply = BulkReply { changes: vec![Change::NotFound; jobs], queues: BTreeSet::new() };
    for row in all::<O>(rows)? {
        let index = index_of::<O>(row.ordinal, jobs)?;
        reply.changes[index] = match (row.outcome, row.state) {
            (0, _) => continue,
            (1, _) => {
                reply.queues.extend(row.queue_id);
                Change::Changed
            }
            (2, Some(state)) => Change::Refused(state),
            (3, _) => Change::InOtherQueue,
            (4, _) => Change::KeyTaken,
            (5, _) => Change::Locked,
            (6, _) => {
                reply.queues.extend(row.queue_id);
                Change::Requested
            }
            (outcome, _) => return Err(odd::<O>(format!("outcome {outcome}"))),
        };
    }
    Ok(reply)
}

/// Makes jobs pending again and resets their retry counts. A job whose key another job has reserved is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartJobs {
    /// The ids; at most 1,000.
    pub ids: Vec<Uuid>,
    /// Whether jobs in progress are restarted too. Their leases end.
    pub force: bool,
    /// What the jobs must still be.
    pub precondition: Precondition,
}

impl Operation for RestartJobs {
    type Row = BulkRow;
    type Output = BulkReply;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::RestartJobs, include_str!("restart_jobs.sql"), roles::OPERATE);

    fn params(&self) -> Params<'_> {
        [self.precondition.params(&self.ids), vec![Value::Bool(self.force)]].concat()
    }

    fn interpret(&self, rows: &Rows) -> Result<BulkReply, Error> {
        read_bulk::<Self>(self.ids.len(), rows)
    }
}

/// Marks jobs as finished or failed. Jobs that have ended already are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndJobs {
    ids: Vec<Uuid>,
    state: State,
    ending: Ending,
    reason: Option<Reason>,
    precondition: Precondition,
}

impl EndJobs {
    /// Returns the operation that marks jobs as finished, at most 1,000.
    pub fn done(ids: Vec<Uuid>) -> Self {
        EndJobs {
            ids,
            state: State::Finished,
            ending: Ending::Done,
            reason: None,
            precondition: Precondition::default(),
        }
    }

    /// Returns the operation that marks jobs as failed for this reason, at most 1,000.
    pub fn failed(ids: Vec<Uuid>, reason: &str) -> Self {
        let reason = Some(Reason::new(reason));
        EndJobs { ids, state: State::Failed, ending: Ending::Fail, reason, precondition: Precondition::default() }
    }

    /// Restricts the action to jobs that meet the precondition.
    pub fn only_if(mut self, precondition: Precondition) -> Self {
        self.precondition = precondition;
        self
    }
}

impl Operation for EndJobs {
    type Row = BulkRow;
    type Output = BulkReply;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::EndJobs, include_str!("end_jobs.sql"), roles::OPERATE).human_text(6);

    fn params(&self) -> Params<'_> {
        let ending = vec![
            Value::Int2(self.state.code()),
            Value::Int2(self.ending.code()),
            self.reason.as_ref().map(|reason| reason.as_str()).param(),
        ];
        [self.precondition.params(&self.ids), ending].concat()
    }

    fn interpret(&self, rows: &Rows) -> Result<BulkReply, Error> {
        read_bulk::<Self>(self.ids.len(), rows)
    }
}

/// Deletes jobs in any state, with their attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteJobs {
    /// The ids; at most 1,000.
    pub ids: Vec<Uuid>,
    /// What the jobs must still be.
    pub precondition: Precondition,
}

impl Operation for DeleteJobs {
    type Row = BulkRow;
    type Output = BulkReply;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::DeleteJobs, include_str!("delete_jobs.sql"), roles::OPERATE);

    fn params(&self) -> Params<'_> {
        self.precondition.params(&self.ids)
    }

    fn interpret(&self, rows: &Rows) -> Result<BulkReply, Error> {
        read_bulk::<Self>(self.ids.len(), rows)
    }
}

/// Moves jobs to another queue. A job whose key another job has reserved there is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveJobs {
    /// The ids; at least one, at most 1,000.
    pub ids: Vec<Uuid>,
    /// The target queue.
    pub queue: QueueName,
    /// What the jobs must still be.
    pub precondition: Precondition,
}

impl Operation for MoveJobs {
    type Row = BulkRow;
    type Output = BulkReply;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::MoveJobs, include_str!("move_jobs.sql"), roles::OPERATE);

    fn params(&self) -> Params<'_> {
        [self.precondition.params(&self.ids), vec![Value::Text(self.queue.as_str())]].concat()
    }

    fn interpret(&self, rows: &Rows) -> Result<BulkReply, Error> {
        if rows.is_empty() && !self.ids.is_empty() {
            return Err(Error::QueueNotFound(self.queue.to_string()));
        }
        read_bulk::<Self>(self.ids.len(), rows)
    }
}

/// Changes jobs that are pending or paused. Jobs in progress and ended ones are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditJobs {
    /// The ids; at most 1,000.
    pub ids: Vec<Uuid>,
    /// Their new priority. A ready job that had another one becomes the last of its new line.
    pub priority: i32,
    /// What the jobs must still be.
    pub precondition: Precondition,
}

impl Operation for EditJobs {
    type Row = BulkRow;
    type Output = BulkReply;
    const DECLARATION: Declaration =
        Declaration::operator(StatementId::EditJobs, include_str!("edit_jobs.sql"), roles::OPERATE);

    fn params(&self) -> Params<'_> {
        [self.precondition.params(&self.ids), vec![Value::Int4(self.priority)]].concat()
    }

    fn interpret(&self, rows: &Rows) -> Result<BulkReply, Error> {
        read_bulk::<Self>(self.ids.len(), rows)
    }
}
