//! Reports on stderr when the database becomes unreachable and when it is reachable again.

use crate::context::Context;
use crate::serving::MIN_FAILURES;
use pm_driver_tokio_postgres::Queue;
use std::time::Instant;

/// The outage last reported on stderr, if it has not ended.
#[derive(Default)]
pub(super) struct Outage {
    since: Option<Instant>,
}

impl Outage {
    /// Reports on stderr when an outage begins and when it ends.
    pub(super) fn check(&mut self, queue: &Queue, context: &mut Context) {
        let health = queue.health();
        match self.since {
            None if health.failures >= MIN_FAILURES => {
                self.since = Some(Instant::now());
                let why = health.last_failure.unwrap_or_default();
                context.output.message(&format!("The database is unreachable; waiting for it: {why}"));
            }
            Some(since) if health.failures == 0 => {
                self.since = None;
                context
                    .output
                    .message(&format!("The database is reachable again after {} s.", since.elapsed().as_secs()));
            }
            _ => {}
        }
    }
}
