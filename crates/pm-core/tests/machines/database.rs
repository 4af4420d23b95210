//! The memory driver's database, on the clock of the rig, with the locks of other transactions.

use bytes::{Bytes, BytesMut};
use pm_core::op::{CancelJobs, Claim, CreateQueue, EndJobs, Enqueue, LineCursor, Precondition, Reap, RestartJobs};
use pm_core::{
    Backoff, Catalog, ClaimedJob, Cron, EnqueueOptions, Failure, Instant, Lease, NewJob, Operation, Plan, QueueName,
    Reason, Rows, RunAt, SchemaName, StatementId, Timestamp, Value,
};
use pm_driver_memory::{Clock, JobRow, QueueRow, ScheduleRow, Tables};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use uuid::Uuid;

pub(super) const PENDING: i16 = 0;
pub(super) const IN_PROGRESS: i16 = 1;
pub(super) const FINISHED: i16 = 2;
pub(super) const FAILED: i16 = 3;

/// Returns a backoff with this number of retries and these delays in milliseconds, and without jitter.
pub(super) fn exact_backoff<const DELAYS: usize>(max_retries: u32, delays_ms: [u64; DELAYS]) -> Backoff {
    Backoff::new(delays_ms.map(Duration::from_millis).to_vec(), max_retries, 0).expect("they are in range")
}

/// A number that no lease has.
const NO_LEASE: i64 = i64::MIN;

/// The time of the last statement, in microseconds. The virtual clock starts at the beginning of 1970 in UTC.
#[derive(Debug, Clone, Default)]
struct LastRun(Arc<AtomicI64>);

impl Clock for LastRun {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_us(self.0.load(Ordering::Relaxed))
    }
}

pub(super) struct Database {
    pub(super) memory: pm_driver_memory::Database,
    clock: LastRun,
    catalog: Catalog,
    /// When each lease ends, expired ones included, and its initial length.
    pub(super) lease_ends: BTreeMap<Lease, (Instant, Duration)>,
    /// Whether another transaction has locked every job with an expired lease.
    pub(super) reaps_nothing: bool,
    /// Jobs that another transaction has locked. Only extensions and settles consider this.
    pub(super) locked: BTreeSet<Uuid>,
    /// Schedules that another transaction has locked, or their queues.
    pub(super) locked_schedules: BTreeSet<i32>,
    last_id: u128,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.memory.look(|tables| tables.fmt(f))
    }
}

impl Database {
    /// Returns a database with queue `a`, whose id is 1.
    pub(super) fn new() -> Self {
        let clock = LastRun::default();
        let mut database = Database {
            memory: pm_driver_memory::Database::with_clock(clock.clone()),
            clock,
            catalog: Catalog::new(&SchemaName::default()),
            lease_ends: BTreeMap::new(),
            reaps_nothing: false,
            locked: BTreeSet::new(),
            locked_schedules: BTreeSet::new(),
            last_id: 0,
        };
        assert_eq!(database.add_queue("a"), 1);
        database
    }

    /// Creates a queue with leases of 10 s and three retries: at once, then twice after 1 s.
    pub(super) fn add_queue(&mut self, name: &str) -> i32 {
        self.run_now(&CreateQueue { name: queue_name(name), paused: false }.plan());
        let id = self.queue_id(name).expect("it was created");
        self.change_queue(id, |queue| {
            queue.settings.lease = Duration::from_secs(10);
            queue.settings.backoff = exact_backoff(3, [0, 1_000]);
        });
        id
    }

    /// Adds a job that is ready, or due at `run_at`.
    pub(super) fn add_job(&mut self, queue_id: i32, priority: i32, run_at: Option<Instant>) -> Uuid {
        self.last_id += 1;
        let id = Uuid::from_u128(self.last_id);
        let name = self.memory.look(|tables| tables.queue[&queue_id].name.clone()).expect("it is not deleted");
        let run_at = run_at.map(|at| RunAt::At(timestamp(at)));
        let mut options = EnqueueOptions::default().priority(priority);
        options.run_at = run_at;
        let jobs = [NewJob { id, queue: queue_name(&name), payload: Bytes::new(), options }];
        self.run_now(&Enqueue { jobs: &jobs }.plan());
        id
    }

    /// Adds a job to a queue, claims it and returns it, as a fetch does.
    pub(super) fn fetch(&mut self, queue_id: i32, now: Instant) -> ClaimedJob {
        self.add_job(queue_id, 0, None);
        self.claim(queue_id, 1 << 40, now).expect("there is a job")
    }

    /// Claims one job of a queue at priority 0 for another worker.
    pub(super) fn claim_by_another(&mut self, queue_id: i32, now: Instant) {
        let number = -1 - self.memory.look(|tables| tables.last_seq);
        self.claim(queue_id, number, now);
    }

    fn claim(&mut self, queue_id: i32, lease: i64, now: Instant) -> Option<ClaimedJob> {
        let lines = vec![LineCursor { queue_id, priority: 0, cursor: 0 }];
        let claim = Claim { lines, limit: 1, lease, worker: "another".to_owned(), due_bound: None };
        let rows = self.run(&claim.plan(), now).expect("a claim never fails here");
        claim.interpret(&rows).expect("the reply is valid").jobs.pop()
    }

