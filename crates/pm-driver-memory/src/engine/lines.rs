//! Polling, promoting, claiming and fetching jobs.

use super::tables::{FrontierRow, IN_PROGRESS, JobRow, PENDING, QueueRow};
use super::{Work, later, ms_until};
use pm_core::op::{Claim, ClaimRow, FetchRow, HeadRow, PollRow, PromoteRow};
use pm_core::{Codec, LeasedColumns, QueueSettings, Timestamp};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

/// For how long after its timeout a job is leased at most.
const TIMEOUT_GRACE_MS: i64 = 30_000;

impl Work<'_> {
    /// Returns the milliseconds until the next scheduled job is due, of those due at `bound` or later.
    fn due_ms(&self, bound: Option<Timestamp>) -> Option<i64> {
        let waiting = self.tables.job.values().filter(|job| job.is_waiting()).filter_map(|job| job.run_at);
        let next = waiting.filter(|at| Some(*at) >= bound && *at < Timestamp::INFINITY).min();
        next.map(|at| ms_until(at, self.now))
    }

    pub(super) fn claim(&mut self) {
        let (queues, priorities, cursors): (Vec<i32>, Vec<i32>, Vec<i64>) =
            (self.args.all(), self.args.all(), self.args.all());
        let limit = self.args.next::<i64>().unwrap_or_default() as usize;
        let (lease, worker, bound) = (self.args.next(), self.args.next(), self.args.next());
        let due_ms = self.due_ms(bound);
        let mut selected = Vec::new();
        for ((queue_id, priority), cursor) in queues.iter().zip(&priorities).zip(&cursors) {
            if self.tables.queue.get(queue_id).is_none_or(|queue| queue.paused || queue.name.is_none()) {
                continue;
            }
            let in_line = |job: &&JobRow| (job.queue_id, job.priority) == (*queue_id, *priority);
            let ready = self
                .tables
                .job
                .values()
                .filter(in_line)
                .filter(|job| job.is_ready() && job.seq > Some(*cursor) && job.may_start(self.now));
            let mut line: Vec<_> = ready.map(|job| (job.seq, job.id)).collect();
            line.sort_unstable();
            line.truncate(limit - selected.len().min(limit));
            if let Some((Some(head), _)) = line.last() {
                self.raise_frontier((*queue_id, *priority), *head);
            }
            selected.extend(line.into_iter().map(|(_, id)| id));
        }
        let mut bytes = 0;
        selected.retain(|id| {
            let fits = bytes < Claim::MAX_BYTES;
            bytes += self.tables.payload_of(&self.tables.job[id]).map_or(0, |payload| payload.len());
            fits
        });
        let followed: BTreeSet<_> =
            queues.iter().filter_map(|id| self.tables.queue.get(id)).map(|queue| queue.id).collect();
        let followed = followed.iter().map(|id| &self.tables.queue[id]).filter(|queue| queue.name.is_some());
        let now = self.now;
        let settings = |queue: &QueueRow| ClaimRow {
            id: None,
            queue_id: queue.id,
            paused: Some(queue.paused),
            lease_ms: Some(queue.lease_ms()),
            retries: queue.retries(),
            due_ms,
            claimed_at: Some(now),
            job: None,
        };
        self.add_all(followed.map(settings).collect());
        for id in selected {
            let job = self.lease(id, lease, &worker);
            self.add(ClaimRow {
                id: Some(id),
                queue_id: job.queue_id,
                paused: None,
                lease_ms: self.unreadable_ms(&job),
                retries: job.retries(),
                due_ms: None,
                claimed_at: None,
                job: Some(self.leased_columns(job)),
            });
        }
    }

    /// Raises the claim frontier of a line above a claimed position, unless it is an upper bound already.
    fn raise_frontier(&mut self, line: (i32, i32), head: i64) {
        let raised = FrontierRow { seq: head + 1_000, retired_at: None };
        let frontier = self.tables.claim_frontier.entry(line).or_insert(raised);
        if frontier.retired_at.is_some() || head > frontier.seq {
            *frontier = FrontierRow { seq: raised.seq.max(frontier.seq), retired_at: None };
        }
    }

    /// Leases a job and returns it.
    fn lease(&mut self, id: Uuid, lease: Option<i64>, worker: &Option<String>) -> JobRow {
        let job = &self.tables.job[&id];
        let of_queue = self.tables.queue.get(&job.queue_id).map_or(0, QueueRow::lease_ms);
        let timeout_ms = self.timeout_of(job).map(|timeout| timeout.as_millis() as i64);
        let length = timeout_ms.map_or(of_queue, |timeout_ms| of_queue.min(timeout_ms + TIMEOUT_GRACE_MS));
        let job = self.tables.job.get_mut(&id).expect("found above");
        (job.state, job.lease, job.worker) = (IN_PROGRESS, lease, worker.clone());
        job.attempt += 1;
        job.lease_expires_at = Some(later(self.now, length));
        job.clone()
    }

    fn unreadable_ms(&self, job: &JobRow) -> Option<i64> {
        job.unreadable_since.map(|since| ms_until(self.now, since))
    }

    /// Returns how long an attempt of the job may take.
    pub(super) fn timeout_of(&self, job: &JobRow) -> Option<Duration> {
        let of_queue = || self.tables.queue.get(&job.queue_id)?.settings.timeout;
        job.timeout_ms.map(|ms| Duration::from_millis(ms.unsigned_abs())).or_else(of_queue)
    }

    fn leased_columns(&self, job: JobRow) -> LeasedColumns {
        LeasedColumns {
            priority: job.priority,
            seq: job.seq.unwrap_or_default(),
            attempt: job.attempt.unsigned_abs(),
            retry_count: job.retry_count.unsigned_abs(),
            snoozes: job.snoozes.map(i32::unsigned_abs),
            timeout: self.timeout_of(&job),
            created_at: job.created_at,
            codec: Codec::from_code(job.codec),
            payload: self.tables.payload_of(&job),
            description: job.description,
            key: job.key,
            trace: job.trace.map(String::into_boxed_str),
        }
    }

    pub(super) fn fetch_job(&mut self) {
        let (id, lease, worker) = (self.args.next::<Uuid>().unwrap_or_default(), self.args.next(), self.args.next());
        let Some(job) = self.tables.job.get(&id) else { return };
        let Some(queue) = self.tables.queue.get(&job.queue_id) else { return };
        let is_due = job.seq.is_some() || job.run_at.is_some_and(|at| at <= self.now);
        let may_start = is_due && job.may_start(self.now);
        if job.state != PENDING || job.paused || queue.paused || queue.name.is_none() || !may_start {
            return;
        }
        let of_queue = FetchRow {
            id: None,
            queue_id: queue.id,
            name: queue.name.clone(),
            lease_ms: Some(queue.lease_ms()),
            retries: queue.retries(),
            claimed_at: Some(self.now),
            job: None,
        };
        let seq = self.at_frontier(job.queue_id, job.priority, job.seq);
        self.tables.job.entry(id).and_modify(|job| (job.seq, job.run_at) = (seq, None));
        let job = self.lease(id, lease, &worker);
        self.add(of_queue);
        self.add(FetchRow {
            id: Some(id),
            queue_id: job.queue_id,
            name: None,
            lease_ms: self.unreadable_ms(&job),
            retries: job.retries(),
            claimed_at: None,
            job: Some(self.leased_columns(job)),
        });
    }

    /// Returns the position of a job in progress, lowered to the claim frontier of its line if necessary.
    pub(super) fn at_frontier(&mut self, queue_id: i32, priority: i32, seq: Option<i64>) -> Option<i64> {
        let new = FrontierRow { seq: 1, retired_at: None };
        let frontier = self.tables.claim_frontier.entry((queue_id, priority)).or_insert(new);
        // A retired frontier may be about to be deleted.
        let bound = frontier.retired_at.take().map_or(frontier.seq, |_| 1);
        Some(seq.map_or(bound, |seq| seq.min(bound)))
    }

    pub(super) fn poll(&mut self) {
        let (names, idle_ms): (Vec<String>, Option<i64>) = (self.args.all(), self.args.next());
        let (due_ms, now) = (self.due_ms(None), self.now);
        let expiry = self.tables.job.values().filter_map(|job| job.lease_expires_at).min();
        let overdue =
            self.tables.job.values().filter(|job| job.state != IN_PROGRESS).filter_map(|job| job.expires_at).min();
        let expiry = expiry.into_iter().chain(overdue).min();
        let expiry_ms = expiry.map(|at| ms_until(at, now));
        let tick = self.tables.schedule.values().filter_map(|schedule| schedule.next_tick).min();
        let tick_ms = tick.map(|at| ms_until(at, now));
        let mut rows = Vec::new();
        for queue in self.tables.queue.values_mut() {
            let Some(name) = queue.name.clone().filter(|name| names.contains(name)) else { continue };
            queue.idle_until = queue.idle_until.max(idle_ms.map(|ms| later(now, ms)));
            let in_line = self.tables.job.values().filter(|job| job.queue_id == queue.id && job.seq.is_some());
            let priorities: BTreeSet<_> = in_line.map(|job| Reverse(job.priority)).collect();
            let priorities = priorities.into_iter().map(|Reverse(priority)| priority).collect();
            let QueueSettings { lease, backoff, .. } = queue.settings.clone();
            let (id, paused) = (queue.id, queue.paused);
            rows.push(PollRow { id, name, paused, lease, backoff, priorities, due_ms, expiry_ms, tick_ms });
        }
        rows.into_iter().for_each(|row| self.add(row));
    }

    pub(super) fn promote(&mut self) {
        let (limit, bound) = (self.args.next::<i64>().unwrap_or_default() as usize, self.args.next::<Timestamp>());
        let waiting = self.tables.job.values().filter(|job| job.is_waiting() && job.run_at >= bound);
        let mut due: Vec<_> = waiting.map(|job| (job.run_at, job.id)).filter(|(at, _)| *at <= Some(self.now)).collect();
        due.sort_unstable();
        due.truncate(limit);
        for (_, id) in &due {
            let seq = self.tables.next_seq();
            self.tables.job.entry(*id).and_modify(|job| (job.seq, job.run_at) = (seq, None));
        }
        let just_after = Timestamp::from_unix_us(self.now.unix_us() + 1);
        let upto = due.last().and_then(|(at, _)| *at);
        self.add(PromoteRow { promoted: due.len() as u64, upto, next_ms: self.due_ms(Some(just_after)) });
    }

    pub(super) fn next_jobs(&mut self) {
        let name = self.args.next::<String>().unwrap_or_default();
        let limit = self.args.next::<i64>().unwrap_or_default() as usize;
        let Some(queue) = self.tables.queue_named(&name).cloned() else { return };
        let is_due = |job: &JobRow| job.is_waiting() && job.run_at <= Some(self.now);
        let of_queue = self.tables.job.values().filter(|job| job.queue_id == queue.id);
        let is_next = |job: &&JobRow| (job.is_ready() || is_due(job)) && job.may_start(self.now);
        let mut next: Vec<_> = of_queue.filter(is_next).collect();
        next.sort_by_key(|job| (Reverse(job.priority), job.seq.is_none(), job.seq, job.run_at));
        let mut next: Vec<_> = next.into_iter().take(limit).map(|job| self.shown(job)).collect();
        if next.is_empty() {
            next.push(None);
        }
        next.into_iter().for_each(|job| self.add(HeadRow { is_paused: queue.paused, job }));
    }
}
