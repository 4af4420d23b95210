//! Changing, listing and measuring queues; notifications.

use super::tables::{FAILED, FINISHED, IN_PROGRESS, QueueRow};
use super::values::row;
use super::{Work, later, ms_until, taken};
use pm_core::Failure;
use std::collections::BTreeMap;
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
            row!(self.reply; id);
        }
    }

    pub(super) fn pause_queue(&mut self) {
        if let Some(queue) = self.named_queue() {
            queue.paused = true;
            let id = queue.id;
            row!(self.reply; id);
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
        row!(self.reply; id, paused.len() as i64 + if was_paused { ready + waiting } else { 0 });
    }

    /// Returns how many jobs of a queue are ready, are scheduled, and are paused by themselves.
    fn pending(&self, queue_id: i32) -> (i64, i64, i64) {
        let jobs = || self.tables.job.values().filter(|job| job.queue_id == queue_id);
        let count = |n: usize| n as i64;
        let ready = count(jobs().filter(|job| job.is_ready()).count());
        (ready, count(jobs().filter(|job| job.is_waiting()).count()), count(jobs().filter(|job| job.paused).count()))
    }

    pub(super) fn count_pending(&mut self) {
        let queue_id = self.args.next().unwrap_or_default();
        let (ready, waiting, paused) = self.pending(queue_id);
        row!(self.reply; ready + waiting + paused);
    }

    pub(super) fn list_queues(&mut self) {
        let wanted: Option<String> = self.args.next();
        let queues = self.tables.queue.values().filter(|queue| queue.name.is_some());
        let mut queues: Vec<_> = queues.filter(|queue| wanted.is_none() || queue.name == wanted).collect();
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        for queue in queues {
            let (ready, waiting, paused) = self.pending(queue.id);
            let jobs = |state| {
                self.tables.job.values().filter(|job| job.queue_id == queue.id && job.state == state).count() as i64
            };
            row!(self.reply; queue.name, queue.paused, queue.lease_ms, queue.max_retries, queue.backoff_ms,
                queue.jitter_percent, queue.retain_ms, ready + waiting, paused, jobs(IN_PROGRESS), jobs(FINISHED),
                jobs(FAILED), false, false, false);
        }
    }

    pub(super) fn activity(&mut self) {
        let window_ms: i64 = self.args.next().unwrap_or_default();
        let (now, since) = (self.now, later(self.now, -window_ms));
        let mut queues: Vec<_> = self.tables.queue.values().filter(|queue| queue.name.is_some()).collect();
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        for queue in queues {
            let jobs = || self.tables.job.values().filter(|job| job.queue_id == queue.id);
            // The first job of each line; jobs that are due are not in a line until they are promoted.
            let mut heads = BTreeMap::new();
            for job in jobs().filter(|job| job.is_ready()) {
                let head = heads.entry(job.priority).or_insert((job.seq, job.created_at));
                *head = (*head).min((job.seq, job.created_at));
            }
            let due = jobs().filter(|job| job.is_waiting()).filter_map(|job| job.run_at).filter(|at| *at <= now);
            let oldest = heads.into_values().map(|(_, created_at)| created_at).chain(due).min();
            let ended = |state| jobs().filter(|job| job.state == state && job.ended_at > Some(since)).count() as i64;
            let enqueued = jobs().filter(|job| job.created_at > since).count() as i64;
            row!(self.reply; queue.name, oldest.map(|at| ms_until(now, at)), enqueued, ended(FINISHED), ended(FAILED),
                false, false);
        }
    }

    pub(super) fn queue_health(&mut self) {
        let (threshold_ms, now): (Option<i64>, _) = (self.args.next(), self.now);
        let stale_before = later(now, -threshold_ms.unwrap_or_default());
        let mut queues: Vec<_> = self.tables.queue.values().collect();
        // Queues that are being deleted come last.
        queues.sort_by_key(|queue| (queue.name.is_none(), &queue.name, queue.id));
        for queue in queues {
            let of_queue = self.tables.job.values().filter(|job| job.queue_id == queue.id);
            let ends: Vec<_> = of_queue.filter_map(|job| job.lease_expires_at).collect();
            let stale = ends.iter().filter(|at| **at < stale_before).count() as i64;
            let overdue_ms = ends.iter().min().map(|at| ms_until(now, *at));
            row!(self.reply; queue.name, queue.paused, ends.len() as i64, stale, overdue_ms);
        }
    }

    /// Replies with the numbers of rows of the tables, and zero for their sizes on disk.
    pub(super) fn table_sizes(&mut self) {
        let tables = &self.tables;
        let (queues, frontiers, payloads) = (tables.queue.len(), tables.claim_frontier.len(), tables.payload.len());
        let rows = [("attempt", tables.attempt.len()), ("claim_frontier", frontiers), ("job", tables.job.len())];
        let more = [("replacement", tables.replacement.len()), ("schedule", tables.schedule.len())];
        for (table, rows) in rows.into_iter().chain([("payload", payloads), ("queue", queues)]).chain(more) {
            row!(self.reply; table.to_owned(), None::<String>, rows as i64, 0i64);
        }
    }

    pub(super) fn queue_settings(&mut self) {
        if let Some(queue) = self.named_queue().cloned() {
            row!(self.reply; queue.lease_ms, queue.max_retries, queue.backoff_ms, queue.jitter_percent, queue.retain_ms);
        }
    }

    pub(super) fn set_queue(&mut self) {
        let Some(id) = self.named_queue().map(|queue| queue.id) else { return };
        let (lease, retries) = (self.args.next(), self.args.next());
        let (backoff, jitter, retain) = (self.args.all(), self.args.next(), self.args.next());
        let queue = self.tables.queue.get_mut(&id).expect("found above");
        queue.lease_ms = lease.unwrap_or(queue.lease_ms);
        queue.max_retries = retries.unwrap_or(queue.max_retries);
        if !backoff.is_empty() {
            queue.backoff_ms = backoff;
        }
        queue.jitter_percent = jitter.unwrap_or(queue.jitter_percent);
        queue.retain_ms = retain.or(queue.retain_ms).filter(|ms| *ms >= 0);
        row!(self.reply; queue.lease_ms, queue.max_retries, queue.backoff_ms, queue.jitter_percent, queue.retain_ms);
    }

    pub(super) fn begin_queue_deletion(&mut self) {
        if let Some(queue) = self.named_queue() {
            queue.name = None;
            let id = queue.id;
            self.tables.schedule.retain(|_, schedule| schedule.queue_id != id);
            row!(self.reply; id);
        }
    }

    pub(super) fn rename_queue(&mut self) -> Result<(), Failure> {
        let Some(from) = self.named_queue().map(|queue| queue.id) else { return Ok(()) };
        let to: String = self.args.next().unwrap_or_default();
        if self.tables.queue_named(&to).is_some_and(|queue| queue.id != from) {
            return Err(taken("queue_name_key"));
        }
        self.tables.queue.get_mut(&from).expect("found above").name = Some(to);
        row!(self.reply; from);
        Ok(())
    }

    pub(super) fn prune_jobs(&mut self) {
        let (after, page, of): (Option<Uuid>, Option<i64>, Option<i32>) =
            (self.args.next(), self.args.next(), self.args.next());
        let after = after.unwrap_or(Uuid::nil());
        let page = page.unwrap_or_default() as usize;
        let ids: Vec<Uuid> = self.tables.job.keys().filter(|id| **id > after).take(page).copied().collect();
        let mut deleted = 0i64;
        for id in &ids {
            let job = &self.tables.job[id];
            let Some(queue) = self.tables.queue.get(&job.queue_id) else { continue };
            let kept_until = queue.retain_ms.zip(job.ended_at).map(|(ms, ended_at)| later(ended_at, ms));
            let is_past_retention =
                of.is_none() && job.state >= FINISHED && kept_until.is_some_and(|until| until < self.now);
            let is_queue_deleted = queue.name.is_none() && of.is_none_or(|of| of == queue.id);
            if is_past_retention || is_queue_deleted {
                self.tables.delete_job(*id);
                deleted += 1;
            }
        }
        row!(self.reply; ids.len() as i64, ids.last().copied(), deleted);
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
        row!(self.reply; empty.len() as i64, (nameless.len() - empty.len()) as i64);
    }

    pub(super) fn notify(&mut self) {
        let channel: String = self.args.next().unwrap_or_default();
        let payloads: Vec<String> = self.args.all();
        row!(self.reply; payloads.len() as i64);
        self.notify_listeners(&channel, payloads);
    }

    pub(super) fn notify_idle(&mut self) {
        let channel: String = self.args.next().unwrap_or_default();
        let idle = self.tables.queue.values().filter(|queue| queue.name.is_some() && queue.idle_until > Some(self.now));
        let idle: Vec<_> = idle.map(|queue| format!("{}:", queue.id)).collect();
        row!(self.reply; idle.len() as i64);
        self.notify_listeners(&channel, idle);
    }

    fn notify_listeners(&mut self, channel: &str, payloads: Vec<String>) {
        self.notifications.extend(payloads.into_iter().map(|payload| (channel.to_owned(), payload)));
    }
}