    /// Reaps, as another process does.
    pub(super) fn reap(&mut self, now: Instant) {
        self.run(&Reap { limit: Reap::BATCH, seed: 0 }.plan(), now).expect("a reap never fails here");
    }

    /// Restarts a job if it is in progress, as an operator does.
    pub(super) fn force_restart(&mut self, id: Uuid) {
        if self.job(id).state == IN_PROGRESS {
            self.run_now(&RestartJobs { ids: vec![id], force: true, precondition: Precondition::default() }.plan());
        }
    }

    /// Cancels a job, as an operator does.
    pub(super) fn cancel(&mut self, id: Uuid) {
        let (reason, precondition) = (Reason::new("no longer wanted"), Precondition::default());
        self.run_now(&CancelJobs { ids: vec![id], force: false, reason, precondition }.plan());
    }

    /// Ends a job, as an operator does.
    pub(super) fn end_job(&mut self, id: Uuid) {
        self.run_now(&EndJobs::done(vec![id]).plan());
    }

    /// Deletes a queue and its jobs.
    pub(super) fn delete_queue(&mut self, id: i32) {
        self.change(|tables| {
            tables.queue.remove(&id);
            tables.job.retain(|_, job| job.queue_id != id);
        });
    }

    /// Creates a schedule that fires every minute, each missed tick included, from the next whole minute on.
    pub(super) fn add_schedule(&mut self, name: &str, now: Instant) -> i32 {
        let cron = Cron::new("* * * * *", "UTC").expect("a valid expression");
        let next_tick = Some(cron.next(timestamp(now)).expect("a next tick"));
        self.memory.change(|tables| {
            let id = tables.schedule.len() as i32 + 1;
            let schedule = ScheduleRow {
                id,
                name: name.to_owned(),
                next_tick,
                revision: 1,
                queue_id: 1,
                missed: 2,
                missed_limit: Some(100),
                cron: "* * * * *".to_owned(),
                zone: "UTC".to_owned(),
                ..ScheduleRow::default()
            };
            tables.schedule.insert(id, schedule);
            id
        })
    }

    pub(super) fn schedule(&self, id: i32) -> ScheduleRow {
        self.memory.look(|tables| tables.schedule[&id].clone())
    }

    pub(super) fn change_schedule(&mut self, id: i32, change: impl FnOnce(&mut ScheduleRow)) {
        self.change(|tables| change(tables.schedule.get_mut(&id).expect("the schedule exists")));
    }

    /// Returns the keys of the jobs that a schedule enqueued, in order.
    pub(super) fn fired(&self, name: &str) -> Vec<String> {
        let prefix = format!("{name}@");
        let keys = self.jobs().into_iter().filter_map(|job| job.key);
        let mut keys: Vec<_> = keys.filter(|key| key.starts_with(&prefix)).collect();
        keys.sort_unstable();
        keys
    }

    /// Returns the queues by id.
    pub(super) fn queues(&self) -> BTreeMap<i32, QueueRow> {
        self.memory.look(|tables| tables.queue.clone())
    }

    /// Changes a queue, if it exists.
    pub(super) fn change_queue(&mut self, id: i32, change: impl FnOnce(&mut QueueRow)) {
        self.change(|tables| {
            if let Some(queue) = tables.queue.get_mut(&id) {
                change(queue);
            }
        });
    }

    /// Sets the length of the leases of a queue, if it exists.
    pub(super) fn set_lease(&mut self, id: i32, lease: Duration) {
        self.change_queue(id, |queue| queue.settings.lease = lease);
    }

    /// Returns the jobs in the order of their ids.
    pub(super) fn jobs(&self) -> Vec<JobRow> {
        self.memory.look(|tables| tables.job.values().cloned().collect())
    }

    pub(super) fn job(&self, id: Uuid) -> JobRow {
        self.memory.look(|tables| tables.job[&id].clone())
    }

    pub(super) fn change_job(&mut self, id: Uuid, change: impl FnOnce(&mut JobRow)) {
        self.change(|tables| change(tables.job.get_mut(&id).expect("the job exists")));
    }

    pub(super) fn change(&mut self, change: impl FnOnce(&mut Tables)) {
        self.memory.change(change);
    }

    /// Locks these queues and keys of queue 1 for another transaction, and no others.
    pub(super) fn lock_for_enqueues(&mut self, queues: &[&str], keys: impl IntoIterator<Item = u8>) {
        let queues = queues.iter().filter_map(|name| self.queue_id(name)).collect();
        let keys = keys.into_iter().map(|key| (1, key.to_string())).collect();
        self.change(|tables| (tables.locked_queues, tables.locked_keys) = (queues, keys));
    }

    fn queue_id(&self, name: &str) -> Option<i32> {
        self.queues().into_values().find(|queue| queue.name.as_deref() == Some(name)).map(|queue| queue.id)
    }

