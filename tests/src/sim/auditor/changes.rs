//! Which changes a statement may make to the tables.

use super::Auditor;
use crate::sim::general;
use crate::sim::owned::leases_of;
use crate::sim::world::START_US;
use pm_core::StatementId;
use pm_driver_memory::{JobRow, Tables};
use pm_queue::Timestamp;
use pm_queue::driver::Value;
use std::collections::BTreeSet;
use uuid::Uuid;

const PENDING: i16 = 0;
const IN_PROGRESS: i16 = 1;
const FINISHED: i16 = 2;
const RELEASE: i16 = 3;
const SNOOZE: i16 = 9;
const CANCEL: i16 = 10;
const EXPIRE: i16 = 11;

/// For how long after its timeout a job may be leased.
const TIMEOUT_GRACE_MS: u64 = 30_000;

/// One statement, and the tables before it.
pub(super) struct Step<'a> {
    pub(super) statement: StatementId,
    pub(super) params: &'a [Value<'a>],
    pub(super) before: &'a Tables,
    pub(super) now: Timestamp,
}

impl Auditor {
    /// Judges what a statement did.
    pub(crate) fn judge(
        &mut self,
        statement: StatementId,
        params: &[Value<'_>],
        before: &Tables,
        after: &Tables,
        now: Timestamp,
    ) {
        self.tally.statements += 1;
        let step = Step { statement: general(statement), params, before, now };
        if let (StatementId::Claim, Some(Value::Int8(lease))) = (statement, params.get(4))
            && self.claimed_at.insert(*lease, (now.unix_us() - START_US) as u64).is_some()
        {
            self.violate(format!("a claim is never sent twice: {lease} ran again"));
        }
        if let Some(problem) = step.is_unbounded() {
            self.violate(format!("bounded: {problem}"));
        }
        for (id, old) in &before.job {
            match after.job.get(id) {
                Some(new) if new == old => {}
                Some(new) => self.judge_change(&step, old, new),
                None => self.judge_deletion(&step, old),
            }
        }
        for (id, new) in after.job.iter().filter(|(id, _)| !before.job.contains_key(id)) {
            self.judge_entry(&step, *id, new);
        }
        self.judge_replacements(&step, after);
        self.judge_schedules(&step, after);
        if let Some(problem) = inconsistency(after) {
            self.violate(format!("after {statement:?}: {problem}"));
        }
    }

    fn judge_entry(&mut self, step: &Step<'_>, id: Uuid, new: &JobRow) {
        self.tally.jobs += 1;
        self.ever.insert(id);
        match step.statement {
            // Judged with its schedule.
            StatementId::CopyJob | StatementId::FireSchedules => {}
            StatementId::Enqueue | StatementId::EnqueueKeyed | StatementId::EnqueueEach => {
                let payload = new.payload.as_deref().unwrap_or_default().to_vec();
                if self.was_refused(&payload) {
                    self.violate(format!("answers are true: {id} was enqueued after it had been refused"));
                }
                // A deleted job may be created again under its id while its enqueue is sent again: that is documented.
                let comes_back = self.deleted.contains(&id);
                if let Some(job) = self.replacements.get(&payload).filter(|job| !self.deleted.contains(job)) {
                    self.violate(format!("an enqueue is applied once: {id} was enqueued after it had replaced {job}"));
                }
                if let Some(first) = self.intents.insert(payload, id).filter(|first| *first != id || !comes_back) {
                    self.violate(format!("an enqueue is applied once: {first} was enqueued again as {id}"));
                }
            }
            other => self.violate(format!("{other:?} made the job {id}")),
        }
        if new.state != PENDING {
            self.violate(format!("{id} was enqueued with state {}", new.state));
        }
    }

    /// Judges which enqueues replaced a job.
    fn judge_replacements(&mut self, step: &Step<'_>, after: &Tables) {
        let new = after.replacement.iter().filter(|(id, _)| !step.before.replacement.contains_key(id));
        for (id, (job, _)) in new {
            let [Value::UuidArray(ids), _, _, _, _, _, _, Value::BytesArray(payloads), ..] = step.params else {
                return self.violate(format!("{:?} made the replacement {id}", step.statement));
            };
            let Some(index) = ids.iter().position(|item| item.as_ref() == Some(id)) else { continue };
            let payload = payloads[index].map(<[u8]>::to_vec).unwrap_or_default();
            if let Some(first) = self.replacements.insert(payload, *job).filter(|first| !self.deleted.contains(first)) {
                self.violate(format!("an enqueue is applied once: {id} replaced {first}, and then {job}"));
            }
        }
    }

    fn judge_deletion(&mut self, step: &Step<'_>, old: &JobRow) {
        let nameless = step.before.queue.get(&old.queue_id).is_none_or(|queue| queue.name.is_none());
        let allowed = match step.statement {
            StatementId::DeleteJobs => true,
            StatementId::PruneJobs => nameless || old.state >= FINISHED,
            _ => false,
        };
        if !allowed {
            self.violate(format!("nothing is lost: {:?} deleted {}", step.statement, old.id));
        }
        self.deleted.insert(old.id);
        self.break_lease(old);
    }

    /// Judges whether jobs that were reported to operators as not found were deleted at some time.
    pub(in crate::sim) fn reported_missing(&mut self, ids: &[Uuid], tables: &Tables) {
        for id in ids.iter().filter(|id| tables.job.contains_key(id) && !self.deleted.contains(id)).collect::<Vec<_>>()
        {
            self.violate(format!("answers are true: {id} was reported as not found, and exists"));
        }
    }

    fn break_lease(&mut self, old: &JobRow) {
        if let (IN_PROGRESS, Some(lease)) = (old.state, old.lease) {
            self.broken.insert((old.id, lease));
        }
    }

    fn judge_change(&mut self, step: &Step<'_>, old: &JobRow, new: &JobRow) {
        if old.state < FINISHED && new.state >= FINISHED {
            self.tally.endings += 1;
        }
        let problem = match step.statement {
            _ if step.frees_keys() && old.state == PENDING && new.state >= FINISHED => step.wrong_expiry(old, new),
            StatementId::Claim | StatementId::FetchJob => step.wrong_claim(old, new),
            StatementId::Settle => self.wrong_settle(step, old, new),
            StatementId::Reap => self.wrong_reap(step, old, new),
            StatementId::Extend => step.wrong_extend(old, new),
            StatementId::SetProgress => step.wrong_progress(old, new),
            StatementId::ReleaseClaim => step.wrong_release(old, new),
            StatementId::Promote => {
                let promoted = JobRow { seq: new.seq, run_at: None, ..old.clone() };
                (old.run_at > Some(step.now) || old.seq.is_some() || promoted != *new).then_some("not due")
            }
            StatementId::RestartJobs => {
                self.break_lease(old);
                let force = step.params.get(4) == Some(&Value::Bool(true));
                let restarted = new.state == PENDING && new.retry_count == 0 && new.attempt == old.attempt;
                (!restarted || (old.state == IN_PROGRESS && !force)).then_some("a restart that was not allowed")
            }
            StatementId::EndJobs => {
                self.break_lease(old);
                (old.state >= FINISHED || new.state < FINISHED || new.lease.is_some()).then_some("ended twice")
            }
            StatementId::CancelJobs => step.wrong_cancel(self, old, new),
            StatementId::MoveJobs => {
                let keeps_key = new.state < FINISHED && !step.has_expired(old);
                let reserved_key = old.reserved_key.clone().filter(|_| new.reserved_key.is_some() || keeps_key);
                let moved = JobRow { queue_id: new.queue_id, seq: new.seq, reserved_key, ..old.clone() };
                (moved != *new).then_some("a move that changes more than the queue")
            }
            StatementId::EditJobs => {
                let edited = JobRow { priority: new.priority, seq: new.seq, ..old.clone() };
                let keeps_position = old.seq.is_none() || old.priority == new.priority;
                let is_allowed = old.state == PENDING && edited == *new && old.seq.is_some() == new.seq.is_some();
                (!is_allowed || (keeps_position && old.seq != new.seq)).then_some("an edit that changes more")
            }
            StatementId::CopyJob => {
                let keeps_key = new.reserved_key.is_some() || !step.has_expired(old);
                let reserved_key = old.reserved_key.clone().filter(|_| keeps_key);
                let shared = JobRow { payload: None, payload_id: new.payload_id, reserved_key, ..old.clone() };
                (shared != *new).then_some("a copy that changes its source")
            }
            StatementId::ReplaceJobs | StatementId::KeyHolder => {
                let lapsed = JobRow { reserved_key: None, ..old.clone() };
                let mut attempts = step.before.attempt.range((old.id, 0)..=(old.id, i32::MAX));
                let is_unstarted = old.state == PENDING && old.snoozes.is_none() && attempts.next().is_none();
                let may_be_replaced = step.statement == StatementId::ReplaceJobs && is_unstarted;
                (!may_be_replaced && lapsed != *new).then_some("a job that had started was replaced")
            }
            StatementId::ResumeQueue => (!old.paused || new.paused).then_some("a job that was not paused"),
            _ => Some("a change that the statement must not make"),
        };
        let problem = problem.or_else(|| step.wrong_result(old, new)).or_else(|| step.lost_progress(old, new));
        let problem = problem.or_else(|| self.outlasted_timeout(new));
        let problem = problem.or_else(|| step.lost_trace(old, new));
        if let Some(problem) = problem {
            self.violate(format!("{:?}: {problem}: from {old:?} to {new:?}", step.statement));
        }
    }

    /// Judges how long a job is leased that has a timeout of its own and was claimed from a line.
    fn outlasted_timeout(&self, new: &JobRow) -> Option<&'static str> {
        let claimed_us = self.claimed_at.get(&new.lease.filter(|_| new.state == IN_PROGRESS)?)?;
        let most_us = (new.timeout_ms?.unsigned_abs() + TIMEOUT_GRACE_MS) * 1_000;
        let latest = Timestamp::from_unix_us(START_US + (claimed_us + most_us) as i64);
        (new.lease_expires_at > Some(latest)).then_some("a lease outlasts the timeout of its job and the grace")
    }

