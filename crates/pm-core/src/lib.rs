//! The sans-I/O core of pm, a Postgres job queue.
//!
//! It has no sockets, clocks, randomness, threads or `async`: time and random bits are arguments.
//!
//! * **Operations** become a [`Plan`] (a statement and its parameters) and interpret the rows of its reply: build one,
//!   send its plan in any way, and pass the rows to [`Operation::interpret`].
//! * **Machines** ([`machine::Worker`], [`machine::Producer`], [`machine::Maintenance`]) decide over time which
//!   operations to send: claims with prefetch, batches, extending and trusting leases, reaping, polling, retries,
//!   shutdown.
//!
//! Most programs use `pm_driver_tokio_postgres` and never see this crate.

mod backoff;
mod catalogue;
mod codec;
mod cron;
pub mod doctor;
mod error;
mod failure;
pub mod grants;
mod id;
mod job;
mod json;
mod lease;
pub mod machine;
mod migration;
mod name;
mod named;
pub mod op;
mod operation;
mod options;
mod prose;
mod render;
mod schedule;
mod settings;
mod state;
mod statement;
mod statements;
mod system_time;
mod time;
mod trace;
pub mod wire;

pub use backoff::{Backoff, RetryPolicy};
pub use catalogue::Catalog;
pub use codec::Codec;
pub use cron::Cron;
pub use error::Error;
pub use failure::{Advice, Class, Failure, POOLER_SQLSTATE};
pub use id::{IdSuffix, job_id};
pub use job::{ClaimedJob, JobMetadata, LeasedColumns, MAX_PAYLOAD_BYTES, NewJob, TakenJob};
pub use json::{JsonText, MAX_PROGRESS_BYTES, MAX_RESULT_BYTES};
pub use lease::{Ending, Lease, MAX_DESCRIPTION_BYTES, MAX_KEY_BYTES, Reason, UNREADABLE_FOR, Verdict, trusted_for};
pub use migration::{
    MIGRATIONS, Migration, OTHER_TEXT_SQLSTATE, SCHEMA_VERSION, expected_functions, expected_relations,
    migration_script,
};
pub use name::{QueueName, ScheduleName, SchemaName};
pub use operation::Operation;
pub use options::{EnqueueOptions, InitialState, KeyHold, OnConflict, RunAt};
pub use prose::FittedTexts;
pub use schedule::{MAX_SCHEDULE_PAYLOAD_BYTES, Missed, NewSchedule, Overlap, ScheduleMetadata, TICK_GRACE, Tick};
pub use settings::{QueueSettings, SettingsChange};
pub use state::{Event, State};
pub use statement::{ConnectionClass, Declaration, Plan, Statement};
pub use statements::StatementId;
pub use time::{Instant, Timestamp};
pub use trace::{JobTrace, TraceContext};
pub use wire::{Params, Rows, Type, Value};
