//! Transactions: their changes become visible to others when they commit.

use crate::Database;
use crate::engine::tables::Tables;
use pm_queue::driver::{BoxFuture, Executor, Failure, Rows, Statement, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// A transaction on a [`Database`], for methods like [`Queue::enqueue_in`](crate::Queue::enqueue_in) and
/// [`JobAck::commit_in`](crate::JobAck::commit_in).
///
/// Each statement sees what others have committed by then, as with READ COMMITTED. Rows are not locked: where on
/// Postgres another session would wait for a row that this transaction has changed, here it does not wait, and this
/// transaction fails with SQLSTATE 40001 at its next statement or commit. Dropping a transaction rolls it back.
///
/// ```
/// # use pm_driver_memory::{Database, EnqueueOptions, queue_on, runtime::Tokio};
/// # use std::sync::Arc;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let database = Database::new();
/// let queue = queue_on(database.clone(), Arc::new(Tokio::current()));
/// queue.create_queue("mails", false).await?;
/// let transaction = database.begin();
/// let id = queue.enqueue_in(&transaction, "mails", "hello", EnqueueOptions::default()).await?;
/// assert!(queue.get_job(id).await?.is_none());
/// transaction.commit()?;
/// assert!(queue.get_job(id).await?.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Transaction {
    database: Database,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The committed tables as of the last statement.
    base: Tables,
    /// The same with the changes of this transaction.
    mine: Tables,
    /// The notifications (channel and payload) to be sent at the commit.
    notifications: BTreeSet<(String, String)>,
    /// Whether a statement failed, so that the transaction can only be rolled back.
    aborted: bool,
}

impl Database {
    /// Begins a transaction.
    pub fn begin(&self) -> Transaction {
        Transaction { database: self.clone(), state: Mutex::default() }
    }
}

impl Transaction {
    /// Commits the changes.
    ///
    /// # Errors
    ///
    /// A failure with SQLSTATE 40001 if another session has changed the same rows, or with 25P02 after a statement that
    /// failed. Then nothing is changed.
    pub fn commit(self) -> Result<(), Failure> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if state.aborted {
            return Err(aborted());
        }
        self.database.commit(|tables| merged(&state.base, &state.mine, tables), state.notifications)
    }

    /// Discards the changes.
    pub fn rollback(self) {}

    fn answer(&self, statement: &Statement, params: &[Value<'_>]) -> Result<Rows, Failure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.aborted {
            return Err(aborted());
        }
        let State { base, mine, notifications, aborted } = &mut *state;
        let reply = self.database.with_tables(|theirs, now| {
            let mut fresh = theirs.clone();
            merged(base, mine, &mut fresh)?;
            (*base, *mine) = (theirs.clone(), fresh);
            let reply = crate::engine::run(mine, statement, params, now, notifications);
            // Sequences are not transactional.
            theirs.advance_sequences(mine);
            base.advance_sequences(mine);
            reply
        });
        *aborted = reply.is_err();
        reply
    }
}

impl Executor for Transaction {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        Box::pin(async move { self.answer(statement, params) })
    }
}

/// Applies the changes from `base` to `mine` to `theirs`.
fn merged(base: &Tables, mine: &Tables, theirs: &mut Tables) -> Result<(), Failure> {
    let mut changed = theirs.clone();
    merge(&base.queue, &mine.queue, &mut changed.queue)?;
    merge(&base.job, &mine.job, &mut changed.job)?;
    merge(&base.claim_frontier, &mine.claim_frontier, &mut changed.claim_frontier)?;
    merge(&base.attempt, &mine.attempt, &mut changed.attempt)?;
    merge(&base.payload, &mine.payload, &mut changed.payload)?;
    merge(&base.replacement, &mine.replacement, &mut changed.replacement)?;
    merge(&base.schedule, &mine.schedule, &mut changed.schedule)?;
    let mut keys = BTreeSet::new();
    let keyed = changed.job.values().filter_map(|job| Some((job.queue_id, job.reserved_key.as_ref()?)));
    if !keyed.into_iter().all(|key| keys.insert(key)) {
        return Err(conflict());
    }
    // On Postgres the enqueue locks its queue, and the queue's deletion waits.
    let mut new = mine.job.iter().filter(|(id, _)| !base.job.contains_key(id));
    if !new.all(|(_, job)| changed.queue.contains_key(&job.queue_id)) {
        return Err(conflict());
    }
    *theirs = changed;
    Ok(())
}

fn merge<K: Ord + Clone, V: Clone + PartialEq>(
    base: &BTreeMap<K, V>,
    mine: &BTreeMap<K, V>,
    theirs: &mut BTreeMap<K, V>,
) -> Result<(), Failure> {
    let keys: BTreeSet<&K> = base.keys().chain(mine.keys()).collect();
    for key in keys {
        let (before, after) = (base.get(key), mine.get(key));
        if before == after {
            continue;
        }
        if theirs.get(key) != before {
            return Err(conflict());
        }
        match after {
            Some(row) => drop(theirs.insert(key.clone(), row.clone())),
            None => drop(theirs.remove(key)),
        }
    }
    Ok(())
}

fn conflict() -> Failure {
    Failure::reported("40001", None, "could not serialize access due to concurrent update")
}

fn aborted() -> Failure {
    Failure::reported("25P02", None, "current transaction is aborted, commands ignored until end of transaction block")
}
