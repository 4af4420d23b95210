//! The leases of this worker, and for how long they are trusted.

use crate::backoff::TEN_YEARS;
use crate::lease::{TIMEOUT_GRACE, delay_of_unreadable, lease_length, trusted_for};
use crate::op::SettleItem;
use crate::{Backoff, ClaimedJob, Event, Instant, Lease, State, Timestamp, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// A leased job.
#[derive(Debug, Clone)]
pub(super) struct Leased {
    retry_count: u32,
    unreadable_for: Option<Duration>,
    backoff: Arc<Backoff>,
    length: Duration,
    /// When the lease ends at the latest, by the database's clock.
    latest_end: Timestamp,
    /// The same by this worker's clock, counted from when the claim was sent, so a little earlier.
    extends_until: Option<Instant>,
    /// Until when no other worker can have the job.
    trusted_until: Instant,
    /// When the lease has certainly ended, by this worker's clock, however late the server began it.
    ends_at: Instant,
    /// Until when the heartbeat extends the lease; `None` before the job starts, or without heartbeat.
    heartbeat_until: Option<Instant>,
    extend_at: Instant,
    started: bool,
    lost: bool,
    /// Whether the job is to be cancelled.
    cancelled: bool,
    /// Whether its extension is suspended while the caller's transaction settles it.
    resting: bool,
    /// Whether it is extended late; see [`Leases::rest`].
    late: bool,
    /// How many statements in flight extend the lease or store progress under it.
    writes: u8,
    /// The time of its entry in the agenda.
    agenda_at: Option<Instant>,
}

/// What is due for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Extend,
    TrustEnded,
}

/// All leases of this worker.
#[derive(Debug, Default)]
pub(super) struct Leases {
    leases: BTreeMap<Lease, Leased>,
    /// When something is due for each started job, the earliest first.
    agenda: BTreeSet<(Instant, Lease)>,
}

impl Leased {
    /// Returns a lease of a queue with leases of this length, for a claim that was sent at `sent_at` and got its reply
    /// at `now`.
    pub(super) fn new(
        sent_at: Instant,
        of_queue: Duration,
        job: &ClaimedJob,
        backoff: Arc<Backoff>,
        now: Instant,
    ) -> Self {
        let timeout = job.columns.timeout;
        let length = lease_length(of_queue, timeout);
        let mut leased = Leased {
            retry_count: job.columns.retry_count,
            unreadable_for: job.unreadable_for,
            backoff,
            length,
            latest_end: job.latest_end,
            extends_until: timeout.map(|timeout| sent_at + timeout.saturating_add(TIMEOUT_GRACE)),
            trusted_until: sent_at + trusted_for(length),
            ends_at: now + length,
            heartbeat_until: None,
            extend_at: sent_at + length / 3,
            started: false,
            lost: false,
            cancelled: false,
            resting: false,
            late: false,
            writes: 0,
            agenda_at: None,
        };
        if timeout.is_some() {
            leased.extend_at = leased.next_extension(sent_at, length);
        }
        leased
    }

    /// Returns the length that the lease has when it is new.
    pub(super) fn length(&self) -> Duration {
        self.length
    }

    /// Returns when the lease ends at the latest, by the database's clock.
    pub(super) fn latest_end(&self) -> Option<Timestamp> {
        Some(self.latest_end).filter(|end| *end < Timestamp::INFINITY)
    }

    /// Returns until when no other worker can have the job.
    pub(super) fn trusted_until(&self) -> Instant {
        self.trusted_until
    }

    /// If an extension is due, records that it is being extended. Returns whether that is so.
    ///
    /// The extension must be followed by [`Leases::extended`] or [`Leases::postpone`].
    pub(super) fn extend_if_due(&mut self, now: Instant) -> bool {
        let due = self.extend_at <= now && now < self.trusted_until;
        if due {
            self.extend_at = self.trusted_until;
        }
        due
    }

    pub(super) fn ends_at(&self) -> Instant {
        self.ends_at
    }

    /// Returns whether the lease is trusted: no other worker can have the job.
    pub(super) fn is_trusted(&self, now: Instant) -> bool {
        !self.lost && now < self.trusted_until
    }

    /// Returns whether the heartbeat still extends the lease.
    pub(super) fn has_heartbeat(&self, now: Instant) -> bool {
        self.started && !self.lost && self.heartbeat_until > Some(now)
    }

    /// Returns whether the job is to be cancelled.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// Returns whether the lease rests: a caller's transaction settles it.
    pub(super) fn is_resting(&self) -> bool {
        self.resting
    }

