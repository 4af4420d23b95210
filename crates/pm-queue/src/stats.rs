//! How the queues are doing.

use crate::{Error, Queue};
use pm_core::op::{Activity, Count, QueueActivity, QueueSummary, TableSize, TableSizes};
use std::collections::BTreeMap;
use std::time::Duration;

/// How far [`Queue::stats`] looks back.
const WINDOW: Duration = Duration::from_secs(5 * 60);

/// How the queues of a database are doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The queues, by name.
    pub queues: Vec<QueueStats>,
    /// How far back "lately" reaches: 5 min.
    pub window: Duration,
    /// How large pm's tables and indexes are, each table followed by its indexes.
    pub tables: Vec<TableSize>,
}

/// How one queue is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// The queue with its settings and the number of its jobs by state.
    pub queue: QueueSummary,
    /// How long the ready job that has waited longest was added or became due ago; `None` when none is ready.
    pub oldest_waiting: Option<Duration>,
    /// How many jobs came in lately.
    pub enqueued: Count,
    /// How many jobs finished lately.
    pub finished: Count,
    /// How many jobs failed for good lately.
    pub failed: Count,
}

impl Queue {
    /// Returns how the queues are doing: jobs by state, who waits how long, what came in and ended in the last 5 min,
    /// and the sizes of the tables.
    ///
    /// The cost is bounded however large the tables are. Of jobs by state see [`Queue::list_queues`], of what came in
    /// and ended lately [`QueueActivity`]. It reads three snapshots, a moment apart.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn stats(&self) -> Result<Stats, Error> {
        let queues = self.list_queues().await?;
        let activities = self.activity(WINDOW).await?;
        let mut activities: BTreeMap<_, _> = activities.into_iter().map(|told| (told.queue.clone(), told)).collect();
        let tables = self.run(TableSizes).await?;
        let with_activity = |queue: QueueSummary| {
            // A queue of this moment has seen nothing yet.
            let activity = activities.remove(&queue.name).unwrap_or_default();
            let QueueActivity { oldest_waiting, enqueued, finished, failed, .. } = activity;
            QueueStats { queue, oldest_waiting, enqueued, finished, failed }
        };
        Ok(Stats { queues: queues.into_iter().map(with_activity).collect(), window: WINDOW, tables })
    }

    /// Returns what happened on the queues within the last `window`, by name.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn activity(&self, window: Duration) -> Result<Vec<QueueActivity>, Error> {
        self.run(Activity { window }).await
    }
}
