//! The listener: a separate connection that receives notifications.

use crate::dial::Messages;
use crate::role::role;
use crate::statement::{failure, message_chain};
use futures_util::{FutureExt, StreamExt};
use pm_queue::connecting::Role;
use pm_queue::driver::{BoxFuture, Failure, Listener, listen_script};
use std::pin::pin;
use tokio_postgres::{AsyncMessage, Client, Error};

/// Receives the notifications of one channel.
pub(crate) struct ChannelListener {
    /// Keeps the connection open.
    _client: Client,
    messages: Messages,
}

impl ChannelListener {
    /// Listens on `channel` with a new connection; returns the server's role too, if `asks_role`.
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
            // LISTEN fails on a standby; its role is the better reason to refuse it.
            match role {
                Some(role) if role.is_standby => {}
                _ => client.batch_execute(&script).await?,
            }
            Ok(role)
        };
        let role = {
            // The connection only makes progress while its messages are read.
            let mut answer = pin!(start.fuse());
            loop {
                let message = futures_util::select_biased! {
                    answer = answer => break answer.map_err(failed)?,
                    message = messages.next().fuse() => message,
                };
                match message {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(failed(error)),
                    None => return Err(Failure::no_reply("the connection was closed")),
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
                    Some(Err(error)) => return Err(Failure::no_reply(message_chain(&error))),
                    None => return Err(Failure::no_reply("the connection was closed")),
                }
            }
        })
    }
}
