//! What a worker tells its user.

use super::queues::Queues;
use crate::machine::{Batch, RequestId, Trouble};
use crate::op::{ClaimReply, SettleItem};
use crate::{ClaimedJob, Lease, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The events of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerEvent {
    /// The outcome of a settlement is known.
    Settled {
        /// The id that [`Worker::settle`](super::Worker::settle) returned.
        request_id: RequestId,
        /// Whether it was committed in the database, or why not.
        outcome: Result<(), Trouble>,
    },
    /// The outcome of an extension that the user requested is known.
    Extended {
        /// The id that [`Worker::extend`](super::Worker::extend) returned.
        request_id: RequestId,
        /// What remains of the lease, or why it was not extended.
        outcome: Result<Duration, Trouble>,
    },
    /// The lease of a started job can no longer be trusted.
    LeaseLost(Lease),
    /// The job of a lease is to be cancelled. Reported once.
    CancelRequested(Lease),
    /// An error that the user should see.
    Failed(Trouble),
    /// Jobs of a queue were claimed; only after [`Worker::report_activity`](super::Worker::report_activity).
    Claimed {
        /// The queue.
        queue: Arc<str>,
        /// The number of jobs, including those that were released because their leases can no longer be trusted.
        jobs: usize,
        /// For each of these jobs that was claimed for the first time: the time from its enqueue to its claim, by the
        /// database's clock. A delay that was asked for counts.
        waited: Vec<Duration>,
        /// The time from sending the claim to its reply.
        took: Duration,
    },
    /// So many expired leases were reaped; only after [`Worker::report_activity`](super::Worker::report_activity).
    Reaped(u64),
}

/// The events that were not fetched yet, and the ids of the requests that they answer.
#[derive(Debug, Default)]
pub(super) struct Events {
    waiting: VecDeque<WorkerEvent>,
    last_request_id: u64,
    /// Whether claims and reaps are reported.
    pub(super) reports_activity: bool,
}

impl Events {
    pub(super) fn next_request_id(&mut self) -> RequestId {
        self.last_request_id += 1;
        RequestId(self.last_request_id)
    }

    pub(super) fn pop(&mut self) -> Option<WorkerEvent> {
        self.waiting.pop_front()
    }

    pub(super) fn push(&mut self, event: WorkerEvent) {
        self.waiting.push_back(event);
    }

    /// Reports the same outcome of all settlements of a batch.
    pub(super) fn settled(&mut self, batch: Batch<SettleItem>, outcome: &Result<(), Trouble>) {
        for (request_id, _) in batch.into_entries() {
            self.push(WorkerEvent::Settled { request_id, outcome: outcome.clone() });
        }
    }

    pub(super) fn extended(&mut self, request_id: RequestId, outcome: Result<Duration, Trouble>) {
        self.push(WorkerEvent::Extended { request_id, outcome });
    }

    pub(super) fn failed(&mut self, trouble: Trouble) {
        self.push(WorkerEvent::Failed(trouble));
    }

    /// Reports the jobs of a claim that took this long, by queue, if activity is reported. Its jobs are in the order of
    /// lines, so those of a queue may be in several places.
    pub(super) fn claimed(&mut self, reply: &ClaimReply, queues: &Queues, took: Duration) {
        if !self.reports_activity {
            return;
        }
        let mut by_queue: BTreeMap<i32, Vec<&ClaimedJob>> = BTreeMap::new();
        for job in &reply.jobs {
            by_queue.entry(job.queue_id).or_default().push(job);
        }
        for (queue_id, jobs) in by_queue {
            // The jobs of a queue that was renamed or deleted between two statements are released at once.
            let Some(followed) = queues.get(queue_id) else { continue };
            // A job that was put off has started before, with an attempt that does not count.
            let firsts = jobs.iter().filter(|job| job.columns.attempt == 1 && job.columns.snoozes.is_none());
            let waited = firsts.filter_map(|job| Some(since(job.columns.created_at, reply.claimed_at?))).collect();
            self.push(WorkerEvent::Claimed { queue: followed.name.clone(), jobs: jobs.len(), waited, took });
        }
    }

    /// Reports that so many leases were reaped, if there were any and activity is reported.
    pub(super) fn reaped(&mut self, count: u64) {
        if count > 0 && self.reports_activity {
            self.push(WorkerEvent::Reaped(count));
        }
    }
}

/// Returns the time between two timestamps of the database, or zero if its clock was set back in between.
fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(later.unix_us().saturating_sub(earlier.unix_us())).unwrap_or_default())
}
