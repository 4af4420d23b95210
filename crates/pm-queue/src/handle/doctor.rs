//! Diagnosing common problems.

use crate::{Error, Queue};
use pm_core::doctor::{Finding, Symptoms, examine, examine_access};
use pm_core::op::{
    IndexHealths, Orphans, Privileges, QueueHealths, Relations, RowHolders, SearchPaths, Sequences, TableHealths,
};
use std::time::Duration;

impl Queue {
    /// Diagnoses common problems of the database and its queues; returns one finding for each, with a remedy.
    ///
    /// The list is empty if there are none. `threshold` is how long a transaction may be open, a lease may be expired,
    /// and a ready job of a queue with no job in progress may wait before that counts as a problem; 5 min is a good
    /// value. Only reads. The cost is bounded: that of [`Queue::activity`], and about 0.3 µs per job in progress. A
    /// role that is not a member of `pg_read_all_stats` does not see the transactions of other roles.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn doctor(&self, threshold: Duration) -> Result<Vec<Finding>, Error> {
        let schema = self.link().catalog.schema();
        let relations = self.execute(Relations).await?;
        let privileges = self.execute(Privileges::of_current_role()).await?;
        let mut findings = examine_access(&relations, &privileges, schema);
        let measured = match self.check_schema(false).await {
            Ok(()) => self.measure(threshold).await,
            Err(unusable) => Err(unusable),
        };
        match measured {
            Ok(symptoms) => findings.extend(examine(&Symptoms { relations, ..symptoms }, schema, threshold)),
            // The findings so far explain why the tables cannot be read.
            Err(_) if !findings.is_empty() => {}
            Err(error) => return Err(error),
        }
        findings.sort_by_key(|finding| finding.check);
        Ok(findings)
    }

    async fn measure(&self, threshold: Duration) -> Result<Symptoms, Error> {
        let runtime = &self.link().runtime;
        let before_ms = runtime.unix_ms();
        let tables = self.execute(TableHealths).await?;
        let after_ms = runtime.unix_ms();
        let database_ms = tables.first().and_then(|table| u64::try_from(table.read_at.unix_us() / 1_000).ok());
        Ok(Symptoms {
            clock_offset: database_ms.map(|it| distance(it, before_ms, after_ms)).unwrap_or_default(),
            tables,
            holders: self.execute(RowHolders).await?,
            indexes: self.execute(IndexHealths).await?,
            queues: self.execute(QueueHealths { threshold }).await?,
            sequences: self.execute(Sequences).await?,
            orphans: self.execute(Orphans).await?,
            search_paths: self.execute(SearchPaths).await?,
            activity: self.activity(threshold).await?,
            ..Symptoms::default()
        })
    }
}

/// Returns the least difference between two clocks, one of which was read between two times on the other.
fn distance(time_ms: u64, before_ms: u64, after_ms: u64) -> Duration {
    Duration::from_millis(before_ms.saturating_sub(time_ms).max(time_ms.saturating_sub(after_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_may_be_right_has_no_offset() {
        for (time_ms, expected_ms) in [(100, 0), (105, 0), (110, 0), (99, 1), (112, 2)] {
            assert_eq!(distance(time_ms, 100, 110), Duration::from_millis(expected_ms), "{time_ms}");
        }
    }
}
