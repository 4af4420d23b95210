//! The release of claims whose reply was lost.

use crate::Instant;
use std::time::Duration;

/// The pause between two releases of a lost claim while the server may still run it.
const RELEASE_PAUSE: Duration = Duration::from_secs(2);
/// During a shutdown, for how long the release of a lost claim is retried after the server can no longer run the claim.
const MAX_CLOSE_TIME: Duration = Duration::from_secs(30);

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
#[derive(Debug, Default)]
pub(super) struct LostClaims(Vec<LostClaim>);

impl LostClaims {
    /// Adds a claim that the server may run until `over_at`, with leases of at most `longest`.
    pub(super) fn add(&mut self, lease: i64, over_at: Instant, longest: Duration, now: Instant) {
        let ends_at = over_at + longest;
        self.0.push(LostClaim { lease, over_at, ends_at, next_try: now, tried_at: now });
    }

    /// Returns when the next release is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|claim| claim.next_try).min()
    }

    /// Returns the lease number of a claim to be released now.
    pub(super) fn due(&mut self, now: Instant) -> Option<i64> {
        let claim = self.0.iter_mut().find(|claim| claim.next_try <= now)?;
        claim.tried_at = now;
        Some(claim.lease)
    }

    /// Records a successful release. It is repeated until one was sent after the server could no longer run the claim.
    pub(super) fn handle_released(&mut self, lease: i64, now: Instant) {
        self.0.retain_mut(|claim| {
            if claim.lease != lease {
                return true;
            }
            claim.next_try = (now + RELEASE_PAUSE).min(claim.over_at.max(now));
            claim.over_at > claim.tried_at
        });
    }

    /// Records a failed release. It is retried after a `pause`, and for the last time when the leases of the claim have
    /// ended; if `closing`, no later than 30 s after the server can no longer run the claim.
    pub(super) fn postpone(&mut self, lease: i64, pause: Duration, now: Instant, closing: bool) {
        self.0.retain_mut(|claim| {
            if claim.lease != lease {
                return true;
            }
            let last = if closing { claim.ends_at.min(claim.over_at + MAX_CLOSE_TIME) } else { claim.ends_at };
            claim.next_try = (now + pause).min(last);
            now < last
        });
    }

    /// Removes a claim that cannot be released. Its leases expire.
    pub(super) fn give_up(&mut self, lease: i64) {
        self.0.retain(|claim| claim.lease != lease);
    }

    /// Returns whether nothing is left to release: the release of each claim succeeded after the server could no longer
    /// run the claim, or was given up.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
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
        let mut lost = LostClaims::default();
        lost.add(7, at(3_000), Duration::from_secs(60), at(0));
        assert_eq!(lost.due(at(0)), Some(7));
        lost.postpone(7, Duration::from_millis(100), at(0), false);
        assert_eq!((lost.due(at(99)), lost.is_empty()), (None, false));
        assert_eq!(lost.due(at(100)), Some(7));
        lost.handle_released(7, at(100));
        assert_eq!((lost.next(), lost.is_empty()), (Some(at(2_100)), false), "the server may still run it");
        assert_eq!(lost.due(at(2_990)), Some(7));
        lost.handle_released(7, at(2_999));
        assert_eq!(lost.next(), Some(at(3_000)), "that release was sent while the server could still run it");
        assert_eq!(lost.due(at(3_000)), Some(7));
        lost.handle_released(7, at(5_001));
        assert!(lost.is_empty());
        assert_eq!(lost.next(), None);
    }
}
