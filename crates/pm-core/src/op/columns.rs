//! Columns that several statements share.

use super::odd;
use crate::time::{from_ms, whole_ms};
use crate::wire::{AnyShape, Column, Columns, Row, RowsBuilder, columns};
use crate::{Backoff, Error, Operation, QueueSettings, RetryPolicy};
use std::time::Duration;

columns! {
    /// The columns of `queue`, `job` or `schedule` about retries. Those of a queue are not null.
    #[derive(Default)]
    pub struct RetryColumns {
        pub max_retries: Option<i32>,
        pub backoff_ms: Option<AnyShape>,
        pub jitter_percent: Option<i16>,
    }

    /// The settings of a queue.
    pub struct SettingsColumns {
        pub lease: Duration as "lease_ms",
        pub retries: RetryColumns,
        pub retain: Option<Duration> as "retain_ms",
    }
}

impl RetryColumns {
    /// Returns the backoff of a queue. Values out of range, which pm never writes, are clamped: the settings of one
    /// queue must not stop a worker that also follows others.
    pub(super) fn of_queue<O: Operation>(self) -> Result<Backoff, Error> {
        let RetryColumns { max_retries: Some(retries), backoff_ms: Some(table), jitter_percent: Some(jitter) } = self
        else {
            return Err(odd::<O>("a queue without settings"));
        };
        Ok(Backoff::nearest(delays(table), retries.max(0).unsigned_abs(), jitter.clamp(0, 100).unsigned_abs() as u8))
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
        let table = self.backoff.as_ref().map(|table| AnyShape(table.iter().map(|delay| whole_ms(*delay)).collect()));
        self.max_retries.write(reply);
        table.write(reply);
        self.jitter_percent.map(i16::from).write(reply);
    }
}

fn delays(table: AnyShape) -> Vec<Duration> {
    table.0.into_iter().map(from_ms).collect()
}

impl SettingsColumns {
    pub(super) fn settings<O: Operation>(self) -> Result<QueueSettings, Error> {
        let SettingsColumns { lease, retries, retain } = self;
        Ok(QueueSettings { lease, backoff: retries.of_queue::<O>()?, retain })
    }
}
