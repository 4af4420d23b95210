//! A small in-memory database with the tables and statements that the machines need. It runs one statement at a time.

use super::fake_schedules::FakeSchedule;
use bytes::BytesMut;
use pm_core::op::{Claim, LineCursor};
use pm_core::{ClaimedJob, Instant, Lease, Operation, Plan, Rows, StatementId, Timestamp, Type, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;

pub(super) const PENDING: i16 = 0;
pub(super) const IN_PROGRESS: i16 = 1;
pub(super) const FINISHED: i16 = 2;
pub(super) const FAILED: i16 = 3;

const SOFT_FAIL: i16 = 1;
const RELEASE: i16 = 3;
const REAP: i16 = 4;

#[derive(Debug, Clone)]
pub(super) struct FakeQueue {
    pub(super) name: String,
    pub(super) paused: bool,
    pub(super) lease: Duration,
    pub(super) max_retries: i32,
    pub(super) backoff_ms: Vec<i64>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct FakeJob {
    pub(super) queue_id: i32,
    pub(super) priority: i32,
    pub(super) seq: Option<i64>,
    pub(super) state: i16,
    pub(super) run_at: Option<Instant>,
    pub(super) lease: Option<i64>,
    pub(super) expires_at: Option<Instant>,
    pub(super) attempt: i32,
    pub(super) retry_count: i32,
    pub(super) max_retries: Option<i32>,
    pub(super) key: Option<String>,
    pub(super) payload: Vec<u8>,
    pub(super) verdict: Option<i16>,
}

#[derive(Debug, Default)]
pub(super) struct Fake {
    pub(super) queues: BTreeMap<i32, FakeQueue>,
    pub(super) jobs: BTreeMap<Uuid, FakeJob>,
    attempts: BTreeSet<(Uuid, i64, i16)>,
    /// When each lease ends, expired ones included, and its initial length.
    pub(super) lease_ends: BTreeMap<Lease, (Instant, Duration)>,
    /// Whether another transaction has locked every job with an expired lease.
    pub(super) reaps_nothing: bool,
    /// Queues and keys that another transaction has locked.
    pub(super) locked_queues: BTreeSet<String>,
    pub(super) locked_keys: BTreeSet<String>,
    /// Jobs that another transaction has locked. Only extensions and settles consider this.
    pub(super) locked: BTreeSet<Uuid>,
    pub(super) schedules: BTreeMap<i32, FakeSchedule>,
    last_seq: i64,
    last_id: u128,
}

impl Fake {
    /// Creates a queue with leases of 10 s and three retries: at once, then twice after 1 s.
    pub(super) fn add_queue(&mut self, id: i32, name: &str) -> &mut FakeQueue {
        let lease = Duration::from_secs(10);
        let queue =
            FakeQueue { name: name.to_owned(), paused: false, lease, max_retries: 3, backoff_ms: vec![0, 1_000] };
        self.queues.insert(id, queue);
        self.queues.get_mut(&id).expect("inserted above")
    }

    /// Adds a job that is ready, or due at `run_at`.
    pub(super) fn add_job(&mut self, queue_id: i32, priority: i32, run_at: Option<Instant>) -> Uuid {
        self.last_id += 1;
        let id = Uuid::from_u128(self.last_id);
        let seq = run_at.is_none().then(|| self.next_seq());
        self.jobs.insert(id, FakeJob { queue_id, priority, seq, run_at, ..FakeJob::default() });
        id
    }

    pub(super) fn job(&self, id: Uuid) -> &FakeJob {
        &self.jobs[&id]
    }

    /// Restarts a job that is in progress, as an operator does.
    pub(super) fn force_restart(&mut self, id: Uuid) {
        let seq = self.next_seq();
        if let Some(job) = self.jobs.get_mut(&id).filter(|job| job.state == IN_PROGRESS) {
            (job.state, job.lease, job.expires_at, job.retry_count, job.seq) = (PENDING, None, None, 0, Some(seq));
        }
    }

    /// Claims one job of a queue at priority 0 for another worker.
    pub(super) fn claim_by_another(&mut self, queue_id: i32, now: Instant) {
        let _rows = self.claim(&[(queue_id, 0, 0)], 1, -1 - self.last_seq, None, now);
    }

    /// Adds a job to a queue, claims it and returns it, as a fetch does.
    pub(super) fn fetch(&mut self, queue_id: i32, now: Instant) -> ClaimedJob {
        self.add_job(queue_id, 0, None);
        let lines = vec![LineCursor { queue_id, priority: 0, cursor: 0 }];
        let claim = Claim { lines, limit: 1, lease: 1 << 40, worker: String::new(), due_bound: None };
        let rows = self.run(&claim.plan(), now);
        claim.interpret(&rows).expect("the fake's reply is valid").jobs.remove(0)
    }

    /// Deletes a queue and its jobs.
    pub(super) fn delete_queue(&mut self, id: i32) {
        self.queues.remove(&id);
        self.jobs.retain(|_, job| job.queue_id != id);
    }

    /// Runs a statement at the database's time `now`.
    pub(super) fn run(&mut self, plan: &Plan<'_>, now: Instant) -> Rows {
        use Value::{Int4Array, Int8, Int8Array, Text, TextArray};
        match (plan.statement, &plan.params[..]) {
            (StatementId::Settle | StatementId::Outcome | StatementId::Extend, _) => {
                self.run_lease_statement(plan, now)
            }
            (
                StatementId::Enqueue
                | StatementId::EnqueueKeyed
                | StatementId::EnqueueEach
                | StatementId::KeyHolder
                | StatementId::Notify,
                _,
            ) => self.run_producer(plan),
            (StatementId::Poll, [TextArray(names), bound, _]) => {
                let names: Vec<_> = names.iter().flatten().map(|name| name.as_ref()).collect();
                self.poll(&names, bound_of(bound), now)
            }
            (
                StatementId::Claim,
                [Int4Array(ids), Int4Array(priorities), Int8Array(cursors), Int8(limit), Int8(lease), Text(_), bound],
            ) => {
                let lines = ids.iter().flatten().zip(priorities.iter().flatten()).zip(cursors.iter().flatten());
                let lines: Vec<_> = lines.map(|((id, priority), cursor)| (*id, *priority, *cursor)).collect();
                self.claim(&lines, *limit, *lease, bound_of(bound), now)
            }
            (StatementId::Reap, [Int8(limit), Int8(_)]) => self.reap(*limit, now),
            (StatementId::Promote, [Int8(limit), bound]) => self.promote(*limit, bound_of(bound), now),
            (StatementId::ReleaseClaim, [Int8(lease)]) => self.release_claim(*lease),
            (StatementId::DueSchedules | StatementId::FireSchedules, _) => self.run_schedules(plan, now),
            (StatementId::NotifyIdle, [Text(_)]) => rows_of(1, [vec![Value::Int8(0)]].into_iter()),
            other => panic!("the fake does not know {other:?}"),
        }
    }

    /// Runs a statement about leases.
    fn run_lease_statement(&mut self, plan: &Plan<'_>, now: Instant) -> Rows {
        use Value::{Int2Array, Int8Array, UuidArray};
        let [UuidArray(jobs), Int8Array(numbers), rest @ ..] = &plan.params[..] else {
            panic!("the fake does not know {plan:?}");
        };
        let leases = jobs.iter().flatten().zip(numbers.iter().flatten());
        let leases: Vec<_> = leases.map(|(job, number)| Lease { job: *job, number: *number }).collect();
        match (plan.statement, rest) {
            (StatementId::Extend, []) => self.extend(&leases, now),
            (StatementId::Settle, [Int2Array(verdicts), Int2Array(states), delays, _, Value::Bool(_)]) => {
                let unsettled = leases.iter().enumerate().filter_map(|(n, lease)| {
                    let delay = if let Int8Array(delays) = delays { delays[n] } else { None };
                    if self.locked.contains(&lease.job) {
                        return Some(-(n as i64 + 1));
                    }
                    let done = self.settle(*lease, verdicts[n].expect("set"), states[n].expect("set"), delay, now);
                    (!done).then_some(n as i64 + 1)
                });
                rows_of(1, unsettled.map(|ordinal| vec![Value::Int8(ordinal)]).collect::<Vec<_>>().into_iter())
            }
            (StatementId::Outcome, [Int2Array(verdicts)]) => {
                let applied = |n: usize| self.was_applied(leases[n], verdicts[n].expect("set"));
                rows_of(2, (0..leases.len()).map(|n| vec![Value::Int8(n as i64 + 1), Value::Bool(applied(n))]))
            }
            other => panic!("the fake does not know {other:?}"),
        }
    }

    /// Runs a statement of a producer.
    fn run_producer(&mut self, plan: &Plan<'_>) -> Rows {
        use Value::{Int4Array, TextArray, UuidArray};
        let key_of = |keys: &Value<'_>, n: usize| {
            if let TextArray(keys) = keys { keys[n].as_deref().map(str::to_owned) } else { None }
        };
        match (plan.statement, &plan.params[..]) {
            (
                statement @ (StatementId::Enqueue | StatementId::EnqueueKeyed | StatementId::EnqueueEach),
                [UuidArray(ids), TextArray(queues), Int4Array(lines), _, _, _, _, _, _, keys, ..],
            ) => {
                let rows = (0..ids.len()).filter_map(|n| {
                    let (queue, line) = (queues[n].as_deref().expect("set"), lines[n].expect("set"));
                    // Without keys, the parameter at this index is another one.
                    let key = if statement == StatementId::Enqueue { None } else { key_of(keys, n) };
                    let refused = self.enqueue(ids[n].expect("set"), queue, line, key)?;
                    Some(vec![Value::Int8(n as i64 + 1), Value::Int2(refused), Value::Null(Type::Int4)])
                });
                rows_of(3, rows)
            }
            (StatementId::KeyHolder, [UuidArray(ids), TextArray(queues), keys]) => {
                let rows = (0..ids.len()).filter_map(|n| {
                    let queue = self.queue_id(queues[n].as_deref().expect("set"))?;
                    let id = ids[n].expect("set");
                    let own = self.jobs.get(&id).map(|job| (id, job.state));
                    let (id, state) = own.or_else(|| self.holder(queue, &key_of(keys, n)?))?;
                    Some(vec![Value::Int8(n as i64 + 1), Value::Uuid(id), Value::Int2(state)])
                });
                rows_of(3, rows)
            }
            (StatementId::Notify, [_, TextArray(notifications)]) => {
                rows_of(1, [vec![Value::Int8(notifications.len() as i64)]].into_iter())
            }
            other => panic!("the fake does not know {other:?}"),
        }
    }

    pub(super) fn next_seq(&mut self) -> i64 {
        self.last_seq += 1;
        self.last_seq
    }

    fn queue_id(&self, name: &str) -> Option<i32> {
        self.queues.iter().find(|(_, queue)| queue.name == name).map(|(id, _)| *id)
    }

    fn next_due(&self, bound: Option<Instant>, now: Instant) -> Value<'static> {
        let waiting = self.jobs.values().filter(|job| job.seq.is_none()).filter_map(|job| job.run_at);
        ms_or_null(waiting.filter(|at| bound <= Some(*at)).min(), now)
    }

    fn next_expiry(&self, now: Instant) -> Value<'static> {
        let leased = self.jobs.values().filter(|job| job.state == IN_PROGRESS);
        ms_or_null(leased.filter_map(|job| job.expires_at).min(), now)
    }

    fn poll(&self, names: &[&str], bound: Option<Instant>, now: Instant) -> Rows {
        let followed = self.queues.iter().filter(|(_, queue)| names.contains(&queue.name.as_str()));
        let rows = followed.map(|(id, queue)| {
            let in_line = self.jobs.values().filter(|job| job.queue_id == *id && job.seq.is_some());
            let priorities: BTreeSet<_> = in_line.map(|job| job.priority).collect();
            vec![
                Value::Int4(*id),
                Value::Text(&queue.name),
                Value::Bool(queue.paused),
                Value::Int8(queue.lease.as_millis() as i64),
                Value::Int4(queue.max_retries),
                Value::Int8Array(queue.backoff_ms.iter().copied().map(Some).collect()),
                Value::Int2(0),
                Value::Int4Array(priorities.into_iter().rev().map(Some).collect()),
                self.next_due(bound, now),
                self.next_expiry(now),
                ms_or_null(self.schedules.values().filter_map(|schedule| schedule.next_tick).min(), now),
            ]
        });
        rows_of(11, rows)
    }

    fn claim(
        &mut self,
        lines: &[(i32, i32, i64)],
        limit: i64,
        number: i64,
        bound: Option<Instant>,
        now: Instant,
    ) -> Rows {
        let mut picked = Vec::new();
        for (queue_id, priority, cursor) in lines {
            let Some(queue) = self.queues.get(queue_id).filter(|queue| !queue.paused) else { continue };
            let is_ready = |job: &FakeJob| job.state == PENDING && job.seq > Some(*cursor);
            let on_line = |job: &FakeJob| job.queue_id == *queue_id && job.priority == *priority && is_ready(job);
            let mut line: Vec<_> = self.jobs.iter().filter(|(_, job)| on_line(job)).collect();
            line.sort_by_key(|(_, job)| job.seq);
            picked.extend(line.into_iter().map(|(id, _)| (*id, queue.lease)));
        }
        picked.truncate(limit as usize);
        let mut bytes = 0;
        picked.retain(|(id, _)| {
            let fits = bytes < Claim::MAX_BYTES;
            bytes += self.jobs[id].payload.len();
            fits
        });
        for (id, length) in &picked {
            let job = self.jobs.get_mut(id).expect("found above");
            (job.state, job.lease, job.expires_at) = (IN_PROGRESS, Some(number), Some(now + *length));
            job.attempt += 1;
            self.lease_ends.insert(Lease { job: *id, number }, (now + *length, *length));
        }
        let asked: BTreeSet<_> = lines.iter().map(|(queue_id, _, _)| *queue_id).collect();
        let queues = self.queues.iter().filter(|(id, _)| asked.contains(id)).map(|(id, queue)| {
            let null = Value::Null;
            vec![
                null(Type::Uuid),
                Value::Int4(*id),
                Value::Bool(queue.paused),
                Value::Int8(queue.lease.as_millis() as i64),
                Value::Int4(queue.max_retries),
                Value::Int8Array(queue.backoff_ms.iter().copied().map(Some).collect()),
                Value::Int2(0),
                self.next_due(bound, now),
                null(Type::Int4),
                null(Type::Int8),
                null(Type::Int4),
                null(Type::Int4),
                null(Type::Timestamp),
                null(Type::Int2),
                null(Type::Text),
                null(Type::Text),
                null(Type::Bytes),
            ]
        });
        // The order of updated rows is undefined.
        let jobs = picked.iter().rev().map(|(id, _)| claimed_row(*id, &self.jobs[id]));
        rows_of(17, queues.chain(jobs))
    }

    fn settle(&mut self, lease: Lease, verdict: i16, state: i16, delay: Option<i64>, now: Instant) -> bool {
        let seq = self.next_seq();
        let Some(job) = self.jobs.get_mut(&lease.job) else { return false };
        if (job.lease, job.state) != (Some(lease.number), IN_PROGRESS) {
            return false;
        }
        let delay = delay.filter(|delay| state == PENDING && *delay > 0);
        job.seq = match (state, verdict, delay) {
            (FINISHED | FAILED, _, _) | (_, SOFT_FAIL, Some(_)) => None,
            (_, RELEASE, _) => job.seq,
            _ => Some(seq),
        };
        job.run_at = delay.map(|delay| now + Duration::from_millis(delay as u64));
        (job.state, job.verdict, job.expires_at) = (state, Some(verdict), None);
        job.retry_count += i32::from(verdict == SOFT_FAIL);
        if !matches!(verdict, 0 | RELEASE) {
            self.attempts.insert((lease.job, lease.number, verdict));
        }
        true
    }

    fn was_applied(&self, lease: Lease, verdict: i16) -> bool {
        let is_last =
            |job: &FakeJob| (job.lease, job.verdict) == (Some(lease.number), Some(verdict)) && job.state != IN_PROGRESS;
        self.jobs.get(&lease.job).is_some_and(is_last) || self.attempts.contains(&(lease.job, lease.number, verdict))
    }

    fn extend(&mut self, leases: &[Lease], now: Instant) -> Rows {
        let rows = leases.iter().enumerate().filter_map(|(n, lease)| {
            let job = self.jobs.get_mut(&lease.job)?;
            let holds = job.state == IN_PROGRESS && job.lease == Some(lease.number);
            let length = self.queues.get(&job.queue_id).filter(|_| holds)?.lease;
            if self.locked.contains(&lease.job) {
                return Some(vec![Value::Int8(n as i64 + 1), Value::Null(Type::Int8)]);
            }
            let end = (now + length).max(job.expires_at?);
            job.expires_at = Some(end);
            self.lease_ends.entry(*lease).and_modify(|(last, _)| *last = end);
            Some(vec![Value::Int8(n as i64 + 1), ms_or_null(Some(end), now)])
        });
        rows_of(2, rows.collect::<Vec<_>>().into_iter())
    }

    pub(super) fn reap(&mut self, limit: i64, now: Instant) -> Rows {
        let expired = |job: &FakeJob| job.state == IN_PROGRESS && job.expires_at <= Some(now);
        let limit = if self.reaps_nothing { 0 } else { limit };
        let ids: Vec<_> = self.jobs.iter().filter(|(_, job)| expired(job)).map(|(id, _)| *id).collect();
        let ids = &ids[..ids.len().min(limit as usize)];
        for id in ids {
            let seq = self.next_seq();
            let job = self.jobs.get_mut(id).expect("found above");
            let queue = &self.queues[&job.queue_id];
            let last = job.retry_count >= job.max_retries.unwrap_or(queue.max_retries);
            let index = (job.retry_count as usize).min(queue.backoff_ms.len() - 1);
            let delay = Duration::from_millis(queue.backoff_ms[index] as u64);
            self.attempts.insert((*id, job.lease.unwrap_or_default(), REAP));
            job.retry_count += 1;
            (job.state, job.verdict, job.expires_at) = (if last { FAILED } else { PENDING }, Some(REAP), None);
            job.run_at = (!last && !delay.is_zero()).then(|| now + delay);
            job.seq = (!last && delay.is_zero()).then_some(seq);
        }
        rows_of(2, [vec![Value::Int8(ids.len() as i64), self.next_expiry(now)]].into_iter())
    }

    fn promote(&mut self, limit: i64, bound: Option<Instant>, now: Instant) -> Rows {
        let waiting = self.jobs.iter().filter(|(_, job)| job.seq.is_none() && job.run_at >= bound);
        let mut due: Vec<_> =
            waiting.filter_map(|(id, job)| Some((job.run_at?, *id))).filter(|due| due.0 <= now).collect();
        due.sort_unstable();
        due.truncate(limit as usize);
        for (_, id) in &due {
            let seq = self.next_seq();
            let job = self.jobs.get_mut(id).expect("found above");
            (job.seq, job.run_at) = (Some(seq), None);
        }
        let upto = due.last().map_or(Value::Null(Type::Timestamp), |(at, _)| Value::Timestamp(timestamp(*at)));
        let row = vec![Value::Int8(due.len() as i64), upto, self.next_due(Some(now), now)];
        rows_of(3, [row].into_iter())
    }

    fn release_claim(&mut self, number: i64) -> Rows {
        let mut released = 0;
        for job in self.jobs.values_mut().filter(|job| (job.lease, job.state) == (Some(number), IN_PROGRESS)) {
            (job.state, job.verdict, job.expires_at) = (PENDING, Some(RELEASE), None);
            released += 1;
        }
        rows_of(1, [vec![Value::Int8(released)]].into_iter())
    }

    fn holder(&self, queue_id: i32, key: &str) -> Option<(Uuid, i16)> {
        let holds = |job: &FakeJob| job.queue_id == queue_id && job.key.as_deref() == Some(key) && job.state < FINISHED;
        self.jobs.iter().find(|(_, job)| holds(job)).map(|(id, job)| (*id, job.state))
    }

    fn enqueue(&mut self, id: Uuid, queue: &str, priority: i32, key: Option<String>) -> Option<i16> {
        let Some(queue_id) = self.queue_id(queue) else { return Some(1) };
        if self.locked_queues.contains(queue) {
            return Some(4);
        }
        if key.as_ref().is_some_and(|key| self.locked_keys.contains(key)) {
            return Some(5);
        }
        if self.jobs.contains_key(&id) || key.as_ref().is_some_and(|key| self.holder(queue_id, key).is_some()) {
            return Some(2);
        }
        let seq = Some(self.next_seq());
        self.jobs.insert(id, FakeJob { queue_id, priority, seq, key, ..FakeJob::default() });
        None
    }
}

