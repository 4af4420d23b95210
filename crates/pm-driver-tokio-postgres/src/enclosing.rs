//! Running one statement in its own transaction, in one round trip.

use crate::statement::{collect, typed};
use futures_util::future::join3;
use pm_queue::ConnectOptions;
use pm_queue::driver::{Rows, Statement, Value};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use tokio_postgres::{Client, Error};

/// Runs statements without changing the session: each in a transaction that begins with the settings it needs.
///
/// Begin, statement and commit are written together, before the first reply. So it takes one round trip, and dropping
/// the future leaves no transaction open, because the server already has the commit.
pub(crate) struct Enclosing {
    beginning: String,
    /// Locked while the three are written, so that another task's messages do not come between them.
    write_lock: Mutex<()>,
}

impl Enclosing {
    pub(crate) fn new(options: &ConnectOptions) -> Self {
        Enclosing { beginning: options.transaction_script(), write_lock: Mutex::new(()) }
    }

    /// Runs a statement. An error of the statement takes precedence over one of its commit.
    pub(crate) async fn run(
        &self,
        client: &Client,
        statement: &Statement,
        params: &[Value<'_>],
    ) -> Result<Rows, Error> {
        let rows = async { collect(client.query_typed_raw(&statement.text, typed(params)).await?, statement).await };
        // Each is written when first polled, in this order.
        let mut all = pin!(join3(client.batch_execute(&self.beginning), rows, client.batch_execute("commit")));
        let (begun, rows, committed) = poll_fn(|cx| {
            let _write_lock = self.write_lock.lock().unwrap_or_else(PoisonError::into_inner);
            all.as_mut().poll(cx)
        })
        .await;
        begun?;
        let rows = rows?;
        committed?;
        Ok(rows)
    }
}
