//! Statistics of the queues.

use crate::{Error, Queue};
use pm_core::op::{Activity, Count, QueueActivity, QueueSummary, TableSize, TableSizes};
use std::collections::BTreeMap;
use std::time::Duration;

/// The time span of [`Queue::stats`].
const WINDOW: Duration = Duration::from_secs(5 * 60);

/// Statistics of the queues of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The queues, sorted by name.
    pub queues: Vec<QueueStats>,
    /// The time span, up to now, of the counts in [`QueueStats`]: 5 min.
    pub window: Duration,
    /// The sizes of pm's tables and indexes, each table followed by its indexes.
    pub tables: Vec<TableSize>,
}

/// Statistics of one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// The queue with its settings and the numbers of its jobs by state.
    pub queue: QueueSummary,
    /// How long ago the ready job that has waited longest was enqueued or became due; `None` when no job is ready.
    pub oldest_waiting: Option<Duration>,
    /// The number of jobs enqueued within [`Stats::window`].
    pub enqueued: Count,
    /// The number of jobs finished within [`Stats::window`].
    pub finished: Count,
    /// The number of jobs failed, without a retry left, within [`Stats::window`].
    pub failed: Count,
}

impl Queue {
    /// Returns statistics of the queues: jobs by state, the longest wait, the jobs enqueued and ended in the last 5
    /// min, and the sizes of the tables.
    ///
    /// The cost is bounded however large the tables are; see [`Queue::list_queues`] and [`QueueActivity`]. The values
    /// come from three snapshots, taken one after the other.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn stats(&self) -> Result<Stats, Error> {
        let queues = self.list_queues().await?;
        let activities = self.activity(WINDOW).await?;
        let mut activities: BTreeMap<_, _> = activities.into_iter().map(|one| (one.queue.clone(), one)).collect();
        let tables = self.execute(TableSizes).await?;
        let with_activity = |queue: QueueSummary| {
            // The queue was created between the two statements.
            let activity = activities.remove(&queue.name).unwrap_or_default();
            let QueueActivity { oldest_waiting, enqueued, finished, failed, .. } = activity;
            QueueStats { queue, oldest_waiting, enqueued, finished, failed }
        };
        Ok(Stats { queues: queues.into_iter().map(with_activity).collect(), window: WINDOW, tables })
    }

    /// Returns the activity of the queues within the last `window`, sorted by name.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn activity(&self, window: Duration) -> Result<Vec<QueueActivity>, Error> {
        self.execute(Activity { window }).await
    }
}
