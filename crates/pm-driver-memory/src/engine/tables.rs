//! The tables, as the migrations create them in Postgres.

use bytes::Bytes;
use pm_core::op::RetryColumns;
use pm_core::wire::AnyShape;
use pm_core::{QueueSettings, RetryPolicy, State, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// All tables of the database, with names and types as in Postgres, and the simulated locks of another transaction.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)] // named after the tables and columns, which the migrations explain
pub struct Tables {
    pub queue: BTreeMap<i32, QueueRow>,
    pub job: BTreeMap<Uuid, JobRow>,
    pub claim_frontier: BTreeMap<(i32, i32), FrontierRow>,
    pub attempt: BTreeMap<(Uuid, i32), AttemptRow>,
    pub payload: BTreeMap<i64, (i32, Bytes)>,
    pub replacement: BTreeMap<Uuid, (Uuid, Timestamp)>,
    pub schedule: BTreeMap<i32, ScheduleRow>,
    /// Whether texts are stored in LATIN1 instead of UTF-8.
    pub is_latin1: bool,
    /// Queues whose rows another transaction has locked, by id: enqueues skip them.
    pub locked_queues: BTreeSet<i32>,
    /// Keys that another transaction has locked, with the id of their queue: enqueues that wait for them time out.
    pub locked_keys: BTreeSet<(i32, String)>,
    /// Jobs that another transaction has locked, by id: bulk actions skip them.
    pub locked_jobs: BTreeSet<Uuid>,
    pub(crate) last_schedule: i32,
    pub(crate) last_queue: i32,
    pub last_seq: i64,
    pub(crate) last_payload: i64,
}

/// A row of `queue`.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct QueueRow {
    pub id: i32,
    pub name: Option<String>,
    pub paused: bool,
    pub settings: QueueSettings,
    pub idle_until: Option<Timestamp>,
}

/// A row of `job`; by default it is pending, and its columns are empty.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct JobRow {
    pub id: Uuid,
    pub seq: Option<i64>,
    pub run_at: Option<Timestamp>,
    pub lease_expires_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub failed_at: Option<Timestamp>,
    pub key_until: Option<Timestamp>,
    pub unreadable_since: Option<Timestamp>,
    pub cancelled_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub payload_id: Option<i64>,
    pub timeout_ms: Option<i64>,
    pub lease: Option<i64>,
    pub queue_id: i32,
    pub priority: i32,
    pub attempt: i32,
    pub retry_count: i32,
    pub max_retries: Option<i32>,
    pub snoozes: Option<i32>,
    pub state: i16,
    pub verdict: Option<i16>,
    pub codec: i16,
    pub jitter_percent: Option<i16>,
    pub paused: bool,
    pub backoff_ms: Option<Vec<i64>>,
    pub worker: Option<String>,
    pub key: Option<String>,
    pub reserved_key: Option<String>,
    pub description: Option<String>,
    pub reason: Option<String>,
    pub cancel_reason: Option<String>,
    pub trace: Option<String>,
    pub progress: Option<String>,
    pub result: Option<String>,
    pub payload: Option<Bytes>,
}

/// A row of `claim_frontier`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub struct FrontierRow {
    pub seq: i64,
    pub retired_at: Option<Timestamp>,
}

/// A row of `attempt`.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct AttemptRow {
    pub lease: Option<i64>,
    pub ended_at: Timestamp,
    pub verdict: i16,
    pub worker: Option<String>,
    pub reason: Option<String>,
}

/// A row of `schedule`.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct ScheduleRow {
    pub id: i32,
    pub name: String,
    pub next_tick: Option<Timestamp>,
    pub last_tick: Option<Timestamp>,
    pub last_job: Option<Uuid>,
    pub revision: i64,
    pub queue_id: i32,
    pub priority: i32,
    pub max_retries: Option<i32>,
    pub codec: i16,
    pub jitter_percent: Option<i16>,
    pub missed: i16,
    pub missed_limit: Option<i16>,
    pub overlap: i16,
    pub paused: bool,
    pub cron: String,
    pub zone: String,
    pub backoff_ms: Option<Vec<i64>>,
    pub description: Option<String>,
    pub payload: Bytes,
}

pub(crate) const PENDING: i16 = 0;
pub(crate) const IN_PROGRESS: i16 = 1;
pub(crate) const FINISHED: i16 = 2;
pub(crate) const FAILED: i16 = 3;
/// The verdict, and the reason, of a job that has not started by its time to expire.
const EXPIRE: i16 = 11;
const EXPIRED: &str = "expired";

impl JobRow {
    pub(crate) fn retries(&self) -> RetryColumns {
        retries(self.max_retries, self.backoff_ms.as_ref(), self.jitter_percent)
    }

    /// Returns whether the job waits for its due time.
    pub(crate) fn is_waiting(&self) -> bool {
        self.seq.is_none() && self.run_at.is_some() && !self.paused
    }