    /// Returns whether a statement in flight extends the lease or stores progress under it.
    pub(super) fn is_being_written(&self) -> bool {
        self.writes > 0
    }

    /// Returns the settlement of this lease with this verdict. `random` spreads a retry over the jitter.
    pub(super) fn settlement(&self, lease: Lease, verdict: Verdict, random: u64) -> SettleItem {
        let delay = match &verdict {
            Verdict::SoftFail(_) => self.backoff.delay(self.retry_count.saturating_add(1), random),
            Verdict::RetryAfter(_, delay) => Some(*delay).filter(|_| self.retry_count < self.backoff.max_retries()),
            Verdict::Snooze(delay) => Some(*delay),
            Verdict::Unreadable(_) => delay_of_unreadable(self.unreadable_for),
            Verdict::Commit | Verdict::CommitWith(_) | Verdict::HardFail(_) | Verdict::Release => None,
        };
        let event = match (&verdict, delay) {
            (Verdict::Commit | Verdict::CommitWith(_), _) => Event::Commit,
            (Verdict::SoftFail(_) | Verdict::RetryAfter(..), Some(_)) => Event::SoftFail,
            (Verdict::SoftFail(_) | Verdict::RetryAfter(..), None) => Event::LastSoftFail,
            (Verdict::HardFail(_), _) => Event::HardFail,
            (Verdict::Release, _) => Event::Release,
            (Verdict::Snooze(_), _) => Event::Snooze,
            (Verdict::Unreadable(_), Some(_)) => Event::Unreadable,
            (Verdict::Unreadable(_), None) => Event::LastUnreadable,
        };
        let state = State::InProgress.after(event).expect("a job in progress can be settled with every verdict");
        SettleItem {
            lease,
            verdict,
            state,
            delay: delay.map(|delay| delay.min(TEN_YEARS)).filter(|delay| !delay.is_zero()),
        }
    }

    /// Returns when to extend a lease late, given what remained of it when it was last extended: with a quarter of the
    /// trusted time left.
    fn late_extend_at(&self, remaining: Duration) -> Instant {
        self.trusted_until - trusted_for(remaining.min(self.length)) / 4
    }

    /// Returns when to extend the lease, given what remained of it when that was asked for at `sent_at`.
    ///
    /// A lease that has reached its latest end is extended late: only to trust more of it, as the margin of trust is a
    /// part of what remains. With less than the grace left that is not worth a request.
    fn next_extension(&self, sent_at: Instant, remaining: Duration) -> Instant {
        let is_longest = self.extends_until.is_some_and(|until| sent_at + remaining >= until);
        match (is_longest, is_longest || self.late) {
            (true, _) if remaining < TIMEOUT_GRACE => self.trusted_until,
            (_, true) => self.late_extend_at(remaining),
            // Less than the original length remains if the queue's lease was shortened since.
            (_, false) => sent_at + remaining.min(self.length) / 3,
        }
    }

    fn next_due(&self) -> Option<(Instant, Due)> {
        if !self.started || self.lost || self.resting {
            return None;
        }
        let extend = (self.heartbeat_until > Some(self.extend_at)).then_some((self.extend_at, Due::Extend));
        let end = (self.trusted_until, Due::TrustEnded);
        Some(extend.filter(|(at, _)| *at < end.0).unwrap_or(end))
    }
}

impl Leases {
    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    /// Returns whether every lease has been settled or has ended.
    pub(super) fn all_ended(&self, now: Instant) -> bool {
        self.leases.values().all(|leased| leased.ends_at() <= now)
    }

    /// Returns when the last lease will have ended.
    pub(super) fn last_end(&self) -> Option<Instant> {
        self.leases.values().map(Leased::ends_at).max()
    }

    pub(super) fn get(&self, lease: &Lease) -> Option<&Leased> {
        self.leases.get(lease)
    }

    pub(super) fn insert(&mut self, lease: Lease, leased: Leased) {
        self.leases.insert(lease, leased);
    }

    pub(super) fn remove(&mut self, lease: &Lease) -> Option<Leased> {
        let leased = self.leases.remove(lease)?;
        leased.agenda_at.map(|at| self.agenda.remove(&(at, *lease)));
        Some(leased)
    }

