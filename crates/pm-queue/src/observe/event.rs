//! The events that an observer gets.

use pm_core::machine::{Enqueued, Trouble};
use pm_core::op::SettleItem;
use pm_core::{Error, State, Verdict};
use std::time::Duration;
use uuid::Uuid;

/// Something that a queue handle did, or that happened to it. No event contains a payload, a key, a reason or a
/// password.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Jobs were enqueued, or could not be: one event for the enqueues of a queue that had the same outcome in one
    /// statement.
    ///
    /// For jobs that are enqueued in a caller's transaction it comes after the statement, whether or not the
    /// transaction commits. Jobs that schedules create are not counted.
    #[non_exhaustive]
    Enqueued {
        /// The name of the queue.
        queue: &'a str,
        /// What became of the enqueues.
        outcome: EnqueueOutcome,
        /// Their number.
        count: u64,
    },
    /// A statement claimed jobs: one event for each queue with jobs in it. A job that is fetched by its id is claimed,
    /// too.
    #[non_exhaustive]
    Claimed {
        /// The name of the queue.
        queue: &'a str,
        /// The number of its jobs. Some may be released without starting: when no handler takes them in time.
        jobs: u64,
        /// The time from enqueue to claim of each job that was claimed for the first time, by the database's clock. It
        /// includes a delay that was asked for. Retries and jobs fetched by id are left out, because when they became
        /// ready is not stored.
        waited: &'a [Duration],
        /// The time from sending the claim to its reply.
        took: Duration,
    },
    /// A job was handed out. Exactly one [`Event::Settled`] follows, unless the program ends before.
    #[non_exhaustive]
    Started {
        /// The name of the queue.
        queue: &'a str,
        /// The id of the job.
        job: Uuid,
        /// The number of the attempt; the first is 1.
        attempt: u32,
    },
    /// The attempt at a job has ended, for this process.
    #[non_exhaustive]
    Settled {
        /// The name of the queue.
        queue: &'a str,
        /// The id of the job.
        job: Uuid,
        /// The number of the attempt.
        attempt: u32,
        /// How it ended.
        outcome: SettleOutcome,
        /// The time from handing the job out to the handler's call, such as [`JobAck::commit`](crate::JobAck::commit).
        /// The time for storing the settlement is not included.
        ran: Duration,
    },
    /// The lease of a started job can no longer be trusted: another worker may have the job. [`Event::Settled`] follows
    /// when the handler has ended.
    #[non_exhaustive]
    LeaseLost {
        /// The name of the queue.
        queue: &'a str,
        /// The id of the job.
        job: Uuid,
        /// The number of the attempt.
        attempt: u32,
    },
    /// This handle has reaped expired leases, of its own jobs or those of other workers.
    #[non_exhaustive]
    Reaped {
        /// The number of leases.
        count: u64,
    },
    /// A statement got its reply, or failed.
    #[non_exhaustive]
    Statement {
        /// The name of the statement, one of about 60: `claim`, `settle`, `enqueue_fresh`.
        name: &'static str,
        /// The time until the reply, with the wait for a free connection.
        took: Duration,
        /// Whether it succeeded.
        ok: bool,
    },
    /// The database cannot be reached, or refuses claims: two statements in a row have failed, as in
    /// [`Health::failures`](crate::Health::failures).
    #[non_exhaustive]
    OutageBegan {
        /// The message of the last failure, for humans.
        why: &'a str,
    },
    /// A statement has reached the database again.
    #[non_exhaustive]
    OutageHealed {
        /// The time since [`Event::OutageBegan`].
        lasted: Duration,
    },
    /// The listener is connected: notifications of other processes wake idle streams.
    #[non_exhaustive]
    ListenerConnected {},
    /// The listener has lost its connection, and connects again. Until then idle streams poll.
    #[non_exhaustive]
    ListenerLost {},
    /// A job was handed out as an error, because its payload cannot be decoded as the type of the stream. It comes
    /// after [`Event::Started`].
    #[non_exhaustive]
    PayloadRefused {
        /// The name of the queue.
        queue: &'a str,
        /// The id of the job.
        job: Uuid,
        /// The number of the attempt.
        attempt: u32,
    },
}

/// What became of an enqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EnqueueOutcome {
    /// A new job was inserted.
    Inserted,
    /// Another job has reserved the key; nothing was changed.
    Existing,
    /// The job that had reserved the key was replaced.
    Replaced,
    /// It failed: the queue does not exist, for example, or the database could not be reached.
    Failed,
}

