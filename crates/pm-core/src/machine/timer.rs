//! The timers of the machines.

/// Why a machine asks for a timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// To poll the followed queues.
    Poll,
    /// To claim again after a failure, or from the start of the lines.
    Claim,
    /// To release the jobs of a claim whose reply was lost.
    ReleaseClaim,
    /// To release prefetched jobs that have not been started.
    Unstarted,
    /// To extend a lease, or stop trusting it.
    Lease,
    /// To look for cancel requests.
    Cancel,
    /// To store the progress of jobs.
    Progress,
    /// To reap expired leases.
    Reap,
    /// To promote jobs that are due.
    Promote,
    /// To fire schedules whose tick has come.
    Fire,
    /// To prune ended jobs past their retention.
    Prune,
    /// To send a batch again after a failure.
    Batch,
    /// To notify workers of other processes.
    Notify,
}
