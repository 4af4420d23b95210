//! Jobs, for `pm job ls` and `pm job show`.

use super::output::{Json, List, Show};
use super::payload::decode;
use super::table::{Colour, Column, Table};
use super::time::{local, local_and_relative, relative, utc};
use super::value::Value;
use crate::duration::{show_duration, whole_ms};
use pm_core::{Codec, Timestamp};
use pm_driver_tokio_postgres::{AttemptRecord, Ending, JobMetadata, RawPayload};

/// A job with the details that only `job show` includes.
pub(crate) struct FullJob {
    job: JobMetadata,
    attempts: Vec<AttemptRecord>,
    /// Why the payload cannot be decoded, if it cannot; `None` for a job that has just been deleted.
    payload: Option<Result<Value, String>>,
}

impl FullJob {
    /// Returns a job with its details.
    pub(crate) fn new(job: JobMetadata, attempts: Vec<AttemptRecord>, payload: Option<&RawPayload>) -> Self {
        FullJob { job, attempts, payload: payload.map(decode) }
    }

    /// Returns the job as `job show` prints it.
    pub(crate) fn document(&self) -> String {
        super::yaml::document(&self.yaml())
    }
}

impl Json for JobMetadata {
    fn json(&self) -> Value {
        // The number of a lease is a string: it has more digits than many JSON parsers keep.
        let lease = self
            .lease
            .zip(self.lease_expires_at)
            .map(|(number, until)| Value::named([("number", Value::plain(number)), ("until", utc(until).into())]));
        Value::named([
            ("id", Value::plain(self.id)),
            ("queue", self.queue.as_str().into()),
            ("status", self.state.name().into()),
            ("priority", Value::number(self.priority)),
            ("created", utc(self.created_at).into()),
            ("attempt", Value::number(self.attempt)),
            ("retries", Value::number(self.retry_count)),
            ("max_retries", Value::number(self.max_retries)),
            ("snoozes", Value::number(self.snoozes)),
            ("run_at", self.run_at.and_then(utc).into()),
            ("expires", self.expires_at.and_then(utc).into()),
            ("timeout_ms", self.timeout.map(whole_ms).map(Value::number).into()),
            ("ended", self.ended_at.and_then(utc).into()),
            ("cancelled", self.cancelled_at.and_then(utc).into()),
            ("lease", lease.into()),
            ("worker", self.worker.as_deref().into()),
            ("trace", self.trace.as_deref().into()),
        ])
        .and(Value::named(texts(self)))
        .and(Value::named([
            ("codec", self.codec.name().into()),
            ("payload_bytes", Value::number(self.payload_bytes)),
            ("progress", progress(self)),
            ("result_bytes", self.result_bytes.map(Value::number).into()),
        ]))
    }
}