    /// Records that a job starts, whose lease is extended for up to `heartbeat`. Returns whether it may: the lease is
    /// trusted, and the job was not cancelled. A cancelled job that is released has failed.
    pub(super) fn start(&mut self, lease: Lease, now: Instant, heartbeat: Option<Duration>) -> bool {
        let mut may_start = false;
        self.change(lease, |leased| {
            leased.started = true;
            let until = |most| leased.extends_until.map_or(now + most, |until| until.min(now + most));
            leased.heartbeat_until = heartbeat.map(until);
            may_start = leased.is_trusted(now) && !leased.cancelled;
        });
        may_start
    }

    /// Records that the job of a lease is to be cancelled. Returns whether that is news to a handler: the job has
    /// started.
    pub(super) fn cancel(&mut self, lease: &Lease) -> bool {
        let leased = self.leases.get_mut(lease);
        leased.is_some_and(|leased| !std::mem::replace(&mut leased.cancelled, true) && leased.started)
    }

    /// Records that a lease has ended, unless a caller's transaction may have ended it. Returns whether a started job
    /// has thereby lost its lease.
    pub(super) fn end(&mut self, lease: Lease) -> bool {
        let mut newly_lost = false;
        self.change(lease, |leased| {
            if !leased.resting {
                newly_lost = !std::mem::replace(&mut leased.lost, true) && leased.started;
            }
        });
        newly_lost
    }

