//! `pm pg restore`

use super::script::{Plan, READY, schema_of};
use super::tool::{Running, Tool};
use crate::context::Context;
use crate::error::CommandError;
use crate::render::{Progress, Value};
use crate::stop::Stop;
use pm_core::SchemaName;
use std::io::{self, IsTerminal};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::ChildStdout;
use tokio::task::JoinHandle;

/// The end of error messages before the commit.
const UNCHANGED: &str = "nothing was changed";
/// The end of error messages during the commit.
const UNKNOWN: &str = "it is unknown whether the restore was committed";
/// A script of pm's names its schema within this many bytes.
const MAX_HEAD: usize = 1 << 20;
/// How many bytes are read at a time.
const CHUNK: usize = 1 << 16;

/// Restores pm's schema from a backup on stdin, completely or not at all
///
/// The restore is refused when the schema already has pm's tables; --clean drops them first, with
/// all their jobs. The restore is one transaction: after an error nothing has changed.
///
/// A copy of production has jobs that are ready to run. With --paused all queues and schedules
/// are paused before any worker can see them, until pm queue resume and pm schedule resume.
///
/// With --into the backup may be of any schema. If the database already has a schema with the
/// backup's name, it is not changed and its workers continue; the restore needs the right to
/// rename it, though.
///
/// Example:
///   pm pg restore --db postgres://localhost/copy --paused < pm.dump
///   pm pg restore --into pm_yesterday --paused < pm.dump
///   pm pg restore --clean < pm.dump
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RestoreArgs {
    /// Drop the existing tables first, with all their jobs
    #[arg(long)]
    clean: bool,
    /// Pause all queues and schedules in the same transaction
    #[arg(long)]
    paused: bool,
    /// Restore into this schema, not into the backup's or that of --schema
    #[arg(long, value_name = "SCHEMA", value_parser = SchemaName::new)]
    into: Option<SchemaName>,
}

pub(super) async fn run(context: &mut Context, args: &RestoreArgs) -> Result<(), CommandError> {
    if io::stdin().is_terminal() {
        let message = "the backup is read from stdin, which is a terminal";
        return Err(CommandError::usage(message).hint_command("read it from a file", "pg restore < pm.dump"));
    }
    if let Some(into) = &args.into {
        context.args.schema = Some(into.as_str().to_owned());
    }
    let settings = context.settings()?;
    let schema = settings.schema.as_str();
    let queue = context.connect_unchecked().await?;
    if !args.clean && queue.schema_version().await? > 0 {
        let message = format!("schema \"{schema}\" of the database already has pm's tables; {UNCHANGED}");
        return Err(CommandError::refused(message).hint("--clean drops them first, with all their jobs"));
    }
    let mut stop = Stop::listen()?;
    let mut pg_restore = Tool::new("pg_restore");
    // Only the owner of a schema can restore a comment on it.
    pg_restore.command.args(["--file=-", "--no-owner", "--no-privileges", "--no-comments"]);
    pg_restore.command.stdin(Stdio::inherit()).stdout(Stdio::piped());
    let mut psql = Tool::connected("psql", &settings)?;
    psql.command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--file=-"]);
    psql.command.env("PGCLIENTENCODING", "UTF8");
    psql.command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let (archive, session) = (pg_restore.start()?, Session::start(psql)?);
    // When the session ends before the commit, the transaction is rolled back.
    let prepared = prepare(archive, session, &settings.schema, args);
    let session = tokio::select! {
        session = Progress::new("Restoring", None).during(prepared) => session?,
        () = stop.requested() => return Err(CommandError::refused(format!("interrupted; {UNCHANGED}"))),
    };
    let stderr = tokio::select! {
        stderr = session.commit() => stderr?,
        () = stop.requested() => return Err(CommandError::refused(format!("interrupted; {UNKNOWN}"))),
    };
    stderr.lines().for_each(|line| context.output.message(line));
    let version = queue.schema_version().await?;
    let paused = if args.paused { " All queues and schedules are paused." } else { "" };
    let sentence = format!("Restored schema \"{schema}\", at version {version}.{paused}");
    context.output.done(&Value::named([("schema", schema.into()), ("version", Value::number(version))]), &sentence)
}

/// Runs everything but the commit in the session.
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
            None if !is_end && head.len() < MAX_HEAD => {}
            found => break found,
        }
    };
    let Some(name) = found else {
        if head.len() < MAX_HEAD {
            archive.end(UNCHANGED).await?;
        }
        let message = format!("the backup contains no schema of pm; {UNCHANGED}");
        return Err(CommandError::refused(message).hint("create a backup with: pm pg backup"));
    };
    if args.into.is_none() && name != *target {
        let message = format!("the backup is of schema \"{name}\", not \"{target}\"; {UNCHANGED}");
        let hint = format!("use --schema '{name}', or --into '{target}' to rename it");
        return Err(CommandError::refused(message).hint(hint));
    }
    let plan = Plan { backup: &name, target, clean: args.clean, paused: args.paused };
    let mut is_written = session.write(plan.before().as_bytes()).await;
    let mut chunk = plan.rewritten_head(&head);
    while is_written && !chunk.is_empty() {
        is_written = session.write(&chunk).await;
        chunk.clear();
        read(&mut script, &mut chunk).await;
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

/// Appends a chunk to the buffer; returns false at the end.
async fn read(from: &mut Option<ChildStdout>, buffer: &mut Vec<u8>) -> bool {
    let Some(from) = from else { return false };
    buffer.reserve(CHUNK);
    matches!(from.read_buf(buffer).await, Ok(1..))
}

/// A psql process that reads SQL from its stdin.
struct Session {
    running: Running,
    ready: JoinHandle<bool>,
}

impl Session {
    fn start(tool: Tool) -> Result<Self, CommandError> {
        let mut running = tool.start()?;
        let ready = tokio::spawn(wait_until_ready(running.child.stdout.take()));
        Ok(Session { running, ready })
    }

    /// Writes SQL; returns whether that succeeded.
    async fn write(&mut self, sql: &[u8]) -> bool {
        match &mut self.running.child.stdin {
            Some(stdin) => stdin.write_all(sql).await.is_ok() && stdin.flush().await.is_ok(),
            None => false,
        }
    }

    /// Waits until all SQL has run; returns false when psql exited before.
    async fn is_ready(&mut self) -> bool {
        (&mut self.ready).await.unwrap_or(false)
    }

    /// Returns why psql exited.
    async fn failure(mut self) -> CommandError {
        drop(self.running.child.stdin.take());
        let exited = || CommandError::trouble(format!("psql exited before the restore was complete\n{UNCHANGED}"));
        self.running.end(UNCHANGED).await.err().unwrap_or_else(exited)
    }

    /// Commits and returns psql's stderr.
    async fn commit(mut self) -> Result<String, CommandError> {
        self.write(b"commit;\n").await;
        drop(self.running.child.stdin.take());
        self.running.end(UNKNOWN).await
    }
}

/// Reads psql's output; returns whether it printed the ready marker.
async fn wait_until_ready(stdout: Option<ChildStdout>) -> bool {
    let Some(stdout) = stdout else { return false };
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line == READY {
            return true;
        }
    }
    false
}