/// Returns the texts of a job with their names.
fn texts(job: &JobMetadata) -> [(&'static str, Value); 3] {
    [
        ("key", job.key.as_deref().into()),
        ("description", job.description.as_deref().into()),
        ("reason", job.reason.as_deref().into()),
    ]
}

/// Returns what the handler of a job has reported; null if it has not.
fn progress(job: &JobMetadata) -> Value {
    let Some(progress) = &job.progress else { return Value::Null };
    let stored = RawPayload { codec: Codec::Json, bytes: progress.clone().into() };
    decode(&stored).unwrap_or_else(Value::Text)
}

impl Json for FullJob {
    fn json(&self) -> Value {
        let (payload, problem) = match &self.payload {
            Some(Ok(value)) => (value.clone(), None),
            Some(Err(problem)) => (Value::Null, Some(problem.as_str())),
            None => (Value::Null, None),
        };
        self.job.json().and(Value::named([
            ("attempts", Value::list(self.attempts.iter().map(Json::json))),
            ("payload", payload),
            ("payload_problem", problem.into()),
        ]))
    }
}

impl Json for AttemptRecord {
    fn json(&self) -> Value {
        Value::named([
            ("attempt", Value::number(self.attempt)),
            ("ended", utc(self.ended_at).into()),
            ("ending", self.ending.name().into()),
            ("worker", self.worker.as_deref().into()),
            ("reason", self.reason.as_deref().into()),
        ])
    }
}

impl Show for FullJob {
    fn yaml(&self) -> Value {
        let job = &self.job;
        let time = |time: Timestamp| Value::plain(local_and_relative(time, job.read_at));
        let lease = job.lease.zip(job.lease_expires_at).map(|(number, until)| {
            let worker = job.worker.as_deref().into();
            Value::named([("until", time(until)), ("worker", worker), ("number", Value::number(number))])
        });
        let attempts = self.attempts.iter().map(|attempt| attempt_yaml(attempt, job.read_at));
        let shown = Value::present([
            ("id", Value::plain(job.id)),
            ("queue", job.queue.as_str().into()),
            ("status", Value::plain(job.state)),
            ("priority", Value::number(job.priority)),
            ("created", time(job.created_at)),
            ("retries", Value::number(job.retry_count)),
            ("max_retries", Value::number(job.max_retries)),
            ("snoozes", (job.snoozes > 0).then(|| Value::number(job.snoozes)).into()),
            ("run_at", job.run_at.map(time).into()),
            ("expires", job.expires_at.map(time).into()),
            ("timeout", job.timeout.map(|timeout| Value::plain(show_duration(timeout))).into()),
            ("lease", lease.into()),
            ("ended", job.ended_at.map(time).into()),
            ("cancelled", job.cancelled_at.map(time).into()),
            ("trace", job.trace.as_deref().into()),
            ("progress", progress(job)),
            ("result_bytes", job.result_bytes.map(Value::number).into()),
            ("cancel_reason", job.cancel_reason.as_deref().filter(|_| !job.state.is_ended()).into()),
        ]);
        let attempts = (!self.attempts.is_empty()).then(|| Value::list(attempts));
        let shown = shown.and(Value::present(texts(job))).and(Value::present([("attempts", attempts.into())]));
        // The payload may be null, which is shown.
        let payload = self.payload.clone().map(|payload| ("payload", payload.unwrap_or_else(Value::Text)));
        shown.and(Value::named(payload))
    }
}

fn attempt_yaml(attempt: &AttemptRecord, now: Timestamp) -> Value {
    let ending = if attempt.ending == Ending::Reap { "lease expired" } else { attempt.ending.name() };
    Value::present([
        ("attempt", Value::number(attempt.attempt)),
        ("ended", Value::plain(local_and_relative(attempt.ended_at, now))),
        ("ending", Value::plain(ending)),
        ("worker", attempt.worker.as_deref().into()),
        ("reason", attempt.reason.as_deref().into()),
    ])
}

impl List for JobMetadata {
    fn table(jobs: &[Self]) -> Table {
        /// Enough digits to identify a job.
        const SHORT_ID: usize = 12;
        let column = |text: fn(&JobMetadata) -> String| jobs.iter().map(text);
        let short_id = |id: String| id[id.len() - SHORT_ID..].to_owned();
        Table::new(vec![
            Column::new("id", column(|job| job.id.to_string()))
                .or_shorter(column(|job| job.id.to_string()).map(short_id)),
            Column::new("queue", column(|job| job.queue.clone())).may_be_cut(),
            Column::new("status", column(|job| job.state.name().to_owned())).coloured(colour),
            Column::numbers("retries", column(|job| job.retry_count.to_string())),
            Column::new("created", column(|job| format!("{}  {}", local(job.created_at), age(job))))
                .or_shorter(column(age)),
            Column::new("description", column(|job| job.description.clone().unwrap_or_default())).may_be_cut(),
        ])
    }
}

fn age(job: &JobMetadata) -> String {
    relative(job.created_at, job.read_at)
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
