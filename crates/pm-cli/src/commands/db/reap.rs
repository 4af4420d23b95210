//! `pm db reap`

use crate::context::Context;
use crate::duration::show_seconds;
use crate::error::CommandError;
use crate::render::jobs;
use serde::Serialize;

/// Reaps jobs whose lease has expired, once
///
/// A job whose worker is gone is retried after its backoff, or fails when no retry is left.
/// Workers also do this, and so does `pm reap`.
///
/// Example:
///   pm db reap
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ReapArgs {}

#[derive(Serialize)]
struct Reaped {
    reaped: u64,
    /// `null` when no job is in progress.
    next_lease_ends_in_ms: Option<u64>,
}

pub(super) async fn run(context: &mut Context) -> Result<(), CommandError> {
    let (reaped, next) = context.connect().await?.reap().await?;
    let then = match next {
        Some(next) => format!("the next lease expires in {}", show_seconds(next)),
        None => "no job is in progress".to_owned(),
    };
    let next_lease_ends_in_ms = next.map(|next| u64::try_from(next.as_millis()).unwrap_or(u64::MAX));
    let sentence = format!("Reaped {}; {then}.", jobs(reaped));
    context.output.done(&Reaped { reaped, next_lease_ends_in_ms }, &sentence)
}