    fn wrong_settle(&mut self, step: &Step<'_>, old: &JobRow, new: &JobRow) -> Option<&'static str> {
        let leases = leases_of(step.params);
        let Some(index) = leases.iter().position(|(id, lease)| *id == old.id && Some(*lease) == old.lease) else {
            return Some("fenced: a settlement under another lease was applied");
        };
        let verdict = match step.params.get(2) {
            Some(Value::Int2Array(verdicts)) => verdicts.get(index).copied().flatten().unwrap_or_default(),
            Some(_) => return Some("no verdicts"),
            // All are commits.
            None => 0,
        };
        self.applied.insert((old.id, leases[index].1, verdict));
        let retries = i32::from(verdict == 1);
        let is_cancelled = verdict != 0 && old.cancelled_at.is_some();
        let is_undone = [RELEASE, SNOOZE].contains(&verdict) && !is_cancelled;
        let is_snoozed = is_undone && verdict == SNOOZE;
        let snoozes = if is_snoozed { Some(old.snoozes.unwrap_or_default() + 1) } else { old.snoozes };
        let counted = (old.attempt - i32::from(is_undone), snoozes);
        if old.state != IN_PROGRESS {
            Some("exactly one ending: the lease had ended already")
        } else if new.retry_count != old.retry_count + retries {
            Some("the retry count is wrong")
        } else if counted != (new.attempt, new.snoozes) {
            Some("the attempts or the snoozes are wrong")
        } else if is_cancelled {
            wrong_end_of_cancelled(new)
        } else if verdict == RELEASE && new.seq != old.seq {
            Some("a released job lost its position")
        } else if (verdict == 0) != (new.state == FINISHED)
            || ([RELEASE, SNOOZE].contains(&verdict) && new.state != PENDING)
        {
            Some("the state does not match the verdict")
        } else {
            None
        }
    }

    fn wrong_reap(&mut self, step: &Step<'_>, old: &JobRow, new: &JobRow) -> Option<&'static str> {
        if old.state != IN_PROGRESS {
            return step.wrong_expiry(old, new);
        }
        self.tally.reaped += 1;
        let claimed_at = old.lease.and_then(|lease| self.claimed_at.get(&lease));
        let max_retries = step.before.queue.get(&old.queue_id).map_or(0, |queue| queue.settings.backoff.max_retries());
        let is_last = old.retry_count >= old.max_retries.unwrap_or(max_retries.cast_signed());
        if old.state != IN_PROGRESS || old.lease_expires_at > Some(step.now) {
            Some("reaped before its lease expired")
        } else if old.cancelled_at.is_some() {
            self.reaped_cancelled.extend(old.lease.map(|lease| (old.id, lease)));
            wrong_end_of_cancelled(new)
        } else if new.retry_count != old.retry_count + 1 || (new.state == 3) != is_last {
            Some("the retries are wrong")
        } else if self.link.keeps_leases()
            && self.peace_since.is_some_and(|since| claimed_at.is_some_and(|at| *at > since))
        {
            Some("without faults, no lease is left to expire")
        } else {
            None
        }
    }
}

impl Step<'_> {
    fn wrong_claim(&self, old: &JobRow, new: &JobRow) -> Option<&'static str> {
        let queue = self.before.queue.get(&old.queue_id);
        let is_due = old.seq.is_some() || old.run_at <= Some(self.now);
        if self.has_expired(old) {
            Some("a job that should have started by now")
        } else if old.state != PENDING || new.state != IN_PROGRESS || new.attempt != old.attempt + 1 {
            Some("a job that was not pending")
        } else if queue.is_none_or(|queue| queue.paused || queue.name.is_none()) || old.paused || !is_due {
            Some("a job that is paused, or not due")
        } else if new.retry_count != old.retry_count || new.lease.is_none() || new.lease == old.lease {
            Some("a lease that is not new")
        } else {
            None
        }
    }

