//! Running statements in a caller's transaction.

use crate::statement::{collect, failure, typed};
use pm_queue::driver::{BoxFuture, Executor, Failure, Rows, Statement, Value};
use tokio_postgres::Transaction;

/// Runs pm's statements inside the caller's transaction.
///
/// ```no_run
/// # use pm_driver_tokio_postgres::{EnqueueOptions, InTransaction, Queue};
/// # async fn order(queue: &Queue, client: &mut tokio_postgres::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let transaction = client.transaction().await?;
/// transaction.execute("insert into orders (item) values ('tea')", &[]).await?;
/// queue.enqueue_in(&InTransaction(&transaction), "mail", "order confirmed", EnqueueOptions::default()).await?;
/// transaction.commit().await?; // the order and the job, or neither
/// # Ok(())
/// # }
/// ```
///
/// Statements are not prepared: each takes one round trip, and is planned for the current contents of the tables. For
/// isolation levels see [`Queue::enqueue_in`](crate::Queue::enqueue_in) and
/// [`JobAck::commit_in`](crate::JobAck::commit_in).
#[derive(Clone, Copy)]
pub struct InTransaction<'a>(pub &'a Transaction<'a>);

impl std::fmt::Debug for InTransaction<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InTransaction")
    }
}

impl Executor for InTransaction<'_> {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        Box::pin(async move {
            let rows = self.0.query_typed_raw(&statement.text, typed(params)).await;
            let rows = rows.map_err(|error| failure(&error, false))?;
            collect(rows, statement).await.map_err(|error| failure(&error, false))
        })
    }
}
