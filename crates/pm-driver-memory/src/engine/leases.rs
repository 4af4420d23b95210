//! Settling, extending, reaping and releasing leases.

use super::tables::{AttemptRow, FAILED, FINISHED, IN_PROGRESS, JobRow, PENDING, QueueRow};
use super::{Work, later, ms_until};
use pm_core::Timestamp;
use pm_core::op::{ExtendRow, OutcomeRow, ReapRow, RequestRow};
use std::collections::BTreeSet;
use uuid::Uuid;

/// For how long a frontier is retired before it is deleted.
const AN_HOUR_MS: i64 = 3_600_000;
const COMMIT: i16 = 0;
const SOFT_FAIL: i16 = 1;
const RELEASE: i16 = 3;
const REAP: i16 = 4;
const UNREADABLE: i16 = 8;
const SNOOZE: i16 = 9;
pub(super) const CANCEL: i16 = 10;

/// The reason of a reaped job.
const LEASE_EXPIRED: &str = "lease expired";

impl Work<'_> {
    /// Returns the job if it is in progress with this lease.
    fn leased(&mut self, id: Uuid, lease: i64) -> Option<&mut JobRow> {
        self.tables.job.get_mut(&id).filter(|job| job.state == IN_PROGRESS && job.lease == Some(lease))
    }

    pub(super) fn settle(&mut self) {
        let (ids, leases): (Vec<Uuid>, Vec<i64>) = (self.args.all(), self.args.all());
        let (verdicts, states): (Vec<i16>, Vec<i16>) = (self.args.all(), self.args.all());
        let (delays, reasons) = (self.args.column::<i64>(), self.args.column::<String>());
        let _passes: Option<bool> = self.args.next();
        let (results, now) = (self.args.column::<String>(), self.now);
        for n in 0..ids.len() {
            let (id, verdict, state, reason) = (ids[n], verdicts[n], states[n], reasons.at(n));
            if self.leased(id, leases[n]).is_none() {
                self.add(n as i64 + 1);
                continue;
            }
            if state != FINISHED && self.end_cancelled(id, verdict, reason.clone()) {
                continue;
            }
            let delay = delays.at(n).filter(|ms| *ms > 0);
            let keeps_position = verdict == RELEASE && state == PENDING;
            let seq =
                if state == PENDING && !keeps_position && delay.is_none() { self.tables.next_seq() } else { None };
            let job = self.tables.job.get_mut(&id).expect("found above");
            let expires_at = job.expires_at.filter(|_| keeps_position);
            job.set_state(state, now);
            (job.verdict, job.expires_at) = (Some(verdict), expires_at);
            job.seq = if keeps_position { job.seq } else { seq };
            job.run_at = delay.filter(|_| state == PENDING).map(|ms| later(now, ms));
            job.retry_count += i32::from(verdict == SOFT_FAIL);
            job.attempt -= i32::from([RELEASE, SNOOZE].contains(&verdict));
            if verdict == SNOOZE {
                job.snoozes = Some(job.snoozes.unwrap_or_default() + 1);
            }
            job.unreadable_since = match verdict {
                UNREADABLE => Some(job.unreadable_since.unwrap_or(now)),
                // A worker that releases a job has not tried to decode its payload.
                RELEASE => job.unreadable_since,
                _ => None,
            };
            job.reason = if verdict == COMMIT { None } else { reason.clone().or(job.reason.take()) };
            job.result = results.at(n);
            if ![COMMIT, RELEASE, SNOOZE].contains(&verdict) {
                let (attempt, worker) = (job.attempt, job.worker.clone());
                let row = AttemptRow { lease: Some(leases[n]), ended_at: now, verdict, worker, reason };
                self.tables.record_attempt(id, attempt, row);
            }
        }
    }

    /// If a job is to be cancelled, ends it and records the attempt, for this reason if there is one. Returns whether
    /// it was.
    fn end_cancelled(&mut self, id: Uuid, verdict: i16, reason: Option<String>) -> bool {
        let now = self.now;
        let Some(job) = self.tables.job.get_mut(&id).filter(|job| job.cancelled_at.is_some()) else { return false };
        job.set_state(FAILED, now);
        job.retry_count += i32::from([SOFT_FAIL, REAP].contains(&verdict));
        job.unreadable_since = match verdict {
            UNREADABLE => Some(job.unreadable_since.unwrap_or(now)),
            RELEASE | REAP => job.unreadable_since,
            _ => None,
        };
        (job.verdict, job.seq, job.run_at) = (Some(CANCEL), None, None);
        job.reason.clone_from(&job.cancel_reason);
        let (attempt, lease, worker) = (job.attempt, job.lease, job.worker.clone());
        let reason = reason.or_else(|| job.reason.clone());
        self.tables.record_attempt(id, attempt, AttemptRow { lease, ended_at: now, verdict: CANCEL, worker, reason });
        true
    }

    pub(super) fn settle_commits(&mut self) {
        let (ids, leases): (Vec<Uuid>, Vec<i64>) = (self.args.all(), self.args.all());
        let now = self.now;
        for (n, (id, lease)) in ids.into_iter().zip(leases).enumerate() {
            if let Some(job) = self.leased(id, lease) {
                job.set_state(FINISHED, now);
                (job.verdict, job.seq, job.run_at) = (Some(COMMIT), None, None);
                (job.unreadable_since, job.reason) = (None, None);
                self.add(n as i64 + 1);
            }
        }
    }

    pub(super) fn outcome(&mut self) {
        let (ids, leases, verdicts): (Vec<Uuid>, Vec<i64>, Vec<i16>) =
            (self.args.all(), self.args.all(), self.args.all());
        for (n, id) in ids.iter().enumerate() {
            let (lease, verdict) = (Some(leases[n]), verdicts[n]);
            let is_ending = |ending: i16| ending == verdict || (ending == CANCEL && verdict != COMMIT);
            let by_job = self.tables.job.get(id).is_some_and(|job| {
                job.lease == lease && job.state != IN_PROGRESS && job.verdict.is_some_and(is_ending)
            });
            let attempts = self.tables.attempt.range((*id, 0)..=(*id, i32::MAX));
            let by_attempt = attempts.into_iter().any(|(_, row)| row.lease == lease && is_ending(row.verdict));
            self.add(OutcomeRow { ordinal: n as i64 + 1, was_applied: by_job || by_attempt });
        }
    }

    pub(super) fn extend(&mut self) {
        let (ids, leases): (Vec<Uuid>, Vec<i64>) = (self.args.all(), self.args.all());
        let latest_ends = self.args.column::<Timestamp>();
        for (n, (id, lease)) in ids.into_iter().zip(leases).enumerate() {
            let Some(queue_id) = self.leased(id, lease).map(|job| job.queue_id) else { continue };
            let length = self.tables.queue.get(&queue_id).map_or(0, QueueRow::lease_ms);
            let end = later(self.now, length);
            let end = latest_ends.at(n).map_or(end, |latest| end.min(latest));
            let until = self.tables.job[&id].lease_expires_at.max(Some(end));
            self.tables.job.entry(id).and_modify(|job| job.lease_expires_at = until);
            let remaining_ms = until.map(|at| ms_until(at, self.now));
            let is_cancelled = self.tables.job[&id].cancelled_at.is_some();
            self.add(ExtendRow { ordinal: n as i64 + 1, remaining_ms, is_cancelled });
        }
    }

    pub(super) fn reap(&mut self) {
        let (limit, seed) = (self.args.next::<i64>().unwrap_or_default(), self.args.next::<i64>());
        // What is reaped here is in progress for the rest of the statement.
        let overdue = self.overdue(limit as usize);
        let expiring = self.tables.job.values().filter_map(|job| Some((job.lease_expires_at?, job.id)));
        let mut expired: Vec<_> = expiring.filter(|(at, _)| *at <= self.now).collect();
        expired.sort_unstable();
        expired.truncate(limit as usize);
        let mut expired: Vec<Uuid> = expired.into_iter().map(|(_, id)| id).collect();
        expired.sort_unstable();
        for id in &expired {
            self.reap_job(*id, seed.unwrap_or_default());
        }
        let ended = self.expire(overdue);
        self.prune_frontiers();
        let jobs = || self.tables.job.values();
        let waiting = jobs().filter(|job| job.state != IN_PROGRESS);
        let next_start = waiting.filter_map(|job| job.expires_at).filter(|at| *at > self.now);
        let next = jobs().filter_map(|job| job.lease_expires_at).chain(next_start).min();
        let next_ms = next.map(|at| ms_until(at, self.now));
        self.add(ReapRow { reaped: expired.len() as u64, expired: ended, next_ms });
    }

    /// Returns the jobs whose time to expire has passed, the earliest first.
    fn overdue(&self, limit: usize) -> Vec<Uuid> {
        let is_overdue = |job: &&JobRow| job.state != IN_PROGRESS && job.expires_at.is_some_and(|at| at <= self.now);
        let overdue = self.tables.job.values().filter(is_overdue);
        let mut overdue: Vec<_> = overdue.map(|job| (job.expires_at, job.id)).collect();
        overdue.sort_unstable();
        overdue.into_iter().map(|(_, id)| id).take(limit).collect()
    }

    /// Fails those of these jobs that have not started; returns how many.
    fn expire(&mut self, overdue: Vec<Uuid>) -> u64 {
        let now = self.now;
        let mut expired = 0;
        for id in overdue {
            let Some(job) = self.tables.job.get_mut(&id) else { continue };
            if job.state == PENDING && !job.may_start(now) {
                job.expire(now);
                expired += 1;
            }
            job.expires_at = None;
        }
        expired
    }

    /// Retires the frontiers of unused lines, and deletes those that were retired over an hour ago.
    fn prune_frontiers(&mut self) {
        let newest = self.tables.claim_frontier.values().map(|frontier| frontier.seq).max().unwrap_or_default();
        let used = self.tables.job.values().filter(|job| job.seq.is_some());
        let used: BTreeSet<_> = used.map(|job| (job.queue_id, job.priority)).collect();
        let (now, an_hour_ago) = (self.now, later(self.now, -AN_HOUR_MS));
        self.tables.claim_frontier.retain(|line, frontier| {
            let is_unused = frontier.seq <= newest - 2_000 && !used.contains(line);
            match frontier.retired_at {
                Some(retired_at) => !is_unused || retired_at >= an_hour_ago,
                None => {
                    frontier.retired_at = is_unused.then_some(now);
                    true
                }
            }
        });
    }

    fn reap_job(&mut self, id: Uuid, seed: i64) {
        if self.end_cancelled(id, REAP, Some(LEASE_EXPIRED.to_owned())) {
            return;
        }
        let job = &self.tables.job[&id];
        let Some(queue) = self.tables.queue.get(&job.queue_id) else { return };
        let backoff = job.retries().overrides().on(&queue.settings.backoff);
        let (table, retry_count) = (backoff.table(), job.retry_count.unsigned_abs());
        let base = table[(retry_count as usize).min(table.len() - 1)];
        let base_ms = (retry_count < backoff.max_retries()).then_some(base.as_millis() as i64);
        let jitter = i64::from(backoff.jitter_percent());
        let part = (id.as_u64_pair().1 as i64 ^ seed) & 0xF_FFFF;
        let min_spread_ms = |ms| if jitter > 0 && (job.retry_count == 0 || ms == 0) { 2_000 } else { 0 };
        let spread_ms = |ms| i64::max(ms * jitter / 100, min_spread_ms(ms));
        let delay = base_ms.map(|ms| ms + ((i128::from(spread_ms(ms)) * i128::from(part)) >> 20) as i64);
        let seq = if base_ms.is_some_and(|ms| ms + spread_ms(ms) == 0) { self.tables.next_seq() } else { None };
        let now = self.now;
        let job = self.tables.job.get_mut(&id).expect("found above");
        job.set_state(if delay.is_none() { FAILED } else { PENDING }, now);
        (job.verdict, job.reason, job.seq) = (Some(REAP), Some(LEASE_EXPIRED.to_owned()), seq);
        job.run_at = delay.filter(|_| seq.is_none()).map(|ms| later(now, ms));
        job.retry_count += 1;
        let (attempt, lease, worker, reason) = (job.attempt, job.lease, job.worker.clone(), job.reason.clone());
        self.tables.record_attempt(id, attempt, AttemptRow { lease, ended_at: now, verdict: REAP, worker, reason });
    }

    pub(super) fn release_claim(&mut self) {
        let lease: Option<i64> = self.args.next();
        let now = self.now;
        let leased = self.tables.job.values_mut().filter(|job| job.state == IN_PROGRESS && job.lease == lease);
        let release = |job: &mut JobRow| match job.cancelled_at {
            Some(_) => {
                job.set_state(FAILED, now);
                (job.verdict, job.seq) = (Some(CANCEL), None);
                job.reason.clone_from(&job.cancel_reason);
            }
            None => {
                (job.state, job.verdict, job.lease_expires_at) = (PENDING, Some(RELEASE), None);
                job.attempt -= 1;
            }
        };
        let released = leased.map(release).count() as u64;
        self.add(released);
    }

    pub(super) fn set_progress(&mut self) {
        let (ids, leases): (Vec<Uuid>, Vec<i64>) = (self.args.all(), self.args.all());
        let progress = self.args.column::<String>();
        for (n, (id, lease)) in ids.into_iter().zip(leases).enumerate() {
            if let Some(job) = self.leased(id, lease) {
                job.progress = progress.at(n);
            }
        }
    }

    pub(super) fn cancel_requests(&mut self) {
        let (ids, leases): (Vec<Uuid>, Vec<i64>) = (self.args.all(), self.args.all());
        for (n, (id, lease)) in ids.into_iter().zip(leases).enumerate() {
            let (ordinal, has_ended) = (n as i64 + 1, self.leased(id, lease).is_none());
            if has_ended || self.leased(id, lease).is_some_and(|job| job.cancelled_at.is_some()) {
                self.add(RequestRow { ordinal, has_ended });
            }
        }
    }
}
