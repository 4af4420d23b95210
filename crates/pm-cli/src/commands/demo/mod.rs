//! `pm demo`: demonstrates pm with real worker processes.

mod crew;
mod parcel;
mod place;
mod story;
mod worker;

pub(super) use worker::{DemoWorkerArgs, run_worker};

use crate::context::Context;
use crate::error::CommandError;
use crate::render::Format;
use crate::stop::Stop;
use place::Target;

/// Demonstrates pm on a private, temporary Postgres
///
/// It creates a queue, adds jobs with several priorities, and starts worker processes: jobs
/// succeed, soft-fail and hard-fail, and one worker is killed while it works on a job, which
/// another worker then finishes. At the end it shows the output of `pm queue ls`, `pm job ls` and
/// `pm job show`. It takes a few seconds.
///
/// With --db it uses that database, in a separate schema that it drops at the end. The
/// environment and the configuration file are ignored.
///
/// Example:
///   pm demo
///   pm demo --db postgres://localhost/test
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DemoArgs {}

pub(super) async fn run(context: &mut Context, _args: &DemoArgs) -> Result<(), CommandError> {
    if context.output.format() != Format::Human {
        return Err(CommandError::usage("the demo has no JSON output"));
    }
    let mut stop = Stop::listen()?;
    let target = Target::prepare(context).await?;
    // Dropping the future kills the workers, so that none uses the database while it is cleaned up.
    let result = tokio::select! {
        result = story::run(&mut context.output, &target) => result,
        () = stop.requested() => Err(CommandError::refused("interrupted; everything was cleaned up")),
    };
    result.and(target.clean_up().await)
}
