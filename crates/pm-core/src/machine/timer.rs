//! All timers of the machines, in one enum and one table.

use crate::Instant;

/// Why a machine wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Look what there is to do.
    Poll,
    /// Claim again after a failure, or from the start of the lines.
    Claim,
    /// Give back what a claim with a lost reply took.
    ReleaseClaim,
    /// Give back jobs that nobody started.
    Unstarted,
    /// Extend a lease, or stop trusting it.
    Lease,
    /// End the leases of others that expired.
    Reap,
    /// Give waiting jobs that are due their place in the line.
    Promote,
    /// Make the jobs of schedules whose tick has come.
    Fire,
    /// Send a batch again after a failure.
    Batch,
    /// Wake workers of other processes.
    Notify,
}

/// When each timer is due.
#[derive(Debug, Clone, Default)]
pub(super) struct Timers([Option<Instant>; 10]);

impl Timers {
    /// Sets a timer to `at`, or stops it.
    pub(super) fn set(&mut self, timer: Timer, at: Option<Instant>) {
        self.0[timer as usize] = at;
    }

    /// Sets a timer to `at` unless it is due earlier.
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
    fn a_timer_is_due_at_its_time_and_only_moves_closer() {
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