    /// Returns whether the statement ends expired jobs whose keys it wants.
    fn frees_keys(&self) -> bool {
        use StatementId::{CopyJob, KeyHolder, MoveJobs, ReplaceJobs, RestartJobs};
        [CopyJob, KeyHolder, MoveJobs, ReplaceJobs, RestartJobs].contains(&self.statement)
    }

    /// Returns whether the job has expired and only waits to be reaped.
    fn has_expired(&self, job: &JobRow) -> bool {
        let is_unstarted = job.state == PENDING && job.attempt == 0 && job.snoozes.is_none();
        is_unstarted && job.expires_at.is_some_and(|at| at <= self.now)
    }

    /// Judges what a reap does to a job that is not in progress: its time to expire has passed.
    fn wrong_expiry(&self, old: &JobRow, new: &JobRow) -> Option<&'static str> {
        let forgotten = JobRow { expires_at: None, ..old.clone() };
        if old.expires_at.is_none_or(|at| at > self.now) || new.expires_at.is_some() {
            Some("a job that has not expired")
        } else if self.has_expired(old) {
            (new.state != 3 || new.verdict != Some(EXPIRE)).then_some("an expired job goes on")
        } else {
            (forgotten != *new).then_some("a job that has started expires")
        }
    }

    fn wrong_cancel(&self, auditor: &mut Auditor, old: &JobRow, new: &JobRow) -> Option<&'static str> {
        let requested =
            JobRow { cancelled_at: new.cancelled_at, cancel_reason: new.cancel_reason.clone(), ..old.clone() };
        let force = self.params.get(4) == Some(&Value::Bool(true));
        if new.cancelled_at.is_none() || old.cancelled_at.is_some_and(|at| Some(at) != new.cancelled_at) {
            Some("a cancel without a request, or with another time")
        } else if old.state == IN_PROGRESS && !force {
            (requested != *new).then_some("a request that changes more")
        } else if old.state >= FINISHED || new.state != 3 || new.verdict != Some(CANCEL) || new.lease.is_some() {
            Some("a cancel that was not allowed")
        } else {
            auditor.break_lease(old);
            None
        }
    }

    /// Judges a job whose progress was stored: nothing else may change, and only under the lease that the job has.
    fn wrong_progress(&self, old: &JobRow, new: &JobRow) -> Option<&'static str> {
        let is_its = |lease: &(Uuid, i64)| lease.0 == old.id && Some(lease.1) == old.lease;
        let index = leases_of(self.params).iter().position(is_its);
        let sent = match self.params.get(2) {
            Some(Value::TextArray(texts)) => index.and_then(|index| texts.get(index)?.as_deref()),
            _ => None,
        };
        let progressed = JobRow { progress: sent.map(ToOwned::to_owned), ..old.clone() };
        (old.state != IN_PROGRESS || sent.is_none() || progressed != *new)
            .then_some("fenced: not this lease's progress")
    }

    /// Judges whether another statement has changed the progress of a job: only a restart and a replacement clear it.
    fn lost_progress(&self, old: &JobRow, new: &JobRow) -> Option<&'static str> {
        let clears = [StatementId::RestartJobs, StatementId::ReplaceJobs].contains(&self.statement);
        let expected = old.progress.as_ref().filter(|_| !clears);
        (self.statement != StatementId::SetProgress && new.progress.as_ref() != expected).then_some("progress was lost")
    }

    /// Judges whether a job has lost its trace: a restart marks it, and a replacement brings its own.
    fn lost_trace(&self, old: &JobRow, new: &JobRow) -> Option<&'static str> {
        let expected = match (self.statement, &old.trace) {
            (StatementId::ReplaceJobs, _) => return None,
            (StatementId::RestartJobs, Some(trace)) if !trace.starts_with("link ") => Some(format!("link {trace}")),
            (_, trace) => trace.clone(),
        };
        (new.trace != expected).then_some("a trace was lost")
    }

    /// Judges the result of a job: it comes with the commit that is applied, and goes with a restart.
    fn wrong_result(&self, old: &JobRow, new: &JobRow) -> Option<&'static str> {
        let expected = match self.statement {
            StatementId::Settle => self.committed_result(old),
            StatementId::RestartJobs => None,
            _ => old.result.clone(),
        };
        (new.result != expected).then_some("not the result of the commit")
    }

    /// Returns the result with which a settle commits a job.
    fn committed_result(&self, job: &JobRow) -> Option<String> {
        let is_its = |lease: &(Uuid, i64)| lease.0 == job.id && Some(lease.1) == job.lease;
        let index = leases_of(self.params).iter().position(is_its)?;
        let (Some(Value::Int2Array(verdicts)), Some(Value::TextArray(results))) =
            (self.params.get(2), self.params.get(7))
        else {
            return None;
        };
        results.get(index)?.as_deref().filter(|_| verdicts.get(index) == Some(&Some(0))).map(ToOwned::to_owned)
    }

    fn wrong_extend(&self, old: &JobRow, new: &JobRow) -> Option<&'static str> {
        let is_meant = leases_of(self.params).iter().any(|(id, lease)| *id == old.id && Some(*lease) == old.lease);
        let extended = JobRow { lease_expires_at: new.lease_expires_at, ..old.clone() };
        let is_longer = new.lease_expires_at >= old.lease_expires_at;
        (old.state != IN_PROGRESS || !is_meant || !is_longer || extended != *new).then_some("not this lease's")
    }

    fn wrong_release(&self, old: &JobRow, new: &JobRow) -> Option<&'static str> {
        let is_meant = old.lease.is_some_and(|lease| self.params.first() == Some(&Value::Int8(lease)));
        if old.cancelled_at.is_some() {
            return wrong_end_of_cancelled(new);
        }
        let is_same = (new.seq, new.retry_count, new.attempt) == (old.seq, old.retry_count, old.attempt - 1);
        (old.state != IN_PROGRESS || new.state != PENDING || !is_meant || !is_same).then_some("not this claim's")
    }

    /// Returns which stated bound a statement breaks.
    fn is_unbounded(&self) -> Option<String> {
        let length = match self.params.first() {
            Some(Value::UuidArray(ids)) => ids.len(),
            Some(Value::Int4Array(lines)) => lines.len(),
            _ => return None,
        };
        let most = match self.statement {
            StatementId::Claim => 64,
            StatementId::Settle | StatementId::Extend | StatementId::SetProgress | StatementId::Outcome => 500,
            _ => 1_000,
        };
        (length > most).then(|| format!("{:?} of {length} items", self.statement))
    }
}

