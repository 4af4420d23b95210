//! A simulation: workers, producers, operators and reapers on the real façade and machines, over the memory driver, on
//! one thread, in virtual time, from one seed, with injected faults. An auditor checks every step.
//!
//! A world starts with a phase of faults. Then the faults end, operators restore the queues, and every job must end.

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

use pm_core::StatementId;

/// Returns the statement of which this is a cheaper form for a common case, or the statement itself.
pub(crate) fn general(statement: StatementId) -> StatementId {
    match statement {
        StatementId::EnqueueFresh => StatementId::Enqueue,
        StatementId::SettleCommits => StatementId::Settle,
        other => other,
    }
}
