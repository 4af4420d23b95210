//! `pm pg restore`

use super::script::{Plan, READY, schema_of};
use super::tool::{Running, Tool};
use crate::context::Context;
use crate::error::CommandError;
use crate::render::Progress;
use crate::stop::Stop;
use pm_core::SchemaName;
use serde::Serialize;
use std::io::{self, IsTerminal};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::ChildStdout;
use tokio::task::JoinHandle;

/// What is said after any trouble.
const UNCHANGED: &str = "nothing was changed";
/// What is said after trouble with the commit.
const UNKNOWN: &str = "whether the restore was committed is not known";
/// The backup's script names its schema within so many bytes, or is none of ours.
const HEAD: usize = 1 << 20;
const PIECE: usize = 1 << 16;

/// Restores pm's schema from a backup on stdin, whole or not at all
///
/// A database that has pm's tables already is refused, unless --clean says to drop them first,
/// with all their jobs. It is one transaction: after any trouble everything is as before.
///
/// A copy of production has jobs that are ready to run. With --paused all queues and schedules
/// are paused before any worker can see them, until pm queue resume and pm schedule resume.
///
/// With --into the backup may be of any schema, and one of that name that is in the database
/// already stays as it is, its workers too. It needs the right to rename that schema, though.
///
/// Example:
///   pm pg restore --db postgres://localhost/copy --paused < pm.dump
///   pm pg restore --into pm_yesterday --paused < pm.dump
///   pm pg restore --clean < pm.dump
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RestoreArgs {
    /// Drop the tables that are there, with all jobs
    #[arg(long)]
    clean: bool,
    /// Pause all queues and schedules in the same transaction
    #[arg(long)]
    paused: bool,
    /// Restore into this schema instead of the backup's and --schema
    #[arg(long, value_name = "SCHEMA", value_parser = parse_schema)]
    into: Option<SchemaName>,
}

#[derive(Serialize)]
struct Restored<'a> {
    schema: &'a str,
    /// The version of the restored tables.
    version: u32,
}

fn parse_schema(text: &str) -> Result<SchemaName, String> {
    SchemaName::new(text).map_err(|error| error.to_string())
}

pub(super) async fn run(context: &mut Context, args: &RestoreArgs) -> Result<(), CommandError> {
    if io::stdin().is_terminal() {
        let message = "the backup comes from stdin, and that is a terminal";
        return Err(CommandError::usage(message).hint("read it from a file: pm pg restore < pm.dump"));
    }
    if let Some(into) = &args.into {
        context.args.schema = Some(into.as_str().to_owned());
    }
    let settings = context.settings()?;
    let schema = settings.schema.as_str();
    let queue = context.connect_unchecked().await?;
    if !args.clean && queue.schema_version().await? > 0 {
        let message = format!("schema \"{schema}\" of that database has pm's tables already; {UNCHANGED}");
        return Err(CommandError::refused(message).hint("--clean drops them first, with all their jobs"));
    }
    let mut stop = Stop::listen()?;
    let mut pg_restore = Tool::new("pg_restore");
    // A comment on a schema takes its owner to restore.
    pg_restore.command.args(["--file=-", "--no-owner", "--no-privileges", "--no-comments"]);
    pg_restore.command.stdin(Stdio::inherit()).stdout(Stdio::piped());
    let mut psql = Tool::connected("psql", &settings)?;
    psql.command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--file=-"]);
    psql.command.env("PGCLIENTENCODING", "UTF8");
    psql.command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let (archive, session) = (pg_restore.start()?, Session::start(psql)?);
    // What ends the session before its commit ends the transaction without one.
    let prepared = prepare(archive, session, &settings.schema, args);
    let session = tokio::select! {
        session = Progress::new("Restoring", None).during(prepared) => session?,
        () = stop.asked() => return Err(CommandError::refused(format!("stopped; {UNCHANGED}"))),
    };
    let words = tokio::select! {
        words = session.commit() => words?,
        () = stop.asked() => return Err(CommandError::refused(format!("stopped; {UNKNOWN}"))),
    };
    words.lines().for_each(|line| context.output.say(line));
    let version = queue.schema_version().await?;
    let paused = if args.paused { " All queues and schedules are paused." } else { "" };
    let sentence = format!("Restored schema \"{schema}\", at version {version}.{paused}");
    context.output.done(&Restored { schema, version }, &sentence)
}

