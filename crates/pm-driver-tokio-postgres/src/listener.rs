//! A connection of its own that hears notifications.

use crate::connection::{failure, words};
use crate::dial::Messages;
use futures_util::{FutureExt, StreamExt};
use pm_queue::{BoxFuture, Failure, Listener, listen_script};
use std::pin::pin;
use tokio_postgres::{AsyncMessage, Client, Error};

/// Hears one channel.
pub(crate) struct ChannelListener {
    /// Keeps the connection open.
    _client: Client,
    messages: Messages,
}

impl ChannelListener {
    /// Listens on `channel` with a connection that was just made.
    pub(crate) async fn new(client: Client, mut messages: Messages, channel: &str) -> Result<Self, Failure> {
        let failed = |error: Error| failure(&error, true);
        let script = listen_script(channel);
        {
            // The connection only moves while its messages are read.
            let mut answer = pin!(client.batch_execute(&script).fuse());
            loop {
                let message = futures_util::select_biased! {
                    answer = answer => break answer.map_err(failed)?,
                    message = messages.next().fuse() => message,
                };
                match message {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(failed(error)),
                    None => return Err(Failure::no_reply("the connection ended")),
                }
            }
        }
        Ok(ChannelListener { _client: client, messages })
    }
}

impl Listener for ChannelListener {
    fn next(&mut self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(async {
            loop {
                match self.messages.next().await {
                    Some(Ok(AsyncMessage::Notification(notification))) => return Ok(notification.payload().to_owned()),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(Failure::no_reply(words(&error))),
                    None => return Err(Failure::no_reply("the connection ended")),
                }
            }
        })
    }
}
