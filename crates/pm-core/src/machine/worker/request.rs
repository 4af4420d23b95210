//! What a worker sends.

use super::claims::SentClaim;
use crate::machine::{Batch, Batched, Request, RequestId};
use crate::op::{
    DueSchedules, Extend, FireSchedules, NotifyIdle, Outcome, Poll, Promote, Reap, ReleaseClaim, Settle, SettleItem,
};
use crate::{Instant, Operation, Plan};
use uuid::Uuid;

/// What a worker sends, handed back with the reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerRequest {
    /// What is there to do?
    Poll(Poll),
    /// Take jobs.
    Claim(SentClaim),
    /// End leases.
    Settle(Batch<SettleItem>),
    /// Had these words been applied before?
    Outcome(Batch<SettleItem>),
    /// Extend leases.
    Extend(SentExtend),
    /// End expired leases of anyone.
    Reap(Reap),
    /// Give waiting jobs that are due their place.
    Promote(Promote),
    /// Which schedules are due?
    DueSchedules(DueSchedules),
    /// Make the jobs of due ticks.
    FireSchedules(FireSchedules),
    /// Give back what a claim with a lost reply took.
    ReleaseClaim(ReleaseClaim),
    /// Wake workers of other processes that sleep.
    NotifyIdle(NotifyIdle),
}

/// An extension under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentExtend {
    pub(super) extend: Extend,
    pub(super) sent_at: Instant,
    /// Who waits for it, by place in the batch.
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
            WorkerRequest::Reap(reap) => reap.plan(),
            WorkerRequest::Promote(promote) => promote.plan(),
            WorkerRequest::DueSchedules(due) => due.plan(),
            WorkerRequest::FireSchedules(fire) => fire.plan(),
            WorkerRequest::ReleaseClaim(release) => release.plan(),
            WorkerRequest::NotifyIdle(wake) => wake.plan(),
        }
    }
}

impl Batched for SettleItem {
    /// The job.
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
