//! A connection of its own that hears notifications.

use crate::connection::{failure, words};
use crate::dial::Messages;
use crate::server::role;
use futures_util::{FutureExt, StreamExt};
use pm_queue::connecting::Role;
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
    /// Listens on `channel` with a connection that was just made; asks what the server is if `asks_role`.
    pub(crate) async fn new(
        client: Client,
        mut messages: Messages,
        channel: &str,
        asks_role: bool,
    ) -> Result<(Self, Option<Role>), Failure> {
        let failed = |error: Error| failure(&error, true);
        let script = listen_script(channel);
        let start = async {
            let role = if asks_role { Some(role(&client).await?) } else { None };
            // A standby has no notifications, and says so: what it is counts more than that.
            match role {
                Some(role) if role.is_standby => {}
                _ => client.batch_execute(&script).await?,
            }
            Ok(role)
        };
        let role = {
            // The connection only moves while its messages are read.
            let mut answer = pin!(start.fuse());
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
        };
        Ok((ChannelListener { _client: client, messages }, role))
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
