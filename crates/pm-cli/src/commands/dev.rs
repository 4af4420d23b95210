//! `pm dev`

use crate::context::Context;
use crate::error::CommandError;
use crate::render::Value;
use crate::sandbox::blocking;
use crate::stop::Stop;
use pm_driver_tokio_postgres::{ConnectOptions, connect_with};
use pm_sandbox::{Server, ServerOptions};
use std::path::PathBuf;
use std::time::Duration;

/// How often to check that the server is running.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Runs a private Postgres for development, with pm's tables, until Ctrl-C
///
/// It prints the URL as soon as the database is ready: use it in your program and for pm. Only
/// this user and root can connect; there is no password. Ctrl-C, SIGTERM and SIGHUP stop the
/// server. Without --data all data is deleted then; with --data it is kept, durably, and is
/// available at the next start, which has another URL.
///
/// Example:
///   pm dev
///   pm dev --data ./postgres
///   pm dev --ndjson | head -n 1 | jq -r .url
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct DevArgs {
    /// Keep the data in this directory; it is created if missing
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Also listen on a free TCP port of 127.0.0.1: every user of this machine may connect
    #[arg(long)]
    tcp: bool,
}

pub(super) async fn run(context: &mut Context, args: &DevArgs) -> Result<(), CommandError> {
    if context.args.db.is_some() {
        return Err(CommandError::usage("pm dev starts its own server; leave out --db"));
    }
    let schema = context.settings()?.schema;
    let mut stop = Stop::listen()?;
    let options = ServerOptions::default().tcp(args.tcp);
    let options = args.data.iter().fold(options, ServerOptions::data_dir);
    let server = blocking("start", move || Server::start_with(options)).await?;
    let url = if args.tcp { server.tcp_url_of("postgres") } else { None }.unwrap_or_else(|| server.url());
    let options = ConnectOptions::default().schema(schema.as_str()).connections(1).application_name("pm dev");
    let migrated = tokio::select! {
        migrated = connect_with(&url, options.migrate(true)) => migrated,
        () = stop.requested() => return blocking("stop", move || server.stop()).await,
    };
    migrated?.close().await;
    let data = args.data.as_ref().map(|data| data.display().to_string());
    let running = [("url", url.as_str().into()), ("pid", Value::number(server.pid())), ("data", data.into())];
    context.output.answer(&Value::named(running), &url)?;
    context.output.flush()?;
    context.output.message(&match &args.data {
        Some(data) => format!("Postgres is running, with its data in {}; Ctrl-C stops it.", data.display()),
        None => "Postgres is running; Ctrl-C stops it and deletes its data.".to_owned(),
    });
    let has_ended = tokio::select! {
        () = stop.requested() => false,
        () = wait_for_exit(&server) => true,
    };
    blocking("stop", move || server.stop()).await?;
    if has_ended {
        return Err(CommandError::trouble("Postgres stopped unexpectedly"));
    }
    context.output.message("Stopped.");
    Ok(())
}

async fn wait_for_exit(server: &Server) {
    while server.is_running() {
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}
