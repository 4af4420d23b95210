//! `pm queue create`

use crate::context::Context;
use crate::error::CommandError;
use crate::input::SettingsArgs;
use crate::render::Value;
use pm_core::QueueName;

/// Creates a queue
///
/// When a queue of that name already exists, neither it nor its settings are changed, and the exit
/// code is 1; 0 with --if-not-exists. The defaults are a lease of 20m, 8 retries after
/// 0s,25m,50m,1h40m,3h20m,6h40m,13h20m,1d2h40m, and retention forever.
///
/// Example:
///   pm queue create mail
///   pm queue create reports --paused --lease 5m --retries 3 --backoff 0s,1m,10m
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CreateArgs {
    /// The name: 1 to 200 bytes, no control characters, no leading or trailing space
    #[arg(value_name = "QUEUE", value_parser = QueueName::new)]
    queue: QueueName,
    /// Create it paused: its jobs wait until it is resumed
    #[arg(long)]
    paused: bool,
    /// Do nothing if it exists
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(super) async fn run(context: &mut Context, args: &CreateArgs) -> Result<(), CommandError> {
    let name = args.queue.as_str();
    let change = args.settings.change(&args.queue)?;
    let queue = context.connect().await?;
    let created = queue.create_queue(name, args.paused).await?;
    if let (true, Some(change)) = (created, change) {
        queue.set_queue_settings(name, change).await?;
    }
    let exists = format!("queue \"{name}\" already exists; nothing was changed");
    if !created && !args.if_not_exists {
        return Err(CommandError::refused(exists).hint("with --if-not-exists this is not an error"));
    }
    let sentence = match (created, args.paused) {
        (true, true) => format!("Created queue \"{name}\", paused."),
        (true, false) => format!("Created queue \"{name}\"."),
        (false, _) => format!("Queue \"{name}\" already exists; nothing was changed."),
    };
    context.output.done(&Value::named([("queue", name.into()), ("created", created.into())]), &sentence)
}
