//! Whether the database answers.

use pm_driver_tokio_postgres::Queue;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How many statements in a row must fail before the database counts as unreachable: one failure may be a restart.
pub(crate) const MIN_FAILURES: u32 = 2;
/// How often the database is polled: while commands run, there may be no other statements for a long time.
const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// How often the database is polled while it does not answer.
const OUTAGE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a poll waits for the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether this process is ready: the database answered within the last poll, and the last statements did not fail.
pub(crate) struct Readiness {
    queue: Queue,
    /// Since when polls have got no answer, if the last one got none.
    silent_since: Mutex<Option<Instant>>,
}

impl Readiness {
    /// Returns the readiness of a process whose queue handle has just been opened: it is ready.
    pub(super) fn new(queue: Queue) -> Self {
        Readiness { queue, silent_since: Mutex::default() }
    }

    /// Checks whether the process is ready. Errors: why it is not, for humans.
    pub(super) fn check(&self) -> Result<(), String> {
        let health = self.queue.health();
        let silent_since = *self.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        match silent_since {
            _ if health.failures >= MIN_FAILURES => {
                let why = health.last_failure.unwrap_or_default();
                Err(format!("the database is unreachable: {why}"))
            }
            Some(since) => Err(format!("the database has not answered for {} s", since.elapsed().as_secs())),
            None => Ok(()),
        }
    }

    /// Records whether a poll that began at `begin` got an answer.
    fn record(&self, begin: Instant, answered: bool) {
        let mut silent_since = self.silent_since.lock().unwrap_or_else(PoisonError::into_inner);
        *silent_since = if answered { None } else { silent_since.or(Some(begin)) };
    }
}

/// Polls the database periodically, and never returns.
pub(super) async fn poll(readiness: Arc<Readiness>) {
    loop {
        let begin = Instant::now();
        // `Queue::health` records whether the statement failed.
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, readiness.queue.schema_version()).await.is_ok();
        readiness.record(begin, answered);
        let has_failed = !answered || readiness.queue.health().failures > 0;
        tokio::time::sleep(if has_failed { OUTAGE_POLL_INTERVAL } else { POLL_INTERVAL }).await;
    }
}
