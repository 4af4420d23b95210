//! The connections of a process, and what waits for locks on them.

use super::bug::Bug;
use super::stack::{Process, Stack};
use super::world::SECOND;
use pm_core::{ConnectionClass, StatementId};
use pm_queue::{ConnectOptions, Failure, Room, Runtime};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// After how long the server gives up a statement, and one that waits for a lock.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
const LOCK_TIMEOUT_US: u64 = SECOND;
/// After how long the façade gives up a statement that was not answered.
const GIVEN_UP_AFTER_US: u64 = 10 * SECOND;
/// How long a statement may wait for a connection: for as long as that, in a process that stands still then.
pub(super) const LONGEST_WAIT_US: u64 = GIVEN_UP_AFTER_US + 8 * SECOND;
/// How many sessions of a process may be left waiting, by statements that it has given up.
const MOST_LEFT: usize = 2;

/// The connections of a process.
pub(super) struct Pool {
    /// How many there are, each for one statement at a time; without a bound where statements share them.
    size: Option<usize>,
    taken: AtomicUsize,
    /// How many of the server's sessions wait for a lock although nothing waits for their answer.
    left: AtomicUsize,
}

impl Pool {
    pub(super) fn of(size: Option<usize>) -> Self {
        Pool { size, taken: AtomicUsize::new(0), left: AtomicUsize::new(0) }
    }

    /// Returns how many statements of each class the façade may send at once.
    pub(super) fn room(&self, bug: Option<Bug>) -> Room {
        match (bug, self.size) {
            (Some(Bug::OperatorsUnbounded), _) => Room::default(),
            (_, Some(size)) => Room::of_pool(size),
            (_, None) => Room::of_pipelined(&ConnectOptions::default()),
        }
    }
}

/// A connection taken out of the pool for other statements than extensions of leases, for as long as this lives.
pub(super) struct Taken(Option<Arc<Process>>);

impl Taken {
    /// Takes a connection. Whatever else is under way, one is left for extensions, which never wait for a lock.
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
        // One that is dropped earlier goes with its process.
        if self.is_over || world.now_us() < self.since_us + GIVEN_UP_AFTER_US {
            return;
        }
        let left = self.process.pool.left.fetch_add(1, Ordering::Relaxed) + 1;
        if left > MOST_LEFT {
            world.auditor().violate(format!("the server is told: {left} sessions wait on after they were given up"));
        }
    }
}

/// Returns whether a statement passes by the jobs that another transaction has locked.
pub(super) fn passes_locked_jobs(statement: StatementId) -> bool {
    use StatementId::{DeleteJobs, EndJobs, MoveJobs, RestartJobs};
    matches!(statement, RestartJobs | EndJobs | DeleteJobs | MoveJobs)
}

/// Waits for a lock as the server does, if someone holds one and it is an operator's statement that waits.
pub(super) async fn wait_for_lock(process: &Arc<Process>, statement: StatementId) -> Result<(), Failure> {
    // Those that enqueues wait for are the tables' own.
    if statement.class() != ConnectionClass::Operator || passes_locked_jobs(statement) {
        return Ok(());
    }
    let world = &process.world;
    let (now, until) = (world.now_us(), world.faults().locked_until);
    if until <= now {
        return Ok(());
    }
    let lives_on = world.bug == Some(Bug::GivenUpLivesOn);
    let patience_us = if lives_on { u64::MAX } else { LOCK_TIMEOUT_US };
    let mut waits = WaitsForLock { process: process.clone(), since_us: now, is_over: false };
    Stack(process.clone()).sleep(Duration::from_micros(patience_us.min(until - now))).await;
    waits.is_over = true;
    match until - now > patience_us {
        true => Err(Failure::reported("55P03", None, "canceling statement due to lock timeout")),
        false => Ok(()),
    }
}
