//! Workers: the stream of jobs, the acks that settle them, and what both share with the worker's task.

mod ack;
mod job;
mod listening;
mod local_workers;
mod options;
mod panic;
mod reporter;
mod settle_in;
mod settling;
mod stream;
mod waiters;

pub use ack::{Cancelled, JobAck, Lost};
pub use job::{PendingJob, PendingMetadata};
pub(crate) use listening::Listening;
pub(crate) use local_workers::LocalWorkers;
pub use options::{QueueNames, StreamOptions};
pub use panic::{Panicked, catch_panic};
pub(crate) use reporter::Reporter;
pub use settle_in::Settlement;
pub use settling::Settling;
pub use stream::JobStream;
pub(crate) use waiters::{Worker, WorkerWaiters};
