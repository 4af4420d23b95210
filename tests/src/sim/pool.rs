//! The connections of a process, and the statements that wait for locks on them.

use super::bug::Bug;
use super::stack::{Process, Stack};
use super::world::SECOND;
use pm_core::{ConnectionClass, StatementId};
use pm_queue::ConnectOptions;
use pm_queue::driver::{Failure, Room};
use pm_queue::runtime::Runtime;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// After how long the server cancels a statement, and one that waits for a lock.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_TIMEOUT_US: u64 = SECOND;
/// After how long the façade gives up a statement without a reply.
const GIVEN_UP_AFTER_US: u64 = 10 * SECOND;
/// How long a statement may wait for a connection: that long, plus the longest suspension of a process.
pub(super) const LONGEST_WAIT_US: u64 = GIVEN_UP_AFTER_US + 8 * SECOND;
/// How many jobs are sent in one statement where two enqueues may be in flight.
pub(super) const FULL_ENQUEUE: usize = 2;
/// How many sessions of a process may still wait for a statement that it has given up.
const MOST_LEFT: usize = 2;

/// The connections of a process.
pub(super) struct Pool {
    /// How many there are, each for one statement at a time; `None` where statements share connections.
    size: Option<usize>,
    taken: AtomicUsize,
    /// How many sessions of the server wait for a lock although the client has given the statement up.
    left: AtomicUsize,
}

impl Pool {
    pub(super) fn of(size: Option<usize>) -> Self {
        Pool { size, taken: AtomicUsize::new(0), left: AtomicUsize::new(0) }
    }

    /// Returns how many statements of each class the façade may send at once.
    ///
    /// Where connections are shared, enqueues are pipelined: two of them are in flight when four jobs wait.
    pub(super) fn room(&self, bug: Option<Bug>) -> Room {
        match (bug, self.size) {
            (Some(Bug::OperatorsUnbounded), _) => Room::default(),
            (_, Some(size)) => Room::of_pool(size),
            (_, None) => {
                Room { pipelined_enqueues: Some(FULL_ENQUEUE), ..Room::of_pipelined(&ConnectOptions::default()) }
            }
        }
    }
}

/// A connection taken from the pool, for any statement but an extension, until this is dropped.
pub(super) struct Taken(Option<Arc<Process>>);

impl Taken {
    /// Takes a connection. One is always left for extensions, which never wait for a lock.
    pub(super) fn out_of(process: &Arc<Process>, class: ConnectionClass) -> Self {
        if class == ConnectionClass::Extend {
            return Taken(None);
        }
        let taken = process.pool.taken.fetch_add(1, Ordering::Relaxed) + 1;
        if process.pool.size.is_some_and(|size| taken >= size) {
            let what = format!("classes apart: with {class:?} all {taken} connections of a process are taken");
            process.world.auditor().violate(what);
        }
        Taken(Some(process.clone()))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            process.pool.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A session that waits for a lock.
struct WaitsForLock {
    process: Arc<Process>,
    since_us: u64,
    is_over: bool,
}

impl Drop for WaitsForLock {
    fn drop(&mut self) {
        let world = &self.process.world;
        // One that is dropped earlier belongs to a crashed process.
        if self.is_over || world.now_us() < self.since_us + GIVEN_UP_AFTER_US {
            return;
        }
        let left = self.process.pool.left.fetch_add(1, Ordering::Relaxed) + 1;
        if left > MOST_LEFT {
            world.auditor().violate(format!("abandoned statements end on the server: {left} sessions still wait"));
        }
    }
}

/// Returns whether a statement skips the jobs that another transaction has locked.
pub(super) fn passes_locked_jobs(statement: StatementId) -> bool {
    use StatementId::{CancelJobs, DeleteJobs, EditJobs, EndJobs, MoveJobs, RestartJobs};
    matches!(statement, RestartJobs | EndJobs | CancelJobs | DeleteJobs | MoveJobs | EditJobs)
}

/// Waits for a lock like the server, if another transaction has one and the statement is an operator's.
pub(super) async fn wait_for_lock(process: &Arc<Process>, statement: StatementId) -> Result<(), Failure> {
    // The memory driver's tables implement the locks that enqueues wait for.
    if statement.class() != ConnectionClass::Operator || passes_locked_jobs(statement) {
        return Ok(());
    }
    let world = &process.world;
    let (now, until) = (world.now_us(), world.faults().locked_until);
    if until <= now {
        return Ok(());
    }
    let lives_on = world.bug == Some(Bug::GivenUpLivesOn);
    let timeout_us = if lives_on { u64::MAX } else { LOCK_TIMEOUT_US };
    let mut waits = WaitsForLock { process: process.clone(), since_us: now, is_over: false };
    Stack(process.clone()).sleep(Duration::from_micros(timeout_us.min(until - now))).await;
    waits.is_over = true;
    match until - now > timeout_us {
        true => Err(Failure::reported("55P03", None, "canceling statement due to lock timeout")),
        false => Ok(()),
    }
}
