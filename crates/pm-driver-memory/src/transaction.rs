//! Transactions: what is done in one is there for others when it commits, or not at all.

use crate::Database;
use crate::engine::tables::Tables;
use pm_queue::{BoxFuture, Executor, Failure, Rows, Statement, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// A transaction on a [`Database`], for [`Queue::enqueue_in`](crate::Queue::enqueue_in),
/// [`JobAck::commit_in`](crate::JobAck::commit_in) and their like.
///
/// Each statement sees what others have committed by then, as under READ COMMITTED. Rows are not locked: where Postgres
/// makes another session wait for a row that this transaction has changed, here that session goes on, and this
/// transaction fails with SQLSTATE 40001, at its next statement or its commit. Dropping it rolls it back.
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
    /// The tables as others have left them, when the last statement ran.
    base: Tables,
    /// The same, with what this transaction has changed.
    mine: Tables,
    /// What is said to listeners at the commit, by channel.
    said: BTreeSet<(String, String)>,
    /// Whether a statement failed: then nothing but a rollback is left.
    aborted: bool,
}

impl Database {
    /// Begins a transaction.
    pub fn begin(&self) -> Transaction {
        Transaction { database: self.clone(), state: Mutex::default() }
    }
}

impl Transaction {
    /// Makes what was done visible to others.
    ///
    /// # Errors
    ///
    /// A failure with SQLSTATE 40001 when another session has changed the same rows meanwhile, with 25P02 after a
    /// statement that failed. Then nothing was done.
    pub fn commit(self) -> Result<(), Failure> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if state.aborted {
            return Err(aborted());
        }
        self.database.commit(|tables| merged(&state.base, &state.mine, tables), state.said)
    }

    /// Forgets what was done.
    pub fn rollback(self) {}

    fn answer(&self, statement: &Statement, params: &[Value<'_>]) -> Result<Rows, Failure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.aborted {
            return Err(aborted());
        }
        let State { base, mine, said, aborted } = &mut *state;
        let answer = self.database.aside(|theirs, now| {
            let mut fresh = theirs.clone();
            merged(base, mine, &mut fresh)?;
            (*base, *mine) = (theirs.clone(), fresh);
            let answer = crate::engine::run(mine, statement, params, now, said);
            // Numbers once drawn are drawn for all, whatever becomes of the transaction.
            theirs.take_numbers_of(mine);
            base.take_numbers_of(mine);
            answer
        });
        *aborted = answer.is_err();
        answer
    }
}

impl Executor for Transaction {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        Box::pin(async move { self.answer(statement, params) })
    }
}

/// Changes `theirs` by what led from `base` to `mine`.
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
