//! The async API of pm, a Postgres job queue.
//!
//! [`Queue`] enqueues jobs, streams them to handlers and manages queues. A handler gets a [`PendingJob`] and settles
//! it through its [`JobAck`]. The logic is in [`pm_core`], which does no I/O; a [`Driver`] carries its statements to
//! the database, and a [`Runtime`] spawns tasks and provides timers. Programs depend on a driver crate,
//! `pm_driver_tokio_postgres` or `pm_driver_sqlx`, which re-exports this one. To write a driver, implement [`Driver`]
//! and [`Executor`] and pass them to [`Queue::open`] with a [`Runtime`].

mod codec;
pub mod connecting;
mod driver;
mod error;
mod handle;
mod producer;
pub mod runtime;
mod sending;
mod worker;

pub use codec::RawPayload;
pub use connecting::ConnectOptions;
pub use driver::{
    BorrowedConnection, BoxFuture, Driver, Executor, Listener, Room, SESSION_MARK, WithoutNotify, application_name,
    listen_script, opening_script, session_guard,
};
pub use error::{Error, ErrorKind};
pub use handle::{BulkAction, BulkReport, Health, JobFilter, Maintenance, Pruning, Queue, QueueStats, Schedule, Stats};
pub use pm_core::doctor::{Check, Finding, Remedy};
pub use pm_core::machine::{Enqueued, MaintenanceReport};
pub use pm_core::op::{
    AttemptRecord, Change, Count, Head, JobMatch, Precondition, QueueActivity, QueueSummary, TableSize,
};
pub use pm_core::{
    Backoff, Codec, ConnectionClass, Cron, Ending, EnqueueOptions, Failure, IdSuffix, InitialState, JobMetadata,
    KeyHold, Lease, Missed, OnConflict, Overlap, QueueName, QueueSettings, RetryPolicy, Rows, RunAt, SCHEMA_VERSION,
    ScheduleMetadata, ScheduleName, SchemaName, SettingsChange, State, Statement, Tick, Timestamp, Type, Value,
    migration_script,
};
pub use runtime::{Randomness, Runtime, SystemRandomness};
pub use uuid::Uuid;
pub use worker::{
    JobAck, JobStream, Lost, Panicked, PendingJob, PendingMetadata, QueueNames, Settlement, Settling, StreamOptions,
    catch_panic,
};