/// Judges the end of a lease, other than with a commit, whose job was to be cancelled.
fn wrong_end_of_cancelled(new: &JobRow) -> Option<&'static str> {
    let has_failed = new.state == 3 && new.verdict == Some(CANCEL) && new.reason == new.cancel_reason;
    (!has_failed).then_some("a job that was to be cancelled goes on")
}

/// Returns an inconsistency that no state of the tables may have.
fn inconsistency(tables: &Tables) -> Option<String> {
    let mut keys = BTreeSet::new();
    for job in tables.job.values() {
        let ways = [job.seq.is_some(), job.seq.is_none() && job.run_at.is_some() && !job.paused, job.paused];
        let ways = ways.into_iter().filter(|is_there| *is_there).count();
        let line = tables.claim_frontier.get(&(job.queue_id, job.priority));
        let is_whole = match job.state {
            PENDING => ways == 1 && job.lease_expires_at.is_none(),
            IN_PROGRESS => job.seq.is_some() && job.lease.is_some() && job.lease_expires_at.is_some(),
            _ => ways == 0 && job.ended_at.is_some(),
        };
        if !is_whole {
            return Some(format!("nothing is lost: no worker will find {job:?}"));
        }
        if job.state == IN_PROGRESS && line.is_none_or(|frontier| job.seq > Some(frontier.seq)) {
            return Some(format!("beyond the claim frontier: {job:?}"));
        }
        if job.state == PENDING && job.cancelled_at.is_some() {
            return Some(format!("a cancelled job never runs again by itself: {job:?}"));
        }
        // Handlers of the simulation commit with the number of their lease.
        let is_of_its_commit =
            |result: &str| job.state == FINISHED && job.lease.map(|n| n.to_string()).as_deref() == Some(result);
        if job.result.as_deref().is_some_and(|result| !is_of_its_commit(result)) {
            return Some(format!("a result that is not of the commit that was applied: {job:?}"));
        }
        if job.state < FINISHED && job.reserved_key != job.key {
            return Some(format!("an active job has not reserved its key: {job:?}"));
        }
        if job.reserved_key.as_ref().is_some_and(|key| !keys.insert((job.queue_id, key))) {
            return Some(format!("two jobs have reserved one key: {job:?}"));
        }
    }
    left_behind(tables)
}

/// Returns what belongs to no job.
fn left_behind(tables: &Tables) -> Option<String> {
    let of_attempts = tables.attempt.keys().map(|(job, _)| job);
    let of_replacements = tables.replacement.values().map(|(job, _)| job);
    if let Some(id) = of_attempts.chain(of_replacements).find(|id| !tables.job.contains_key(id)) {
        return Some(format!("rows of a job are deleted with it: something is left of {id}"));
    }
    let shares = |id: i64| tables.job.values().filter(|job| job.payload_id == Some(id)).count();
    let odd = tables.payload.iter().find(|(id, (refs, _))| shares(**id) != *refs as usize);
    odd.map(|(id, (refs, _))| format!("the payload {id} counts {refs} jobs and has {}", shares(*id)))
}
