//! The operations, grouped by file, each with its `.sql`.

mod bulk;
mod claim;
mod copy_job;
mod encoding;
mod enqueue;
mod enqueue_keyed;
mod extend;
mod fetch_job;
mod fire;
mod health;
mod job;
mod next_jobs;
mod notify;
mod poll;
mod promote;
mod prune;
mod queue;
mod reap;
mod relations;
mod schedule;
mod schema_version;
mod sequences;
mod settle;
mod stats;

pub use bulk::*;
pub use claim::*;
pub use copy_job::*;
pub use encoding::*;
pub use enqueue::*;
pub use enqueue_keyed::*;
pub use extend::*;
pub use fetch_job::*;
pub use fire::*;
pub use health::*;
pub use job::*;
pub use next_jobs::*;
pub use notify::*;
pub use poll::*;
pub use promote::*;
pub use prune::*;
pub use queue::*;
pub use reap::*;
pub use relations::*;
pub use schedule::*;
pub use schema_version::*;
pub use sequences::*;
pub use settle::*;
pub use stats::*;

pub(crate) use claim::read_retry_policy;

use crate::Error;
use crate::wire::Row;

/// Reads the number, from 1, of an item in a batch of `length` items, and returns its index.
fn read_index(row: &mut Row<'_>, length: usize) -> Result<usize, Error> {
    let ordinal = row.read()?;
    index_of(row, ordinal, length)
}

/// Returns the index of the item with this number, from 1, in a batch of `length` items.
fn index_of(row: &Row<'_>, ordinal: i64, length: usize) -> Result<usize, Error> {
    let index = ordinal.checked_sub(1).and_then(|index| usize::try_from(index).ok()).filter(|index| *index < length);
    index.ok_or_else(|| row.odd(format!("item {ordinal} of a batch of {length}")))
}
