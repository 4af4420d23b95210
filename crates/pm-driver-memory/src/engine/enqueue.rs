//! Enqueuing, replacing and copying jobs.

use super::tables::{JobRow, QueueRow, Tables};
use super::values::{Args, Cells};
use super::{Work, later, link_only, locked, taken};
use pm_core::op::{CopyRow, EnqueueRow, HolderRow, KnownQueue, ReplacedRow};
use pm_core::{Failure, StatementId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// For how long a replacement is kept at least.
const A_DAY_MS: i64 = 86_400_000;

/// A job of a batch, which has no position yet, and the name of its queue.
struct Item {
    queue: String,
    job: JobRow,
}

/// Reads the items of an enqueue. Without keys the statement has no columns for them.
fn items(args: &mut Args<'_>, now: Timestamp, keyed: bool) -> Vec<Item> {
    let columns = args.clone();
    let ids: Vec<Uuid> = columns.clone().all();
    let delays = |text: String| text.trim_matches(['{', '}']).split(',').flat_map(str::parse).collect();
    let item = |n| {
        let mut cells = Cells { columns: columns.clone(), item: n };
        let (id, queue) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        let (priority, paused) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        let (run_at, delay_ms) = (cells.next(), cells.next());
        let due = run_at.or(delay_ms.map(|ms| later(now, ms)));
        let mut job = JobRow {
            id,
            priority,
            paused,
            run_at: due.filter(|due| paused || *due > now),
            created_at: now,
            codec: cells.next().unwrap_or_default(),
            payload: cells.next(),
            description: cells.next(),
            max_retries: cells.next(),
            backoff_ms: cells.next().map(delays),
            jitter_percent: cells.next(),
            expires_at: cells.next().map(|ms| later(now, ms)),
            timeout_ms: cells.next(),
            trace: cells.next(),
            ..JobRow::default()
        };
        if keyed {
            (job.key, job.key_until) = (cells.next(), cells.next());
            job.reserved_key = job.key.clone();
        }
        // What follows the items is read next.
        *args = cells.columns;
        Item { queue, job }
    };
    (0..ids.len()).map(item).collect()
}

impl Work<'_> {
    pub(super) fn enqueue(&mut self) -> Result<(), Failure> {
        self.insert(StatementId::Enqueue)
    }

    pub(super) fn enqueue_fresh(&mut self) -> Result<(), Failure> {
        let items = items(&mut self.args, self.now, false);
        let (mut known, mut inserted) = (BTreeSet::new(), BTreeMap::new());
        for Item { queue, job } in items {
            let queue_id = self.tables.queue_named(&queue).map(|queue| queue.id);
            if let Some(queue_id) = queue_id.filter(|id| !self.tables.locked_queues.contains(id)) {
                known.insert(queue_id);
                let job = JobRow { queue_id, seq: self.next_position(&job), ..job };
                let id = job.id;
                if self.tables.job.contains_key(&id) || inserted.insert(id, job).is_some() {
                    return Err(taken("job_pkey"));
                }
            }
        }
        let count = inserted.len() as i64;
        self.tables.job.append(&mut inserted);
        for queue_id in known {
            let QueueRow { name, idle_until, .. } = &self.tables.queue[&queue_id];
            let may_be_idle = idle_until.map(|until| until > self.now);
            self.add(KnownQueue { queue_id, queue: name.clone().unwrap_or_default(), may_be_idle, inserted: count });
        }
        Ok(())
    }

    pub(super) fn enqueue_keyed(&mut self) -> Result<(), Failure> {
        self.insert(StatementId::EnqueueKeyed)
    }

    pub(super) fn enqueue_each(&mut self) -> Result<(), Failure> {
        self.insert(StatementId::EnqueueEach)
    }

    fn insert(&mut self, statement: StatementId) -> Result<(), Failure> {
        let items = items(&mut self.args, self.now, statement != StatementId::Enqueue);
        let replacing: Vec<Uuid> = if statement == StatementId::Enqueue { Vec::new() } else { self.args.all() };
        let is_own = statement != StatementId::EnqueueKeyed || self.args.next().unwrap_or_default();
        let (mut outcomes, mut added) = (Vec::new(), Vec::new());
        for (n, Item { queue, job }) in items.iter().enumerate() {
            let queue_id = self.tables.queue_named(queue).map(|queue| queue.id);
            outcomes.push(match queue_id {
                None => Some(1i16),
                Some(id) if self.tables.locked_queues.contains(&id) => Some(4),
                Some(_) if replacing.contains(&job.id) && self.tables.replacement.contains_key(&job.id) => Some(2),
                Some(id) => {
                    // The position is drawn before a unique index may refuse the row.
                    let job = JobRow { queue_id: id, seq: self.next_position(job), ..job.clone() };
                    added.push((n, job));
                    None
                }
            });
        }
        if !is_own && outcomes.contains(&Some(4)) {
            return Err(locked());
        }
        let is_locked = |tables: &Tables, job: &JobRow| {
            job.key.as_ref().is_some_and(|key| tables.locked_keys.contains(&(job.queue_id, key.clone())))
        };
        if statement == StatementId::EnqueueKeyed && added.iter().any(|(_, job)| is_locked(self.tables, job)) {
            return Err(locked());
        }
        let ids = items.iter().map(|item| item.job.id);
        let before: Vec<_> = ids.filter(|id| self.tables.job.contains_key(id)).collect();
        added.sort_by_key(|(n, job)| (job.queue_id, job.key.is_none(), job.key.clone(), *n));
        let mut inserted = BTreeSet::new();
        for (n, job) in added {
            let is_key_reserved = job.key.as_ref().is_some_and(|key| self.tables.holder(job.queue_id, key).is_some());
            outcomes[n] = if is_locked(self.tables, &job) {
                Some(5)
            } else if statement != StatementId::EnqueueEach && inserted.contains(&job.id) {
                // An id that occurs twice in the batch counts as inserted.
                None
            } else if self.tables.job.contains_key(&job.id) || is_key_reserved {
                Some(2)
            } else {
                inserted.insert(job.id);
                self.tables.job.insert(job.id, job);
                None
            };
        }
        if statement != StatementId::EnqueueEach {
            // Every item counts as inserted whose id this batch inserted.
            let is_inserted = |n: usize| {
                before.iter().all(|id| *id != items[n].job.id) && self.tables.job.contains_key(&items[n].job.id)
            };
            for n in (0..items.len()).filter(|n| is_inserted(*n)) {
                outcomes[n] = None;
            }
        }
        self.reply_outcomes(&items, outcomes);
        Ok(())
    }

    /// Replies with the items that were not inserted, and the queues that may have idle workers.
    fn reply_outcomes(&mut self, items: &[Item], outcomes: Vec<Option<i16>>) {
        for (n, outcome) in outcomes.into_iter().enumerate().filter_map(|(n, outcome)| Some((n, outcome?))) {
            self.add(EnqueueRow { ordinal: n as i64 + 1, outcome, queue_id: None });
        }
        let Tables { queue, locked_queues, .. } = &self.tables;
        let idle =
            queue.values().filter(|queue| queue.idle_until > Some(self.now) && !locked_queues.contains(&queue.id));
        let first = |queue: &QueueRow| items.iter().position(|item| queue.name.as_ref() == Some(&item.queue));
        let idle: Vec<_> = idle.filter_map(|queue| Some((first(queue)?, queue.id))).collect();
        for (first, id) in idle {
            self.add(EnqueueRow { ordinal: first as i64 + 1, outcome: 3, queue_id: Some(id) });
        }
    }

    /// Draws a position if the job is ready.
    fn next_position(&mut self, job: &JobRow) -> Option<i64> {
        if job.paused || job.run_at.is_some() { None } else { self.tables.next_seq() }
    }

    /// Frees the key of a queue if its reservation has lapsed.
    fn free_lapsed_key(&mut self, queue: &str, key: Option<&String>) {
        if let (Some(queue_id), Some(key)) = (self.tables.queue_named(queue).map(|queue| queue.id), key) {
            self.tables.free_lapsed_key(queue_id, key, self.now, &BTreeSet::new());
        }
    }

    pub(super) fn key_holder(&mut self) {
        let (ids, queues, keys) = (self.args.all::<Uuid>(), self.args.all::<String>(), self.args.column::<String>());
        for (n, (id, queue)) in ids.iter().zip(&queues).enumerate() {
            self.free_lapsed_key(queue, keys.at(n).as_ref());
            let holder = || self.tables.holder(self.tables.queue_named(queue)?.id, &keys.at(n)?);
            if let Some(job) = self.tables.job.get(id).or_else(holder) {
                let (id, state) = (job.id, self.tables.shown(job));
                self.add(HolderRow { ordinal: n as i64 + 1, id, state });
            }
        }
    }

    pub(super) fn replace_jobs(&mut self) {
        let items = items(&mut self.args, self.now, true);
        let (mut found, mut last, mut replacements) = (Vec::new(), BTreeMap::new(), Vec::new());
        for (n, Item { queue, job: item }) in items.into_iter().enumerate() {
            let before = self.tables.replacement.get(&item.id).and_then(|(job, _)| self.tables.job.get(job));
            if let Some((job, replaced)) =
                self.tables.job.get(&item.id).map(|job| (job, false)).or(before.map(|job| (job, true)))
            {
                found.push((n, job.id, self.tables.shown(job), replaced));
                continue;
            }
            self.free_lapsed_key(&queue, item.key.as_ref());
            let holder = || self.tables.holder(self.tables.queue_named(&queue)?.id, item.key.as_ref()?);
            let Some(job) = holder() else { continue };
            let replaced = !self.tables.has_started(job);
            found.push((n, job.id, self.tables.shown(job), replaced));
            if replaced {
                replacements.push((item.id, job.id));
                last.insert(job.id, item);
            }
        }
        let a_day_ago = later(self.now, -A_DAY_MS);
        self.tables.replacement.retain(|_, (job, at)| *at >= a_day_ago || !last.contains_key(job));
        let replacements = replacements.into_iter().map(|(item, job)| (item, (job, self.now)));
        self.tables.replacement.extend(replacements);
        last.into_iter().for_each(|(id, item)| self.replace(id, item));
        for (n, id, state, replaced) in found {
            self.add(ReplacedRow { holder: HolderRow { ordinal: n as i64 + 1, id, state }, replaced });
        }
    }

    /// Replaces the content of a job that has not started with an item's; it keeps its id and position.
    fn replace(&mut self, id: Uuid, item: JobRow) {
        let Some(old) = self.tables.job.remove(&id) else { return };
        self.tables.unshare(old.payload_id);
        let seq = if item.paused || item.run_at.is_some() { None } else { old.seq.or_else(|| self.tables.next_seq()) };
        let JobRow { created_at, queue_id, attempt, retry_count, verdict, lease, .. } = old;
        let JobRow { worker, key, reserved_key, reason, .. } = old;
        let kept = JobRow { id, created_at, queue_id, attempt, retry_count, verdict, lease, ..item };
        self.tables.job.insert(id, JobRow { seq, worker, key, reserved_key, reason, ..kept });
    }

    pub(super) fn copy_job(&mut self) -> Result<(), Failure> {
        let Some(Item { queue, job: item }) = items(&mut self.args, self.now, true).pop() else { return Ok(()) };
        let goal = self.tables.queue_named(&queue).map(|queue| queue.id);
        let source = self.args.next::<Uuid>().and_then(|id| self.tables.job.get(&id)).cloned();
        let (Some(goal), Some(source)) = (goal, source) else {
            self.add(CopyRow { outcome: if goal.is_none() { 0 } else { 1 }, queue_id: goal });
            return Ok(());
        };
        if !self.tables.job.contains_key(&item.id) {
            let copy = self.copy_of(source, item, goal)?;
            self.tables.job.insert(copy.id, copy);
        }
        self.add(CopyRow { outcome: 2, queue_id: Some(goal) });
        Ok(())
    }

    fn copy_of(&mut self, source: JobRow, item: JobRow, queue_id: i32) -> Result<JobRow, Failure> {
        let (source_id, lapsed) = (source.id, source.key_has_lapsed(self.now));
        let mut copy = JobRow {
            queue_id,
            priority: if item.priority == 0 { source.priority } else { item.priority },
            max_retries: item.max_retries.or(source.max_retries),
            codec: source.codec,
            backoff_ms: source.backoff_ms,
            jitter_percent: source.jitter_percent,
            timeout_ms: item.timeout_ms.or(source.timeout_ms),
            trace: source.trace.map(link_only),
            description: item.description.or(source.description),
            key_until: None,
            payload: None,
            ..item
        };
        if let Some(key) = &copy.key {
            self.tables.free_lapsed_key(queue_id, key, self.now, &BTreeSet::from([source_id]));
        }
        if lapsed {
            self.tables.job.entry(source_id).and_modify(|job| job.reserved_key = None);
        }
        // The position is drawn before the unique index may refuse the row.
        copy.seq = self.next_position(&copy);
        if copy.key.as_ref().is_some_and(|key| self.tables.holder(queue_id, key).is_some()) {
            return Err(taken("job_key"));
        }
        let payload_id = source.payload_id.unwrap_or(self.tables.last_payload + 1);
        self.tables.last_payload = self.tables.last_payload.max(payload_id);
        let data = source.payload.unwrap_or_default();
        self.tables.payload.entry(payload_id).or_insert((1, data)).0 += 1;
        self.tables.job.entry(source_id).and_modify(|job| (job.payload, job.payload_id) = (None, Some(payload_id)));
        copy.payload_id = Some(payload_id);
        Ok(copy)
    }
}
