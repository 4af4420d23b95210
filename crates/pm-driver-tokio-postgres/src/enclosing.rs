//! A transaction around one statement, in one round trip.

use crate::connection::{collect, typed};
use futures_util::future::join3;
use pm_queue::{ConnectOptions, Rows, Statement, Value};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use tokio_postgres::{Client, Error};

/// Runs statements in sessions that keep nothing of ours: each in a transaction that begins with its settings.
///
/// Beginning, statement and commit are written at once, before anything is waited for. So it takes one round trip, and a
/// future that is dropped leaves no transaction open: the server has its commit already.
pub(crate) struct Enclosing {
    beginning: String,
    /// Held while the three are written, so that those of another task do not come between.
    turn: Mutex<()>,
}

impl Enclosing {
    pub(crate) fn new(options: &ConnectOptions) -> Self {
        Enclosing { beginning: options.transaction_script(), turn: Mutex::new(()) }
    }

    /// Runs a statement. What the statement says is returned before what its commit says.
    pub(crate) async fn run(
        &self,
        client: &Client,
        statement: &Statement,
        params: &[Value<'_>],
    ) -> Result<Rows, Error> {
        let rows = async { collect(client.query_typed_raw(&statement.text, typed(params)).await?, statement).await };
        // Each is written when first polled, one after the other.
        let mut all = pin!(join3(client.batch_execute(&self.beginning), rows, client.batch_execute("commit")));
        let (begun, rows, committed) = poll_fn(|cx| {
            let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            all.as_mut().poll(cx)
        })
        .await;
        begun?;
        let rows = rows?;
        committed?;
        Ok(rows)
    }
}
