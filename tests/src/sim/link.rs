//! How slow the network is, during and after the faults.

use super::world::SECOND;
use crate::Seed;
use pm_core::StatementId;
use pm_queue::Uuid;
use pm_queue::driver::{Failure, Rows};

/// The network between processes and server.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Link {
    /// How long every reply takes.
    latency_us: u64,
    /// How long a claim's reply takes for each of its jobs, as with large payloads.
    per_job_us: u64,
}

impl Link {
    /// Returns a network. In one world of six, replies take a large part of a lease; in one of six, claims of many jobs
    /// take longer than a lease.
    pub(super) fn drawn(lease_ms: i64, seed: &mut Seed) -> Link {
        let lease_us = lease_ms.unsigned_abs() * 1_000;
        let part = |percent: u64| lease_us * percent / 100;
        match seed.below(6) {
            0 => Link { latency_us: part(26 + seed.below(45)), per_job_us: 0 },
            1 => Link { latency_us: 0, per_job_us: part(5 + seed.below(40)) },
            _ => Link::default(),
        }
    }

    /// Returns how long a reply is in flight.
    pub(super) fn takes_us(&self, statement: StatementId, answer: &Result<Rows, Failure>) -> u64 {
        let jobs = match answer {
            // The other rows of the reply describe queues.
            Ok(rows) if statement == StatementId::Claim => {
                rows.iter(statement).filter_map(|mut row| row.read::<Option<Uuid>>().ok().flatten()).count()
            }
            _ => 0,
        };
        self.latency_us + self.per_job_us * jobs as u64
    }

    /// Returns how long to wait for something that takes `us` on a fast network.
    pub(super) fn timeout_us(&self, us: u64) -> u64 {
        match self.latency_us + self.per_job_us {
            0 => us,
            slow_us => us + 30 * slow_us.max(SECOND),
        }
    }

    /// Returns whether a worker can keep all its leases. On a slow network it cannot: a settle may wait for several
    /// replies.
    pub(super) fn keeps_leases(&self) -> bool {
        self.latency_us + self.per_job_us == 0
    }
}
