//! The operations, grouped by file, each with its `.sql`.

pub(crate) mod bulk;
pub(crate) mod claim;
pub(crate) mod copy_job;
pub(crate) mod encoding;
pub(crate) mod enqueue;
pub(crate) mod enqueue_keyed;
pub(crate) mod extend;
pub(crate) mod fetch_job;
pub(crate) mod fire;
pub(crate) mod health;
pub(crate) mod job;
pub(crate) mod next_jobs;
pub(crate) mod notify;
pub(crate) mod poll;
pub(crate) mod promote;
pub(crate) mod prune;
pub(crate) mod queue;
pub(crate) mod reap;
pub(crate) mod relations;
pub(crate) mod schedule;
pub(crate) mod schema_version;
pub(crate) mod sequences;
pub(crate) mod settle;
pub(crate) mod stats;

pub use bulk::{BulkReply, Change, DeleteJobs, EndJobs, MoveJobs, Precondition, RestartJobs};
pub use claim::{Claim, ClaimReply, LineCursor, QueueReading, ReleaseClaim};
pub use copy_job::CopyJob;
pub use encoding::Encoding;
pub use enqueue::{Enqueue, EnqueueReply, Holder, KeyHolder, ReplaceJobs};
pub use enqueue_keyed::{EnqueueEach, EnqueueKeyed};
pub use extend::{Extend, Extended};
pub use fetch_job::{FetchJob, FetchedJob};
pub use fire::{DueReply, DueSchedule, DueSchedules, FireSchedules, Fired};
pub use health::{
    IndexHealth, IndexHealths, OrphanCount, Orphans, QueueHealth, QueueHealths, RowHolder, RowHolderKind, RowHolders,
    SearchPath, SearchPaths, TableHealth, TableHealths,
};
pub use job::{AttemptRecord, Attempts, GetJob, JobFilter, JobMatch, ListJobs, Payload, ResolveSuffix, StoredPayload};
pub use next_jobs::{Head, NextJobs};
pub use notify::{Notification, Notify, NotifyIdle};
pub use poll::{FollowedQueue, Poll, PollReply};
pub use promote::{Promote, Promoted};
pub use prune::{BeginQueueDeletion, DeleteEmptyQueues, PruneJobs, PrunedPage, RenameQueue};
pub use queue::{
    Count, CountPending, CreateQueue, GetSettings, ListQueues, PauseQueue, QueueSummary, ResumeQueue, Resumed, SetQueue,
};
pub use reap::{Reap, Reaped};
pub use relations::{HeldPrivileges, Privileges, Relation, RelationKind, Relations};
pub use schedule::{DeleteSchedule, HoldSchedule, ListSchedules, ScheduleReading, SetSchedule};
pub use schema_version::{SchemaFound, SchemaVersion};
pub use sequences::{SequenceReading, Sequences, advance_positions_script};
pub use settle::{Outcome, Settle, SettleItem, Unsettled};
pub use stats::{Activity, QueueActivity, TableSize, TableSizes};

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
