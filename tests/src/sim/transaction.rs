//! Transactions of handlers and producers. Their changes are judged at the commit.

use super::bug::Bug;
use super::owned::Owned;
use super::stack::Process;
use super::world::{MS, SECOND};
use pm_core::StatementId;
use pm_queue::driver::{BoxFuture, Executor, Failure, Rows, Statement, Value};
use pm_queue::{EnqueueOptions, JobAck, OnConflict, Queue};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A transaction on a separate connection of the process.
struct Transaction {
    process: Arc<Process>,
    inner: pm_driver_memory::Transaction,
    /// What ran in it.
    ran: Mutex<Vec<(StatementId, Vec<Owned>)>>,
}

impl Transaction {
    fn begin(process: &Arc<Process>) -> Self {
        Transaction { process: process.clone(), inner: process.world.database.begin(), ran: Mutex::default() }
    }

    /// Ends it with a commit, or with a rollback; returns whether it has committed.
    fn end(self, commits: bool) -> bool {
        let world = &self.process.world;
        let before = world.database.tables();
        let has_committed = commits && self.inner.commit().is_ok();
        let mut auditor = world.auditor();
        auditor.note(&format!("transaction of {} {has_committed} {}", self.process.number, world.now_us()));
        let ran = self.ran.into_inner().expect("the lock is not poisoned");
        // All its changes are judged as its first statement's; the others only follow it up.
        if let (true, Some((statement, params))) = (has_committed, ran.first()) {
            let params: Vec<_> = params.iter().map(Owned::borrow).collect();
            world.database.look(|after| auditor.judge(*statement, &params, &before, after, world.now()));
        }
        has_committed
    }
}

impl Executor for Transaction {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        Box::pin(async move {
            let world = &self.process.world;
            self.process.sleep_us(world.below(20 * MS)).await;
            if !world.is_peaceful() && world.below(16) == 0 {
                return Err(Failure::no_reply("the connection of the transaction is lost"));
            }
            if (world.bug, statement.id) == (Some(Bug::RefusedCallStays), StatementId::DeleteJobs) {
                return Ok(Rows::builder(statement.columns.len()).finish());
            }
            let params_ran = params.iter().map(Owned::of).collect();
            self.ran.lock().expect("the lock is not poisoned").push((statement.id, params_ran));
            self.inner.run(statement, params).await
        })
    }
}

/// Settles a job in a transaction that commits, rolls back, or ends with unknown outcome; returns the ack if it is
/// live.
pub(super) async fn settle(process: &Arc<Process>, mut ack: JobAck) -> Option<JobAck> {
    let is_used_up = settle_inside(process, &mut ack).await;
    (!is_used_up).then_some(ack)
}

async fn settle_inside(process: &Arc<Process>, ack: &mut JobAck) -> bool {
    let world = &process.world;
    let transaction = Transaction::begin(process);
    let lease = ack.lease();
    let settlement = match world.below(8) {
        0 => ack.soft_fail_in(&transaction, "later").await,
        1 => ack.soft_fail_after_in(&transaction, Duration::from_millis(300), "busy").await,
        2 => ack.hard_fail_in(&transaction, "never").await,
        3 => ack.snooze_in(&transaction, Duration::from_millis(300)).await,
        4 => ack.commit_with_in(&transaction, lease.number).await,
        _ => ack.commit_in(&transaction).await,
    };
    let Ok(settlement) = settlement else {
        transaction.end(false);
        return false;
    };
    process.sleep_us(world.below(if world.is_peaceful() { SECOND / 10 } else { 2 * SECOND })).await;
    let has_committed = transaction.end(world.below(2) == 0);
    let is_known = has_committed && world.below(4) > 0;
    if has_committed && !is_known {
        world.auditor().settled_unknowingly(lease);
    }
    match (is_known, world.bug) {
        (true, _) => settlement.committed(),
        (false, Some(Bug::RollbackIgnored)) => std::mem::forget(settlement),
        (false, Some(Bug::RollbackTakenForCommit)) => settlement.committed(),
        // Rolled back, or the reply to its commit is lost.
        (false, _) => drop(settlement),
    }
    is_known
}

/// Enqueues some jobs in a transaction that commits even if they were refused: all of them go in, or none.
pub(super) async fn produce(process: &Arc<Process>, queue: &Queue, name: &str, payloads: Vec<u64>) {
    let world = &process.world;
    let transaction = Transaction::begin(process);
    let key = world.chance().pick(&["x", "y"]);
    let refused_index = world.below(payloads.len() as u64) as usize;
    let refuse = EnqueueOptions::default().key(key).on_conflict(OnConflict::Refuse);
    let options = |n| if n == refused_index { refuse.clone() } else { EnqueueOptions::default() };
    let jobs: Vec<_> = payloads.iter().enumerate().map(|(n, payload)| (*payload, options(n))).collect();
    let answer = queue.enqueue_many_in(&transaction, name, jobs).await;
    let is_refused = answer.as_ref().is_err_and(|error| error.kind() != pm_queue::ErrorKind::Unavailable);
    let before = world.database.look(|tables| tables.job.len());
    if answer.as_ref().is_err_and(|error| error.kind() == pm_queue::ErrorKind::Unavailable) {
        transaction.end(false);
        return;
    }
    let has_committed = transaction.end(true);
    let added = world.database.look(|tables| tables.job.len()) - before;
    let expected = if is_refused || !has_committed { 0 } else { payloads.len() };
    if added != expected {
        let problem = format!("a call in a transaction is all or none: {added} of {} jobs went in", payloads.len());
        world.auditor().violate(problem);
    }
}
