//! The timers of the machines.

use crate::Instant;

/// Why a machine asks for a timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// To poll the followed queues.
    Poll,
    /// To claim again after a failure, or from the start of the lines.
    Claim,
    /// To release the jobs of a claim whose reply was lost.
    ReleaseClaim,
    /// To release prefetched jobs that have not been started.
    Unstarted,
    /// To extend a lease, or stop trusting it.
    Lease,
    /// To reap expired leases.
    Reap,
    /// To promote jobs that are due.
    Promote,
    /// To fire schedules whose tick has come.
    Fire,
    /// To prune ended jobs past their retention.
    Prune,
    /// To send a batch again after a failure.
    Batch,
    /// To notify workers of other processes.
    Notify,
}

/// When each timer is due.
#[derive(Debug, Clone, Default)]
pub(super) struct Timers([Option<Instant>; 11]);

impl Timers {
    /// Sets a timer to `at`, or stops it.
    pub(super) fn set(&mut self, timer: Timer, at: Option<Instant>) {
        self.0[timer as usize] = at;
    }

    /// Sets a timer to `at`, unless it is due earlier.
    pub(super) fn set_earlier(&mut self, timer: Timer, at: Instant) {
        let due = &mut self.0[timer as usize];
        *due = Some(due.map_or(at, |due| due.min(at)));
    }

    /// Returns when a timer is due.
    pub(super) fn at(&self, timer: Timer) -> Option<Instant> {
        self.0[timer as usize]
    }

    /// Returns whether a timer is due.
    pub(super) fn is_due(&self, timer: Timer, now: Instant) -> bool {
        self.at(timer).is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_timer_is_due_at_the_earliest_time_it_was_set_to() {
        let at = |ms| Instant::from_start(Duration::from_millis(ms));
        let mut timers = Timers::default();
        assert!(!timers.is_due(Timer::Reap, at(1_000)));
        timers.set_earlier(Timer::Reap, at(50));
        timers.set_earlier(Timer::Reap, at(70));
        assert_eq!((timers.at(Timer::Reap), timers.at(Timer::Poll)), (Some(at(50)), None));
        assert!(timers.is_due(Timer::Reap, at(50)) && !timers.is_due(Timer::Reap, at(49)));
        timers.set(Timer::Reap, None);
        assert_eq!(timers.at(Timer::Reap), None);
    }
}