    /// Returns whether the job may start: its time to expire has not come, or it has started before.
    pub(crate) fn may_start(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| at > now) || self.attempt > 0 || self.snoozes.is_some()
    }

    /// Returns whether the job is in a line and not in progress.
    pub(crate) fn is_ready(&self) -> bool {
        self.seq.is_some() && self.state == PENDING
    }

    /// Returns whether the job's reservation of its key has lapsed: it has ended or expired, and `key_until` has
    /// passed.
    pub(crate) fn key_has_lapsed(&self, now: Timestamp) -> bool {
        let has_expired = self.state == PENDING && !self.may_start(now);
        (self.state >= FINISHED || has_expired) && self.key_until.is_none_or(|until| until <= now)
    }

    /// Fails the job because it has not started by its time to expire.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        self.set_state(FAILED, now);
        (self.verdict, self.reason) = (Some(EXPIRE), Some(EXPIRED.to_owned()));
        (self.paused, self.seq, self.run_at) = (false, None, None);
    }

    /// Changes the job's state and the columns that depend on it. An ended job frees its key unless it stays reserved.
    /// However a lease or a job ends, the job expires no more; a release undoes that.
    pub(crate) fn set_state(&mut self, state: i16, now: Timestamp) {
        (self.state, self.lease_expires_at, self.expires_at) = (state, None, None);
        self.ended_at = (state >= FINISHED).then_some(now);
        self.failed_at = (state == FAILED).then_some(now);
        if self.key_has_lapsed(now) {
            self.reserved_key = None;
        }
    }
}

impl Tables {
    pub(crate) fn next_seq(&mut self) -> Option<i64> {
        self.last_seq += 1;
        Some(self.last_seq)
    }

    /// Advances the sequences to those of the other tables.
    pub(crate) fn advance_sequences(&mut self, other: &Tables) {
        self.last_schedule = self.last_schedule.max(other.last_schedule);
        self.last_queue = self.last_queue.max(other.last_queue);
        self.last_seq = self.last_seq.max(other.last_seq);
        self.last_payload = self.last_payload.max(other.last_payload);
    }

    pub(crate) fn queue_named(&self, name: &str) -> Option<&QueueRow> {
        self.queue.values().find(|queue| queue.name.as_deref() == Some(name))
    }

    /// Returns the state of a job as it is shown: a pending one is paused if it or its queue is.
    pub(crate) fn shown(&self, job: &JobRow) -> State {
        let paused = job.paused || self.queue.get(&job.queue_id).is_some_and(|queue| queue.paused);
        if job.state == PENDING && paused {
            State::Paused
        } else {
            State::from_code(job.state).unwrap_or(State::Failed)
        }
    }

    /// Returns whether a worker has claimed the job and not released it: every other end of a lease leaves an attempt.
    pub(crate) fn has_started(&self, job: &JobRow) -> bool {
        job.state != PENDING
            || job.snoozes.is_some()
            || self.attempt.range((job.id, 0)..=(job.id, i32::MAX)).next().is_some()
    }

    pub(crate) fn payload_of(&self, job: &JobRow) -> Option<Bytes> {
        let shared = || self.payload.get(&job.payload_id?).map(|(_, data)| data.clone());
        job.payload.clone().or_else(shared)
    }

    /// Records that one job fewer shares a payload.
    pub(crate) fn unshare(&mut self, payload_id: Option<i64>) {
        let Some(id) = payload_id else { return };
        if let Some((refs, _)) = self.payload.get_mut(&id) {
            *refs -= 1;
            if *refs == 0 {
                self.payload.remove(&id);
            }
        }
    }

    /// Returns the job that reserves a key of a queue.
    pub(crate) fn holder(&self, queue_id: i32, key: &str) -> Option<&JobRow> {
        self.job.values().find(|job| job.queue_id == queue_id && job.reserved_key.as_deref() == Some(key))
    }

    /// Frees a key whose reservation has lapsed, unless `changed_here` contains the job that reserves it. A job that
    /// has expired has then failed.
    pub(crate) fn free_lapsed_key(&mut self, queue_id: i32, key: &str, now: Timestamp, changed_here: &BTreeSet<Uuid>) {
        let holder =
            self.holder(queue_id, key).filter(|job| job.key_has_lapsed(now) && !changed_here.contains(&job.id));
        let Some(job) = holder.map(|job| job.id).and_then(|id| self.job.get_mut(&id)) else { return };
        if job.state == PENDING {
            job.expire(now);
        }
        job.reserved_key = None;
    }

    /// Records how an attempt ended, unless it is recorded already.
    pub(crate) fn record_attempt(&mut self, job: Uuid, attempt: i32, row: AttemptRow) {
        self.attempt.entry((job, attempt)).or_insert(row);
    }

    pub(crate) fn delete_job(&mut self, id: Uuid) -> Option<JobRow> {
        let job = self.job.remove(&id)?;
        self.attempt.retain(|(job, _), _| *job != id);
        self.replacement.retain(|_, (job, _)| *job != id);
        self.unshare(job.payload_id);
        Some(job)
    }
}

impl QueueRow {
    pub(crate) fn new(id: i32, name: String, paused: bool) -> Self {
        QueueRow { id, name: Some(name), paused, settings: QueueSettings::default(), idle_until: None }
    }

    pub(crate) fn lease_ms(&self) -> i64 {
        self.settings.lease.as_millis() as i64
    }

    pub(crate) fn retries(&self) -> RetryColumns {
        RetryPolicy::from(self.settings.backoff.clone()).into()
    }
}

/// Returns the columns about retries of a job or a schedule.
pub(crate) fn retries(
    max_retries: Option<i32>,
    backoff_ms: Option<&Vec<i64>>,
    jitter_percent: Option<i16>,
) -> RetryColumns {
    RetryColumns { max_retries, backoff_ms: backoff_ms.cloned().map(AnyShape), jitter_percent }
}
