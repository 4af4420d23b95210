//! The settings of a queue. They are stored in the database, so that a change needs no deployment.

use crate::options::check_timeout;
use crate::time::whole_ms;
use crate::wire::{Parameter, Type, Value, column, columns};
use crate::{Backoff, Error, Params, RetryPolicy};
use std::ops::RangeInclusive;
use std::time::Duration;

columns! {
    /// The current settings of one queue.
    #[non_exhaustive]
    pub struct QueueSettings {
        /// The length of a lease: how long a claimed job belongs to its worker unless extended (default 20 min).
        pub lease: Duration as "lease_ms",
        /// How often and how soon soft failures are retried.
        pub backoff: Backoff,
        /// How long finished and failed jobs are kept; `None`, the default, means for ever.
        pub retain: Option<Duration> as "retain_ms",
        /// How long an attempt may take; `None`, the default, means for ever. A runner asks the handler of a job that
        /// takes longer to stop, and soft-fails the job; its lease ends 30 s after this at the latest.
        pub timeout: Option<Duration> as "timeout_ms",
    }
}

impl Default for QueueSettings {
    fn default() -> Self {
        QueueSettings { lease: Duration::from_secs(20 * 60), backoff: Backoff::default(), retain: None, timeout: None }
    }
}

/// A change of some settings of a queue. Settings that are not named stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct SettingsChange {
    pub(crate) lease: Option<Duration>,
    pub(crate) retry: RetryPolicy,
    /// `Some(None)` keeps ended jobs for ever.
    pub(crate) retain: Option<Option<Duration>>,
    /// `Some(None)` lets attempts take any time.
    pub(crate) timeout: Option<Option<Duration>>,
}

impl SettingsChange {
    /// Returns an empty change.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the lease, 100 ms to 1 year, of future claims.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Changes how many soft failures are retried.
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.retry.max_retries = Some(max_retries);
        self
    }

    /// Changes the delays before retries, 1 to 64 of them; the last one repeats.
    pub fn backoff(mut self, table: Vec<Duration>) -> Self {
        self.retry.backoff = Some(table);
        self
    }

    /// Changes the [jitter](Backoff) of delays, 0 to 100 percent; 0 makes them exact.
    pub fn jitter_percent(mut self, jitter_percent: u8) -> Self {
        self.retry.jitter_percent = Some(jitter_percent);
        self
    }

    /// Changes how long ended jobs are kept, 1 min to 100 years; `None` means for ever.
    pub fn retain(mut self, retain: Option<Duration>) -> Self {
        self.retain = Some(retain);
        self
    }

    /// Changes how long an attempt may take, 1 ms to 1 year; `None` means for ever. Jobs may have their own.
    pub fn timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Returns the change that sets all settings to `settings`.
    pub fn to(settings: QueueSettings) -> Self {
        let QueueSettings { lease, backoff, retain, timeout } = settings;
        SettingsChange { lease: Some(lease), retry: backoff.into(), retain: Some(retain), timeout: Some(timeout) }
    }

    /// Returns whether the change names no settings.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the parameters that stand for the settings, in the order of their columns; null keeps a setting.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for the first setting that is out of range.
    pub(crate) fn params(&self) -> Result<Params<'_>, Error> {
        const YEAR: Duration = Duration::from_secs(366 * 86_400);
        let lease = checked_param("a lease", self.lease, Duration::from_millis(100)..=YEAR, "100 ms and one year")?;
        self.retry.check()?;
        let retry = &self.retry;
        let table = retry.backoff.as_ref().map(|table| column(table, |delay| whole_ms(*delay)));
        Ok(vec![
            lease,
            retry.max_retries.map(|retries| retries as i32).param(),
            table.unwrap_or(Value::Null(Type::Int8Array)),
            retry.jitter_percent.map(i16::from).param(),
            or_for_ever(self.retain, |retain| {
                let range = Duration::from_secs(60)..=100 * YEAR;
                checked_param("a retention", retain, range, "one minute and 100 years")
            })?,
            or_for_ever(self.timeout, |timeout| {
                timeout.map_or(Ok(()), check_timeout)?;
                Ok(timeout.param())
            })?,
        ])
    }
}

/// Returns the parameter for a time that may be unlimited: negative for `Some(None)`.
fn or_for_ever(
    setting: Option<Option<Duration>>,
    param: impl FnOnce(Option<Duration>) -> Result<Value<'static>, Error>,
) -> Result<Value<'static>, Error> {
    if setting == Some(None) { Ok(Value::Int8(-1)) } else { param(setting.flatten()) }
}

/// Returns the parameter for a setting that is in its range, which `range_text` describes.
fn checked_param(
    name: &str,
    setting: Option<Duration>,
    range: RangeInclusive<Duration>,
    range_text: &str,
) -> Result<Value<'static>, Error> {
    match setting.filter(|setting| !range.contains(setting)) {
        Some(odd) => Err(Error::invalid(format!("{name} of {odd:?}"), format!("is not between {range_text}"))),
        None => Ok(setting.map_or(Value::Null(Type::Int8), |setting| Value::Int8(whole_ms(setting)))),
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
            assert!(matches!(change.params(), Err(Error::Invalid { .. })), "{change:?}");
        }
        assert!(SettingsChange::new().lease(ms(100)).retain(None).params().is_ok());
    }
}
