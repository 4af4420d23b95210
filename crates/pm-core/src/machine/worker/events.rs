//! What a worker tells its user.

use crate::Lease;
use crate::machine::{Batch, RequestId, Trouble};
use crate::op::SettleItem;
use std::collections::VecDeque;
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
}

/// The events that were not fetched yet, and the ids of the requests that they answer.
#[derive(Debug, Default)]
pub(super) struct Events {
    waiting: VecDeque<WorkerEvent>,
    last_request_id: u64,
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
}
