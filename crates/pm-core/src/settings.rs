//! Settings of a queue. They are rows in the database: changing them needs no deployment.

use crate::backoff::{check_jitter, check_retries, check_table};
use crate::wire::Row;
use crate::{Backoff, Error};
use std::time::Duration;

/// The settings of one queue as they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueSettings {
    /// How long a claimed job may be worked on before someone else may have it (default 20 min).
    pub lease: Duration,
    /// How often and how soon soft failures are retried.
    pub backoff: Backoff,
    /// How long finished and failed jobs are kept; `None`, the default, means for ever.
    pub retain: Option<Duration>,
}

impl Default for QueueSettings {
    fn default() -> Self {
        QueueSettings { lease: Duration::from_secs(20 * 60), backoff: Backoff::default(), retain: None }
    }
}

impl QueueSettings {
    /// Reads `lease_ms, max_retries, backoff_ms, jitter_percent, retain_ms`.
    pub(crate) fn read(row: &mut Row<'_>) -> Result<Self, Error> {
        let (lease, backoff) = read_lease_and_backoff(row)?;
        let retain = row.read::<Option<i64>>()?.map(crate::time::from_ms);
        Ok(QueueSettings { lease, backoff, retain })
    }
}

/// Reads `lease_ms, max_retries, backoff_ms, jitter_percent`. What is out of range was written by someone else, and is read
/// as the nearest that is in range: one queue's settings stop no worker that follows others too.
pub(crate) fn read_lease_and_backoff(row: &mut Row<'_>) -> Result<(Duration, Backoff), Error> {
    let lease = crate::time::from_ms(row.read()?);
    let (max_retries, table, jitter) = (row.read::<i32>()?, row.read::<Vec<i64>>()?, row.read::<i16>()?);
    let table = table.into_iter().map(crate::time::from_ms).collect();
    Ok((lease, Backoff::nearest(table, max_retries.max(0).unsigned_abs(), jitter.clamp(0, 100).unsigned_abs() as u8)))
}

/// Which settings of a queue to change; what is `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct SettingsChange {
    pub(crate) lease: Option<Duration>,
    pub(crate) max_retries: Option<u32>,
    pub(crate) table: Option<Vec<Duration>>,
    pub(crate) jitter_percent: Option<u8>,
    /// `Some(None)` keeps ended jobs for ever.
    pub(crate) retain: Option<Option<Duration>>,
}

impl SettingsChange {
    /// Returns a change of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the lease, 100 ms to 1 year, for claims to come.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Changes how many soft failures are retried.
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.max_retries = Some(max_retries);
        self
    }

    /// Changes the delays before retries, 1 to 64 of them; the last one repeats.
    pub fn backoff(mut self, table: Vec<Duration>) -> Self {
        self.table = Some(table);
        self
    }

    /// Changes the [jitter](Backoff) of delays, 0 to 100 percent; 0 makes them exact.
    pub fn jitter_percent(mut self, jitter_percent: u8) -> Self {
        self.jitter_percent = Some(jitter_percent);
        self
    }

    /// Changes how long ended jobs are kept, at least 1 min; `None` means for ever.
    pub fn retain(mut self, retain: Option<Duration>) -> Self {
        self.retain = Some(retain);
        self
    }

    /// Returns the change that sets everything to `settings`.
    pub fn to(settings: QueueSettings) -> Self {
        let QueueSettings { lease, backoff, retain } = settings;
        Self::new()
            .lease(lease)
            .max_retries(backoff.max_retries())
            .backoff(backoff.table().to_vec())
            .jitter_percent(backoff.jitter_percent())
            .retain(retain)
    }

    /// Returns whether nothing would change.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        const YEAR: Duration = Duration::from_secs(366 * 86_400);
        if let Some(lease) = self.lease
            && !(Duration::from_millis(100)..=YEAR).contains(&lease)
        {
            return Err(Error::invalid(format!("a lease of {lease:?}"), "is not between 100 ms and one year"));
        }
        if let Some(Some(retain)) = self.retain
            && !(Duration::from_secs(60)..=100 * YEAR).contains(&retain)
        {
            return Err(Error::invalid(
                format!("a retention of {retain:?}"),
                "is not between one minute and 100 years",
            ));
        }
        self.table.as_deref().map_or(Ok(()), check_table)?;
        self.max_retries.map_or(Ok(()), check_retries)?;
        self.jitter_percent.map_or(Ok(()), check_jitter)
    }
}

impl From<QueueSettings> for SettingsChange {
    fn from(settings: QueueSettings) -> Self {
        SettingsChange::to(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused() {
        let ms = Duration::from_millis;
        for change in [
            SettingsChange::new().lease(ms(99)),
            SettingsChange::new().lease(Duration::MAX),
            SettingsChange::new().backoff(vec![]),
            SettingsChange::new().max_retries(2_000_000),
            SettingsChange::new().jitter_percent(101),
            SettingsChange::new().retain(Some(ms(59_999))),
        ] {
            assert!(matches!(change.check(), Err(Error::Invalid { .. })), "{change:?}");
        }
        assert_eq!(SettingsChange::new().lease(ms(100)).retain(None).check(), Ok(()));
    }
}
