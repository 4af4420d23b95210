//! The leases in this process's hands, and for how long they are trusted.

use crate::lease::{delay_of_unreadable, trusted_for};
use crate::op::SettleItem;
use crate::{Backoff, ClaimedJob, Event, Instant, Lease, State, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A lease in our hands.
#[derive(Debug, Clone)]
pub(super) struct Held {
    retry_count: u32,
    unreadable_for: Option<Duration>,
    backoff: Arc<Backoff>,
    length: Duration,
    /// Until then nobody else can have the job.
    trusted_until: Instant,
    /// When the lease has ended, by our clock.
    ends_at: Instant,
    /// Until when the lease is extended for its handler; none before it starts, or without heartbeat.
    keep_until: Option<Instant>,
    extend_at: Instant,
    started: bool,
    lost: bool,
    /// Whether it is left alone while a transaction of the caller's settles it.
    rests: bool,
    /// Whether it is extended as late as can be: see [`Leases::rest`].
    late: bool,
    /// Whether an extension is under way.
    extending: bool,
    /// Its entry in the agenda.
    agenda_at: Option<Instant>,
}

/// What a lease needs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Extend,
    TrustEnded,
}

/// All leases in our hands.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: BTreeMap<Lease, Held>,
    /// When the next thing is due for each started lease.
    agenda: BTreeSet<(Instant, Lease)>,
}

impl Held {
    /// Returns a lease of this length, claimed by a statement sent at `sent_at`.
    pub(super) fn new(sent_at: Instant, length: Duration, job: &ClaimedJob, backoff: Arc<Backoff>) -> Self {
        Held {
            retry_count: job.retry_count,
            unreadable_for: job.unreadable_for,
            backoff,
            length,
            trusted_until: sent_at + trusted_for(length),
            ends_at: sent_at + length,
            keep_until: None,
            extend_at: sent_at + length / 3,
            started: false,
            lost: false,
            rests: false,
            late: false,
            extending: false,
            agenda_at: None,
        }
    }

    /// Returns until when nobody else can have the job.
    pub(super) fn trusted_until(&self) -> Instant {
        self.trusted_until
    }

    /// Records that the lease is being extended, if a third of it is over; returns whether it is.
    ///
    /// This must end in [`Leases::extended`] or [`Leases::postpone`].
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

    /// Returns whether nobody else can have the job.
    pub(super) fn is_trusted(&self, now: Instant) -> bool {
        !self.lost && now < self.trusted_until
    }

    /// Returns whether the lease is still extended for its handler.
    pub(super) fn is_kept(&self, now: Instant) -> bool {
        self.started && !self.lost && self.keep_until > Some(now)
    }

    pub(super) fn is_extending(&self) -> bool {
        self.extending
    }

    /// Returns what the database is to be asked for when this lease ends so; `random` scatters a retry within the jitter.
    pub(super) fn settlement(&self, lease: Lease, verdict: Verdict, random: u64) -> SettleItem {
        let delay = match &verdict {
            Verdict::SoftFail(_) => self.backoff.delay(self.retry_count.saturating_add(1), random),
            Verdict::Unreadable(_) => delay_of_unreadable(self.unreadable_for),
            Verdict::Commit | Verdict::HardFail(_) | Verdict::Release => None,
        };
        let event = match (&verdict, delay) {
            (Verdict::Commit, _) => Event::Commit,
            (Verdict::SoftFail(_), Some(_)) => Event::SoftFail,
            (Verdict::SoftFail(_), None) => Event::LastSoftFail,
            (Verdict::HardFail(_), _) => Event::HardFail,
            (Verdict::Release, _) => Event::Release,
            (Verdict::Unreadable(_), Some(_)) => Event::Unreadable,
            (Verdict::Unreadable(_), None) => Event::LastUnreadable,
        };
        let state = State::InProgress.after(event).expect("the table allows a holder every verdict");
        SettleItem { lease, verdict, state, delay: delay.filter(|delay| !delay.is_zero()) }
    }

    /// Returns when to extend a lease that is trusted for so long in all: with a quarter of that left.
    fn late_extend_at(&self, remaining: Duration) -> Instant {
        self.trusted_until - trusted_for(remaining.min(self.length)) / 4
    }

