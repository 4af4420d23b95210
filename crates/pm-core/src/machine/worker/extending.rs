//! Extending leases: for the heartbeat, and on request of the user.

use super::leases::Due;
use super::{MAX_BATCH, SentExtend, Worker, WorkerEvent};
use crate::machine::batch::RequestId;
use crate::machine::timer::Timer;
use crate::op::Extend;
use crate::{Instant, Lease};

impl Worker {
    /// Reports leases that can no longer be trusted, and collects those that are due to be extended.
    pub(super) fn check_leases(&mut self, now: Instant) {
        for (lease, due) in self.leases.due(now) {
            match due {
                Due::Extend => self.due_extensions.push(lease),
                Due::TrustEnded => self.events.push_back(WorkerEvent::LeaseLost(lease)),
            }
        }
    }

    pub(super) fn poll_extend(&mut self, now: Instant) -> Option<SentExtend> {
        if self.slots.extend.busy {
            return None;
        }
        let requested =
            if self.timers.at(Timer::Lease).is_some_and(|at| at > now) { Vec::new() } else { self.take_requested() };
        let room = MAX_BATCH - requested.len();
        let mut leases = self.due_extensions.split_off(self.due_extensions.len().saturating_sub(room));
        leases.extend(requested.iter().map(|(lease, _)| *lease));
        if leases.is_empty() {
            return None;
        }
        leases.sort_unstable();
        leases.dedup();
        let index_of = |lease| leases.binary_search(&lease).expect("the list contains it");
        let request_ids = requested.into_iter().map(|(lease, request_id)| (index_of(lease), request_id)).collect();
        leases.iter().for_each(|lease| self.leases.set_extending(lease, true));
        self.slots.extend.busy = true;
        Some(SentExtend { extend: Extend { leases }, sent_at: now, request_ids })
    }

    /// Takes some of the requested extensions: half a batch at most, so that the heartbeat has the other half.
    fn take_requested(&mut self) -> Vec<(Lease, RequestId)> {
        self.timers.set(Timer::Lease, None);
        let rest = self.requested_extensions.split_off(self.requested_extensions.len().min(MAX_BATCH / 2));
        std::mem::replace(&mut self.requested_extensions, rest)
    }
}
