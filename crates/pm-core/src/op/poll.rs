//! Polling queues.

use super::all;
use crate::statement::{Declaration, roles};
use crate::time::from_ms;
use crate::wire::{Parameter, Rows, column, columns};
use crate::{Backoff, Error, Operation, Params, QueueName, StatementId};
use std::time::Duration;

/// Reads what there is to do on some queues. An idle worker sends only this statement.
///
/// The cost does not depend on the backlog. It grows with the number of lines and of jobs in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// The names of the queues. A renamed queue is found only by its new name.
    pub queues: Vec<QueueName>,
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
    /// The time until the next lease of any queue, or the next waiting job, expires, at least zero; `None` if none
    /// will.
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
    type Row = PollRow;
    type Output = PollReply;
    const DECLARATION: Declaration = Declaration::hot(StatementId::Poll, include_str!("poll.sql"), roles::WORK);

    fn params(&self) -> Params<'_> {
        vec![column(&self.queues, |queue| queue.as_str()), self.sleep.param()]
    }

    fn interpret(&self, rows: &Rows) -> Result<PollReply, Error> {
        let mut reply = PollReply::default();
        for row in all::<Self>(rows)? {
            let PollRow { id, name, paused, lease, backoff, priorities, due_ms, expiry_ms, tick_ms } = row;
            reply.queues.push(FollowedQueue { id, name, paused, lease, backoff, priorities });
            [reply.next_due, reply.next_expiry, reply.next_tick] =
                [due_ms, expiry_ms, tick_ms].map(|ms| ms.map(from_ms));
        }
        Ok(reply)
    }
}

columns! {
    /// A queue, and the milliseconds until there is something to do on any.
    pub struct PollRow {
        pub id: i32,
        pub name: String,
        pub paused: bool,
        pub lease: Duration as "lease_ms",
        pub backoff: Backoff,
        pub priorities: Vec<i32>,
        pub due_ms: Option<i64>,
        pub expiry_ms: Option<i64>,
        pub tick_ms: Option<i64>,
    }
}
