//! Whether a server is a standby.

use pm_queue::connecting::Role;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

/// Queries the role of a server.
pub(crate) async fn role(client: &Client) -> Result<Role, Error> {
    let messages = client.simple_query(Role::STATEMENT).await?;
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(Role::of_row(row.and_then(|row| row.get(0)), row.and_then(|row| row.get(1))))
}
