//! The pauses between failed attempts to connect.

use pm_core::Failure;
use std::time::{Duration, Instant};

/// The pause after a failure to connect doubles from this to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The last failure to connect, with no attempt since.
///
/// Tasks that need a connection during the pause after it wait, and share the next attempt or its failure.
#[derive(Debug)]
pub struct Failed {
    at: Instant,
    failure: Failure,
    /// The number of consecutive failures.
    times: u32,
}

impl Failed {
    /// Replaces the `last` failure, if there was one, by this one.
    pub fn record(last: &mut Option<Failed>, failure: &Failure) {
        let times = last.as_ref().map_or(1, |last| last.times.saturating_add(1));
        *last = Some(Failed { at: Instant::now(), failure: failure.clone(), times });
    }

    /// Returns the failure if it occurred after this time.
    pub fn since(&self, asked_at: Instant) -> Option<Failure> {
        (self.at >= asked_at).then(|| self.failure.clone())
    }

    /// Returns what is left of the pause before the next attempt.
    pub fn pause(&self) -> Duration {
        let pause = SHORTEST_PAUSE * 2u32.saturating_pow(self.times.saturating_sub(1));
        (self.at + pause.min(LONGEST_PAUSE)).saturating_duration_since(Instant::now())
    }
}
