//! How calls send many jobs: in batches, and again those that another transaction has locked.

use std::time::Duration;

/// The maximum number of jobs in one statement.
pub(super) const MAX_BATCH: usize = 1_000;
/// The pause before locked jobs are first sent again. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Returns the pause before locked jobs are sent again, after this many pauses.
pub(super) fn pause_after(pauses: u32) -> Duration {
    (FIRST_PAUSE * 2u32.saturating_pow(pauses)).min(LONGEST_PAUSE)
}
