//! Which lines to claim from and from where, and claims whose reply was lost.

use crate::op::{Claim, ClaimReply, LineCursor};
use crate::{Instant, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// The most lines in one claim.
const MAX_LINES: usize = 64;
/// The most lines whose position is remembered.
const MAX_REMEMBERED: usize = 4_096;
/// How far behind its position a claim looks for jobs that were committed late.
const LATE_COMMITS: i64 = 1_000;
/// A scan from the start of the lines waits for 20 times what the last one took, so that they stay under 5 % of the time.
const SCAN_SHARE: u32 = 20;
/// A scan from the start waits for this long at most.
const LONGEST_WITHOUT_SCAN: Duration = Duration::from_secs(2);

/// A lost claim that the server may still work on is asked for so often.
const GIVING_BACK_PAUSE: Duration = Duration::from_secs(2);
/// When closing, giving back a lost claim is tried for so long after the server has surely stopped working on it.
const LONGEST_AT_CLOSE: Duration = Duration::from_secs(30);

/// One priority of one queue.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    /// The highest request id claimed.
    position: i64,
    /// Whether it may hold jobs.
    active: bool,
    /// Whether something was put on it since the claim in flight was sent.
    woken: bool,
}

/// What is known of the lines of the followed queues.
///
/// A position is a hint: it saves walking over dead index entries, and never decides whether a job is found at all.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: BTreeMap<(i32, i32), Line>,
    /// Claims wait until then, unless a line is woken.
    gate: Option<Instant>,
    /// Claims wait until then after a failure, whatever wakes.
    retry_at: Option<Instant>,
    /// The next scan from the start of the lines.
    scan_at: Instant,
    was_full: bool,
    rotation: usize,
}

/// A claim under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentClaim {
    claim: Claim,
    pub(super) sent_at: Instant,
    /// The longest lease it can give.
    pub(super) longest: Duration,
    from_start: bool,
}

impl SentClaim {
    pub(super) fn claim(&self) -> &Claim {
        &self.claim
    }
}

impl Lines {
    /// Takes note that a line may hold jobs.
    pub(super) fn wake(&mut self, queue_id: i32, priority: i32) {
        let line = self.lines.entry((queue_id, priority)).or_default();
        line.active = true;
        line.woken = true;
        self.gate = None;
        if self.lines.len() > MAX_REMEMBERED {
            self.lines.retain(|_, line| line.active);
        }
    }

    /// Returns whether some line of a queue that `is_open` may hold jobs.
    pub(super) fn any_active(&self, is_open: impl Fn(i32) -> bool) -> bool {
        self.lines.iter().any(|((queue_id, _), line)| line.active && is_open(*queue_id))
    }

    /// Returns until when claims wait.
    pub(super) fn gate(&self) -> Option<Instant> {
        self.gate.max(self.retry_at)
    }

    /// Makes claims wait until `at` after a failure.
    pub(super) fn retry_at(&mut self, at: Instant) {
        self.retry_at = Some(at);
    }

    /// Returns a claim on the active lines, highest priority first; queues of equal priority take turns at being first.
    pub(super) fn claim(
        &mut self,
        now: Instant,
        limit: usize,
        lease: i64,
        worker: &str,
        due_bound: Option<Timestamp>,
        is_open: impl Fn(i32) -> bool,
    ) -> SentClaim {
        let from_start = self.scan_at <= now;
        self.rotation = self.rotation.wrapping_add(1);
        let back = if self.was_full { 0 } else { LATE_COMMITS };
        // Those of closed queues too: they have nothing to say about this claim.
        self.lines.values_mut().for_each(|line| line.woken = false);
        let mut picked: Vec<_> = (self.lines.iter())
            .filter(|((queue_id, _), line)| line.active && is_open(*queue_id))
            .map(|((queue_id, priority), line)| {
                let cursor = if from_start { 0 } else { (line.position - back).max(0) };
                LineCursor { queue_id: *queue_id, priority: *priority, cursor }
            })
            .collect();
        picked.sort_by_key(|line| std::cmp::Reverse(line.priority));
        for equals in picked.chunk_by_mut(|a, b| a.priority == b.priority) {
            equals.rotate_left(self.rotation % equals.len());
        }
        picked.truncate(MAX_LINES);
        let claim = Claim { lines: picked, limit, lease, worker: worker.to_owned(), due_bound };
        SentClaim { claim, sent_at: now, longest: Duration::ZERO, from_start }
    }

