//! Waiting for the end of a job.

use crate::{Error, Queue};
use pm_core::{Class, Failure, JobMetadata};
use std::error::Error as _;
use std::time::Duration;
use uuid::Uuid;

/// The pause after the first look; each later one is half as long again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Queue {
    /// Waits until a job has ended, and returns it as it is then: finished or failed.
    ///
    /// Reads the job at once, and again after pauses that grow from 50 ms to 1 s: so it learns of the end at most a
    /// second late, and costs one read by id a second. A soft fail with retries left, a release and a snooze do not end
    /// a job, and neither does a cancel that its handler has not followed yet. A job that is restarted between two
    /// looks is waited for until its next end. [`Queue::result`] reads the result.
    ///
    /// It waits as long as it takes, also while the database is unavailable: put your runtime's timeout around it.
    /// Dropping the future leaves nothing behind.
    ///
    /// # Errors
    ///
    /// `JobNotFound` when the job does not exist, at once or after it was deleted; `Closed`, `Schema`, `Forbidden` or
    /// `Database`.
    pub async fn wait(&self, id: Uuid) -> Result<JobMetadata, Error> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.job(id).await {
                Ok(job) if job.state.is_ended() => return Ok(job),
                Err(error) if !may_pass(&error) => return Err(error),
                Ok(_) | Err(_) => {}
            }
            self.check_open()?;
            self.link().runtime.sleep(pause).await;
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
    }
}

/// Returns whether a later look may succeed: the database is away, overloaded or busy with a lock.
fn may_pass(error: &Error) -> bool {
    let failure = error.source().and_then(|source| source.downcast_ref::<Failure>());
    failure.is_some_and(|failure| failure.class() != Class::Permanent)
}