    fn next_due(&self) -> Option<(Instant, Due)> {
        if !self.started || self.lost || self.rests {
            return None;
        }
        let extend = (self.keep_until > Some(self.extend_at)).then_some((self.extend_at, Due::Extend));
        let end = (self.trusted_until, Due::TrustEnded);
        Some(extend.filter(|(at, _)| *at < end.0).unwrap_or(end))
    }
}

impl Leases {
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Returns whether every lease has been settled, or has ended by itself.
    pub(super) fn all_ended(&self, now: Instant) -> bool {
        self.held.values().all(|held| held.ends_at() <= now)
    }

    /// Returns when the last lease will have ended by itself.
    pub(super) fn last_end(&self) -> Option<Instant> {
        self.held.values().map(Held::ends_at).max()
    }

    pub(super) fn get(&self, lease: &Lease) -> Option<&Held> {
        self.held.get(lease)
    }

    pub(super) fn insert(&mut self, lease: Lease, held: Held) {
        self.held.insert(lease, held);
    }

    pub(super) fn remove(&mut self, lease: &Lease) -> Option<Held> {
        let held = self.held.remove(lease)?;
        held.agenda_at.map(|at| self.agenda.remove(&(at, *lease)));
        Some(held)
    }

    /// Records that a handler starts; its lease is extended for up to `heartbeat`. Returns whether it is trusted.
    pub(super) fn start(&mut self, lease: Lease, now: Instant, heartbeat: Option<Duration>) -> bool {
        let mut is_trusted = false;
        self.change(lease, |held| {
            held.started = true;
            held.keep_until = heartbeat.map(|most| now + most);
            is_trusted = held.is_trusted(now);
        });
        is_trusted
    }

    /// Records that an extension sent at `sent_at` left so much of the lease; returns whether a handler loses it by that.
    pub(super) fn extended(&mut self, lease: Lease, sent_at: Instant, remaining: Option<Duration>) -> bool {
        let mut newly_lost = false;
        self.change(lease, |held| match remaining {
            Some(remaining) => {
                held.trusted_until = held.trusted_until.max(sent_at + trusted_for(remaining));
                held.ends_at = held.ends_at.max(sent_at + remaining);
                // Less than the length remains when the queue's lease was shortened since.
                held.extend_at = match held.late {
                    true => held.late_extend_at(remaining),
                    false => sent_at + remaining.min(held.length) / 3,
                };
            }
            None => newly_lost = !std::mem::replace(&mut held.lost, true) && held.started,
        });
        newly_lost
    }

    /// Takes note that an extension will be tried again at `at`.
    pub(super) fn postpone(&mut self, lease: Lease, at: Instant) {
        self.change(lease, |held| held.extend_at = at);
    }

    /// Leaves a lease alone, because a transaction of the caller's settles it: an extension beside it would end a
    /// transaction whose snapshot is older in a serialization failure.
    ///
    /// From then on the lease is extended with a quarter of its trusted time left instead of two thirds: when the
    /// transaction is tried again, with a new snapshot, it has most of the lease for itself.
    pub(super) fn rest(&mut self, lease: Lease) {
        self.change(lease, |held| {
            (held.rests, held.late) = (true, true);
            held.extend_at = held.late_extend_at(held.length);
        });
    }

    /// Looks after a lease again.
    pub(super) fn resume(&mut self, lease: Lease) {
        self.change(lease, |held| held.rests = false);
    }

    /// Records whether an extension is under way.
    pub(super) fn set_extending(&mut self, lease: &Lease, extending: bool) {
        if let Some(held) = self.held.get_mut(lease) {
            held.extending = extending;
        }
    }