    /// Takes note of what a claim brought; a line that is surely empty is left alone from now on.
    pub(super) fn handle_claimed(&mut self, sent: &SentClaim, reply: &ClaimReply, now: Instant) {
        for job in &reply.jobs {
            let line = self.lines.entry((job.queue_id, job.priority)).or_default();
            line.position = line.position.max(job.seq);
        }
        self.was_full = reply.is_full(&sent.claim);
        if sent.from_start {
            let took = now.since(sent.sent_at);
            self.scan_at = now + took.saturating_mul(SCAN_SHARE).min(LONGEST_WITHOUT_SCAN);
        }
        (self.gate, self.retry_at) = (None, None);
        if self.was_full {
            return;
        }
        let mut sure = true;
        for asked in &sent.claim.lines {
            let Some(line) = self.lines.get_mut(&(asked.queue_id, asked.priority)) else { continue };
            match (line.woken, asked.cursor) {
                (true, _) => {}
                (false, 0) => line.active = false,
                (false, _) => sure = false,
            }
        }
        if !sure && !self.lines.values().any(|line| line.woken) {
            self.gate = Some(self.scan_at);
        }
    }
}

/// A claim whose reply was lost: it may have taken jobs, and is never sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LostClaim {
    lease: i64,
    /// The server has surely stopped working on it.
    over_at: Instant,
    /// By then its leases have ended by themselves.
    ends_at: Instant,
    next_try: Instant,
    /// When it was last asked for.
    tried_at: Instant,
}

/// Claims whose jobs are to be given back.
#[derive(Debug, Default)]
pub(super) struct LostClaims(Vec<LostClaim>);

impl LostClaims {
    /// Takes note of a claim that the server may work on until `over_at`, for leases of at most `longest`.
    pub(super) fn add(&mut self, lease: i64, over_at: Instant, longest: Duration, now: Instant) {
        let ends_at = over_at + longest;
        self.0.push(LostClaim { lease, over_at, ends_at, next_try: now, tried_at: now });
    }

