//! Changing, listing and measuring queues; notifications.

use super::tables::{FAILED, FINISHED, IN_PROGRESS, JobRow, QueueRow, retries};
use super::{Work, later, ms_until, taken};
use pm_core::Failure;
use pm_core::op::{self, ActivityRow, DeletedQueues, PrunedPage, QueueHealthRow, Resumed, TableSize};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

impl Work<'_> {
    fn named_queue(&mut self) -> Option<&mut QueueRow> {
        let name: Option<String> = self.args.next();
        self.tables.queue.values_mut().find(|queue| name.is_some() && queue.name == name)
    }

    pub(super) fn create_queue(&mut self) {
        let name: String = self.args.next().unwrap_or_default();
        self.tables.last_queue += 1;
        if self.tables.queue_named(&name).is_none() {
            let id = self.tables.last_queue;
            let paused = self.args.next().unwrap_or_default();
            self.tables.queue.insert(id, QueueRow::new(id, name, paused));
            self.add(id);
        }
    }

    pub(super) fn pause_queue(&mut self) {
        if let Some(queue) = self.named_queue() {
            queue.paused = true;
            let id = queue.id;
            self.add(id);
        }
    }

    pub(super) fn resume_queue(&mut self) {
        let Some(queue) = self.named_queue() else { return };
        let (id, was_paused) = (queue.id, std::mem::take(&mut queue.paused));
        let (ready, waiting, _) = self.pending(id);
        let paused = self.tables.job.values().filter(|job| job.queue_id == id && job.paused).map(|job| job.id);
        let paused: Vec<Uuid> = paused.collect();
        for id in &paused {
            let later = self.tables.job[id].run_at.filter(|at| *at > self.now);
            let seq = if later.is_none() { self.tables.next_seq() } else { None };
            let job = self.tables.job.get_mut(id).expect("found above");
            (job.paused, job.run_at, job.seq) = (false, later, seq);
        }
        let freed = paused.len() as u64 + if was_paused { ready + waiting } else { 0 };
        self.add(Resumed { queue_id: id, freed });
    }

    /// Returns how many jobs of a queue are ready, are scheduled, and are paused by themselves.
    fn pending(&self, queue_id: i32) -> (u64, u64, u64) {
        let jobs = || self.tables.job.values().filter(|job| job.queue_id == queue_id);
        let count = |n: usize| n as u64;
        let ready = count(jobs().filter(|job| job.is_ready()).count());
        (ready, count(jobs().filter(|job| job.is_waiting()).count()), count(jobs().filter(|job| job.paused).count()))
    }

    pub(super) fn count_pending(&mut self) {
        let queue_id = self.args.next().unwrap_or_default();
        let (ready, waiting, paused) = self.pending(queue_id);
        self.add(ready + waiting + paused);
    }

    pub(super) fn list_queues(&mut self) {
        let wanted: Option<String> = self.args.next();
        let queues = self.tables.queue.values().filter(|queue| queue.name.is_some());
        let mut queues: Vec<_> = queues.filter(|queue| wanted.is_none() || queue.name == wanted).collect();
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        let row = |queue: &QueueRow| {
            let (ready, waiting, paused_jobs) = self.pending(queue.id);
            let jobs = |state| {
                self.tables.job.values().filter(|job| job.queue_id == queue.id && job.state == state).count() as u64
            };
            op::QueueRow {
                name: queue.name.clone().unwrap_or_default(),
                paused: queue.paused,
                settings: queue.settings.clone(),
                pending: ready + waiting,
                paused_jobs,
                in_progress: jobs(IN_PROGRESS),
                finished: jobs(FINISHED),
                failed: jobs(FAILED),
                pending_is_estimate: false,
                finished_is_estimate: false,
                failed_is_estimate: false,
            }
        };
        self.add_all(queues.into_iter().map(row).collect());
    }

    pub(super) fn activity(&mut self) {
        let window_ms: i64 = self.args.next().unwrap_or_default();
        let (now, since) = (self.now, later(self.now, -window_ms));
        let mut queues: Vec<_> = self.tables.queue.values().filter(|queue| queue.name.is_some()).collect();
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        let row = |queue: &QueueRow| {
            let jobs = || self.tables.job.values().filter(|job| job.queue_id == queue.id);
            // The first job of each line; jobs that are due are not in a line until they are promoted.
            let mut heads = BTreeMap::new();
            for job in jobs().filter(|job| job.is_ready() && job.may_start(now)) {
                let head = heads.entry(job.priority).or_insert((job.seq, job.created_at));
                *head = (*head).min((job.seq, job.created_at));
            }
            let due = jobs()
                .filter(|job| job.is_waiting() && job.may_start(now))
                .filter_map(|job| job.run_at)
                .filter(|at| *at <= now);
            let oldest = heads.into_values().map(|(_, created_at)| created_at).chain(due).min();
            let is_counted = |job: &JobRow| job.state == FINISHED || job.cancelled_at.is_none();
            let ended = |state| {
                let ended = jobs().filter(|job| job.state == state && job.ended_at > Some(since) && is_counted(job));
                ended.count() as u64
            };
            ActivityRow {
                queue: queue.name.clone().unwrap_or_default(),
                oldest_waiting: oldest.map(|at| Duration::from_millis(ms_until(now, at).unsigned_abs())),
                enqueued: jobs().filter(|job| job.created_at > since).count() as u64,
                finished: ended(FINISHED),
                failed: ended(FAILED),
                enqueued_is_estimate: false,
                ended_is_estimate: false,
            }
        };
        self.add_all(queues.into_iter().map(row).collect());
    }

    pub(super) fn queue_healths(&mut self) {
        let (threshold_ms, now): (Option<i64>, _) = (self.args.next(), self.now);
        let stale_before = later(now, -threshold_ms.unwrap_or_default());
        let mut queues: Vec<_> = self.tables.queue.values().collect();
        // Queues that are being deleted come last.
        queues.sort_by_key(|queue| (queue.name.is_none(), &queue.name, queue.id));
        let row = |queue: &QueueRow| {
            let of_queue = self.tables.job.values().filter(|job| job.queue_id == queue.id);
            let ends: Vec<_> = of_queue.filter_map(|job| job.lease_expires_at).collect();
            QueueHealthRow {
                name: queue.name.clone(),
                paused: queue.paused,
                in_progress: ends.len() as u64,
                stale: ends.iter().filter(|at| **at < stale_before).count() as u64,
                overdue_ms: ends.iter().min().map(|at| ms_until(now, *at)),
            }
        };
        self.add_all(queues.into_iter().map(row).collect());
    }

    /// Replies with the numbers of rows of the tables, and zero for their sizes on disk.
    pub(super) fn table_sizes(&mut self) {
        let tables = &self.tables;
        let (queues, frontiers, payloads) = (tables.queue.len(), tables.claim_frontier.len(), tables.payload.len());
        let rows = [("attempt", tables.attempt.len()), ("claim_frontier", frontiers), ("job", tables.job.len())];
        let more = [("replacement", tables.replacement.len()), ("schedule", tables.schedule.len())];
        for (table, rows) in rows.into_iter().chain([("payload", payloads), ("queue", queues)]).chain(more) {
            self.add(TableSize { name: table.to_owned(), index_of: None, rows: Some(rows as u64), bytes: 0 });
        }
    }

    pub(super) fn settings(&mut self) {
        if let Some(settings) = self.named_queue().map(|queue| queue.settings.clone()) {
            self.add(settings);
        }
    }

    pub(super) fn set_queue(&mut self) {
        let Some(id) = self.named_queue().map(|queue| queue.id) else { return };
        let ms = |ms: i64| Duration::from_millis(ms.unsigned_abs());
        let settings = &mut self.tables.queue.get_mut(&id).expect("found above").settings;
        settings.lease = self.args.next().map_or(settings.lease, ms);
        let (max_retries, backoff_ms) = (self.args.next(), self.args.all());
        let backoff_ms = Some(backoff_ms).filter(|table| !table.is_empty());
        let retry = retries(max_retries, backoff_ms.as_ref(), self.args.next());
        settings.backoff = retry.overrides().on(&settings.backoff);
        let retain_ms: Option<i64> = self.args.next();
        settings.retain = retain_ms.map_or(settings.retain, |retain| (retain >= 0).then(|| ms(retain)));
        let timeout_ms: Option<i64> = self.args.next();
        settings.timeout = timeout_ms.map_or(settings.timeout, |timeout| (timeout >= 0).then(|| ms(timeout)));
        let settings = settings.clone();
        self.add(settings);
    }

    pub(super) fn begin_queue_deletion(&mut self) {
        if let Some(queue) = self.named_queue() {
            queue.name = None;
            let id = queue.id;
            self.tables.schedule.retain(|_, schedule| schedule.queue_id != id);
            self.add(id);
        }
    }

    pub(super) fn rename_queue(&mut self) -> Result<(), Failure> {
        let Some(from) = self.named_queue().map(|queue| queue.id) else { return Ok(()) };
        let to: String = self.args.next().unwrap_or_default();
        if self.tables.queue_named(&to).is_some_and(|queue| queue.id != from) {
            return Err(taken("queue_name_key"));
        }
        self.tables.queue.get_mut(&from).expect("found above").name = Some(to);
        self.add(from);
        Ok(())
    }

    pub(super) fn prune_jobs(&mut self) {
        let (after, page, of): (Option<Uuid>, Option<i64>, Option<i32>) =
            (self.args.next(), self.args.next(), self.args.next());
        let after = after.unwrap_or(Uuid::nil());
        let page = page.unwrap_or_default() as usize;
        let ids: Vec<Uuid> = self.tables.job.keys().filter(|id| **id > after).take(page).copied().collect();
        let mut deleted = 0;
        for id in &ids {
            let job = &self.tables.job[id];
            let Some(queue) = self.tables.queue.get(&job.queue_id) else { continue };
            let retain = queue.settings.retain.zip(job.ended_at);
            let kept_until = retain.map(|(retain, ended_at)| later(ended_at, retain.as_millis() as i64));
            let is_past_retention =
                of.is_none() && job.state >= FINISHED && kept_until.is_some_and(|until| until < self.now);
            let is_queue_deleted = queue.name.is_none() && of.is_none_or(|of| of == queue.id);
            if is_past_retention || is_queue_deleted {
                self.tables.delete_job(*id);
                deleted += 1;
            }
        }
        self.add(PrunedPage { seen: ids.len() as u64, upto: ids.last().copied(), deleted });
    }

    pub(super) fn delete_empty_queues(&mut self) {
        let of: Option<i32> = self.args.next();
        let nameless = self.tables.queue.values().filter(|queue| queue.name.is_none());
        let nameless: Vec<i32> = nameless.map(|queue| queue.id).filter(|id| of.is_none_or(|of| of == *id)).collect();
        let has_job = |id| self.tables.job.values().any(|job| job.queue_id == id);
        let empty: Vec<i32> = nameless.iter().copied().filter(|id| !has_job(*id)).collect();
        for id in &empty {
            self.tables.queue.remove(id);
        }
        self.tables.claim_frontier.retain(|(id, _), _| !empty.contains(id));
        let (queues, remaining) = (empty.len() as u64, (nameless.len() - empty.len()) as u64);
        self.add(DeletedQueues { queues, remaining });
    }

    pub(super) fn notify(&mut self) {
        let channel: String = self.args.next().unwrap_or_default();
        let payloads: Vec<String> = self.args.all();
        self.add(payloads.len() as u64);
        self.notify_listeners(&channel, payloads);
    }

    pub(super) fn notify_idle(&mut self) {
        let channel: String = self.args.next().unwrap_or_default();
        let idle = self.tables.queue.values().filter(|queue| queue.name.is_some() && queue.idle_until > Some(self.now));
        let idle: Vec<_> = idle.map(|queue| format!("{}:", queue.id)).collect();
        self.add(idle.len() as u64);
        self.notify_listeners(&channel, idle);
    }

    fn notify_listeners(&mut self, channel: &str, payloads: Vec<String>) {
        self.notifications.extend(payloads.into_iter().map(|payload| (channel.to_owned(), payload)));
    }
}
