//! Changing, listing and firing schedules.

use super::tables::{FINISHED, JobRow, ScheduleRow, retries};
use super::{Work, ms_until};
use pm_core::op::{self, DueColumns, DueRow, Fired};
use pm_core::{Codec, Missed, Overlap, ScheduleMetadata, Timestamp};
use std::collections::BTreeMap;
use uuid::Uuid;

impl Work<'_> {
    pub(super) fn list_schedules(&mut self) {
        let wanted: Option<String> = self.args.next();
        let (queues, read_at) = (&self.tables.queue, self.now);
        let queue_of = |schedule: &ScheduleRow| queues.get(&schedule.queue_id).and_then(|queue| queue.name.clone());
        let named =
            self.tables.schedule.values().filter(|schedule| wanted.as_ref().is_none_or(|name| *name == schedule.name));
        let mut found: Vec<_> = named.filter_map(|schedule| Some((schedule, queue_of(schedule)?))).collect();
        found.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let listed = |(schedule, queue): (&ScheduleRow, String)| ScheduleMetadata {
            name: schedule.name.clone(),
            queue,
            cron: schedule.cron.clone(),
            zone: schedule.zone.clone(),
            missed: Missed::from_code(schedule.missed, schedule.missed_limit),
            overlap: Overlap::from_code(schedule.overlap),
            paused: schedule.paused,
            next_tick: schedule.next_tick,
            last_tick: schedule.last_tick,
            last_job: schedule.last_job,
            priority: schedule.priority,
            description: schedule.description.clone(),
            retry: retries(schedule.max_retries, schedule.backoff_ms.as_ref(), schedule.jitter_percent).overrides(),
            codec: Codec::from_code(schedule.codec),
            payload_bytes: schedule.payload.len() as u64,
            payload: wanted.as_ref().map(|_| schedule.payload.clone()),
            revision: schedule.revision,
            read_at,
        };
        let mut schedules: Vec<_> = found.into_iter().map(listed).map(Some).collect();
        if schedules.is_empty() {
            schedules.push(None);
        }
        schedules.into_iter().for_each(|schedule| self.add(op::ScheduleRow { read_at, schedule }));
    }

    pub(super) fn set_schedule(&mut self) {
        let (name, queue) = (self.args.next::<String>().unwrap_or_default(), self.args.next::<String>());
        let queue_id = queue.and_then(|queue| self.tables.queue_named(&queue)).map(|queue| queue.id);
        let Some(queue_id) = queue_id else { return };
        let present = self.tables.schedule.values().find(|schedule| schedule.name == name).cloned();
        let mut new = ScheduleRow {
            id: present.as_ref().map_or(self.tables.last_schedule + 1, |present| present.id),
            name,
            queue_id,
            cron: self.args.next().unwrap_or_default(),
            zone: self.args.next().unwrap_or_default(),
            missed: self.args.next().unwrap_or_default(),
            missed_limit: self.args.next(),
            overlap: self.args.next().unwrap_or_default(),
            next_tick: self.args.next(),
            priority: self.args.next().unwrap_or_default(),
            description: self.args.next(),
            max_retries: self.args.next(),
            backoff_ms: Some(self.args.all()).filter(|table: &Vec<i64>| !table.is_empty()),
            jitter_percent: self.args.next(),
            codec: self.args.next().unwrap_or_default(),
            payload: self.args.next().unwrap_or_default(),
            ..ScheduleRow::default()
        };
        if let Some(present) = &present {
            let is_same_cron = (&present.cron, &present.zone) == (&new.cron, &new.zone);
            new.next_tick = present.next_tick.filter(|_| is_same_cron).or(new.next_tick).filter(|_| !present.paused);
            (new.paused, new.revision) = (present.paused, present.revision);
            (new.last_tick, new.last_job) = (present.last_tick, present.last_job);
        }
        new.revision += 1;
        self.tables.last_schedule += 1;
        self.tables.schedule.insert(new.id, new);
        self.add(present.is_none());
    }

    pub(super) fn hold_schedule(&mut self) {
        let (name, paused): (Option<String>, Option<bool>) = (self.args.next(), self.args.next());
        let (next_tick, revision): (Option<Timestamp>, Option<i64>) = (self.args.next(), self.args.next());
        let mut schedules = self.tables.schedule.values_mut();
        let found = schedules.find(|schedule| Some(&schedule.name) == name.as_ref());
        if let Some(schedule) = found.filter(|schedule| revision.is_none_or(|revision| schedule.revision == revision)) {
            (schedule.paused, schedule.next_tick) = (paused.unwrap_or_default(), next_tick);
            schedule.revision += 1;
            let id = schedule.id;
            self.add(id);
        }
    }

    pub(super) fn delete_schedule(&mut self) {
        let name: Option<String> = self.args.next();
        let found = self.tables.schedule.values().find(|schedule| Some(&schedule.name) == name.as_ref());
        if let Some(id) = found.map(|schedule| schedule.id) {
            self.tables.schedule.remove(&id);
            self.add(id);
        }
    }

    pub(super) fn due_schedules(&mut self) {
        let [limit, skip] = [(); 2].map(|()| self.args.next::<i64>().unwrap_or_default() as usize);
        let (queues, now) = (&self.tables.queue, self.now);
        let planned = || self.tables.schedule.values().filter(|schedule| schedule.next_tick.is_some());
        let next = planned().filter_map(|schedule| schedule.next_tick).filter(|at| *at > now).min();
        let is_open = |id: i32| queues.get(&id).is_some_and(|queue| queue.name.is_some());
        let mut due: Vec<_> =
            planned().filter(|schedule| schedule.next_tick <= Some(now) && is_open(schedule.queue_id)).collect();
        due.sort_by_key(|schedule| schedule.next_tick);
        let row = |schedule: &ScheduleRow| {
            let columns = DueColumns {
                id: schedule.id,
                revision: schedule.revision,
                name: schedule.name.clone(),
                cron: schedule.cron.clone(),
                zone: schedule.zone.clone(),
                missed: Missed::from_code(schedule.missed, schedule.missed_limit),
                overlap: Overlap::from_code(schedule.overlap),
            };
            Some(DueRow { schedule: Some(columns), tick: schedule.next_tick?, next_ms: None })
        };
        let rows: Vec<_> = due.into_iter().skip(skip).take(limit).filter_map(row).collect();
        self.add(DueRow { schedule: None, tick: now, next_ms: next.map(|at| ms_until(at, now)) });
        rows.into_iter().for_each(|row| self.add(row));
    }

    pub(super) fn fire_schedules(&mut self) {
        let (ids, revisions): (Vec<i32>, Vec<i64>) = (self.args.all(), self.args.all());
        let (from, to) = (self.args.all::<Timestamp>(), self.args.column::<Timestamp>());
        let (owners, jobs): (Vec<i32>, Vec<Uuid>) = (self.args.all(), self.args.all());
        let (ticks, keys): (Vec<Timestamp>, Vec<String>) = (self.args.all(), self.args.all());
        let mut due = BTreeMap::new();
        for (n, id) in ids.iter().enumerate() {
            let Some(schedule) = self.tables.schedule.get(id).cloned() else { continue };
            let is_open = self.tables.queue.get(&schedule.queue_id).is_some_and(|queue| queue.name.is_some());
            if is_open && (schedule.revision, schedule.next_tick) == (revisions[n], Some(from[n])) {
                self.tables.schedule.entry(*id).and_modify(|schedule| schedule.next_tick = to.at(n));
                let last = schedule.last_job.and_then(|last| self.tables.job.get(&last));
                let is_free = schedule.overlap == 0 || last.is_none_or(|job| job.state >= FINISHED);
                due.insert(*id, (schedule, is_free));
            }
        }
        let mut order: Vec<usize> = (0..jobs.len()).collect();
        order.sort_by_key(|n| (ticks[*n], owners[*n]));
        let mut enqueued = 0;
        for n in order {
            let Some((schedule, _)) = due.get(&owners[n]).filter(|(_, is_free)| *is_free) else { continue };
            if schedule.last_tick >= Some(ticks[n]) {
                continue;
            }
            // The position is drawn before a unique index may refuse the row.
            let job = JobRow { seq: self.tables.next_seq(), ..job_of(schedule, jobs[n], &keys[n], self.now) };
            let is_key_reserved = self.tables.holder(schedule.queue_id, &keys[n]).is_some();
            if self.tables.job.contains_key(&job.id) || is_key_reserved {
                continue;
            }
            self.tables.job.insert(job.id, job);
            let (last_tick, last_job) = (Some(ticks[n]), Some(jobs[n]));
            let fired = |schedule: &mut ScheduleRow| (schedule.last_tick, schedule.last_job) = (last_tick, last_job);
            self.tables.schedule.entry(owners[n]).and_modify(fired);
            enqueued += 1;
        }
        self.add(Fired { schedules: due.len() as u64, jobs: enqueued });
    }
}

fn job_of(schedule: &ScheduleRow, id: Uuid, key: &str, now: Timestamp) -> JobRow {
    JobRow {
        id,
        created_at: now,
        queue_id: schedule.queue_id,
        priority: schedule.priority,
        codec: schedule.codec,
        payload: Some(schedule.payload.clone()),
        description: schedule.description.clone(),
        key: Some(key.to_owned()),
        reserved_key: Some(key.to_owned()),
        max_retries: schedule.max_retries,
        backoff_ms: schedule.backoff_ms.clone(),
        jitter_percent: schedule.jitter_percent,
        ..JobRow::default()
    }
}
