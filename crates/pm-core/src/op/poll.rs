//! Looking what there is to do.

use crate::settings::read_lease_and_backoff;
use crate::statement::Definition;
use crate::time::{from_ms, whole_ms};
use crate::wire::{Rows, Type, Value, column};
use crate::{Backoff, Error, Operation, Params, QueueName, StatementId, Timestamp};
use std::borrow::Cow;
use std::time::Duration;

pub(crate) const POLL: Definition = Definition {
    sql: include_str!("poll.sql"),
    params: &[Type::TextArray, Type::Timestamp, Type::Int8],
    columns: &[
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
    ],
};

/// Looks what there is to do on some queues: the one statement of an idle worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// The queues, by name: a renamed one is found under its new name.
    pub queues: Vec<QueueName>,
    /// Due times before this are known to be none.
    pub due_bound: Option<Timestamp>,
    /// For how long the worker will sleep if there is nothing to do and nobody notifies it.
    pub sleep: Option<Duration>,
}

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PollReply {
    /// The queues that exist.
    pub queues: Vec<FollowedQueue>,
    /// The time until the next waiting job of any queue is due, negative ones cut to zero.
    pub next_due: Option<Duration>,
    /// The time until the next lease of any queue ends, negative ones cut to zero.
    pub next_expiry: Option<Duration>,
    /// The time until the next tick of any schedule, negative ones cut to zero.
    pub next_tick: Option<Duration>,
}

/// A queue as a worker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowedQueue {
    /// Its number.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// Whether it is paused.
    pub paused: bool,
    /// How long its leases last.
    pub lease: Duration,
    /// How its failures are retried.
    pub backoff: Backoff,
    /// The priorities with jobs that are ready or in progress, highest first.
    pub priorities: Vec<i32>,
}

impl Operation for Poll {
    type Output = PollReply;
    const STATEMENT: StatementId = StatementId::Poll;

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