/// How an attempt at a job ended, for the process that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SettleOutcome {
    /// Committed: the job is finished.
    Finished,
    /// Soft-failed: the job is retried.
    SoftFailed,
    /// The job has failed: hard-failed, soft-failed without a retry left, or unreadable for too long.
    Failed,
    /// The job has failed because it was cancelled while it ran, whatever its handler made of it, but for a commit.
    Cancelled,
    /// Released without counting an attempt.
    Released,
    /// Put off without counting an attempt or a retry.
    Snoozed,
    /// Put back for another worker, because the payload could not be decoded.
    Unreadable,
    /// The settlement came too late: another worker or an operator had the job.
    LeaseLost,
    /// The settlement could not be stored: the database could not be reached in time, or refused it. The job runs again
    /// when its lease has expired.
    NotStored,
    /// The ack was given up ([`JobAck::leave`](crate::JobAck::leave)), or dropped while a caller's transaction settled
    /// the job: how the job ended is not known here.
    Left,
}

impl EnqueueOutcome {
    /// Returns the name, for labels: `inserted`, `existing`, `replaced` or `failed`.
    pub const fn name(self) -> &'static str {
        match self {
            EnqueueOutcome::Inserted => "inserted",
            EnqueueOutcome::Existing => "existing",
            EnqueueOutcome::Replaced => "replaced",
            EnqueueOutcome::Failed => "failed",
        }
    }

    pub(crate) fn of(result: &Result<Enqueued, Trouble>) -> Self {
        result.as_ref().map_or(EnqueueOutcome::Failed, EnqueueOutcome::of_enqueued)
    }

    pub(crate) fn of_enqueued(enqueued: &Enqueued) -> Self {
        match enqueued {
            Enqueued::Existing(..) => EnqueueOutcome::Existing,
            Enqueued::Replaced(_) => EnqueueOutcome::Replaced,
            _ => EnqueueOutcome::Inserted,
        }
    }
}

impl SettleOutcome {
    /// All outcomes, in the order of their declaration.
    pub const ALL: [SettleOutcome; 10] = [
        SettleOutcome::Finished,
        SettleOutcome::SoftFailed,
        SettleOutcome::Failed,
        SettleOutcome::Cancelled,
        SettleOutcome::Released,
        SettleOutcome::Snoozed,
        SettleOutcome::Unreadable,
        SettleOutcome::LeaseLost,
        SettleOutcome::NotStored,
        SettleOutcome::Left,
    ];

    /// Returns the name, for labels: `finished`, `soft_failed`, `failed`, `cancelled`, `released`, `snoozed`,
    /// `unreadable`, `lease_lost`, `not_stored` or `left`.
    pub const fn name(self) -> &'static str {
        match self {
            SettleOutcome::Finished => "finished",
            SettleOutcome::SoftFailed => "soft_failed",
            SettleOutcome::Failed => "failed",
            SettleOutcome::Cancelled => "cancelled",
            SettleOutcome::Released => "released",
            SettleOutcome::Snoozed => "snoozed",
            SettleOutcome::Unreadable => "unreadable",
            SettleOutcome::LeaseLost => "lease_lost",
            SettleOutcome::NotStored => "not_stored",
            SettleOutcome::Left => "left",
        }
    }

    /// Returns whether a settlement was made and changed nothing.
    #[cfg(feature = "tracing")]
    pub(crate) fn is_not_applied(self) -> bool {
        matches!(self, SettleOutcome::LeaseLost | SettleOutcome::NotStored)
    }

    /// Returns the outcome of a settlement that is applied, of a job that is to be cancelled or not.
    pub(crate) fn of(item: &SettleItem, is_cancelled: bool) -> Self {
        match (&item.verdict, item.state) {
            (Verdict::Commit | Verdict::CommitWith(_), _) => SettleOutcome::Finished,
            _ if is_cancelled => SettleOutcome::Cancelled,
            (Verdict::Release, _) => SettleOutcome::Released,
            (Verdict::Snooze(_), _) => SettleOutcome::Snoozed,
            (_, State::Failed) => SettleOutcome::Failed,
            (Verdict::Unreadable(_), _) => SettleOutcome::Unreadable,
            (Verdict::SoftFail(_) | Verdict::RetryAfter(..) | Verdict::HardFail(_), _) => SettleOutcome::SoftFailed,
        }
    }

    /// Returns the outcome of a settlement that was not applied.
    pub(crate) fn of_trouble(trouble: &Trouble) -> Self {
        match trouble {
            Trouble::Refused(Error::LeaseLost) => SettleOutcome::LeaseLost,
            _ => SettleOutcome::NotStored,
        }
    }
}
