//! The operations, grouped by file, each with its `.sql`.

mod bulk;
mod cancel;
mod claim;
mod columns;
mod copy_job;
mod encoding;
mod enqueue;
mod enqueue_keyed;
mod extend;
mod fetch_job;
mod fire;
mod health;
mod item;
mod job;
mod next_jobs;
mod notify;
mod poll;
mod progress;
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
pub use cancel::*;
pub use claim::*;
pub use columns::*;
pub use copy_job::*;
pub use encoding::*;
pub use enqueue::*;
pub use enqueue_keyed::*;
pub use extend::*;
pub use fetch_job::*;
pub use fire::*;
pub use health::*;
pub(crate) use item::item_parts;
pub use job::*;
pub use next_jobs::*;
pub use notify::*;
pub use poll::*;
pub use progress::*;
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

use crate::wire::Rows;
use crate::{Error, Operation};

/// Returns the rows of the reply to an operation.
fn all<O: Operation>(rows: &Rows) -> Result<Vec<O::Row>, Error> {
    each::<O>(rows).collect()
}

/// Reads the rows of the reply to an operation one by one: a reply with many large rows is not stored twice.
fn each<O: Operation>(rows: &Rows) -> impl Iterator<Item = Result<O::Row, Error>> {
    rows.iter(O::STATEMENT).map(|mut row| row.read())
}

/// Returns the only row of the reply to an operation.
fn only<O: Operation>(rows: &Rows) -> Result<O::Row, Error> {
    rows.only(O::STATEMENT)?.read()
}

/// Returns the only row of the reply to an operation, or `None` if there are no rows.
fn at_most_one<O: Operation>(rows: &Rows) -> Result<Option<O::Row>, Error> {
    rows.at_most_one(O::STATEMENT)?.map(|mut row| row.read()).transpose()
}

/// Returns the index of the item with this number, from 1, in a batch of `length` items.
fn index_of<O: Operation>(ordinal: i64, length: usize) -> Result<usize, Error> {
    let index = ordinal.checked_sub(1).and_then(|index| usize::try_from(index).ok()).filter(|index| *index < length);
    index.ok_or_else(|| odd::<O>(format!("item {ordinal} of a batch of {length}")))
}

/// Returns an error about an unexpected value in the reply to an operation.
fn odd<O: Operation>(problem: impl Into<String>) -> Error {
    Error::Reply { statement: O::STATEMENT, problem: problem.into() }
}
