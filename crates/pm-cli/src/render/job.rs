//! Jobs, for `pm job ls` and `pm job show`.

use super::payload::decode;
use super::table::{Colour, Column, Table};
use super::time::{local, local_and_relative, relative, utc};
use super::value::Value;
use pm_core::Timestamp;
use pm_driver_tokio_postgres::{AttemptRecord, Ending, JobMetadata, RawPayload};
use serde::Serialize;

/// A job as JSON. The names are documented: do not change them. Times are RFC 3339 in UTC.
#[derive(Serialize)]
pub(crate) struct JobView {
    id: String,
    queue: String,
    status: &'static str,
    priority: i32,
    created: Option<String>,
    attempt: u32,
    retries: u32,
    max_retries: u32,
    run_at: Option<String>,
    ended: Option<String>,
    lease: Option<LeaseView>,
    worker: Option<String>,
    key: Option<String>,
    description: Option<String>,
    reason: Option<String>,
    codec: &'static str,
    payload_bytes: u64,
    #[serde(flatten)]
    details: Option<Details>,
    #[serde(skip)]
    job: JobMetadata,
}

/// A lease. The number is a string: it has more digits than many JSON parsers keep.
#[derive(Serialize)]
struct LeaseView {
    number: Option<String>,
    until: Option<String>,
}

/// What only `job show` includes.
#[derive(Serialize)]
struct Details {
    attempts: Vec<AttemptView>,
    payload: Option<Value>,
    /// Why the payload cannot be decoded.
    payload_problem: Option<String>,
}

#[derive(Serialize)]
struct AttemptView {
    attempt: u32,
    ended: Option<String>,
    ending: &'static str,
    worker: Option<String>,
    reason: Option<String>,
    #[serde(skip)]
    ended_at: Timestamp,
}

impl JobView {
    /// Returns the view of a job, without the details of `job show`.
    pub(crate) fn new(job: JobMetadata) -> Self {
        let lease = job.lease_expires_at.filter(|_| job.lease.is_some());
        JobView {
            id: job.id.to_string(),
            queue: job.queue.clone(),
            status: job.state.name(),
            priority: job.priority,
            created: utc(job.created_at),
            attempt: job.attempt,
            retries: job.retry_count,
            max_retries: job.max_retries,
            run_at: job.run_at.and_then(utc),
            ended: job.ended_at.and_then(utc),
            lease: lease.map(|until| LeaseView { number: job.lease.map(|it| it.to_string()), until: utc(until) }),
            worker: job.worker.clone(),
            key: job.key.clone(),
            description: job.description.clone(),
            reason: job.reason.clone(),
            codec: job.codec.name(),
            payload_bytes: job.payload_bytes,
            details: None,
            job,
        }
    }

    /// Adds the details of `job show`.
    pub(crate) fn with_details(mut self, attempts: Vec<AttemptRecord>, payload: Option<&RawPayload>) -> Self {
        let (payload, payload_problem) = match payload.map(decode) {
            Some(Ok(value)) => (Some(value), None),
            Some(Err(problem)) => (None, Some(problem)),
            None => (None, None),
        };
        let attempts = attempts.into_iter().map(AttemptView::new).collect();
        self.details = Some(Details { attempts, payload, payload_problem });
        self
    }

    /// Returns id, queue and status on one line.
    pub(super) fn line(&self) -> String {
        format!("{}  {}  {}", self.id, self.queue, self.status)
    }

    /// Returns the job as YAML for humans.
    pub(crate) fn yaml(&self) -> Value {
        let job = &self.job;
        let time = |time: Timestamp| Value::plain(local_and_relative(time, job.read_at));
        let mut entries = vec![
            ("id", Value::plain(&self.id)),
            ("queue", Value::text(&self.queue)),
            ("status", Value::plain(self.status)),
            ("priority", Value::plain(self.priority)),
            ("created", time(job.created_at)),
            ("retries", Value::plain(self.retries)),
            ("max_retries", Value::plain(self.max_retries)),
        ];
        entries.extend(job.run_at.map(|at| ("run_at", time(at))));
        if let (Some(number), Some(until)) = (job.lease, job.lease_expires_at) {
            let worker = job.worker.clone().map_or(Value::Null, Value::Text);
            let lease = vec![("until", time(until)), ("worker", worker), ("number", Value::plain(number))];
            entries.push(("lease", Value::named(lease)));
        }
        entries.extend(job.ended_at.map(|at| ("ended", time(at))));
        entries.extend(job.key.clone().map(|key| ("key", Value::Text(key))));
        entries.extend(job.description.clone().map(|description| ("description", Value::Text(description))));
        entries.extend(job.reason.clone().map(|reason| ("reason", Value::Text(reason))));
        if let Some(details) = &self.details {
            if !details.attempts.is_empty() {
                let attempts = details.attempts.iter().map(|attempt| attempt.yaml(job.read_at)).collect();
                entries.push(("attempts", Value::List(attempts)));
            }
            let problem = details.payload_problem.clone().map(Value::Text);
            entries.extend(problem.or_else(|| details.payload.clone()).map(|payload| ("payload", payload)));
        }
        Value::named(entries)
    }
}

impl AttemptView {
    fn new(record: AttemptRecord) -> Self {
        AttemptView {
            attempt: record.attempt,
            ended: utc(record.ended_at),
            ending: record.ending.name(),
            worker: record.worker,
            reason: record.reason,
            ended_at: record.ended_at,
        }
    }

    fn yaml(&self, now: Timestamp) -> Value {
        let ending = if self.ending == Ending::Reap.name() { "lease expired" } else { self.ending };
        let mut entries = vec![
            ("attempt", Value::plain(self.attempt)),
            ("ended", Value::plain(local_and_relative(self.ended_at, now))),
            ("ending", Value::plain(ending)),
        ];
        entries.extend(self.worker.clone().map(|worker| ("worker", Value::Text(worker))));
        entries.extend(self.reason.clone().map(|reason| ("reason", Value::Text(reason))));
        Value::named(entries)
    }
}

/// Returns the job as `job show` prints it.
pub(crate) fn job_document(job: &JobView) -> String {
    super::yaml::document(&job.yaml())
}

/// Returns the table of `job ls`.
pub(crate) fn job_table(jobs: &[JobView]) -> Table {
    /// Enough digits to identify a job.
    const SHORT_ID: usize = 12;
    let column = |text: fn(&JobView) -> String| jobs.iter().map(text);
    Table::new(vec![
        Column::new("id", column(|job| job.id.clone()))
            .or_shorter(column(|job| job.id[job.id.len() - SHORT_ID..].to_owned())),
        Column::new("queue", column(|job| job.queue.clone())).may_be_cut(),
        Column::new("status", column(|job| job.status.to_owned())).coloured(colour),
        Column::numbers("retries", column(|job| job.retries.to_string())),
        Column::new("created", column(|job| created(&job.job)))
            .or_shorter(column(|job| relative(job.job.created_at, job.job.read_at))),
        Column::new("description", column(|job| job.description.clone().unwrap_or_default())).may_be_cut(),
    ])
}

fn created(job: &JobMetadata) -> String {
    format!("{}  {}", local(job.created_at), relative(job.created_at, job.read_at))
}

fn colour(status: &str) -> Colour {
    match status {
        "failed" => Colour::Red,
        "finished" => Colour::Dim,
        "in_progress" => Colour::Bold,
        "paused" => Colour::Magenta,
        _ => Colour::Plain,
    }
}
