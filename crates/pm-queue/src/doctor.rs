//! Finding out what makes queues sick.

use crate::{Error, Queue};
use pm_core::doctor::{Finding, Symptoms, examine, examine_access};
use pm_core::op::{
    IndexHealths, Orphans, Privileges, QueueHealths, Relations, RowHolders, SearchPaths, Sequences, TableHealths,
};
use std::time::Duration;

impl Queue {
    /// Returns what is wrong with the database as far as queues are concerned; nothing when all is well.
    ///
    /// `threshold` is how long a transaction may be open, a lease be run out, and a ready job of a queue without any in
    /// progress wait; 5 min is a good value. It writes nothing. The cost is bounded: that of [`Queue::activity`], and
    /// about 0.3 µs a job in progress. A role that is not a member of `pg_read_all_stats` does not see the transactions
    /// of other roles.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn doctor(&self, threshold: Duration) -> Result<Vec<Finding>, Error> {
        let schema = self.link().catalog.schema();
        let relations = self.run(Relations).await?;
        let privileges = self.run(Privileges::of_current_role()).await?;
        let mut findings = examine_access(&relations, &privileges, schema);
        let measured = match self.check_schema(false).await {
            Ok(()) => self.measure(threshold).await,
            Err(unusable) => Err(unusable),
        };
        match measured {
            Ok(symptoms) => findings.extend(examine(&Symptoms { relations, ..symptoms }, schema, threshold)),
            // What can be told without looking at the tables says why nobody can.
            Err(_) if !findings.is_empty() => {}
            Err(error) => return Err(error),
        }
        findings.sort_by_key(|finding| finding.check);
        Ok(findings)
    }

    async fn measure(&self, threshold: Duration) -> Result<Symptoms, Error> {
        let runtime = &self.link().runtime;
        let before_ms = runtime.unix_ms();
        let tables = self.run(TableHealths).await?;
        let after_ms = runtime.unix_ms();
        let database_ms = tables.first().and_then(|table| u64::try_from(table.read_at.unix_us() / 1_000).ok());
        Ok(Symptoms {
            clock_offset: database_ms.map(|it| distance(it, before_ms, after_ms)).unwrap_or_default(),
            tables,
            holders: self.run(RowHolders).await?,
            indexes: self.run(IndexHealths).await?,
            queues: self.run(QueueHealths { threshold }).await?,
            sequences: self.run(Sequences).await?,
            orphans: self.run(Orphans).await?,
            search_paths: self.run(SearchPaths).await?,
            activity: self.activity(threshold).await?,
            ..Symptoms::default()
        })
    }
}

/// Returns how far a time surely lies from a span on another clock within which it was read.
fn distance(time_ms: u64, before_ms: u64, after_ms: u64) -> Duration {
    Duration::from_millis(before_ms.saturating_sub(time_ms).max(time_ms.saturating_sub(after_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_may_be_right_is_not_blamed() {
        for (time_ms, expected_ms) in [(100, 0), (105, 0), (110, 0), (99, 1), (112, 2)] {
            assert_eq!(distance(time_ms, 100, 110), Duration::from_millis(expected_ms), "{time_ms}");
        }
    }
}
