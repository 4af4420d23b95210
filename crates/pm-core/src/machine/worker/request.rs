//! The requests of a worker.

use super::lines::SentClaim;
use crate::machine::maintenance::MaintenanceRequest;
use crate::machine::{Batch, Batched, Request, RequestId};
use crate::op::{Extend, NotifyIdle, Outcome, Poll, ReleaseClaim, Settle, SettleItem};
use crate::{Instant, Operation, Plan};
use uuid::Uuid;

/// The requests of a worker. The driver passes them back with the replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerRequest {
    /// Read what there is to do.
    Poll(Poll),
    /// Claim jobs.
    Claim(SentClaim),
    /// Settle leases.
    Settle(Batch<SettleItem>),
    /// Look up whether these settlements were applied before.
    Outcome(Batch<SettleItem>),
    /// Extend leases.
    Extend(SentExtend),
    /// Promote, reap or fire schedules.
    Maintain(MaintenanceRequest),
    /// Release the jobs of a claim with a lost reply.
    ReleaseClaim(ReleaseClaim),
    /// Notify idle workers of other processes.
    NotifyIdle(NotifyIdle),
}

/// An extension in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentExtend {
    pub(super) extend: Extend,
    pub(super) sent_at: Instant,
    /// The requests of the user that it serves, each with the index of its lease.
    pub(super) request_ids: Vec<(usize, RequestId)>,
}

impl Request for WorkerRequest {
    fn plan(&self) -> Plan<'_> {
        match self {
            WorkerRequest::Poll(poll) => poll.plan(),
            WorkerRequest::Claim(sent) => sent.claim().plan(),
            WorkerRequest::Settle(batch) => Settle::plan_of(&batch.items, batch.passes),
            WorkerRequest::Outcome(batch) => Outcome::plan_of(&batch.items),
            WorkerRequest::Extend(sent) => sent.extend.plan(),
            WorkerRequest::Maintain(request) => request.plan(),
            WorkerRequest::ReleaseClaim(release) => release.plan(),
            WorkerRequest::NotifyIdle(notify) => notify.plan(),
        }
    }
}

impl Batched for SettleItem {
    /// The id of the job.
    type Lock = Uuid;

    fn locks(&self) -> [Option<Uuid>; 2] {
        [Some(self.lease.job), None]
    }

    fn weight(&self) -> usize {
        SettleItem::weight(self)
    }

    fn order(&self, other: &Self) -> std::cmp::Ordering {
        self.lease.job.cmp(&other.lease.job)
    }
}
