//! Columns that several statements share.

use crate::time::{from_ms, whole_ms};
use crate::wire::{AnyShape, Column, Columns, Row, RowsBuilder, columns};
use crate::{Backoff, Error, RetryPolicy};
use std::time::Duration;

columns! {
    /// The columns of `queue`, `job` or `schedule` about retries. Those of a queue are not null.
    #[derive(Default)]
    pub struct RetryColumns {
        pub max_retries: Option<i32>,
        pub backoff_ms: Option<AnyShape>,
        pub jitter_percent: Option<i16>,
    }
}

impl RetryColumns {
    /// Returns the backoff of a queue; `None` if a column is null. Values out of range, which pm never writes, are
    /// clamped: the settings of one queue must not stop a worker that also follows others.
    pub fn of_queue(self) -> Option<Backoff> {
        let (retries, jitter) = (self.max_retries?.max(0).unsigned_abs(), self.jitter_percent?.clamp(0, 100));
        Some(Backoff::nearest(delays(self.backoff_ms?), retries, jitter.unsigned_abs() as u8))
    }

    /// Returns the values of a job or a schedule, without those that are out of range.
    pub fn overrides(self) -> RetryPolicy {
        RetryPolicy {
            max_retries: self.max_retries.and_then(|retries| u32::try_from(retries).ok()),
            backoff: self.backoff_ms.map(delays),
            jitter_percent: self.jitter_percent.and_then(|percent| u8::try_from(percent).ok()),
        }
    }
}

/// Those of a job or a schedule.
impl Columns for RetryPolicy {
    const COLUMNS: &'static [Column] = RetryColumns::COLUMNS;

    fn read(row: &mut Row<'_>) -> Result<Self, Error> {
        row.read().map(RetryColumns::overrides)
    }

    fn write(&self, reply: &mut RowsBuilder) {
        RetryColumns::from(self.clone()).write(reply);
    }
}

impl From<RetryPolicy> for RetryColumns {
    fn from(RetryPolicy { max_retries, backoff, jitter_percent }: RetryPolicy) -> Self {
        RetryColumns {
            max_retries: max_retries.map(|retries| i32::try_from(retries).unwrap_or(i32::MAX)),
            backoff_ms: backoff.map(|table| AnyShape(table.into_iter().map(whole_ms).collect())),
            jitter_percent: jitter_percent.map(i16::from),
        }
    }
}

/// Those of a queue.
impl Columns for Backoff {
    const COLUMNS: &'static [Column] = RetryColumns::COLUMNS;

    fn read(row: &mut Row<'_>) -> Result<Self, Error> {
        row.read::<RetryColumns>()?.of_queue().ok_or_else(|| row.odd("a queue without settings".to_owned()))
    }

    fn write(&self, reply: &mut RowsBuilder) {
        RetryPolicy::from(self.clone()).write(reply);
    }
}

fn delays(table: AnyShape) -> Vec<Duration> {
    table.0.into_iter().map(from_ms).collect()
}
