//! `pm dev`

use crate::context::Context;
use crate::error::CommandError;
use crate::render::Format;
use crate::stop::Stop;
use pm_driver_tokio_postgres::{ConnectOptions, connect_with};
use pm_sandbox::{Server, ServerOptions};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// How often to see whether the server still runs.
const LOOK: Duration = Duration::from_millis(500);

/// Runs a private Postgres for development, with pm's tables in it, until Ctrl-C
///
/// It prints the URL as soon as the database answers: give it to your program and to pm. Only
/// this user, and root, can reach the server; there is no password. When it ends, by Ctrl-C,
/// SIGTERM or SIGHUP, the server is stopped. Without --data everything is gone then; with
/// --data it is kept, durably, and found again at the next start, under another URL.
///
/// Example:
///   pm dev
///   pm dev --data ./postgres
///   pm dev --ndjson | head -n 1 | jq -r .url
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DevArgs {
    /// Keep the data in this directory, made at the first start
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Listen on a free TCP port of 127.0.0.1 too: anyone on this machine may connect
    #[arg(long)]
    tcp: bool,
}

#[derive(Serialize)]
struct Running<'a> {
    url: &'a str,
    pid: u32,
    data: Option<&'a PathBuf>,
}

pub(super) async fn run(context: &mut Context, args: &DevArgs) -> Result<(), CommandError> {
    if context.args.db.is_some() {
        return Err(CommandError::usage("pm dev starts a server of its own; leave out --db"));
    }
    let schema = context.schema()?;
    let mut stop = Stop::listen()?;
    let server = start(args).await?;
    let url = if args.tcp { server.tcp_url_of("postgres") } else { None }.unwrap_or_else(|| server.url());
    let options = ConnectOptions::default().schema(schema.as_str()).connections(1).application_name("pm dev");
    let migrated = tokio::select! {
        migrated = connect_with(&url, options.migrate(true)) => migrated,
        () = stop.asked() => return end(server).await,
    };
    migrated?.close().await;
    match context.output.format() {
        Format::People => context.output.line(&url)?,
        _ => {
            let running = Running { url: &url, pid: server.pid(), data: args.data.as_ref() };
            context.output.done(&running, "")?;
            context.output.flush()?;
        }
    }
    context.output.say(&match &args.data {
        Some(data) => format!("Postgres runs, its data in {}; Ctrl-C stops it.", data.display()),
        None => "Postgres runs; Ctrl-C stops it, and its data go.".to_owned(),
    });
    let has_ended = tokio::select! {
        () = stop.asked() => false,
        () = until_it_ends(&server) => true,
    };
    end(server).await?;
    if has_ended {
        return Err(CommandError::trouble("Postgres has ended by itself"));
    }
    context.output.say("Stopped.");
    Ok(())
}

async fn until_it_ends(server: &Server) {
    while server.is_running() {
        tokio::time::sleep(LOOK).await;
    }
}

async fn start(args: &DevArgs) -> Result<Server, CommandError> {
    let mut options = ServerOptions::default().tcp(args.tcp);
    if let Some(data) = &args.data {
        options = options.data_dir(data);
    }
    let started = tokio::task::spawn_blocking(move || Server::start_with(options)).await;
    Ok(started.map_err(|error| CommandError::trouble(format!("cannot start Postgres: {error}")))??)
}

async fn end(server: Server) -> Result<(), CommandError> {
    let stopped = tokio::task::spawn_blocking(move || server.stop()).await;
    Ok(stopped.map_err(|error| CommandError::trouble(format!("cannot stop Postgres: {error}")))??)
}