    /// Runs a statement of an operator or another process, which is not refused, at the time of the last statement.
    fn run_now(&mut self, plan: &Plan<'_>) {
        let now = instant(self.clock.now());
        self.run(plan, now).expect("the database does not refuse it");
    }

    /// Runs a statement at the database's time `now`.
    pub(super) fn run(&mut self, plan: &Plan<'_>, now: Instant) -> Result<Rows, Failure> {
        self.clock.0.store(timestamp(now).unix_us(), Ordering::Relaxed);
        let statement = self.catalog.statement(plan.statement);
        assert!(plan.params.iter().map(Value::ty).eq(statement.params.iter().copied()), "types of {plan:?}");
        let mut params = plan.params.clone();
        let locked = self.pass_locked(plan.statement, &mut params)?;
        let rows = self.memory.answer(statement, &params)?;
        if matches!(plan.statement, StatementId::Claim | StatementId::Extend) {
            self.record_leases();
        }
        Ok(self.odd_order_and_locks(plan.statement, &rows, &locked))
    }

    /// Changes the parameters of a statement so that it changes no row that another transaction has locked; returns the
    /// ordinals of the locked ones of a settle or an extension. Fails if the statement waits for a lock.
    fn pass_locked(&self, statement: StatementId, params: &mut [Value<'_>]) -> Result<BTreeSet<i64>, Failure> {
        let mut locked = BTreeSet::new();
        match (statement, params) {
            (
                StatementId::Settle | StatementId::SettleCommits | StatementId::Extend,
                [Value::UuidArray(ids), Value::Int8Array(leases), rest @ ..],
            ) => {
                for (n, (id, lease)) in ids.iter().flatten().zip(leases).enumerate() {
                    let holds = |job: &JobRow| job.state == IN_PROGRESS && job.lease == *lease;
                    let is_held = self.memory.look(|tables| tables.job.get(id).is_some_and(holds));
                    if self.locked.contains(id) && (is_held || statement != StatementId::Extend) {
                        locked.insert(n as i64 + 1);
                        *lease = Some(NO_LEASE);
                    }
                }
                let waits = statement == StatementId::SettleCommits || rest.get(4) == Some(&Value::Bool(false));
                if !locked.is_empty() && waits {
                    return Err(Failure::reported("55P03", None, "lock timeout"));
                }
            }
            (StatementId::Reap, [limit, ..]) if self.reaps_nothing => *limit = Value::Int8(0),
            (StatementId::FireSchedules, [Value::Int4Array(ids), Value::Int8Array(revisions), ..]) => {
                for (id, revision) in ids.iter().flatten().zip(revisions) {
                    if self.locked_schedules.contains(id) {
                        *revision = Some(-1);
                    }
                }
            }
            _ => {}
        }
        Ok(locked)
    }

    /// Returns a reply that reports the locked items, with the jobs of a claim in another order: that of updated rows
    /// is undefined.
    fn odd_order_and_locks(&self, statement: StatementId, rows: &Rows, locked: &BTreeSet<i64>) -> Rows {
        let columns = self.catalog.statement(statement).columns.len();
        let mut read: Vec<Vec<Option<Bytes>>> = (rows.iter(statement))
            .map(|mut row| (0..columns).map(|_| row.read().expect("a cell can be read as bytes")).collect())
            .collect();
        match statement {
            StatementId::Claim => {
                let queues = read.iter().take_while(|row| row[0].is_none()).count();
                read[queues..].reverse();
            }
            StatementId::Settle => {
                for cell in read.iter_mut().flatten() {
                    let ordinal = cell.as_deref().map(|cell| i64::from_be_bytes(cell.try_into().expect("an int8")));
                    if let Some(ordinal) = ordinal.filter(|ordinal| locked.contains(ordinal)) {
                        *cell = Some(Bytes::copy_from_slice(&(-ordinal).to_be_bytes()));
                    }
                }
            }
            _ => read.extend(locked.iter().map(|n| {
                let is_cancelled = Some(Bytes::from_static(&[0]));
                vec![Some(Bytes::copy_from_slice(&n.to_be_bytes())), None, is_cancelled]
            })),
        }
        let mut reply = Rows::builder(columns);
        read.iter().flatten().for_each(|cell| reply.push(cell.as_deref()));
        reply.finish()
    }

    fn record_leases(&mut self) {
        self.memory.look(|tables| {
            for job in tables.job.values().filter(|job| job.state == IN_PROGRESS) {
                let lease = Lease { job: job.id, number: job.lease.expect("a job in progress has a lease") };
                let end = instant(job.lease_expires_at.expect("a lease ends"));
                let length = tables.queue[&job.queue_id].settings.lease;
                self.lease_ends.entry(lease).or_insert((end, length)).0 = end;
            }
        });
    }
}

fn queue_name(name: &str) -> QueueName {
    QueueName::new(name).expect("a valid name")
}

pub(super) fn timestamp(at: Instant) -> Timestamp {
    Timestamp::from_unix_us(at.since(Instant::default()).as_micros() as i64)
}

pub(super) fn instant(at: Timestamp) -> Instant {
    Instant::from_start(Duration::from_micros(at.unix_us() as u64))
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
