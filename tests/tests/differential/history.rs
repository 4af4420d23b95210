//! Runs a list: turns its actions into operations on whatever exists by then.

use crate::action::{Action, Condition, Item, TICK_KEY};
use crate::schedules::Readings;
use crate::sides::Sides;
use pm_core::op::{
    Activity, Attempts, BeginQueueDeletion, CancelJobs, CancelRequests, Claim, CopyJob, CountPending, CreateQueue,
    DeleteEmptyQueues, DeleteJobs, EditJobs, EndJobs, Enqueue, EnqueueEach, EnqueueFresh, EnqueueKeyed, Extend,
    ExtendItem, FetchJob, Job, JobFilter, JobResult, KeyHolder, LineCursor, ListJobs, ListQueues, MoveJobs, NextJobs,
    NotifyIdle, Outcome, PauseQueue, Payload, Poll, Precondition, ProgressItem, Promote, PruneJobs, QueueHealths, Reap,
    ReleaseClaim, RenameQueue, ReplaceJobs, ResolveSuffix, RestartJobs, ResumeQueue, SetProgress, SetQueue, Settings,
    Settle, SettleCommits, SettleItem,
};
use pm_core::{
    Codec, EnqueueOptions, IdSuffix, InitialState, JsonText, KeyHold, Lease, NewJob, OnConflict, Operation, QueueName,
    Reason, RetryPolicy, RunAt, SettingsChange, State, Timestamp, TraceContext, Verdict, job_id,
};
use std::time::Duration;
use uuid::Uuid;

/// Times differ by odd multiples of this, and time passes in even ones: the sides always agree on what is due.
pub(crate) const HALF_MINUTE: Duration = Duration::from_secs(30);
const MOST_JITTER: u8 = 3;
const EXACT_DELAYS: [Duration; 2] = [Duration::ZERO, HALF_MINUTE.saturating_mul(6)];
const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

/// A running list.
pub(crate) struct History<'a> {
    pub(crate) sides: &'a Sides,
    sent: Vec<NewJob>,
    pub(crate) ids: Vec<Uuid>,
    leases: Vec<Lease>,
    made: u8,
    pub(crate) drawn: u64,
    pub(crate) readings: Readings,
}

impl<'a> History<'a> {
    pub(crate) fn new(sides: &'a Sides) -> Self {
        History {
            sides,
            sent: Vec::new(),
            ids: Vec::new(),
            leases: Vec::new(),
            made: 0,
            drawn: 0,
            readings: Readings::default(),
        }
    }

