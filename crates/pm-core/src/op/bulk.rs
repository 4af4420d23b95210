//! Bulk actions of operators, with an outcome per job.

use super::read_index;
use crate::job::read_state;
use crate::statement::{ConnectionClass, Declaration, roles};
use crate::wire::{Rows, Type, Value, column};
use crate::{Ending, Error, Operation, Params, QueueName, Reason, State, StatementId};
use std::collections::BTreeSet;
use uuid::Uuid;

const BULK_COLUMNS: &[Type] = &[Type::Int8, Type::Int2, Type::Int2, Type::Int4];

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
    fn params<'a>(&'a self, ids: &[Uuid]) -> Params<'a> {
        vec![
            Value::UuidArray(column(ids, |id| *id)),
            self.state.map_or(Value::Null(Type::Int2), |state| Value::Int2(state.code())),
            self.queue.as_ref().map_or(Value::Null(Type::Text), |queue| Value::Text(queue.as_str())),
            self.lease.map_or(Value::Null(Type::Int8), Value::Int8),
        ]
    }
}

/// The outcome of an action for one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The job was changed.
    Changed,
    /// Nothing was changed, because of the job's state (this one, as shown) or its lease.
    Refused(State),
    /// Nothing was changed, because another job of the queue has reserved the job's key.
    KeyTaken,
    /// Nothing was changed, because the job is not in the required queue.
    Elsewhere,
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
    /// The ids of the queues of the jobs that were changed; after a move, of the target queue.
    pub queues: BTreeSet<i32>,
}

fn read_bulk(statement: StatementId, jobs: usize, rows: &Rows) -> Result<BulkReply, Error> {
    let mut reply = BulkReply { changes: vec![Change::NotFound; jobs], queues: BTreeSet::new() };
    for mut row in rows.iter(statement) {
        let index = read_index(&mut row, jobs)?;
        reply.changes[index] = match row.read::<i16>()? {
            0 => continue,
            1 => {
                let (_state, queue): (Option<i16>, Option<i32>) = (row.read()?, row.read()?);
                reply.queues.extend(queue);
                Change::Changed
            }
            2 => Change::Refused(read_state(&mut row)?),
            3 => Change::Elsewhere,
            4 => Change::KeyTaken,
            5 => Change::Locked,
            odd => return Err(row.odd(format!("outcome {odd}"))),
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
    type Output = BulkReply;
    const STATEMENT: StatementId = StatementId::RestartJobs;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("restart_jobs.sql"), ConnectionClass::Operator, roles::OPERATE);
    const COLUMNS: &'static [Type] = BULK_COLUMNS;

    fn params(&self) -> Params<'_> {
        [self.precondition.params(&self.ids), vec![Value::Bool(self.force)]].concat()
    }

    fn interpret(self, rows: &Rows) -> Result<BulkReply, Error> {
        read_bulk(Self::STATEMENT, self.ids.len(), rows)
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
    type Output = BulkReply;
    const STATEMENT: StatementId = StatementId::EndJobs;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("end_jobs.sql"), ConnectionClass::Operator, roles::OPERATE).human_text(6);
    const COLUMNS: &'static [Type] = BULK_COLUMNS;

    fn params(&self) -> Params<'_> {
        let ending = vec![
            Value::Int2(self.state.code()),
            Value::Int2(self.ending.code()),
            self.reason.as_ref().map_or(Value::Null(Type::Text), |reason| Value::Text(reason.as_str())),
        ];
        [self.precondition.params(&self.ids), ending].concat()
    }

    fn interpret(self, rows: &Rows) -> Result<BulkReply, Error> {
        read_bulk(Self::STATEMENT, self.ids.len(), rows)
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
    type Output = BulkReply;
    const STATEMENT: StatementId = StatementId::DeleteJobs;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("delete_jobs.sql"), ConnectionClass::Operator, roles::OPERATE);
    const COLUMNS: &'static [Type] = BULK_COLUMNS;

    fn params(&self) -> Params<'_> {
        self.precondition.params(&self.ids)
    }

    fn interpret(self, rows: &Rows) -> Result<BulkReply, Error> {
        read_bulk(Self::STATEMENT, self.ids.len(), rows)
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
    type Output = BulkReply;
    const STATEMENT: StatementId = StatementId::MoveJobs;
    const DECLARATION: Declaration =
        Declaration::new(include_str!("move_jobs.sql"), ConnectionClass::Operator, roles::OPERATE);
    const COLUMNS: &'static [Type] = BULK_COLUMNS;

    fn params(&self) -> Params<'_> {
        [self.precondition.params(&self.ids), vec![Value::Text(self.queue.as_str())]].concat()
    }

    fn interpret(self, rows: &Rows) -> Result<BulkReply, Error> {
        if rows.is_empty() && !self.ids.is_empty() {
            return Err(Error::QueueNotFound(self.queue.to_string()));
        }
        read_bulk(Self::STATEMENT, self.ids.len(), rows)
    }
}
