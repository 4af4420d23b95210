//! `pm queue set`

use crate::context::Context;
use crate::error::CommandError;
use crate::input::{SettingsArgs, parse_queue};
use crate::render::SettingsView;
use pm_core::QueueName;

/// Changes settings of a queue, and shows all settings
///
/// Settings that are not given are not changed. Workers apply a change at their next claim.
///
/// Example:
///   pm queue set mail --lease 5m --retries 3 --backoff 0s,1m,10m --jitter 10% --retain 7d
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct SetArgs {
    /// The queue
    #[arg(value_name = "QUEUE", value_parser = parse_queue)]
    queue: QueueName,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(super) async fn run(context: &mut Context, args: &SetArgs) -> Result<(), CommandError> {
    let Some(change) = args.settings.change(&args.queue)? else {
        let error = CommandError::usage("no setting given");
        return Err(error.hint("the settings are --lease, --retries, --backoff, --jitter and --retain"));
    };
    let settings = context.connect().await?.set_queue_settings(args.queue.as_str(), change).await?;
    context.output.document(&SettingsView::new(&settings), SettingsView::yaml)
}
