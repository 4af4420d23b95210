//! Commands about queues.

mod create;
mod delete;
mod find;

use crate::context::Context;
use crate::error::CommandError;
use crate::input::SettingsArgs;
use crate::render::{Value, jobs};
use pm_core::QueueName;

/// Creates, lists, pauses, changes and deletes queues
///
/// Example:
///   pm queue ls
#[derive(clap::Subcommand)]
#[command(verbatim_doc_comment)]
pub(crate) enum QueueCommand {
    /// Lists queues with the number of their jobs by status
    ///
    /// Pending jobs of a paused queue count as paused. Counting is cheap, whatever the number of jobs:
    /// counts of up to 10,000 are exact; larger ones may be estimates from a sample of the table, which
    /// are marked with ~.
    ///
    /// Example:
    ///   pm queue ls
    ///   pm queue ls --json
    #[command(verbatim_doc_comment)]
    Ls,
    /// Shows a queue with its settings and the number of its jobs by status
    ///
    /// Example:
    ///   pm queue show mail
    #[command(verbatim_doc_comment)]
    Show(QueueArgs),
    Create(create::CreateArgs),
    Set(SetArgs),
    /// Pauses a queue: its jobs wait until it is resumed
    ///
    /// Jobs in progress continue. New jobs and retries wait too.
    ///
    /// Example:
    ///   pm queue pause mail
    #[command(verbatim_doc_comment)]
    Pause(QueueArgs),
    /// Resumes a queue and its paused jobs
    ///
    /// Jobs that were added with --paused are resumed too.
    ///
    /// Example:
    ///   pm queue resume mail
    #[command(verbatim_doc_comment)]
    Resume(QueueArgs),
    Rename(RenameArgs),
    Delete(delete::DeleteArgs),
}

#[derive(clap::Args)]
pub(crate) struct QueueArgs {
    /// The queue
    #[arg(value_name = "QUEUE", value_parser = QueueName::new)]
    queue: QueueName,
}

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
    #[arg(value_name = "QUEUE", value_parser = QueueName::new)]
    queue: QueueName,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Renames a queue; jobs, settings and leases are kept
///
/// It is one write, whatever the number of jobs. Workers of the old name stop; they can still
/// settle the jobs they have leased.
///
/// Example:
///   pm queue rename mail post
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RenameArgs {
    /// The old name
    #[arg(value_name = "FROM", value_parser = QueueName::new)]
    from: QueueName,
    /// The new name
    #[arg(value_name = "TO", value_parser = QueueName::new)]
    to: QueueName,
}

impl QueueCommand {
    pub(super) async fn run(self, context: &mut Context) -> Result<(), CommandError> {
        match self {
            QueueCommand::Ls => {
                let queues = context.connect().await?.list_queues().await?;
                context.output.rows(&queues, "No queues.")
            }
            QueueCommand::Show(args) => {
                let found = find::find(&context.connect().await?, &args.queue).await?;
                context.output.document(&found)
            }
            QueueCommand::Create(args) => create::run(context, &args).await,
            QueueCommand::Set(args) => set(context, &args).await,
            QueueCommand::Pause(QueueArgs { queue }) => {
                let paused = context.connect().await?.pause_queue(queue.as_str()).await?;
                let are = if paused == 1 { "is" } else { "are" };
                let sentence = format!("Paused queue \"{queue}\": {} {are} paused now.", jobs(paused));
                let held = [("queue", queue.as_str().into()), ("held", Value::number(paused))];
                context.output.done(&Value::named(held), &sentence)
            }
            QueueCommand::Resume(QueueArgs { queue }) => {
                let resumed = context.connect().await?.resume_queue(queue.as_str()).await?;
                let sentence = format!("Resumed queue \"{queue}\": {} resumed.", jobs(resumed));
                let freed = [("queue", queue.as_str().into()), ("freed", Value::number(resumed))];
                context.output.done(&Value::named(freed), &sentence)
            }
            QueueCommand::Rename(RenameArgs { from, to }) => {
                let (from, to) = (from.as_str(), to.as_str());
                context.connect().await?.rename_queue(from, to).await?;
                let renamed = Value::named([("from", from.into()), ("to", to.into())]);
                context.output.done(&renamed, &format!("Renamed queue \"{from}\" to \"{to}\"."))
            }
            QueueCommand::Delete(args) => delete::run(context, &args).await,
        }
    }
}

async fn set(context: &mut Context, args: &SetArgs) -> Result<(), CommandError> {
    let Some(change) = args.settings.change(&args.queue)? else {
        let error = CommandError::usage("no setting given");
        return Err(error.hint(format!("the settings are {}", SettingsArgs::list())));
    };
    let settings = context.connect().await?.set_queue_settings(args.queue.as_str(), change).await?;
    context.output.document(&settings)
}