    /// Runs one action on all sides; returns a difference as the error.
    pub(crate) async fn act(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Pass(minutes) => return self.sides.pass(HALF_MINUTE * 2 * *minutes as u32).await,
            Action::Enqueue(items) => {
                let jobs = self.new_jobs(items);
                let has_keys = jobs.iter().any(|job| job.options.key.is_some());
                match (has_keys, jobs.len() % 2) {
                    (false, 0) => self.run(&Enqueue { jobs: &jobs }).await?,
                    (false, _) => self.run(&EnqueueFresh { jobs: &jobs }).await?,
                    (true, 0) => self.run(&EnqueueEach { jobs: &jobs }).await?,
                    (true, _) => self.run(&EnqueueKeyed { jobs: &jobs, in_transaction: false }).await?,
                };
            }
            Action::KeyHolder(items) => {
                let jobs = self.new_jobs(items);
                self.run(&KeyHolder { jobs: &jobs }).await?;
            }
            Action::Replace(items) => {
                let jobs = self.new_jobs(items);
                self.run(&ReplaceJobs { jobs: &jobs }).await?;
            }
            Action::Claim { queues, limit } => return self.claim(queues, *limit).await,
            Action::Fetch(job) => {
                let lease = Lease { job: self.id(*job), number: self.number() };
                self.leases.push(lease);
                self.run(&FetchJob { lease, worker: "fetcher".to_owned() }).await?;
            }
            Action::Settle { leases, verdict, delay } => return self.settle(leases, *verdict, *delay).await,
            Action::Outcome { lease, verdict } => {
                let item = settled(self.lease(*lease), *verdict, None);
                self.run(&Outcome { items: &[item] }).await?;
            }
            Action::Extend(lease) => {
                // Without a latest end, with one that has passed, and with one to come.
                let latest_end = [None, Some(0), Some(1_000_000_000_000_000)][lease % 3].map(Timestamp::from_unix_us);
                self.run(&Extend { items: vec![ExtendItem { lease: self.lease(*lease), latest_end }] }).await?;
            }
            Action::CancelRequests(lease) => {
                drop(self.run(&CancelRequests { leases: vec![self.lease(*lease)] }).await?);
            }
            Action::SetProgress(leases) => {
                let mut leases: Vec<_> = leases.iter().map(|lease| self.lease(*lease)).collect();
                leases.sort_unstable();
                leases.dedup_by_key(|lease| lease.job);
                let progress = |lease: &Lease| JsonText::progress(format!("\"→ {}\"", lease.number));
                let item = |lease| ProgressItem { lease, progress: progress(&lease).expect("it is short") };
                self.run(&SetProgress { items: leases.into_iter().map(item).collect() }).await?;
            }
            Action::Reap => {
                self.run(&Reap { limit: 500, seed: 7 }).await?;
                // Jobs reaped by one statement are due at the same time, or spread around it, in an undefined order.
                self.sides.separate_equal_times().await?;
            }
            Action::Promote(limit) => drop(self.run(&Promote { limit: *limit, bound: None }).await?),
            Action::ReleaseClaim(lease) => drop(self.run(&ReleaseClaim { lease: self.lease(*lease).number }).await?),
            Action::Poll { queue, idles } => {
                let sleep = idles.then_some(HALF_MINUTE * 3);
                self.run(&Poll { queues: vec![name(*queue)], sleep }).await?;
            }
            Action::NotifyIdle => drop(self.run(&NotifyIdle { channel: "pm_pm".to_owned() }).await?),
            Action::Restart { .. }
            | Action::End { .. }
            | Action::Cancel { .. }
            | Action::Delete { .. }
            | Action::Move { .. }
            | Action::SetPriority { .. }
            | Action::Copy { .. } => {
                self.operate(action).await?;
            }
            Action::Look { job, queue, limit } => self.look(*job, *queue, *limit).await?,
            Action::Schedule(action) => self.schedule(action).await?,
            other => self.change_queue(other).await?,
        }
        Ok(())
    }

    async fn change_queue(&self, action: &Action) -> Result<(), String> {
        match action {
            Action::CreateQueue { queue, paused } => {
                self.run(&CreateQueue { name: name(*queue), paused: *paused }).await?;
                // Due times must not coincide by chance.
                let odd = SettingsChange::new().lease(HALF_MINUTE * 3).backoff(EXACT_DELAYS.to_vec()).jitter_percent(0);
                self.run(&SetQueue::new(name(*queue), odd).expect("in range")).await?;
            }
            Action::Pause(queue) => drop(self.run(&PauseQueue { name: name(*queue) }).await?),
            Action::Resume(queue) => drop(self.run(&ResumeQueue { name: name(*queue) }).await?),
            Action::SetQueue { queue, retries, lease_long, jitter } => {
                let lease = HALF_MINUTE * if *lease_long { 41 } else { 3 };
                let retain = lease_long.then_some(HALF_MINUTE * 21);
                let timeout = lease_long.then_some(HALF_MINUTE * 20);
                let change = SettingsChange::new().max_retries(*retries).lease(lease).retain(retain).timeout(timeout);
                // Of delays of some minutes, this jitter is less than a quarter of a minute. A retry without a delay
                // would be spread over two seconds, in which the sides would differ.
                let change = match jitter {
                    true => change.backoff(EXACT_DELAYS[1..].to_vec()).jitter_percent(MOST_JITTER),
                    false => change.backoff(EXACT_DELAYS.to_vec()).jitter_percent(0),
                };
                self.run(&SetQueue::new(name(*queue), change).expect("in range")).await?;
            }
            Action::Rename { from, to } => drop(self.run(&RenameQueue { from: name(*from), to: name(*to) }).await?),
            Action::BeginDeletion(queue) => drop(self.run(&BeginQueueDeletion { name: name(*queue) }).await?),
            Action::PruneJobs { page } => {
                drop(self.run(&PruneJobs { after: None, page: *page, queue_id: None }).await?)
            }
            _ => drop(self.run(&DeleteEmptyQueues { queue_id: None }).await?),
        }
        Ok(())
    }

    async fn operate(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Restart { jobs, force, condition } => {
                let (ids, precondition) = (self.ids_of(jobs), self.precondition(condition));
                self.run(&RestartJobs { ids, force: *force, precondition }).await?;
            }
            Action::End { jobs, fails, condition } => {
                let ids = self.ids_of(jobs);
                let end = if *fails { EndJobs::failed(ids, "enough") } else { EndJobs::done(ids) };
                self.run(&end.only_if(self.precondition(condition))).await?;
            }
            Action::Cancel { jobs, force, condition } => {
                let (ids, precondition) = (self.ids_of(jobs), self.precondition(condition));
                let reason = Reason::new("no longer wanted");
                self.run(&CancelJobs { ids, force: *force, reason, precondition }).await?;
            }
            Action::Delete { jobs, condition } => {
                self.run(&DeleteJobs { ids: self.ids_of(jobs), precondition: self.precondition(condition) }).await?;
            }
            Action::Move { jobs, queue, condition } => {
                let (ids, precondition) = (self.ids_of(jobs), self.precondition(condition));
                self.run(&MoveJobs { ids, queue: name(*queue), precondition }).await?;
            }
            Action::SetPriority { jobs, priority, condition } => {
                let (ids, precondition) = (self.ids_of(jobs), self.precondition(condition));
                self.run(&EditJobs { ids, priority: *priority, precondition }).await?;
            }
            Action::Copy { job, queue, key, paused } => {
                let (source, id) = (self.id(*job), self.new_id());
                let mut options = EnqueueOptions::default().initial_state(initial_state(*paused));
                options.key = key.map(|key| self.key(key));
                options.expires_in = key.map(|_| HALF_MINUTE * 9);
                options.timeout = paused.then_some(HALF_MINUTE * 4);
                let job = NewJob { id, queue: name(*queue), payload: Vec::new().into(), options };
                self.run(&CopyJob { source, job }).await?;
            }
            _ => {}
        }
        Ok(())
    }

    fn precondition(&self, condition: &Condition) -> Precondition {
        let lease = condition.lease.map(|lease| self.lease(lease).number);
        Precondition { state: condition.state, queue: condition.queue.map(name), lease }
    }

    async fn look(&self, job: usize, queue: usize, limit: usize) -> Result<(), String> {
        let (id, queue_name) = (self.id(job), name(queue));
        self.run(&Job { id }).await?;
        self.run(&Payload { id }).await?;
        self.run(&JobResult { id }).await?;
        self.run(&Attempts { id }).await?;
        self.run(&ListQueues { name: None }).await?;
        self.run(&Settings { name: queue_name.clone() }).await?;
        self.run(&CountPending { queue_id: queue as i32 }).await?;
        self.run(&NextJobs { queue: queue_name.clone(), limit }).await?;
        self.run(&Activity { window: HALF_MINUTE * 7 }).await?;
        self.run(&QueueHealths { threshold: HALF_MINUTE * 4 }).await?;
        let state = State::ALL[limit % 5];
        let filter = JobFilter::default().queue(queue_name.as_str()).state(state).after(id).limit(limit);
        self.run(&ListJobs { filter }).await?;
        let filter = JobFilter::default().limit(limit);
        self.run(&ListJobs { filter }).await?;
        let suffix = IdSuffix::new(&id.simple().to_string()[30..]).expect("hex digits");
        self.run(&ResolveSuffix { suffix, newest: (limit > 4).then_some(limit) }).await.map(drop)
    }

    async fn claim(&mut self, queues: &[usize], limit: usize) -> Result<(), String> {
        let mut lines = Vec::new();
        for queue_id in queues.iter().map(|queue| *queue as i32 + 1) {
            lines.extend([5, 0].map(|priority| LineCursor { queue_id, priority, cursor: 0 }));
        }
        lines.sort_by_key(|line| (line.queue_id, line.priority));
        lines.dedup();
        lines.sort_by_key(|line| -line.priority);
        let number = self.number();
        let claim = Claim { lines, limit, lease: number, worker: "worker".to_owned(), due_bound: None };
        let rows = self.run(&claim).await?;
        let reply = rows.map(|rows| claim.interpret(&rows).map_err(|error| error.to_string())).transpose()?;
        self.leases.extend(reply.into_iter().flat_map(|reply| reply.jobs).map(|job| job.lease));
        Ok(())
    }

    async fn settle(&mut self, leases: &[usize], verdict: u8, delay: bool) -> Result<(), String> {
        let mut items: Vec<_> = leases.iter().map(|lease| settled(self.lease(*lease), verdict, None)).collect();
        items.sort_by_key(|item| item.lease);
        items.dedup_by_key(|item| item.lease.job);
        // Of several jobs one has no result.
        if verdict == 5 && items.len() > 1 {
            items[0] = settled(items[0].lease, 0, None);
        }
        if delay && verdict == 1 {
            items.truncate(1);
            items[0].delay = Some(HALF_MINUTE * 4);
        }
        if verdict == 0 && items.len() % 2 == 1 {
            return self.run(&SettleCommits { items: &items }).await.map(drop);
        }
        self.run(&Settle { items: &items, passes: delay }).await.map(drop)
    }

    pub(crate) async fn run<O: Operation>(&self, operation: &O) -> Result<Option<pm_core::Rows>, String> {
        self.sides.run(&operation.plan()).await
    }

    /// Enqueues a job with a key.
    pub(crate) async fn enqueue_keyed(&mut self, queue: usize, key: usize) -> Result<(), String> {
        let options = EnqueueOptions::default().codec(Codec::Raw).key(self.key(key));
        let job = NewJob { id: self.new_id(), queue: name(queue), payload: "by hand".into(), options };
        self.run(&EnqueueKeyed { jobs: &[job], in_transaction: false }).await.map(drop)
    }

    fn new_jobs(&mut self, items: &[Item]) -> Vec<NewJob> {
        let delayed = items[0].delayed;
        let items = if delayed { &items[..1] } else { items };
        let jobs: Vec<_> = items.iter().map(|item| self.new_job(item, delayed)).collect();
        self.sent.extend(jobs.iter().cloned());
        jobs
    }

    fn new_job(&mut self, item: &Item, delayed: bool) -> NewJob {
        if let Some(job) = self.sent.last().filter(|job| item.resent && job.options.run_at.is_none()) {
            return job.clone();
        }
        let until = Timestamp::from_unix_us(1_000_000_000_000_000);
        let holds = [KeyHold::WhileActive, KeyHold::WhileActive, KeyHold::Until(until), KeyHold::ForEver];
        let mut options = EnqueueOptions::default()
            .codec(Codec::Raw)
            .priority(item.priority)
            .initial_state(initial_state(item.paused))
            .key_hold(holds[item.hold as usize])
            .on_conflict(if item.hold == 0 { OnConflict::Replace } else { OnConflict::Keep });
        options.description = (item.hold == 0).then(|| "described".to_owned());
        options.run_at = delayed.then_some(RunAt::In(HALF_MINUTE * (item.hold as u32 * 2 + 1)));
        options.key = item.key.map(|key| self.key(key));
        options.retry = RetryPolicy {
            max_retries: item.retries,
            // Even, while jobs are enqueued with odd delays: which of two jobs that are due at once is promoted first
            // is undefined.
            backoff: matches!(item.hold, 1 | 2).then(|| vec![HALF_MINUTE * 8]),
            jitter_percent: (item.hold == 2).then_some(MOST_JITTER),
        };
        options.expires_in = (item.retries == Some(2)).then_some(HALF_MINUTE * 9);
        options.timeout = (item.hold == 2).then_some(HALF_MINUTE * 2);
        options.trace = (item.hold != 2).then(|| {
            let traceparent = format!("00-{:032x}-00f067aa0ba902b7-01", u32::from(self.made) + 1);
            TraceContext::new(&traceparent, item.retries.map(|_| "vendor=1")).expect("it is valid")
        });
        let id = self.new_id();
        NewJob { id, queue: name(item.queue), payload: format!("payload {}", self.made).into(), options }
    }

    fn new_id(&mut self) -> Uuid {
        let number = self.made;
        self.made += 1;
        // Ids are not in time order: a client's clock may be years off.
        let id = job_id(1_700_000_000_000 + u64::from(number.reverse_bits()), [number; 10]);
        self.ids.push(id);
        id
    }

    fn key(&self, number: usize) -> String {
        let tick = self.readings.key.as_ref().filter(|_| number == TICK_KEY);
        tick.cloned().unwrap_or_else(|| format!("key {number}"))
    }

    fn number(&mut self) -> i64 {
        self.drawn += 1;
        self.drawn as i64
    }

    /// Returns the job at an index counted from the newest, or one that never existed.
    fn id(&self, index: usize) -> Uuid {
        self.ids.iter().rev().nth(index).copied().unwrap_or(Uuid::max())
    }

    fn ids_of(&self, indexes: &[usize]) -> Vec<Uuid> {
        let mut ids: Vec<_> = indexes.iter().map(|index| self.id(*index)).collect();
        let mut seen = std::collections::BTreeSet::new();
        ids.retain(|id| seen.insert(*id));
        ids
    }

    fn lease(&self, index: usize) -> Lease {
        self.leases.iter().rev().nth(index).copied().unwrap_or(Lease { job: Uuid::max(), number: 0 })
    }
}

fn settled(lease: Lease, verdict: u8, delay: Option<Duration>) -> SettleItem {
    let (verdict, state) = match verdict {
        0 => (Verdict::Commit, State::Finished),
        1 => (Verdict::SoftFail(Reason::new("later")), State::Pending),
        2 => (Verdict::HardFail(Reason::new("never")), State::Failed),
        3 => (Verdict::Unreadable(Reason::new("what is this?")), State::Pending),
        5 => {
            let result = JsonText::result(format!("[\"é\", {}]", lease.number)).expect("it is short");
            (Verdict::CommitWith(result), State::Finished)
        }
        4 => (Verdict::Snooze(delay.unwrap_or_default()), State::Pending),
        _ => (Verdict::Release, State::Pending),
    };
    SettleItem { lease, verdict, state, delay }
}

pub(crate) fn name(queue: usize) -> QueueName {
    QueueName::new(NAMES[queue]).expect("the name is valid")
}

fn initial_state(is_paused: bool) -> InitialState {
    if is_paused { InitialState::Paused } else { InitialState::Auto }
}