/// Brings the session to where only the commit is missing.
async fn prepare(
    mut archive: Running,
    mut session: Session,
    target: &SchemaName,
    args: &RestoreArgs,
) -> Result<Session, CommandError> {
    let mut script = archive.child.stdout.take();
    let mut head = Vec::new();
    let found = loop {
        let is_end = !read(&mut script, &mut head).await;
        match schema_of(&head) {
            None if !is_end && head.len() < HEAD => {}
            found => break found,
        }
    };
    let Some(name) = found else {
        if head.len() < HEAD {
            archive.end(UNCHANGED).await?;
        }
        let message = format!("the backup has no schema that may hold pm's tables; {UNCHANGED}");
        return Err(CommandError::refused(message).hint("a backup is made by: pm pg backup"));
    };
    if args.into.is_none() && name != *target {
        let message = format!("what is in the backup is not in schema \"{target}\" but in \"{name}\"; {UNCHANGED}");
        let hint = format!("say --schema '{name}', or --into '{target}' to rename it");
        return Err(CommandError::refused(message).hint(hint));
    }
    let plan = Plan { backup: &name, target, clean: args.clean, paused: args.paused };
    let mut is_written = session.write(plan.before().as_bytes()).await;
    let mut piece = plan.begun(&head);
    while is_written && !piece.is_empty() {
        is_written = session.write(&piece).await;
        piece.clear();
        read(&mut script, &mut piece).await;
    }
    if !is_written {
        return Err(session.failure().await);
    }
    archive.end(UNCHANGED).await?;
    match session.write(plan.after().as_bytes()).await && session.is_ready().await {
        true => Ok(session),
        false => Err(session.failure().await),
    }
}

/// Reads a piece more; returns whether there was one.
async fn read(from: &mut Option<ChildStdout>, piece: &mut Vec<u8>) -> bool {
    let Some(from) = from else { return false };
    piece.reserve(PIECE);
    matches!(from.read_buf(piece).await, Ok(1..))
}

/// A psql that reads SQL from us.
struct Session {
    running: Running,
    ready: JoinHandle<bool>,
}

impl Session {
    fn start(tool: Tool) -> Result<Self, CommandError> {
        let mut running = tool.start()?;
        let ready = tokio::spawn(says_ready(running.child.stdout.take()));
        Ok(Session { running, ready })
    }

    /// Returns whether it took it.
    async fn write(&mut self, sql: &[u8]) -> bool {
        match &mut self.running.child.stdin {
            Some(stdin) => stdin.write_all(sql).await.is_ok() && stdin.flush().await.is_ok(),
            None => false,
        }
    }

    /// Awaits that all it was sent is done; returns false when it ended instead.
    async fn is_ready(&mut self) -> bool {
        (&mut self.ready).await.unwrap_or(false)
    }

    /// Returns why it ended.
    async fn failure(mut self) -> CommandError {
        drop(self.running.child.stdin.take());
        let early = || CommandError::trouble(format!("psql ended before the restore did\n{UNCHANGED}"));
        self.running.end(UNCHANGED).await.err().unwrap_or_else(early)
    }

    /// Makes all of it true and returns what psql said.
    async fn commit(mut self) -> Result<String, CommandError> {
        self.write(b"commit;\n").await;
        drop(self.running.child.stdin.take());
        self.running.end(UNKNOWN).await
    }
}

/// Reads all that psql prints; returns whether it came to be ready.
async fn says_ready(stdout: Option<ChildStdout>) -> bool {
    let Some(stdout) = stdout else { return false };
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line == READY {
            return true;
        }
    }
    false
}
