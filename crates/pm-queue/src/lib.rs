//! The async API of pm, a Postgres job queue.
//!
//! [`Queue`] enqueues jobs, streams them to handlers and manages queues. A handler gets a [`PendingJob`] and settles
//! it through its [`JobAck`]. The logic is in [`pm_core`], which does no I/O; a [`Driver`] carries its statements to
//! the database, and a [`Runtime`] spawns tasks and provides timers. Programs depend on a driver crate,
//! `pm_driver_tokio_postgres` or `pm_driver_sqlx`, which re-exports this one. To write a driver, implement [`Driver`]
//! and [`Executor`] and pass them to [`Queue::open`] with a [`Runtime`].

mod ack;
mod admin;
mod borrowed;
mod codec;
pub mod connecting;
mod doctor;
mod driver;
mod error;
mod fetch;
mod gate;
mod in_transaction;
mod job;
mod jobs;
mod link;
mod listening;
mod maintenance;
mod options;
mod panic;
mod producer;
mod pruning;
mod queue;
pub mod runtime;
mod schedules;
mod session;
mod settle_in;
mod stats;
mod stream;
mod task;
mod worker;

pub use ack::{JobAck, Lost, Settling};
pub use borrowed::BorrowedConnection;
pub use codec::RawPayload;
pub use driver::{BoxFuture, Driver, Executor, Listener, WithoutNotify};
pub use error::{Error, ErrorKind};
pub use gate::Room;
pub use job::{PendingJob, PendingMetadata};
pub use jobs::{BulkAction, BulkReport};
pub use maintenance::Maintenance;
pub use options::{ConnectOptions, JobFilter, QueueNames, StreamOptions};
pub use panic::{Panicked, catch_panic};
pub use pm_core::doctor::{Check, Finding, Remedy};
pub use pm_core::grants::{RoleKind, grant_script};
pub use pm_core::machine::{Enqueued, MaintenanceReport};
pub use pm_core::op::{
    AttemptRecord, Change, Count, Head, JobMatch, Precondition, QueueActivity, QueueSummary, TableSize,
};
pub use pm_core::{
    Advice, Backoff, Codec, ConnectionClass, Cron, Ending, EnqueueOptions, Failure, IdSuffix, InitialState,
    JobMetadata, KeyHold, Lease, Missed, OnConflict, Overlap, QueueName, QueueSettings, RetryPolicy, Rows, RunAt,
    SCHEMA_VERSION, ScheduleMetadata, ScheduleName, SchemaName, SettingsChange, State, Statement, Tick, Timestamp,
    Type, Value, migration_script,
};
pub use pruning::Pruning;
pub use queue::{Health, Queue};
pub use runtime::{Randomness, Runtime, SystemRandomness};
pub use schedules::Schedule;
pub use session::{SESSION_MARK, application_name, listen_script, opening_script, session_guard};
pub use settle_in::Settlement;
pub use stats::{QueueStats, Stats};
pub use stream::JobStream;
pub use uuid::Uuid;