    /// Returns the leases that need something by `now`.
    ///
    /// An extension is named once: it must end in [`Leases::extended`] or [`Leases::postpone`]. So is a lost trust.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Lease, Due)> {
        let mut due = Vec::new();
        while let Some((at, lease)) = self.agenda.first().copied()
            && at <= now
        {
            let Some((_, what)) = self.held.get(&lease).and_then(Held::next_due) else {
                self.agenda.pop_first();
                continue;
            };
            self.change(lease, |held| match what {
                Due::Extend => held.extend_at = held.trusted_until,
                Due::TrustEnded => held.lost = true,
            });
            due.push((lease, what));
        }
        due
    }

    /// Returns when something is due next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.agenda.first().map(|(at, _)| *at)
    }

    /// Changes a lease and keeps its entry in the agenda true.
    fn change(&mut self, lease: Lease, change: impl FnOnce(&mut Held)) {
        let Some(held) = self.held.get_mut(&lease) else { return };
        change(held);
        let next = held.next_due().map(|(at, _)| at);
        let before = std::mem::replace(&mut held.agenda_at, next);
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
        let job = ClaimedJob::for_tests(LEASE);
        leases.insert(LEASE, Held::new(at(0), Duration::from_secs(60), &job, Arc::new(Backoff::default())));
        assert_eq!(leases.next_due(), None, "an unstarted job needs nothing");
        leases.start(LEASE, at(0), heartbeat.map(Duration::from_secs));
        leases
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

    #[test]
    fn heartbeat_refreshes_after_a_third_and_stops_at_its_bound() {
        let mut leases = leases(Some(45));
        assert_eq!(leases.due(at(20)), [(LEASE, Due::Extend)]);
        assert_eq!(leases.due(at(20)), [], "an extension is named once");
        assert!(!leases.extended(LEASE, at(20), Some(Duration::from_secs(60))));
        assert_eq!(leases.due(at(40)), [(LEASE, Due::Extend)]);
        assert!(!leases.extended(LEASE, at(40), Some(Duration::from_secs(60))));
        assert_eq!(leases.next_due(), Some(at(97)), "the handler has had its 45 s");
    }

    #[test]
    fn heartbeat_goes_on_when_the_queue_s_lease_is_shortened() {
        let mut leases = leases(Some(3600));
        let (mut now, mut end) = (20, 60);
        while now < 600 {
            assert_eq!(leases.due(at(now)), [(LEASE, Due::Extend)], "after {now} s");
            end = end.max(now + 6);
            assert!(!leases.extended(LEASE, at(now), Some(Duration::from_secs(end - now))));
            let next = leases.next_due().unwrap();
            assert!(next < at(end), "the lease is extended before it ends");
            now = (now + 1..).find(|second| at(*second) >= next).unwrap();
        }
    }

    #[test]
    fn a_refresh_that_fails_is_tried_again_until_trust_ends() {
        let mut leases = leases(Some(3600));
        assert_eq!(leases.due(at(20)), [(LEASE, Due::Extend)]);
        leases.postpone(LEASE, at(21));
        assert_eq!(leases.due(at(21)), [(LEASE, Due::Extend)]);
        leases.postpone(LEASE, at(58));
        assert_eq!(leases.due(at(58)), [(LEASE, Due::TrustEnded)]);
    }

    #[test]
    fn a_lease_that_rests_needs_nothing_and_is_then_extended_late() {
        let mut leases = leases(Some(3600));
        leases.rest(LEASE);
        assert_eq!((leases.next_due(), leases.due(at(99))), (None, vec![]));
        leases.resume(LEASE);
        let late = at(57) - Duration::from_secs(57) / 4;
        assert_eq!(leases.next_due(), Some(late), "a quarter of the trusted time is left");
        assert_eq!(leases.due(late), [(LEASE, Due::Extend)]);
        assert!(!leases.extended(LEASE, late, Some(Duration::from_secs(60))));
        assert_eq!(leases.next_due(), Some(late + Duration::from_secs(57) * 3 / 4), "and so it goes on");
    }

    #[test]
    fn what_came_due_while_a_lease_rested_comes_when_it_is_resumed() {
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
    fn a_refused_refresh_loses_the_lease_once() {
        let mut leases = leases(Some(3600));
        assert!(leases.extended(LEASE, at(20), None));
        assert!(!leases.extended(LEASE, at(20), None));
        assert_eq!(leases.next_due(), None);
    }

    #[test]
    fn a_refresh_never_shortens_trust() {
        let mut leases = leases(None);
        leases.extended(LEASE, at(1), Some(Duration::from_secs(10)));
        assert_eq!(leases.next_due(), Some(at(57)));
        assert!(leases.remove(&LEASE).is_some());
        assert_eq!((leases.next_due(), leases.len()), (None, 0));
    }
}
