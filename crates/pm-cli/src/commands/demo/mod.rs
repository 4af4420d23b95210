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

pub(super) async fn run(context: &mut Context) -> Result<(), CommandError> {
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
