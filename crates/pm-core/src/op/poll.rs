//! Polling queues.

use crate::settings::read_lease_and_backoff;
use crate::statement::{ConnectionClass, Declaration, roles};
use crate::time::{from_ms, whole_ms};
use crate::wire::{Rows, Type, Value, column};
use crate::{Backoff, Error, Operation, Params, QueueName, StatementId, Timestamp};
use std::borrow::Cow;
use std::time::Duration;

/// Reads what there is to do on some queues. An idle worker sends only this statement.
///
/// The cost does not depend on the backlog. It grows with the number of lines and of jobs in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// The names of the queues. A renamed queue is found only by its new name.
    pub queues: Vec<QueueName>,
    /// No waiting job is due before this time, as far as is known: the search for the next due time starts here.
    pub due_bound: Option<Timestamp>,
    /// For how long the worker will be idle unless it is notified; sets `idle_until` on the queues. `None` if it is not
    /// idle.
    pub sleep: Option<Duration>,
}

/// The reply to a poll.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PollReply {
    /// The queues that exist.
    pub queues: Vec<FollowedQueue>,
    /// The time until the next waiting job of any queue is due, at least zero; `None` if no job waits.
    pub next_due: Option<Duration>,
    /// The time until the next lease of any queue expires, at least zero; `None` if no job is in progress.
    pub next_expiry: Option<Duration>,
    /// The time until the next tick of any schedule, at least zero; `None` if there is none.
    pub next_tick: Option<Duration>,
}

/// A queue that a worker follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowedQueue {
    /// Its id.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// Whether it is paused.
    pub paused: bool,
    /// The length of its leases.
    pub lease: Duration,
    /// How soft failures of its jobs are retried.
    pub backoff: Backoff,
    /// The priorities of its lines that have jobs, ready or in progress, highest first.
    pub priorities: Vec<i32>,
}

impl Operation for Poll {
    type Output = PollReply;
    const STATEMENT: StatementId = StatementId::Poll;
    const DECLARATION: Declaration = Declaration::new(include_str!("poll.sql"), ConnectionClass::Hot, roles::WORK);
    const COLUMNS: &'static [Type] = &[
        Type::Int4,
        Type::Text,
        Type::Bool,
        Type::Int8,
        Type::Int4,
        Type::Int8Array,
        Type::Int2,
        Type::Int4Array,
        Type::Int8,
        Type::Int8,
        Type::Int8,
    ];

    fn params(&self) -> Params<'_> {
        vec![
            Value::TextArray(column(&self.queues, |queue| Cow::Borrowed(queue.as_str()))),
            self.due_bound.map_or(Value::Null(Type::Timestamp), Value::Timestamp),
            self.sleep.map_or(Value::Null(Type::Int8), |sleep| Value::Int8(whole_ms(sleep))),
        ]
    }

    fn interpret(self, rows: &Rows) -> Result<PollReply, Error> {
        let mut reply = PollReply::default();
        for mut row in rows.iter(Self::STATEMENT) {
            let (id, name, paused) = (row.read()?, row.read()?, row.read()?);
            let (lease, backoff) = read_lease_and_backoff(&mut row)?;
            reply.queues.push(FollowedQueue { id, name, paused, lease, backoff, priorities: row.read()? });
            reply.next_due = row.read::<Option<i64>>()?.map(from_ms);
            reply.next_expiry = row.read::<Option<i64>>()?.map(from_ms);
            reply.next_tick = row.read::<Option<i64>>()?.map(from_ms);
        }
        Ok(reply)
    }
}