    /// Returns when to give back next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|claim| claim.next_try).min()
    }

    /// Returns a claim to give back now.
    pub(super) fn due(&mut self, now: Instant) -> Option<i64> {
        let claim = self.0.iter_mut().find(|claim| claim.next_try <= now)?;
        claim.tried_at = now;
        Some(claim.lease)
    }

    /// Takes note that what the claim had taken when last asked was given back; it is asked again until that was surely all.
    pub(super) fn handle_given_back(&mut self, lease: i64, now: Instant) {
        self.0.retain_mut(|claim| {
            if claim.lease != lease {
                return true;
            }
            claim.next_try = (now + GIVING_BACK_PAUSE).min(claim.over_at.max(now));
            claim.over_at > claim.tried_at
        });
    }

    /// Records that giving back failed. It is tried again after a `pause`, and a last time when its leases have ended by
    /// themselves, or someone waits for the end and has waited long enough.
    pub(super) fn postpone(&mut self, lease: i64, pause: Duration, now: Instant, closing: bool) {
        self.0.retain_mut(|claim| {
            if claim.lease != lease {
                return true;
            }
            let last = if closing { claim.ends_at.min(claim.over_at + LONGEST_AT_CLOSE) } else { claim.ends_at };
            claim.next_try = (now + pause).min(last);
            now < last
        });
    }

    /// Takes note that a claim can never be given back: its leases end by themselves.
    pub(super) fn give_up(&mut self, lease: i64) {
        self.0.retain(|claim| claim.lease != lease);
    }

    /// Returns whether nothing is left to give back, as far as anyone can know: each claim was asked for after the server
    /// had surely stopped working on it, or its leases end by themselves.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClaimedJob, Lease};
    use uuid::Uuid;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    fn claim(lines: &mut Lines, now: Instant) -> SentClaim {
        lines.claim(now, 10, 7, "w", None, |_| true)
    }

    fn reply(queue_id: i32, request_ids: impl IntoIterator<Item = i64>) -> ClaimReply {
        let lease = Lease { job: Uuid::nil(), number: 7 };
        let job = |seq| ClaimedJob { queue_id, seq, ..ClaimedJob::for_tests(lease) };
        ClaimReply { queues: Vec::new(), next_due: None, jobs: request_ids.into_iter().map(job).collect() }
    }

    fn cursors(sent: &SentClaim) -> Vec<(i32, i32, i64)> {
        sent.claim.lines.iter().map(|line| (line.queue_id, line.priority, line.cursor)).collect()
    }

    #[test]
    fn higher_priorities_come_first_and_queues_take_turns() {
        let mut lines = Lines::default();
        for (queue_id, priority) in [(1, 0), (2, 0), (2, 5), (3, 0)] {
            lines.wake(queue_id, priority);
        }
        let firsts: Vec<_> = (0..3)
            .map(|_| {
                let sent = claim(&mut lines, at(0));
                assert_eq!((sent.claim.lines[0].queue_id, sent.claim.lines[0].priority), (2, 5));
                sent.claim.lines[1].queue_id
            })
            .collect();
        assert_eq!(firsts, [2, 3, 1]);
    }

    #[test]
    fn a_line_found_empty_from_its_start_is_left_alone_until_woken() {
        let mut lines = Lines::default();
        lines.wake(1, 0);
        let sent = claim(&mut lines, at(0));
        lines.handle_claimed(&sent, &reply(1, [5]), at(1));
        assert!(!lines.any_active(|_| true));
        lines.wake(1, 0);
        assert!(lines.any_active(|_| true) && !lines.any_active(|queue_id| queue_id != 1));
    }

    #[test]
    fn a_wake_up_during_a_claim_is_not_lost() {
        let mut lines = Lines::default();
        lines.wake(1, 0);
        let sent = claim(&mut lines, at(0));
        lines.wake(1, 0);
        lines.handle_claimed(&sent, &reply(1, []), at(1));
        assert!(lines.any_active(|_| true) && lines.gate().is_none());
    }

    #[test]
    fn full_claims_go_on_from_their_position_and_look_from_the_start_rarely() {
        let mut lines = Lines::default();
        lines.wake(1, 0);
        let sent = claim(&mut lines, at(0));
        assert_eq!(cursors(&sent), [(1, 0, 0)]);
        lines.handle_claimed(&sent, &reply(1, 5_001..=5_010), at(10));
        let sent = claim(&mut lines, at(11));
        assert_eq!(cursors(&sent), [(1, 0, 5_010)]);
        lines.handle_claimed(&sent, &reply(1, 5_011..=5_020), at(20));
        assert_eq!(cursors(&claim(&mut lines, at(209))), [(1, 0, 5_020)]);
        assert_eq!(cursors(&claim(&mut lines, at(210))), [(1, 0, 0)], "20 times the 10 ms of the last scan are over");
    }

    #[test]
    fn a_short_claim_from_a_position_waits_for_the_scan_that_makes_sure() {
        let mut lines = Lines::default();
        lines.wake(1, 0);
        let sent = claim(&mut lines, at(0));
        lines.handle_claimed(&sent, &reply(1, 5_001..=5_010), at(10));
        let sent = claim(&mut lines, at(11));
        lines.handle_claimed(&sent, &reply(1, []), at(12));
        assert_eq!(lines.gate(), Some(at(210)));
        assert!(lines.any_active(|_| true));
        lines.wake(1, 0);
        assert_eq!(lines.gate(), None);
        assert_eq!(cursors(&claim(&mut lines, at(13))), [(1, 0, 4_010)], "late commits are looked for");
    }

    #[test]
    fn at_most_64_lines_travel_together() {
        let mut lines = Lines::default();
        (0..100).for_each(|priority| lines.wake(1, priority));
        let sent = claim(&mut lines, at(0));
        assert_eq!(sent.claim.lines.len(), 64);
        lines.handle_claimed(&sent, &reply(1, []), at(1));
        assert_eq!(claim(&mut lines, at(1)).claim.lines.len(), 36, "the rest has its turn");
    }

    #[test]
    fn a_lost_claim_is_given_back_until_it_is_surely_over() {
        let mut lost = LostClaims::default();
        lost.add(7, at(3_000), Duration::from_secs(60), at(0));
        assert_eq!(lost.due(at(0)), Some(7));
        lost.postpone(7, Duration::from_millis(100), at(0), false);
        assert_eq!((lost.due(at(99)), lost.is_empty()), (None, false));
        assert_eq!(lost.due(at(100)), Some(7));
        lost.handle_given_back(7, at(100));
        assert_eq!((lost.next(), lost.is_empty()), (Some(at(2_100)), false), "the server may still come to it");
        assert_eq!(lost.due(at(2_990)), Some(7));
        lost.handle_given_back(7, at(2_999));
        assert_eq!(lost.next(), Some(at(3_000)), "that was asked before it was over");
        assert_eq!(lost.due(at(3_000)), Some(7));
        lost.handle_given_back(7, at(5_001));
        assert!(lost.is_empty());
        assert_eq!(lost.next(), None);
    }
}
