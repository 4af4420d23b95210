//! Running statements in a caller's transaction.

use crate::statement::{failure, rows};
use futures_util::lock::Mutex;
use pm_queue::driver::{BoxFuture, Executor, Failure, Rows, Statement, Value};
use sqlx::{Connection, PgConnection};

/// Runs pm's statements inside the caller's transaction: a `Transaction<Postgres>`, or the `PgConnection` of one.
///
/// ```no_run
/// # use pm_driver_sqlx::{EnqueueOptions, InTransaction, Queue};
/// # async fn order(queue: &Queue, pool: &sqlx::PgPool) -> Result<(), Box<dyn std::error::Error>> {
/// let mut transaction = pool.begin().await?;
/// sqlx::query("insert into orders (item) values ('tea')").execute(&mut *transaction).await?;
/// let inside = InTransaction::new(&mut transaction);
/// queue.enqueue_in(&inside, "mail", "order confirmed", EnqueueOptions::default()).await?;
/// transaction.commit().await?; // the order and the job, or neither
/// # Ok(())
/// # }
/// ```
///
/// It borrows the connection for as long as it is used, and runs one statement at a time: concurrent calls wait for
/// each other. Statements are not kept prepared: each takes two round trips, and is planned for the current contents
/// of the tables. For isolation levels see [`Queue::enqueue_in`](crate::Queue::enqueue_in) and
/// [`JobAck::commit_in`](crate::JobAck::commit_in).
///
/// If sqlx has not begun a transaction on the connection, statements fail with an error of kind `Database`. sqlx does
/// not detect a `BEGIN` that was sent as plain SQL.
#[derive(Debug)]
pub struct InTransaction<'c>(Mutex<&'c mut PgConnection>);

impl<'c> InTransaction<'c> {
    /// Returns an executor for [`Queue::enqueue_in`](crate::Queue::enqueue_in) and
    /// [`JobAck::commit_in`](crate::JobAck::commit_in).
    pub fn new(connection: &'c mut PgConnection) -> Self {
        InTransaction(Mutex::new(connection))
    }
}

impl Executor for InTransaction<'_> {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        Box::pin(async move {
            let mut connection = self.0.lock().await;
            if !connection.is_in_transaction() {
                return Err(Failure::unsendable("the connection is not in a transaction: begin one with sqlx first"));
            }
            rows(&mut connection, statement, params, false).await.map_err(failure)
        })
    }
}
