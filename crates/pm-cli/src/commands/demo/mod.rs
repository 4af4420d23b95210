//! `pm demo`: a small story in which everything said really happened.

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
use place::Place;

/// Shows pm at work on a private throwaway Postgres
///
/// Makes a queue, adds jobs of several priorities, and lets worker processes succeed, fail
/// softly, fail hard, and be killed while they hold a job, which another one rescues. Ends
/// with what `pm queue ls`, `pm job ls` and `pm job show` say. Takes a few seconds.
///
/// With --db it works in that database instead, in a schema of its own that it drops at the
/// end. The environment and the configuration file are not looked at.
///
/// Example:
///   pm demo
///   pm demo --db postgres://localhost/test
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DemoArgs {}

pub(super) async fn run(context: &mut Context, _args: &DemoArgs) -> Result<(), CommandError> {
    if context.output.format() != Format::People {
        return Err(CommandError::usage("the demo is for people; it has no JSON form"));
    }
    let mut stop = Stop::listen()?;
    let place = Place::prepare(context).await?;
    // Dropping the story kills its workers, so that nobody holds the place when it is cleaned up.
    let told = tokio::select! {
        told = story::tell(&mut context.output, &place) => told,
        () = stop.asked() => Err(CommandError::refused("stopped before the end; everything was cleaned up")),
    };
    told.and(place.clean_up().await)
}
