//! The commands; each has a file of its name.

mod completions;
mod db;
mod demo;
mod dev;
mod job;
mod man;
mod pg;
mod queue;
mod reap;
mod schedule;
mod top;
mod work;

pub(crate) use work::guard;

use crate::context::Context;
use crate::error::CommandError;

/// A command.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    #[command(subcommand)]
    Job(job::JobCommand),
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    #[command(subcommand)]
    Db(db::DbCommand),
    #[command(subcommand)]
    Pg(pg::PgCommand),
    Work(work::WorkArgs),
    Top(top::TopArgs),
    Reap(reap::ReapArgs),
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
    #[command(verbatim_doc_comment)]
    Demo,
    Dev(dev::DevArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
    #[command(hide = true)]
    DemoWorker(demo::DemoWorkerArgs),
}

impl Command {
    /// Runs the command. `tree` returns the command tree of pm, which some commands print.
    pub(crate) async fn run(self, context: &mut Context, tree: fn() -> clap::Command) -> Result<(), CommandError> {
        match self {
            Command::Queue(command) => command.run(context).await,
            Command::Job(command) => command.run(context).await,
            Command::Schedule(command) => command.run(context).await,
            Command::Db(command) => command.run(context).await,
            Command::Pg(command) => command.run(context).await,
            Command::Work(args) => work::run(context, &args).await,
            Command::Top(args) => top::run(context, &args).await,
            Command::Reap(args) => reap::run(context, &args).await,
            Command::Completions(args) => completions::run(context, &args, tree()),
            Command::Man(args) => man::run(context, &args, tree()),
            Command::Dev(args) => dev::run(context, &args).await,
            Command::Demo => demo::run(context).await,
            Command::DemoWorker(args) => demo::run_worker(context, &args).await,
        }
    }
}