fn claimed_row(id: Uuid, job: &FakeJob) -> Vec<Value<'_>> {
    vec![
        Value::Uuid(id),
        Value::Int4(job.queue_id),
        Value::Null(Type::Bool),
        Value::Null(Type::Int8),
        job.max_retries.map_or(Value::Null(Type::Int4), Value::Int4),
        Value::Null(Type::Int8Array),
        Value::Null(Type::Int2),
        Value::Null(Type::Int8),
        Value::Int4(job.priority),
        Value::Int8(job.seq.expect("a claimed job has a position")),
        Value::Int4(job.attempt),
        Value::Int4(job.retry_count),
        Value::Timestamp(Timestamp::from_unix_us(0)),
        Value::Int2(0),
        Value::Null(Type::Text),
        Value::Null(Type::Text),
        Value::Bytes(&job.payload),
    ]
}

/// Returns rows of these cells.
pub(super) fn rows_of<'a>(columns: usize, rows: impl Iterator<Item = Vec<Value<'a>>>) -> Rows {
    let mut builder = Rows::builder(columns);
    for cell in rows.flatten() {
        let mut bytes = BytesMut::new();
        cell.encode(&mut bytes).expect("no cell of these tests is 2 GiB long");
        builder.push((!cell.is_null()).then_some(&bytes));
    }
    builder.finish()
}

pub(super) fn timestamp(at: Instant) -> Timestamp {
    Timestamp::from_unix_us(at.since(Instant::default()).as_micros() as i64)
}

pub(super) fn bound_of(value: &Value<'_>) -> Option<Instant> {
    match value {
        Value::Timestamp(at) => Some(Instant::from_start(Duration::from_micros(at.unix_us() as u64))),
        _ => None,
    }
}

/// Returns the time until `at`, negative when it is past, rounded as Postgres does.
pub(super) fn ms_or_null(at: Option<Instant>, now: Instant) -> Value<'static> {
    let rounded = |duration: Duration| (duration.as_micros() as i64 + 500) / 1_000;
    at.map_or(Value::Null(Type::Int8), |at| Value::Int8(rounded(at.since(now)) - rounded(now.since(at))))
}
