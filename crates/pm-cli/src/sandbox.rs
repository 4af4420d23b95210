//! Calls of pm-sandbox, which block.

use crate::error::CommandError;

/// Runs a call on a thread for blocking work. Errors: exit code 3; `doing`, like "start", is part of the message when
/// the call panics.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: &str,
    call: impl FnOnce() -> Result<T, pm_sandbox::Error> + Send + 'static,
) -> Result<T, CommandError> {
    let done = tokio::task::spawn_blocking(call).await;
    Ok(done.map_err(|error| CommandError::trouble(format!("cannot {doing} Postgres: {error}")))??)
}