    /// Returns the leases after this one, at most `limit`, that are trusted and that no caller's transaction settles.
    pub(super) fn trusted_after(&self, after: Option<Lease>, now: Instant, limit: usize) -> Vec<Lease> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let leases = self.leases.range((start, Bound::Unbounded));
        let leases = leases.filter(|(_, leased)| !leased.resting && leased.is_trusted(now));
        leases.map(|(lease, _)| *lease).take(limit).collect()
    }

    /// Records the reply, at `now`, to an extension that was sent at `sent_at`: what remains of the lease, or `None` if
    /// it is lost. Returns whether a started job has thereby lost its lease.
    pub(super) fn extended(
        &mut self,
        lease: Lease,
        sent_at: Instant,
        remaining: Option<Duration>,
        now: Instant,
    ) -> bool {
        let mut newly_lost = false;
        self.change(lease, |leased| match remaining {
            Some(remaining) => {
                leased.trusted_until = leased.trusted_until.max(sent_at + trusted_for(remaining));
                leased.ends_at = leased.ends_at.max(now + remaining);
                leased.extend_at = leased.next_extension(sent_at, remaining);
            }
            None => newly_lost = !std::mem::replace(&mut leased.lost, true) && leased.started,
        });
        newly_lost
    }

    /// Records that an extension got no reply: the server may still run it until `last`.
    pub(super) fn may_be_extended(&mut self, lease: Lease, last: Instant) {
        self.change(lease, |leased| leased.ends_at = leased.ends_at.max(last + leased.length));
    }

    /// Records that an extension will be tried again at `at`.
    pub(super) fn postpone(&mut self, lease: Lease, at: Instant) {
        self.change(lease, |leased| leased.extend_at = at);
    }

    /// Suspends the extension of a lease while the caller's transaction settles it: an extension after the snapshot of
    /// that transaction would make it fail with a serialization failure.
    ///
    /// From then on the lease is extended with a quarter of its trusted time left, instead of two thirds: if the
    /// transaction is retried with a new snapshot, it has most of the lease for itself.
    pub(super) fn rest(&mut self, lease: Lease) {
        self.change(lease, |leased| {
            (leased.resting, leased.late) = (true, true);
            leased.extend_at = leased.late_extend_at(leased.length);
        });
    }

    /// Resumes the extension of a lease.
    pub(super) fn resume(&mut self, lease: Lease) {
        self.change(lease, |leased| leased.resting = false);
    }

    /// Records that a statement is in flight that extends the lease or stores progress under it.
    pub(super) fn begin_write(&mut self, lease: &Lease) {
        if let Some(leased) = self.leases.get_mut(lease) {
            leased.writes += 1;
        }
    }

    /// Records that such a statement is no longer in flight.
    pub(super) fn end_write(&mut self, lease: &Lease) {
        if let Some(leased) = self.leases.get_mut(lease) {
            leased.writes = leased.writes.saturating_sub(1);
        }
    }

    /// Returns the leases for which something is due at `now`. The end of trust is returned once.
    ///
    /// An extension is returned once, and must be followed by [`Leases::extended`] or [`Leases::postpone`].
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Lease, Due)> {
        let mut due = Vec::new();
        while let Some((at, lease)) = self.agenda.first().copied()
            && at <= now
        {
            let Some((_, what)) = self.leases.get(&lease).and_then(Leased::next_due) else {
                self.agenda.pop_first();
                continue;
            };
            self.change(lease, |leased| match what {
                Due::Extend => leased.extend_at = leased.trusted_until,
                Due::TrustEnded => leased.lost = true,
            });
            due.push((lease, what));
        }
        due
    }

    /// Returns when something is due next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.agenda.first().map(|(at, _)| *at)
    }

    /// Changes a lease and updates its entry in the agenda.
    fn change(&mut self, lease: Lease, change: impl FnOnce(&mut Leased)) {
        let Some(leased) = self.leases.get_mut(&lease) else { return };
        change(leased);
        let next = leased.next_due().map(|(at, _)| at);
        let before = std::mem::replace(&mut leased.agenda_at, next);
        if before != next {
            before.map(|at| self.agenda.remove(&(at, lease)));
            next.map(|at| self.agenda.insert((at, lease)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const LEASE: Lease = Lease { job: Uuid::nil(), number: 1 };

    fn at(seconds: u64) -> Instant {
        Instant::from_start(Duration::from_secs(seconds))
    }

    fn leases(heartbeat: Option<u64>) -> Leases {
        let mut leases = Leases::default();
        let job = ClaimedJob::for_tests(LEASE, 1);
        leases.insert(LEASE, Leased::new(at(0), Duration::from_secs(60), &job, Arc::new(Backoff::default()), at(0)));
        assert_eq!(leases.next_due(), None, "nothing is due before a job starts");
        leases.start(LEASE, at(0), heartbeat.map(Duration::from_secs));
        leases
    }

    #[test]
    fn an_extension_without_a_reply_may_have_made_the_lease_longer_and_is_not_trusted() {
        let mut leases = leases(None);
        leases.may_be_extended(LEASE, at(30));
        assert!(leases.all_ended(at(90)) && !leases.all_ended(at(89)));
        assert_eq!(leases.next_due(), Some(at(57)));
    }

    #[test]
    fn without_heartbeat_trust_ends_once() {
        let mut leases = leases(None);
        assert_eq!(leases.next_due(), Some(at(57)));
        assert_eq!(leases.due(at(56)), []);
        assert_eq!(leases.due(at(57)), [(LEASE, Due::TrustEnded)]);
        assert_eq!(leases.due(at(99)), []);
        assert!(leases.all_ended(at(60)) && !leases.all_ended(at(59)));
    }

    /// The server may have begun the lease only when it replied, and a worker that shuts down waits for its end.
    #[test]
    fn a_lease_with_a_late_reply_ends_late_and_is_not_trusted_longer() {
        let mut leases = leases(None);
        leases.extended(LEASE, at(10), Some(Duration::from_secs(60)), at(14));
        assert!(leases.all_ended(at(74)) && !leases.all_ended(at(73)));
        assert_eq!((leases.last_end(), leases.next_due()), (Some(at(74)), Some(at(67))));
    }

    #[test]
    fn heartbeat_extends_after_a_third_and_stops_at_its_limit() {
        let mut leases = leases(Some(45));
        assert_eq!(leases.due(at(20)), [(LEASE, Due::Extend)]);
        assert_eq!(leases.due(at(20)), [], "an extension is returned once");
        assert!(!leases.extended(LEASE, at(20), Some(Duration::from_secs(60)), at(20)));
        assert_eq!(leases.due(at(40)), [(LEASE, Due::Extend)]);
        assert!(!leases.extended(LEASE, at(40), Some(Duration::from_secs(60)), at(40)));
        assert_eq!(leases.next_due(), Some(at(97)), "the handler has had its 45 s");
    }

    #[test]
    fn heartbeat_continues_when_the_lease_of_the_queue_is_shortened() {
        let mut leases = leases(Some(3600));
        let (mut now, mut end) = (20, 60);
        while now < 600 {
            assert_eq!(leases.due(at(now)), [(LEASE, Due::Extend)], "after {now} s");
            end = end.max(now + 6);
            assert!(!leases.extended(LEASE, at(now), Some(Duration::from_secs(end - now)), at(now)));
            let next = leases.next_due().unwrap();
            assert!(next < at(end), "the lease is extended before it ends");
            now = (now + 1..).find(|second| at(*second) >= next).unwrap();
        }
    }

    #[test]
    fn a_failed_extension_is_retried_until_trust_ends() {
        let mut leases = leases(Some(3600));
        assert_eq!(leases.due(at(20)), [(LEASE, Due::Extend)]);
        leases.postpone(LEASE, at(21));
        assert_eq!(leases.due(at(21)), [(LEASE, Due::Extend)]);
        leases.postpone(LEASE, at(58));
        assert_eq!(leases.due(at(58)), [(LEASE, Due::TrustEnded)]);
    }

    /// The timeout is ten minutes, and the lease of the queue longer.
    #[test]
    fn a_lease_that_ends_by_its_timeout_is_extended_to_trust_more_of_it() {
        let mut job = ClaimedJob::for_tests(LEASE, 1);
        job.columns.timeout = Some(Duration::from_secs(600));
        job.latest_end = Timestamp::from_unix_us(630_000_000);
        let leased = Leased::new(at(0), Duration::from_secs(1_200), &job, Arc::new(Backoff::default()), at(0));
        assert_eq!((leased.length(), leased.latest_end()), (Duration::from_secs(630), Some(job.latest_end)));
        assert!(leased.trusted_until() < at(600), "the margin of trust is a twentieth of the lease");
        let mut leases = Leases::default();
        leases.insert(LEASE, leased);
        leases.start(LEASE, at(0), Some(Duration::from_secs(3_600)));
        let mut sent = Vec::new();
        while let Some(next) = leases.next_due()
            && leases.due(next) == [(LEASE, Due::Extend)]
        {
            sent.push(next);
            leases.extended(LEASE, next, Some(at(630).since(next)), next);
        }
        assert_eq!(sent.len(), 3, "{sent:?}");
        assert!(leases.get(&LEASE).unwrap().trusted_until() > at(628));
    }

    /// The timeout is a minute, and the lease of the queue shorter.
    #[test]
    fn a_short_lease_is_extended_until_the_grace_has_passed() {
        let mut job = ClaimedJob::for_tests(LEASE, 1);
        job.columns.timeout = Some(Duration::from_secs(60));
        let mut leases = Leases::default();
        leases.insert(LEASE, Leased::new(at(0), Duration::from_secs(6), &job, Arc::new(Backoff::default()), at(0)));
        leases.start(LEASE, at(0), Some(Duration::from_secs(3_600)));
        for second in (2..=84).step_by(2) {
            assert_eq!(leases.due(at(second)), [(LEASE, Due::Extend)], "after {second} s");
            leases.extended(LEASE, at(second), Some(Duration::from_secs(6)), at(second));
        }
        assert_eq!(leases.due(at(89)), [], "it has reached its latest end");
        assert_eq!(leases.due(at(90)), [(LEASE, Due::TrustEnded)]);
    }

    #[test]
    fn a_suspended_lease_is_not_extended_and_then_extended_late() {
        let mut leases = leases(Some(3600));
        leases.rest(LEASE);
        assert_eq!((leases.next_due(), leases.due(at(99))), (None, vec![]));
        leases.resume(LEASE);
        let late = at(57) - Duration::from_secs(57) / 4;
        assert_eq!(leases.next_due(), Some(late), "a quarter of the trusted time is left");
        assert_eq!(leases.due(late), [(LEASE, Due::Extend)]);
        assert!(!leases.extended(LEASE, late, Some(Duration::from_secs(60)), late));
        assert_eq!(leases.next_due(), Some(late + Duration::from_secs(57) * 3 / 4), "as is every later extension");
    }

    #[test]
    fn what_became_due_while_a_lease_was_suspended_is_returned_when_it_is_resumed() {
        let mut leases = leases(Some(3600));
        leases.rest(LEASE);
        leases.resume(LEASE);
        assert_eq!(leases.due(at(50)), [(LEASE, Due::Extend)]);
        let mut leases = self::leases(Some(3600));
        leases.rest(LEASE);
        leases.resume(LEASE);
        assert_eq!(leases.due(at(57)).last(), Some(&(LEASE, Due::TrustEnded)));
    }

    #[test]
    fn a_refused_extension_loses_the_lease_once() {
        let mut leases = leases(Some(3600));
        assert!(leases.extended(LEASE, at(20), None, at(20)));
        assert!(!leases.extended(LEASE, at(20), None, at(20)));
        assert_eq!(leases.next_due(), None);
    }

    #[test]
    fn an_extension_never_shortens_trust() {
        let mut leases = leases(None);
        leases.extended(LEASE, at(1), Some(Duration::from_secs(10)), at(1));
        assert_eq!(leases.next_due(), Some(at(57)));
        assert!(leases.remove(&LEASE).is_some());
        assert_eq!((leases.next_due(), leases.len()), (None, 0));
    }
}
