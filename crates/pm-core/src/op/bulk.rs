//! What an operator's word does to many jobs, told per job.

use super::read_position;
use crate::job::read_state;
use crate::statement::Definition;
use crate::wire::{Rows, Type, Value, column};
use crate::{Ending, Error, Operation, Params, QueueName, Reason, State, StatementId};
use std::collections::BTreeSet;
use uuid::Uuid;

const BULK_COLUMNS: &[Type] = &[Type::Int8, Type::Int2, Type::Int2, Type::Int4];

pub(crate) const RESTART_JOBS: Definition = Definition {
    sql: include_str!("restart_jobs.sql"),
    params: &[Type::UuidArray, Type::Int2, Type::Text, Type::Int8, Type::Bool],
    columns: BULK_COLUMNS,
};
pub(crate) const END_JOBS: Definition = Definition {
    sql: include_str!("end_jobs.sql"),
    params: &[Type::UuidArray, Type::Int2, Type::Text, Type::Int8, Type::Int2, Type::Int2, Type::Text],
    columns: BULK_COLUMNS,
};
pub(crate) const DELETE_JOBS: Definition = Definition {
    sql: include_str!("delete_jobs.sql"),
    params: &[Type::UuidArray, Type::Int2, Type::Text, Type::Int8],
    columns: BULK_COLUMNS,
};
pub(crate) const MOVE_JOBS: Definition = Definition {
    sql: include_str!("move_jobs.sql"),
    params: &[Type::UuidArray, Type::Int2, Type::Text, Type::Int8, Type::Text],
    columns: BULK_COLUMNS,
};

/// What a job must still be for an operator's word to change it; by default it may be anything.
///
/// For jobs that were chosen by what they were a moment ago: it is judged on the locked row, in the statement that
/// changes it. Whether a queue is paused, and its name, are judged as they were when the statement began.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Precondition {
    /// In this state, as shown.
    pub state: Option<State>,
    /// In the queue of this name.
    pub queue: Option<QueueName>,
    /// In progress under this lease.
    pub lease: Option<i64>,
}

impl Precondition {
    /// Returns the parameters of a statement about jobs that must still be this.
    fn params<'a>(&'a self, ids: &[Uuid]) -> Params<'a> {
        vec![
            Value::UuidArray(column(ids, |id| *id)),
            self.state.map_or(Value::Null(Type::Int2), |state| Value::Int2(state.code())),
            self.queue.as_ref().map_or(Value::Null(Type::Text), |queue| Value::Text(queue.as_str())),
            self.lease.map_or(Value::Null(Type::Int8), Value::Int8),
        ]
    }
}

/// What became of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was changed.
    Changed,
    /// It was left as it is, because of its state (this one, as shown) or its lease.
    Refused(State),
    /// It was left as it is, because another job of the queue holds its key.
    KeyTaken,
    /// It was left as it is, because it is not in the queue that it was to be in.
    Elsewhere,
    /// It was left as it is, because another transaction has it locked.
    Locked,
    /// It does not exist.
    NotFound,
}

/// What became of many jobs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BulkReply {
    /// Of each job, in order.
    pub changes: Vec<Change>,
    /// The queues on which jobs were changed.
    pub queues: BTreeSet<i32>,
}

fn read_bulk(statement: StatementId, jobs: usize, rows: &Rows) -> Result<BulkReply, Error> {
    let mut reply = BulkReply { changes: vec![Change::NotFound; jobs], queues: BTreeSet::new() };
    for mut row in rows.iter(statement) {
        let position = read_position(&mut row, jobs)?;
        reply.changes[position] = match row.read::<i16>()? {
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

/// Makes jobs pending again, with no failures to their name. A job whose key another job holds is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartJobs {
    /// Which; at most 1,000.
    pub ids: Vec<Uuid>,
    /// Whether those in progress are taken from their holders.
    pub force: bool,
    /// What they must still be.
    pub precondition: Precondition,
}

impl Operation for RestartJobs {
    type Output = BulkReply;
    const STATEMENT: StatementId = StatementId::RestartJobs;

    fn params(&self) -> Params<'_> {
        [self.precondition.params(&self.ids), vec![Value::Bool(self.force)]].concat()
    }

    fn interpret(self, rows: &Rows) -> Result<BulkReply, Error> {
        read_bulk(Self::STATEMENT, self.ids.len(), rows)
    }
}

/// Declares jobs done or failed. Jobs that ended already are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndJobs {
    ids: Vec<Uuid>,
    state: State,
    ending: Ending,
    reason: Option<Reason>,
    precondition: Precondition,
}

impl EndJobs {
    /// Returns the operation that declares jobs done, at most 1,000.
    pub fn done(ids: Vec<Uuid>) -> Self {
        EndJobs {
            ids,
            state: State::Finished,
            ending: Ending::Done,
            reason: None,
            precondition: Precondition::default(),
        }
    }

    /// Returns the operation that declares jobs failed, at most 1,000.
    pub fn failed(ids: Vec<Uuid>, reason: &str) -> Self {
        let reason = Some(Reason::new(reason));
        EndJobs { ids, state: State::Failed, ending: Ending::Fail, reason, precondition: Precondition::default() }
    }

    /// Restricts the word to jobs that still are this.
    pub fn only_if(mut self, precondition: Precondition) -> Self {
        self.precondition = precondition;
        self
    }
}

impl Operation for EndJobs {
    type Output = BulkReply;
    const STATEMENT: StatementId = StatementId::EndJobs;

    fn params(&self) -> Params<'_> {
        let words = vec![
            Value::Int2(self.state.code()),
            Value::Int2(self.ending.code()),
            self.reason.as_ref().map_or(Value::Null(Type::Text), |reason| Value::Text(reason.as_str())),
        ];
        [self.precondition.params(&self.ids), words].concat()
    }

    fn interpret(self, rows: &Rows) -> Result<BulkReply, Error> {
        read_bulk(Self::STATEMENT, self.ids.len(), rows)
    }
}

/// Deletes jobs in any state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteJobs {
    /// Which; at most 1,000.
    pub ids: Vec<Uuid>,
    /// What they must still be.
    pub precondition: Precondition,
}

impl Operation for DeleteJobs {
    type Output = BulkReply;
    const STATEMENT: StatementId = StatementId::DeleteJobs;

    fn params(&self) -> Params<'_> {
        self.precondition.params(&self.ids)
    }

    fn interpret(self, rows: &Rows) -> Result<BulkReply, Error> {
        read_bulk(Self::STATEMENT, self.ids.len(), rows)
    }
}

/// Moves jobs to another queue. A job whose key is held there is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveJobs {
    /// Which; at least one, at most 1,000.
    pub ids: Vec<Uuid>,
    /// Where to.
    pub queue: QueueName,
    /// What they must still be.
    pub precondition: Precondition,
}

impl Operation for MoveJobs {
    type Output = BulkReply;
    const STATEMENT: StatementId = StatementId::MoveJobs;

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
