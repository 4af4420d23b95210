//! The async API of pm, a Postgres job queue.
//!
//! [`Queue`] enqueues jobs, streams them to handlers and manages queues. A handler gets a [`PendingJob`] and settles
//! it through its [`JobAck`]. Programs depend on a driver crate, `pm_driver_tokio_postgres` or `pm_driver_sqlx`, which
//! re-exports this one. The logic is in [`pm_core`], which does no I/O; a [driver] carries its statements to the
//! database, and a [runtime] spawns tasks and provides timers.
//!
//! What there is, in the order in which a program meets it:
//!
//! | to | there is |
//! |---|---|
//! | connect | [`ConnectOptions`], [`Queue`], [`Health`]; [`Error`] and [`ErrorKind`], with [`Advice`], and a [`Failure`] as source |
//! | enqueue | [`EnqueueOptions`] with [`InitialState`], [`RunAt`], [`OnConflict`], [`KeyHold`], [`RetryPolicy`], [`Backoff`], [`Codec`]; [`Enqueued`], [`RawPayload`] |
//! | work | [`RunOptions`], [`JobContext`] with [`AckGuard`] and [`StopReason`], [`Outcome`]; or a loop of your own: [`QueueNames`], [`StreamOptions`], [`JobStream`], [`PendingJob`], [`PendingMetadata`], [`catch_panic`], [`Panicked`] |
//! | settle | [`JobAck`], [`Settling`], [`Lost`], [`Cancelled`], [`Lease`]; in a transaction [`Settlement`] |
//! | schedule | [`Schedule`] with [`Cron`], [`Missed`], [`Overlap`]; [`ScheduleMetadata`], [`ScheduleName`], [`Tick`] |
//! | look at jobs | [`JobFilter`], [`JobMetadata`], [`State`], [`Ending`], [`AttemptRecord`], [`Timestamp`], [`Head`]; [`IdSuffix`] |
//! | cancel, wait, read results | [`Queue::cancel_jobs`], [`Queue::wait`], [`Queue::result`]; [`JobContext::set_progress`] |
//! | change jobs | [`BulkAction`], [`Precondition`], [`BulkReport`], [`Change`] |
//! | set up queues | [`QueueName`], [`QueueSettings`], [`SettingsChange`]; [`SchemaName`], [`SCHEMA_VERSION`], [`migration_script`]; [`RoleKind`], [`grant_script`] |
//! | observe | [`observe::Observer`], [`observe::Event`]; [`metrics::Metrics`]; [`TraceContext`], [`JobTrace`] |
//! | operate | [`Stats`], [`QueueStats`], [`QueueSummary`], [`QueueActivity`], [`TableSize`], [`Count`]; [`Finding`], [`Check`], [`Remedy`]; [`Maintenance`], [`MaintenanceReport`], [`Reaped`], [`Pruning`] |

mod codec;
pub mod connecting;
pub mod driver;
mod error;
mod handle;
pub mod metrics;
pub mod observe;
mod producer;
mod runner;
pub mod runtime;
mod sending;
mod worker;

pub use codec::RawPayload;
pub use connecting::ConnectOptions;
pub use error::{Error, ErrorKind};
pub use handle::{BulkAction, BulkReport, Health, Maintenance, Pruning, Queue, QueueStats, Schedule, Stats};
pub use pm_core::doctor::{Check, Finding, Remedy};
pub use pm_core::grants::{RoleKind, grant_script};
pub use pm_core::machine::{Enqueued, MaintenanceReport};
pub use pm_core::op::{
    AttemptRecord, Change, Count, Head, JobFilter, Precondition, QueueActivity, QueueSummary, Reaped, TableSize,
};
pub use pm_core::{
    Advice, Backoff, Codec, Cron, Ending, EnqueueOptions, Failure, IdSuffix, InitialState, JobMetadata, JobTrace,
    KeyHold, Lease, Missed, OnConflict, Overlap, QueueName, QueueSettings, RetryPolicy, RunAt, SCHEMA_VERSION,
    ScheduleMetadata, ScheduleName, SchemaName, SettingsChange, State, Tick, Timestamp, TraceContext, migration_script,
};
pub use runner::{AckGuard, JobContext, Outcome, RunOptions, StopReason};
pub use uuid::Uuid;
pub use worker::{
    Cancelled, JobAck, JobStream, Lost, Panicked, PendingJob, PendingMetadata, QueueNames, Settlement, Settling,
    StreamOptions, catch_panic,
};
