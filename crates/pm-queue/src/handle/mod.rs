//! The handle on the queues of a database: a file for each group of calls.

mod batches;
mod bulk;
mod doctor;
mod enqueue;
mod enqueue_in;
mod fetch;
mod jobs;
mod maintenance;
mod opening;
mod pruning;
mod queue;
mod queues;
mod schedules;
mod stats;
mod streams;
mod waiting;

pub use bulk::{BulkAction, BulkReport};
pub use maintenance::Maintenance;
pub use pruning::Pruning;
pub use queue::{Health, Queue};
pub use schedules::Schedule;
pub use stats::{QueueStats, Stats};
