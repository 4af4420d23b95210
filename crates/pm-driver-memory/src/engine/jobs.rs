//! Showing jobs, and the bulk actions of operators.

use super::leases::CANCEL;
use super::tables::{AttemptRow, FAILED, FINISHED, IN_PROGRESS, JobRow, PENDING};
use super::{Work, link_only};
use pm_core::op::{AttemptRecord, BulkRow, StoredPayload};
use pm_core::{Codec, Ending, JobMetadata, State};
use std::collections::BTreeSet;
use uuid::Uuid;

// The outcomes of a job of a bulk action.
const NOT_FOUND: i16 = 0;
const CHANGED: i16 = 1;
const REFUSED: i16 = 2;
const IN_OTHER_QUEUE: i16 = 3;
const KEY_TAKEN: i16 = 4;
const LOCKED: i16 = 5;
const REQUESTED: i16 = 6;
/// The verdict of an attempt that an operator ended by restarting the job.
const RESTART: i16 = 7;

impl Work<'_> {
    /// Returns a job as it is shown; `None` if its queue is being deleted.
    pub(super) fn shown(&self, job: &JobRow) -> Option<JobMetadata> {
        let queue = self.tables.queue.get(&job.queue_id)?;
        let count = |count: i32| u32::try_from(count).unwrap_or(0);
        Some(JobMetadata {
            id: job.id,
            queue: queue.name.clone()?,
            state: self.tables.shown(job),
            priority: job.priority,
            attempt: count(job.attempt),
            retry_count: count(job.retry_count),
            snoozes: job.snoozes.map_or(0, count),
            max_retries: job.max_retries.map_or(queue.settings.backoff.max_retries(), count),
            codec: Codec::from_code(job.codec),
            created_at: job.created_at,
            run_at: job.run_at,
            expires_at: job.expires_at,
            timeout: self.timeout_of(job),
            ended_at: job.ended_at,
            cancelled_at: job.cancelled_at,
            cancel_reason: job.cancel_reason.clone(),
            lease_expires_at: job.lease_expires_at,
            lease: job.lease.filter(|_| job.state == IN_PROGRESS),
            worker: job.worker.clone(),
            key: job.key.clone(),
            description: job.description.clone(),
            reason: job.reason.clone(),
            trace: job.trace.clone(),
            progress: job.progress.clone(),
            payload_bytes: self.tables.payload_of(job).map_or(0, |payload| payload.len() as u64),
            result_bytes: job.result.as_ref().map(|result| result.len() as u64),
            read_at: self.now,
        })
    }

    /// Returns the name of a job's queue; `None` if the queue is being deleted.
    fn queue_of(&self, job: &JobRow) -> Option<&str> {
        self.tables.queue.get(&job.queue_id)?.name.as_deref()
    }

    fn named_job(&mut self) -> Option<JobRow> {
        let id: Uuid = self.args.next()?;
        self.tables.job.get(&id).filter(|job| self.queue_of(job).is_some()).cloned()
    }

    pub(super) fn job(&mut self) {
        if let Some(job) = self.named_job().and_then(|job| self.shown(&job)) {
            self.add(job);
        }
    }

    pub(super) fn payload(&mut self) {
        if let Some(job) = self.named_job() {
            let bytes = self.tables.payload_of(&job).unwrap_or_default();
            self.add(StoredPayload { codec: Codec::from_code(job.codec), bytes });
        }
    }

    pub(super) fn job_result(&mut self) {
        if let Some(result) = self.named_job().and_then(|job| job.result) {
            self.add(result);
        }
    }

    pub(super) fn list_jobs(&mut self) {
        let (queue, state): (Option<String>, Option<i16>) = (self.args.next(), self.args.next());
        let (after, limit): (Option<Uuid>, Option<i64>) = (self.args.next(), self.args.next());
        let fits = |job: &&JobRow| {
            let name = self.queue_of(job);
            name.is_some()
                && (queue.is_none() || name == queue.as_deref())
                && state.is_none_or(|state| State::from_code(state) == Some(self.tables.shown(job)))
                && after.is_none_or(|after| job.id < after)
        };
        let newest = self.tables.job.values().rev().filter(fits).take(limit.unwrap_or_default() as usize);
        self.add_all(newest.filter_map(|job| self.shown(job)).collect());
    }

    pub(super) fn resolve_suffix(&mut self) {
        let (suffix, newest): (Option<String>, Option<i64>) = (self.args.next(), self.args.next());
        let suffix = suffix.unwrap_or_default();
        let recent = self.tables.job.values().rev().take(newest.map_or(usize::MAX, |newest| newest as usize));
        let fitting = recent.filter(|job| job.id.simple().to_string().ends_with(&suffix));
        self.add_all(fitting.filter_map(|job| self.shown(job)).take(11).collect());
    }

    pub(super) fn attempts(&mut self) {
        let id: Uuid = self.args.next().unwrap_or_default();
        let attempts = self.tables.attempt.range((id, 0)..=(id, i32::MAX));
        let record = |((_, attempt), row): (&(Uuid, i32), &AttemptRow)| {
            let (attempt, ending) = (attempt.unsigned_abs(), Ending::from_code(row.verdict)?);
            let (worker, reason) = (row.worker.clone(), row.reason.clone());
            Some(AttemptRecord { attempt, ended_at: row.ended_at, ending, worker, reason })
        };
        self.add_all(attempts.filter_map(record).collect());
    }

    /// Reads the jobs of a bulk action and checks the precondition.
    fn targets(&mut self) -> Vec<Target> {
        let ids: Vec<Uuid> = self.args.all();
        let (state, queue): (Option<i16>, Option<String>) = (self.args.next(), self.args.next());
        let lease: Option<i64> = self.args.next();
        let target = |id: &Uuid| {
            let job = self.tables.job.get(id).filter(|_| !self.tables.locked_jobs.contains(id))?;
            let shown = self.tables.shown(job);
            let is_in_queue = queue.is_none() || self.queue_of(job) == queue.as_deref();
            let has_lease = lease.is_none() || (job.state == IN_PROGRESS && job.lease == lease);
            let fits = is_in_queue && has_lease && state.is_none_or(|state| State::from_code(state) == Some(shown));
            Some(Found { job: job.clone(), shown, is_in_queue, fits })
        };
        ids.iter().map(|id| Target { id: *id, found: target(id) }).collect()
    }

    /// Replies with the outcome of each job, and its state before the action.
    fn reply_outcomes_of(&mut self, targets: &[Target], changed: &BTreeSet<Uuid>, goal: Option<i32>) {
        self.reply_outcomes_with(targets, changed, (&BTreeSet::new(), KEY_TAKEN), goal);
    }

    /// Does the same when some jobs have another outcome.
    fn reply_outcomes_with(
        &mut self,
        targets: &[Target],
        changed: &BTreeSet<Uuid>,
        (others, outcome_of_others): (&BTreeSet<Uuid>, i16),
        goal: Option<i32>,
    ) {
        for (n, Target { id, found }) in targets.iter().enumerate() {
            let outcome = match found {
                None if self.tables.job.contains_key(id) => LOCKED,
                None => NOT_FOUND,
                Some(_) if changed.contains(id) => CHANGED,
                Some(_) if others.contains(id) => outcome_of_others,
                Some(found) if found.is_in_queue => REFUSED,
                Some(_) => IN_OTHER_QUEUE,
            };
            let (state, queue_id) = found.as_ref().map(|found| (found.shown, found.job.queue_id)).unzip();
            self.add(BulkRow { ordinal: n as i64 + 1, outcome, state, queue_id: goal.or(queue_id) });
        }
    }

    pub(super) fn restart_jobs(&mut self) {
        let targets = self.targets();
        let force: bool = self.args.next().unwrap_or_default();
        let mut allowed: Vec<&JobRow> = fitting(&targets).filter(|job| force || job.state != IN_PROGRESS).collect();
        allowed.sort_by_key(|job| job.id);
        let restarted: BTreeSet<Uuid> = allowed.iter().map(|job| job.id).collect();
        let keyless = allowed.iter().filter(|job| job.reserved_key.is_none());
        let wanted_keys = keyless.filter_map(|job| Some((job.id, job.queue_id, job.key.clone()?))).collect();
        let key_taken = self.key_taken(wanted_keys, &restarted);
        allowed.retain(|job| !key_taken.contains(&job.id));
        let changed: BTreeSet<Uuid> = allowed.iter().map(|job| job.id).collect();
        for old in allowed {
            self.restart(old);
        }
        self.reply_outcomes_with(&targets, &changed, (&key_taken, KEY_TAKEN), None);
    }

    /// Returns the jobs whose keys are taken: another job has reserved the key, or is to reserve it first. Frees lapsed
    /// keys, except those of the jobs in `changed_here`.
    fn key_taken(
        &mut self,
        wanted_keys: BTreeSet<(Uuid, i32, String)>,
        changed_here: &BTreeSet<Uuid>,
    ) -> BTreeSet<Uuid> {
        let mut key_taken = BTreeSet::new();
        let mut first = BTreeSet::new();
        for (id, queue_id, key) in wanted_keys {
            self.tables.free_lapsed_key(queue_id, &key, self.now, changed_here);
            let is_taken = self.tables.holder(queue_id, &key).is_some_and(|holder| holder.id != id);
            if is_taken | !first.insert((queue_id, key)) {
                key_taken.insert(id);
            }
        }
        key_taken
    }

    fn restart(&mut self, old: &JobRow) {
        let committed = old.state == FINISHED && old.verdict == Some(0);
        if committed || old.state == IN_PROGRESS {
            let row = AttemptRow {
                lease: old.lease.filter(|_| committed),
                ended_at: old.ended_at.unwrap_or(self.now),
                verdict: old.verdict.filter(|_| committed).unwrap_or(RESTART),
                worker: old.worker.clone(),
                reason: old.reason.clone(),
            };
            self.tables.record_attempt(old.id, old.attempt, row);
        }
        let keeps_position = old.state == PENDING && old.seq.is_some();
        let seq = if keeps_position { old.seq } else { self.tables.next_seq() };
        let now = self.now;
        let Some(job) = self.tables.job.get_mut(&old.id) else { return };
        job.set_state(PENDING, now);
        (job.unreadable_since, job.snoozes) = (None, job.snoozes.map(|_| 0));
        (job.cancelled_at, job.cancel_reason) = (None, None);
        (job.result, job.progress) = (None, None);
        job.trace = job.trace.take().map(link_only);
        (job.retry_count, job.reason, job.run_at, job.paused, job.seq) = (0, None, None, false, seq);
        job.lease = old.lease.filter(|_| old.state != IN_PROGRESS);
        job.reserved_key.clone_from(&old.key);
    }

    pub(super) fn end_jobs(&mut self) {
        let (targets, now) = (self.targets(), self.now);
        let (state, verdict): (Option<i16>, Option<i16>) = (self.args.next(), self.args.next());
        let reason: Option<String> = self.args.next();
        let mut changed = BTreeSet::new();
        for old in fitting(&targets) {
            let Some(job) = self.tables.job.get_mut(&old.id).filter(|job| job.state < FINISHED) else { continue };
            job.set_state(state.unwrap_or_default(), now);
            (job.verdict, job.reason, job.lease) = (verdict, reason.clone(), None);
            (job.paused, job.seq, job.run_at) = (false, None, None);
            changed.insert(old.id);
            if old.state == IN_PROGRESS {
                let (worker, reason, verdict) = (old.worker.clone(), reason.clone(), verdict.unwrap_or_default());
                let row = AttemptRow { lease: None, ended_at: now, verdict, worker, reason };
                self.tables.record_attempt(old.id, old.attempt, row);
            }
        }
        self.reply_outcomes_of(&targets, &changed, None);
    }

    pub(super) fn cancel_jobs(&mut self) {
        let (targets, now) = (self.targets(), self.now);
        let force: bool = self.args.next().unwrap_or_default();
        let reason: Option<String> = self.args.next();
        let (mut changed, mut requested) = (BTreeSet::new(), BTreeSet::new());
        for old in fitting(&targets) {
            let Some(job) = self.tables.job.get_mut(&old.id).filter(|job| job.state < FINISHED) else { continue };
            job.cancelled_at = job.cancelled_at.or(Some(now));
            job.cancel_reason = job.cancel_reason.take().or(reason.clone());
            if job.state == IN_PROGRESS && !force {
                requested.insert(old.id);
                continue;
            }
            job.set_state(FAILED, now);
            (job.verdict, job.reason, job.lease) = (Some(CANCEL), reason.clone(), None);
            (job.paused, job.seq, job.run_at) = (false, None, None);
            changed.insert(old.id);
            if old.state == IN_PROGRESS {
                let (worker, reason) = (old.worker.clone(), reason.clone());
                let row = AttemptRow { lease: None, ended_at: now, verdict: CANCEL, worker, reason };
                self.tables.record_attempt(old.id, old.attempt, row);
            }
        }
        self.reply_outcomes_with(&targets, &changed, (&requested, REQUESTED), None);
    }

    pub(super) fn delete_jobs(&mut self) {
        let targets = self.targets();
        let deleted = fitting(&targets).map(|job| job.id).filter(|id| self.tables.delete_job(*id).is_some()).collect();
        self.reply_outcomes_of(&targets, &deleted, None);
    }

    pub(super) fn move_jobs(&mut self) {
        let (targets, name) = (self.targets(), self.args.next::<String>().unwrap_or_default());
        let Some(goal) = self.tables.queue_named(&name).map(|queue| queue.id) else { return };
        let mut movable: Vec<&JobRow> = fitting(&targets).collect();
        movable.sort_by_key(|job| job.id);
        let now = self.now;
        let key_of = |job: &JobRow| job.reserved_key.clone().filter(|_| !job.key_has_lapsed(now));
        let moving = movable.iter().filter(|job| job.queue_id != goal);
        let wanted_keys = moving.filter_map(|job| Some((job.id, goal, key_of(job)?))).collect();
        let key_taken = self.key_taken(wanted_keys, &movable.iter().map(|job| job.id).collect());
        movable.retain(|job| !key_taken.contains(&job.id));
        let mut changed = BTreeSet::new();
        for old in movable {
            let reserved_key = key_of(old);
            let seq = match old.seq {
                Some(_) if old.queue_id == goal => old.seq,
                Some(_) if old.state == IN_PROGRESS => self.at_frontier(goal, old.priority, old.seq),
                Some(_) => self.tables.next_seq(),
                None => None,
            };
            let moved = |job: &mut JobRow| (job.queue_id, job.seq, job.reserved_key) = (goal, seq, reserved_key);
            self.tables.job.entry(old.id).and_modify(moved);
            changed.insert(old.id);
        }
        self.reply_outcomes_with(&targets, &changed, (&key_taken, KEY_TAKEN), Some(goal));
    }

    pub(super) fn edit_jobs(&mut self) {
        let (targets, priority) = (self.targets(), self.args.next().unwrap_or_default());
        let mut editable: Vec<&JobRow> = fitting(&targets).filter(|job| job.state == PENDING).collect();
        editable.sort_by_key(|job| job.id);
        for old in &editable {
            let seq = old.seq.and_then(|seq| if old.priority == priority { Some(seq) } else { self.tables.next_seq() });
            self.tables.job.entry(old.id).and_modify(|job| (job.priority, job.seq) = (priority, seq));
        }
        let changed = editable.iter().map(|job| job.id).collect();
        self.reply_outcomes_of(&targets, &changed, None);
    }
}

/// A job of a bulk action.
struct Target {
    id: Uuid,
    found: Option<Found>,
}

/// A job before a bulk action.
struct Found {
    job: JobRow,
    shown: State,
    is_in_queue: bool,
    /// Whether it satisfies the precondition.
    fits: bool,
}

fn fitting(targets: &[Target]) -> impl Iterator<Item = &JobRow> {
    targets.iter().filter_map(|target| target.found.as_ref()).filter(|found| found.fits).map(|found| &found.job)
}
