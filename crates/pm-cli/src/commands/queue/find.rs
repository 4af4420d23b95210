//! Finding a queue by its name.

use crate::error::CommandError;
use pm_core::QueueName;
use pm_driver_tokio_postgres::{Queue, QueueSummary};

/// Returns a queue as lists show it. Errors: exit code 1 when it does not exist.
pub(super) async fn find(queue: &Queue, name: &QueueName) -> Result<QueueSummary, CommandError> {
    let found = queue.list_queues().await?.into_iter().find(|queue| queue.name == name.as_str());
    Ok(found.ok_or_else(|| pm_core::Error::QueueNotFound(name.to_string()))?)
}
