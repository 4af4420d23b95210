//! A connection of its own that hears notifications.

use crate::statement::{failure, unreachable};
use pm_queue::{BoxFuture, Failure, Listener};
use sqlx::PgPool;
use sqlx::postgres::PgListener;

/// Hears the channel that its connection listens on.
pub(crate) struct ChannelListener(PgListener);

impl ChannelListener {
    /// Takes a connection of a pool of its own, which listens from the start.
    pub(crate) async fn new(pool: &PgPool) -> Result<Self, Failure> {
        let mut listener = PgListener::connect_with(pool).await.map_err(|error| unreachable(pool, error))?;
        // Whoever listens has to look for what was missed meanwhile.
        listener.eager_reconnect(false);
        Ok(ChannelListener(listener))
    }
}

impl Listener for ChannelListener {
    fn next(&mut self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(async {
            match self.0.try_recv().await {
                Ok(Some(notification)) => Ok(notification.payload().to_owned()),
                Ok(None) => Err(Failure::no_reply("the connection ended")),
                Err(error) => Err(failure(error)),
            }
        })
    }
}
