//! From which lines and positions to claim.

use crate::Instant;
use crate::op::{Claim, ClaimReply, LineCursor};
use std::collections::BTreeMap;
use std::time::Duration;

/// The maximum number of lines in one claim.
const MAX_LINES: usize = 64;
/// The maximum number of lines that are kept.
const MAX_REMEMBERED: usize = 4_096;
/// How far behind the position of a line a claim starts, to find jobs that were committed late.
const LATE_COMMITS: i64 = 1_000;
/// The pause between two scans from the start of the lines, as a multiple of what the last one took: scans take at most
/// 5 % of the time.
const SCAN_SHARE: u32 = 20;
/// The maximum pause between two scans from the start of the lines.
const MAX_SCAN_PAUSE: Duration = Duration::from_secs(2);

/// One line: a queue and a priority.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    /// The highest position claimed.
    position: i64,
    /// Whether it may have ready jobs.
    active: bool,
    /// Whether it was activated since the claim in flight was sent.
    activated: bool,
}

/// What is known of the lines of the followed queues.
///
/// Positions are only hints that avoid dead index entries: scans from the start find every job.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: BTreeMap<(i32, i32), Line>,
    /// Until when claims wait, unless a line is activated.
    waits_until: Option<Instant>,
    /// When the next scan from the start of the lines is due.
    scan_at: Instant,
    /// Whether the last claim stopped at a limit.
    was_full: bool,
    rotation: usize,
}

/// A claim in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentClaim {
    pub(super) claim: Claim,
    pub(super) sent_at: Instant,
    /// The length of the longest lease that it can give.
    pub(super) longest: Duration,
    /// Whether it scans from the start of the lines.
    pub(super) from_start: bool,
}

impl Lines {
    /// Records that a line may have ready jobs.
    pub(super) fn activate(&mut self, queue_id: i32, priority: i32) {
        let line = self.lines.entry((queue_id, priority)).or_default();
        line.active = true;
        line.activated = true;
        self.waits_until = None;
        if self.lines.len() > MAX_REMEMBERED {
            self.lines.retain(|_, line| line.active);
        }
    }

    /// Returns whether a line of any queue that `is_open` may have ready jobs.
    pub(super) fn any_active(&self, is_open: impl Fn(i32) -> bool) -> bool {
        self.lines.iter().any(|((queue_id, _), line)| line.active && is_open(*queue_id))
    }

    /// Returns when the next claim may be sent; `None` is at once.
    pub(super) fn next_claim_at(&self) -> Option<Instant> {
        self.waits_until
    }

    /// Returns the lines of the next claim, with the positions from which it scans, and whether it scans from the start
    /// of all. Higher priorities come first; queues of equal priority take turns.
    pub(super) fn pick(&mut self, now: Instant, is_open: impl Fn(i32) -> bool) -> (Vec<LineCursor>, bool) {
        let from_start = self.scan_at <= now;
        self.rotation = self.rotation.wrapping_add(1);
        let back = if self.was_full { 0 } else { LATE_COMMITS };
        // Also lines of paused queues, which are not part of this claim.
        self.lines.values_mut().for_each(|line| line.activated = false);
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
        (picked, from_start)
    }

    /// Records the reply to a claim. Lines that are certainly empty become inactive.
    pub(super) fn handle_claimed(&mut self, sent: &SentClaim, reply: &ClaimReply, now: Instant) {
        for job in &reply.jobs {
            let line = self.lines.entry((job.queue_id, job.columns.priority)).or_default();
            line.position = line.position.max(job.columns.seq);
        }
        self.was_full = reply.is_full(&sent.claim);
        if sent.from_start {
            let took = now.since(sent.sent_at);
            self.scan_at = now + took.saturating_mul(SCAN_SHARE).min(MAX_SCAN_PAUSE);
        }
        self.waits_until = None;
        if self.was_full {
            return;
        }
        let mut is_scanned = true;
        for sent_line in &sent.claim.lines {
            let Some(line) = self.lines.get_mut(&(sent_line.queue_id, sent_line.priority)) else { continue };
            match (line.activated, sent_line.cursor) {
                (true, _) => {}
                (false, 0) => line.active = false,
                (false, _) => is_scanned = false,
            }
        }
        if !is_scanned && !self.lines.values().any(|line| line.activated) {
            self.waits_until = Some(self.scan_at);
        }
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
        let (lines, from_start) = lines.pick(now, |_| true);
        let claim = Claim { lines, limit: 10, lease: 7, worker: "w".to_owned(), due_bound: None };
        SentClaim { claim, sent_at: now, longest: Duration::ZERO, from_start }
    }

    fn reply(queue_id: i32, positions: impl IntoIterator<Item = i64>) -> ClaimReply {
        let lease = Lease { job: Uuid::nil(), number: 7 };
        let job = |seq| ClaimedJob { queue_id, ..ClaimedJob::for_tests(lease, seq) };
        ClaimReply { jobs: positions.into_iter().map(job).collect(), ..ClaimReply::default() }
    }

    fn cursors(sent: &SentClaim) -> Vec<(i32, i32, i64)> {
        sent.claim.lines.iter().map(|line| (line.queue_id, line.priority, line.cursor)).collect()
    }

    #[test]
    fn higher_priorities_come_first_and_queues_take_turns() {
        let mut lines = Lines::default();
        for (queue_id, priority) in [(1, 0), (2, 0), (2, 5), (3, 0)] {
            lines.activate(queue_id, priority);
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
    fn a_line_found_empty_from_its_start_is_inactive_until_activated() {
        let mut lines = Lines::default();
        lines.activate(1, 0);
        let sent = claim(&mut lines, at(0));
        lines.handle_claimed(&sent, &reply(1, [5]), at(1));
        assert!(!lines.any_active(|_| true));
        lines.activate(1, 0);
        assert!(lines.any_active(|_| true) && !lines.any_active(|queue_id| queue_id != 1));
    }

    #[test]
    fn an_activation_during_a_claim_is_not_lost() {
        let mut lines = Lines::default();
        lines.activate(1, 0);
        let sent = claim(&mut lines, at(0));
        lines.activate(1, 0);
        lines.handle_claimed(&sent, &reply(1, []), at(1));
        assert!(lines.any_active(|_| true) && lines.next_claim_at().is_none());
    }

    #[test]
    fn full_claims_continue_from_their_position_and_rarely_scan_from_the_start() {
        let mut lines = Lines::default();
        lines.activate(1, 0);
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
    fn a_short_claim_from_a_position_waits_for_a_scan_from_the_start() {
        let mut lines = Lines::default();
        lines.activate(1, 0);
        let sent = claim(&mut lines, at(0));
        lines.handle_claimed(&sent, &reply(1, 5_001..=5_010), at(10));
        let sent = claim(&mut lines, at(11));
        lines.handle_claimed(&sent, &reply(1, []), at(12));
        assert_eq!(lines.next_claim_at(), Some(at(210)));
        assert!(lines.any_active(|_| true));
        lines.activate(1, 0);
        assert_eq!(lines.next_claim_at(), None);
        assert_eq!(cursors(&claim(&mut lines, at(13))), [(1, 0, 4_010)], "jobs that were committed late are found");
    }

    #[test]
    fn a_claim_has_at_most_64_lines() {
        let mut lines = Lines::default();
        (0..100).for_each(|priority| lines.activate(1, priority));
        let sent = claim(&mut lines, at(0));
        assert_eq!(sent.claim.lines.len(), 64);
        lines.handle_claimed(&sent, &reply(1, []), at(1));
        assert_eq!(claim(&mut lines, at(1)).claim.lines.len(), 36, "the others are next");
    }
}
