//! The listener: a separate connection that receives notifications.

use crate::statement::{failure, unreachable};
use pm_queue::driver::{BoxFuture, Failure, Listener};
use sqlx::PgPool;
use sqlx::postgres::PgListener;

/// Receives the notifications of the channel on which its connection listens.
pub(crate) struct ChannelListener(PgListener);

impl ChannelListener {
    /// Takes a connection from a pool whose connections listen from the start.
    pub(crate) async fn new(pool: &PgPool) -> Result<Self, Failure> {
        let mut listener = PgListener::connect_with(pool).await.map_err(|error| unreachable(pool, error))?;
        // The caller must learn of a lost connection, to poll for jobs whose notifications it missed.
        listener.eager_reconnect(false);
        Ok(ChannelListener(listener))
    }
}

impl Listener for ChannelListener {
    fn next(&mut self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(async {
            match self.0.try_recv().await {
                Ok(Some(notification)) => Ok(notification.payload().to_owned()),
                Ok(None) => Err(Failure::no_reply("the connection was closed")),
                Err(error) => Err(failure(error)),
            }
        })
    }
}
