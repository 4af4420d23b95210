//! `pm queue create`

use crate::context::Context;
use crate::error::CommandError;
use crate::input::{SettingsArgs, parse_queue};
use pm_core::QueueName;
use serde::Serialize;

/// Makes a queue
///
/// When one of that name exists already, nothing is changed, its settings included, and the
/// exit code is 1; 0 with --if-not-exists. What is not set has the default: a lease of 20m,
/// 8 retries after 0s,25m,50m,1h40m,3h20m,6h40m,13h20m,1d2h40m, kept forever.
///
/// Example:
///   pm queue create mail
///   pm queue create reports --paused --lease 5m --retries 3 --backoff 0s,1m,10m
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CreateArgs {
    /// Its name: 1 to 200 bytes, no control characters, no blank at either end
    #[arg(value_name = "QUEUE", value_parser = parse_queue)]
    queue: QueueName,
    /// Make it paused: its jobs wait until it is resumed
    #[arg(long)]
    paused: bool,
    /// Be content when it exists already
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Serialize)]
struct Created<'a> {
    queue: &'a str,
    created: bool,
}

pub(super) async fn run(context: &mut Context, args: &CreateArgs) -> Result<(), CommandError> {
    let name = args.queue.as_str();
    let change = args.settings.change(&args.queue)?;
    let queue = context.connect().await?;
    let created = queue.create_queue(name, args.paused).await?;
    if let (true, Some(change)) = (created, change) {
        queue.set_queue_settings(name, change).await?;
    }
    let exists = format!("queue \"{name}\" exists already; nothing was changed");
    if !created && !args.if_not_exists {
        return Err(CommandError::refused(exists).hint("with --if-not-exists that is no error"));
    }
    let sentence = match (created, args.paused) {
        (true, true) => format!("Created queue \"{name}\", paused."),
        (true, false) => format!("Created queue \"{name}\"."),
        (false, _) => format!("Queue \"{name}\" exists already; nothing was changed."),
    };
    context.output.done(&Created { queue: name, created }, &sentence)
}
