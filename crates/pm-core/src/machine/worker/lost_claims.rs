//! The release of claims whose reply was lost.

use super::Worker;
use crate::machine::chore::Chore;
use crate::machine::{Entropy, Reply, Timer, Trouble, interpret, retry_delay};
use crate::op::ReleaseClaim;
use crate::{Class, Instant, Operation};
use std::time::Duration;

/// The pause between two releases of a lost claim while the server may still run it.
const RELEASE_PAUSE: Duration = Duration::from_secs(2);
/// During a shutdown, for how long the release of a lost claim is retried after the server can no longer run the claim.
const MAX_CLOSE_TIME: Duration = Duration::from_secs(30);

/// For how long a lost claim with leases of unknown length is released.
const MAX_RELEASE_TIME: Duration = Duration::from_secs(3_600);

/// A claim whose reply was lost. It may have leased jobs, and is never sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LostClaim {
    lease: i64,
    /// When the server can no longer run it.
    over_at: Instant,
    /// When its leases have certainly ended.
    ends_at: Instant,
    next_try: Instant,
    /// When its release was last sent.
    tried_at: Instant,
}

/// Claims whose jobs are to be released.
#[derive(Debug)]
pub(super) struct LostClaims {
    pub(super) chore: Chore,
    claims: Vec<LostClaim>,
}

impl LostClaims {
    pub(super) fn new() -> Self {
        LostClaims { chore: Chore::new(Timer::ReleaseClaim, None), claims: Vec::new() }
    }

    /// Adds a claim that the server may run until `over_at`, with leases of at most `longest`.
    pub(super) fn add(&mut self, lease: i64, over_at: Instant, longest: Duration, now: Instant) {
        let ends_at = over_at + longest;
        self.claims.push(LostClaim { lease, over_at, ends_at, next_try: now, tried_at: now });
    }

    /// Returns when the next release is sent.
    pub(super) fn next(&self) -> Option<(Instant, Timer)> {
        self.next_try().filter(|_| !self.chore.is_in_flight()).map(|at| (at, Timer::ReleaseClaim))
    }

    /// Returns whether no release is in flight and nothing is left to release: the release of each claim succeeded
    /// after the server could no longer run the claim, or was given up.
    pub(super) fn is_idle(&self) -> bool {
        self.claims.is_empty() && !self.chore.is_in_flight()
    }

    fn next_try(&self) -> Option<Instant> {
        self.claims.iter().map(|claim| claim.next_try).min()
    }

    /// Returns the lease number of a claim to be released now.
    fn due(&mut self, now: Instant) -> Option<i64> {
        let claim = self.claims.iter_mut().find(|claim| claim.next_try <= now)?;
        claim.tried_at = now;
        Some(claim.lease)
    }

    /// Records a successful release. It is repeated until one was sent after the server could no longer run the claim.
    fn handle_released(&mut self, lease: i64, now: Instant) {
        self.claims.retain_mut(|claim| {
            if claim.lease != lease {
                return true;
            }
            claim.next_try = (now + RELEASE_PAUSE).min(claim.over_at.max(now));
            claim.over_at > claim.tried_at
        });
    }

    /// Records a failed release. It is retried after a `pause`, and for the last time when the leases of the claim have
    /// ended; if `closing`, no later than 30 s after the server can no longer run the claim.
    fn postpone(&mut self, lease: i64, pause: Duration, now: Instant, closing: bool) {
        self.claims.retain_mut(|claim| {
            if claim.lease != lease {
                return true;
            }
            let last = if closing { claim.ends_at.min(claim.over_at + MAX_CLOSE_TIME) } else { claim.ends_at };
            claim.next_try = (now + pause).min(last);
            now < last
        });
    }

    /// Removes a claim that cannot be released. Its leases expire.
    fn give_up(&mut self, lease: i64) {
        self.claims.retain(|claim| claim.lease != lease);
    }
}

impl Worker {
    /// Records that the reply to a claim outside this worker was lost. The jobs with this lease number are released,
    /// which changes nothing if there are none: late and repeated calls cost a few requests.
    pub fn handle_lost_claim(&mut self, lease: i64, now: Instant) {
        self.lost_claims.add(lease, now + self.options.statement_timeout, MAX_RELEASE_TIME, now);
    }

    pub(super) fn begin_release_claim(&mut self, now: Instant) -> Option<ReleaseClaim> {
        if self.lost_claims.chore.is_in_flight() {
            return None;
        }
        let lease = self.lost_claims.due(now)?;
        self.lost_claims.chore.begin(now);
        Some(ReleaseClaim { lease })
    }

    pub(super) fn handle_release_claim(
        &mut self,
        release: ReleaseClaim,
        reply: Reply,
        now: Instant,
        entropy: &mut dyn Entropy,
    ) {
        self.lost_claims.chore.end(&reply);
        match interpret(reply, |rows| release.interpret(rows)) {
            Ok(released) => {
                self.lost_claims.handle_released(release.lease, now);
                if released > 0 {
                    self.handle_change(now);
                    self.notify_idle_workers(now);
                }
            }
            Err(Trouble::Failed(failure)) if failure.class() != Class::Permanent => {
                let pause = retry_delay(self.lost_claims.chore.failures(), entropy);
                self.lost_claims.postpone(release.lease, pause, now, self.draining);
            }
            Err(_) => self.lost_claims.give_up(release.lease),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    #[test]
    fn a_lost_claim_is_released_until_the_server_can_no_longer_run_it() {
        let mut lost = LostClaims::new();
        lost.add(7, at(3_000), Duration::from_secs(60), at(0));
        assert_eq!(lost.due(at(0)), Some(7));
        lost.postpone(7, Duration::from_millis(100), at(0), false);
        assert_eq!((lost.due(at(99)), lost.is_idle()), (None, false));
        assert_eq!(lost.due(at(100)), Some(7));
        lost.handle_released(7, at(100));
        assert_eq!((lost.next_try(), lost.is_idle()), (Some(at(2_100)), false), "the server may still run it");
        assert_eq!(lost.due(at(2_990)), Some(7));
        lost.handle_released(7, at(2_999));
        assert_eq!(lost.next_try(), Some(at(3_000)), "that release was sent while the server could still run it");
        assert_eq!(lost.due(at(3_000)), Some(7));
        lost.handle_released(7, at(5_001));
        assert!(lost.is_idle());
        assert_eq!(lost.next_try(), None);
    }
}
