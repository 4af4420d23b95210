//! Firing schedules: looking which are due, making their jobs, looking again.

use super::replies::read;
use super::{Worker, WorkerRequest};
use crate::machine::timer::Timer;
use crate::machine::{Entropy, scatter};
use crate::op::{DueSchedules, FireSchedules};
use crate::{Error, Failure, Instant, Operation, Rows};
use std::time::Duration;

/// The wait after a firing that found everything done by others, or being done; doubled up to [`LONGEST_IN_VAIN`] while
/// what is due stays locked.
const OTHERS_FIRE: Duration = Duration::from_millis(100);
const LONGEST_IN_VAIN: Duration = Duration::from_secs(2);
/// The wait after a look that found only schedules this version cannot read.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(60);
/// The shortest wait for a tick: the database tells it in milliseconds.
const SHORTEST: Duration = Duration::from_millis(1);
/// Workers of many processes spread over so long.
const SPREAD: Duration = Duration::from_millis(50);

impl Worker {
    pub(super) fn poll_fire(&mut self, now: Instant) -> Option<WorkerRequest> {
        if self.slots.fire.busy {
            return None;
        }
        let request = match self.fire_next.take() {
            Some(request) => request,
            None if self.timers.is_due(Timer::Fire, now) => {
                self.timers.set(Timer::Fire, None);
                WorkerRequest::DueSchedules(DueSchedules::default())
            }
            None => return None,
        };
        self.slots.fire.busy = true;
        Some(request)
    }

    /// Takes note of which schedules are due. A reply that comes late is as good as any: firing looks again.
    pub(super) fn handle_due(
        &mut self,
        due: DueSchedules,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        let Some(reply) = self.told(reply, |rows| due.interpret(rows), now, entropy) else { return };
        let fire = FireSchedules::of(&reply, || entropy.next_u64());
        self.fire_next = match fire.is_empty() {
            true => due.beyond(&reply).map(WorkerRequest::DueSchedules),
            false => Some(WorkerRequest::FireSchedules(fire)),
        };
        if self.fire_next.is_some() {
            return;
        }
        if due.skip == 0 && reply.due.is_empty() {
            self.fires_in_vain = 0;
            self.set_fire(reply.next_tick, now, entropy);
        } else {
            let next = reply.next_tick.map_or(UNREADABLE_PAUSE, |next| next.min(UNREADABLE_PAUSE));
            self.set_fire(Some(next), now, entropy);
        }
    }

    /// Takes note of what a firing did, and looks again: for what is left, and for the next tick. So it does when the
    /// reply was lost: what was fired is not due any more.
    pub(super) fn handle_fired(
        &mut self,
        fire: FireSchedules,
        reply: Result<Rows, Failure>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        let Some(fired) = self.told(reply, |rows| fire.interpret(rows), now, entropy) else { return };
        self.fires_in_vain = if fired.schedules > 0 { 0 } else { self.fires_in_vain.saturating_add(1) };
        let wait = match self.fires_in_vain {
            0 => Duration::ZERO,
            times => (OTHERS_FIRE * (1 << (times - 1).min(8))).min(LONGEST_IN_VAIN),
        };
        self.no_fire_before = now + wait;
        self.timers.set(Timer::Fire, Some(self.no_fire_before));
        if fired.jobs > 0 {
            self.handle_change(now);
            self.notify_idle(now);
        }
    }

    /// Returns what a reply about schedules tells, unless that matters no more; after a failure it looks again later.
    fn told<T>(
        &mut self,
        reply: Result<Rows, Failure>,
        interpret: impl FnOnce(&Rows) -> Result<T, Error>,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) -> Option<T> {
        self.slots.fire.answered(&reply);
        if self.draining {
            return None;
        }
        let told = read(reply, interpret);
        told.map_err(|trouble| self.try_again(Timer::Fire, self.slots.fire.failures, trouble, now, entropy)).ok()
    }

    /// Sees to it that schedules are looked at when the next tick comes.
    pub(super) fn set_fire(&mut self, next_tick: Option<Duration>, now: Instant, entropy: &mut dyn Entropy) {
        let Some(next) = next_tick.filter(|_| self.options.reaps) else { return };
        let at = (now + next.max(SHORTEST)).max(self.no_fire_before);
        self.timers.set_earlier(Timer::Fire, at + scatter(SPREAD, entropy));
    }
}
