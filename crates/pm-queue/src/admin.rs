//! What operators do with queues: make, set, pause, rename, reap.

use crate::{Error, ErrorKind, Queue};
use pm_core::op::{
    CountPending, CreateQueue, GetSettings, ListQueues, Notification, NotifyIdle, PauseQueue, Promote, QueueSummary,
    Reap, RenameQueue, ResumeQueue, SetQueue,
};
use pm_core::{QueueName, QueueSettings, SettingsChange};
use std::time::Duration;

/// A reaper looks at least this often: nobody tells it of a new schedule.
const LONGEST_REAP: Duration = Duration::from_secs(60);
/// A reaper waits this long after a failure.
const REAP_AGAIN: Duration = Duration::from_secs(10);
/// The most leases one statement reaps.
const REAPED_AT_ONCE: usize = 500;
/// The most jobs one statement promotes.
const PROMOTED_AT_ONCE: usize = 1_000;

impl Queue {
    /// Creates a queue, paused or not; returns whether it was created.
    ///
    /// One of that name that exists is left as it is, its pause included.
    ///
    /// # Errors
    ///
    /// `Invalid` for a bad name: 1 to 200 bytes, no control characters, no blank at either end.
    pub async fn create_queue(&self, name: &str, paused: bool) -> Result<bool, Error> {
        let created = self.run(CreateQueue { name: QueueName::new(name)?, paused }).await?;
        self.notice_change();
        Ok(created)
    }

    /// Pauses a queue; returns how many jobs are now held.
    ///
    /// One write, whatever the number of jobs: claims read the flag, so nothing that waits, comes in or is retried
    /// leaks. Work in progress goes on. Counting costs about 0.2 µs a job.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`.
    pub async fn pause_queue(&self, name: &str) -> Result<u64, Error> {
        let queue_id = self.run(PauseQueue { name: QueueName::new(name)? }).await?;
        self.notice_change();
        self.notify_change(queue_id);
        self.run(CountPending { queue_id }).await
    }

    /// Resumes a queue; returns how many jobs are set free, those enqueued as `Paused` included.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`.
    pub async fn resume_queue(&self, name: &str) -> Result<u64, Error> {
        let resumed = self.run(ResumeQueue { name: QueueName::new(name)? }).await?;
        self.notice_change();
        self.notify_change(resumed.queue_id);
        Ok(resumed.freed)
    }

    /// Returns all queues by name, with settings and the number of their jobs by state.
    ///
    /// The cost is bounded however large the tables are: counts are exact up to 10,000 and estimated beyond from a
    /// sample of at most 64 MB; finished jobs are exact while the table is no larger than that, pending ones while no
    /// more than 1,000,000 jobs of all queues wait for their time.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn list_queues(&self) -> Result<Vec<QueueSummary>, Error> {
        self.run(ListQueues::default()).await
    }

    /// Returns the settings of a queue.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`.
    pub async fn queue_settings(&self, name: &str) -> Result<QueueSettings, Error> {
        self.run(GetSettings { name: QueueName::new(name)? }).await
    }

    /// Changes settings of a queue, all or some; returns them as they stand then.
    ///
    /// Takes a whole [`QueueSettings`] or a [`SettingsChange`]. Claims to come go by the new lease; workers take up
    /// the new backoff with their next claim.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`; `Invalid` for a setting out of range.
    pub async fn set_queue_settings(
        &self,
        name: &str,
        settings: impl Into<SettingsChange>,
    ) -> Result<QueueSettings, Error> {
        self.run(SetQueue::new(QueueName::new(name)?, settings.into())?).await
    }

    /// Ends expired leases with the reason `lease expired`; returns how many, and the time until the next one ends.
    ///
    /// `None` when nothing is in progress. Streams do this by themselves. Two at once share the work. The cost grows
    /// with the jobs in progress, not with the backlog.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn reap(&self) -> Result<(u64, Option<Duration>), Error> {
        let mut total = 0;
        loop {
            let reaped = self.run(Reap { limit: REAPED_AT_ONCE, seed: self.random_seed() }).await?;
            total += reaped.reaped;
            if reaped.reaped < REAPED_AT_ONCE as u64 {
                self.notify_idle(total).await;
                return Ok((total, reaped.next_expiry));
            }
        }
    }

    /// Makes idle workers look again after so many jobs were put back in line.
    pub(crate) async fn notify_idle(&self, jobs: u64) {
        if jobs == 0 {
            return;
        }
        self.notice_change();
        let channel = Notification::channel(self.link().catalog.schema());
        // Should it fail, they look for themselves in the end.
        drop(self.run(NotifyIdle { channel }).await);
    }

    /// Gives jobs that have become due their place in the line; returns how many, and the time until the next is due.
    ///
    /// Streams do this by themselves. Two at once share the work. About 9 µs a job, and flat in the number waiting.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn promote(&self) -> Result<(u64, Option<Duration>), Error> {
        let (mut total, mut bound) = (0, None);
        loop {
            let promoted = self.run(Promote { limit: PROMOTED_AT_ONCE, bound }).await?;
            total += promoted.promoted;
            if promoted.promoted < PROMOTED_AT_ONCE as u64 {
                self.notify_idle(total).await;
                return Ok((total, promoted.next_due));
            }
            bound = promoted.upto;
        }
    }

    /// Reaps and fires schedules for as long as the queue is open: when a lease ends or a tick comes, and at least once
    /// a minute.
    ///
    /// For set-ups without streams; every stream does both by itself. Trouble with the database is waited out. It
    /// returns only when the queue was closed.
    pub async fn run_reaper(&self) {
        loop {
            let wait = match self.reap_and_fire().await {
                Ok(next) => next.map_or(LONGEST_REAP, |next| next.clamp(Duration::from_millis(100), LONGEST_REAP)),
                Err(error) if error.kind() == ErrorKind::Closed => return,
                Err(_) => REAP_AGAIN,
            };
            // Reapers of many processes spread over a twentieth of the wait, 50 ms at most.
            let jitter = (wait / 20).min(Duration::from_millis(50));
            let share = u32::try_from(self.random_seed() & 0xFF).unwrap_or_default();
            self.sleep(wait + jitter * share / 0xFF).await;
        }
    }

    /// Reaps, and fires schedules; returns when there is more to do.
    async fn reap_and_fire(&self) -> Result<Option<Duration>, Error> {
        let (_, next_expiry) = self.reap().await?;
        let (_, next_tick) = self.fire_schedules().await?;
        Ok(next_expiry.into_iter().chain(next_tick).min())
    }

    /// Gives a queue another name; jobs, schedules, settings and leases stay.
    ///
    /// One write, whatever the number of jobs. Streams that follow the old name get `QueueNotFound` and end.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`; `QueueExists` when the new name is taken; `Database` when an open transaction holds on to the
    /// queue longer than the lock timeout.
    pub async fn rename_queue(&self, from: &str, to: &str) -> Result<(), Error> {
        let queue_id = self.run(RenameQueue { from: QueueName::new(from)?, to: QueueName::new(to)? }).await?;
        self.notice_change();
        self.notify_change(queue_id);
        Ok(())
    }
}
