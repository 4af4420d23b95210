//! A simulation: workers, producers, operators and reapers on the real façade and machines, over the memory driver, on
//! one thread, in virtual time, from one seed. Everything that can go wrong does; an auditor watches every step.
//!
//! First there is chaos for a while. Then faults end, operators set right what they left, and every job must end.

mod auditor;
mod bug;
mod client;
mod executor;
mod faults;
mod link;
mod owned;
mod pool;
mod scenario;
mod schedules;
mod stack;
mod transaction;
mod worker;
mod world;

pub use auditor::Tally;
pub use bug::Bug;
pub use scenario::{Report, live_bytes, run, run_with};
