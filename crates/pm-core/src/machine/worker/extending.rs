//! Extending leases: those due by themselves, and those that users ask for.

use super::leases::Due;
use super::{MAX_BATCH, SentExtend, Worker, WorkerEvent};
use crate::machine::batch::RequestId;
use crate::machine::timer::Timer;
use crate::op::Extend;
use crate::{Instant, Lease};

impl Worker {
    /// Tells of leases whose trust ended, and gathers those to be extended.
    pub(super) fn look_after_leases(&mut self, now: Instant) {
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
        let asked =
            if self.timers.at(Timer::Lease).is_some_and(|at| at > now) { Vec::new() } else { self.take_asked() };
        let room = MAX_BATCH - asked.len();
        let mut leases = self.due_extensions.split_off(self.due_extensions.len().saturating_sub(room));
        leases.extend(asked.iter().map(|(lease, _)| *lease));
        if leases.is_empty() {
            return None;
        }
        leases.sort_unstable();
        leases.dedup();
        let place = |lease| leases.binary_search(&lease).expect("it was put in above");
        let request_ids = asked.into_iter().map(|(lease, request_id)| (place(lease), request_id)).collect();
        leases.iter().for_each(|lease| self.leases.set_extending(lease, true));
        self.slots.extend.busy = true;
        Some(SentExtend { extend: Extend { leases }, sent_at: now, request_ids })
    }

    /// Takes some of the extensions that users asked for, leaving room for as many that are due.
    fn take_asked(&mut self) -> Vec<(Lease, RequestId)> {
        self.timers.set(Timer::Lease, None);
        let rest = self.asked.split_off(self.asked.len().min(MAX_BATCH / 2));
        std::mem::replace(&mut self.asked, rest)
    }
}
