//! `pm job add`

use crate::context::Context;
use crate::error::{CommandError, Exit};
use crate::input::{Source, codec_parser, parse_duration, parse_queue, parse_time, read_all, stored};
use crate::render::{Format, Output, Value, jobs};
use pm_core::{Codec, MAX_PAYLOAD_BYTES, QueueName, RunAt, Timestamp};
use pm_driver_tokio_postgres::{EnqueueOptions, Enqueued, InitialState, Queue, RawPayload};
use serde::Serialize;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::time::Duration;

/// So many lines of a batch go in at once, at most.
const BATCH_LINES: usize = 1_000;
/// So many bytes of a batch go in at once, about.
const BATCH_BYTES: usize = 8 << 20;

/// Adds a job to a queue and prints its id
///
/// The payload is JSON unless --codec says otherwise. With msgpack it is JSON as well and is
/// stored as MessagePack; what is MessagePack already is taken as it is. With raw it is bytes.
///
/// With --batch, each line of stdin (or of --file) is the payload of a job of its own; the
/// ids are printed in the order of the lines. A bad line ends it; the lines before are in.
///
/// Example:
///   pm job add mail '{"to": "ada@example.org"}' --priority 5 --description "welcome"
///   pm job add mail --in 10m --key welcome-ada - < mail.json
///   pm job add thumbnails --codec raw --file cat.jpg
///   pm job add mail --batch < mails.ndjson
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct AddArgs {
    /// The queue
    #[arg(value_name = "QUEUE", value_parser = parse_queue)]
    queue: QueueName,
    /// What the worker gets; - reads it from stdin
    #[arg(value_name = "PAYLOAD", allow_negative_numbers = true, conflicts_with = "file")]
    payload: Option<String>,
    /// Read the payload from a file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Add a job for each line
    #[arg(long, conflicts_with = "key")]
    batch: bool,
    /// How the payload is stored
    #[arg(long, value_name = "CODEC", default_value = "json", value_parser = codec_parser())]
    codec: Codec,
    /// Higher first
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// A note for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// While a job with this key has not ended, no other is added; its id is printed instead
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Start no earlier than this, like 2030-05-01T12:00 (local) or 2030-05-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<Timestamp>,
    /// Start no earlier than so long from now, like 10m
    #[arg(long = "in", value_name = "TIME", value_parser = parse_duration, conflicts_with = "at")]
    delay: Option<Duration>,
    /// Hold it until its queue is resumed
    #[arg(long)]
    paused: bool,
}

#[derive(Serialize)]
struct Added {
    id: String,
    /// Whether the job is new; if not, it is the one that holds the key.
    added: bool,
}

pub(super) async fn run(context: &mut Context, args: &AddArgs) -> Result<(), CommandError> {
    let source = args.source()?;
    if args.batch {
        return add_lines(context, args, &source).await;
    }
    let payload = stored(args.codec, read_all(&source)?)?;
    let queue = context.connect().await?;
    let enqueued = queue.enqueue_with_outcome(args.queue.as_str(), payload, args.options()).await?;
    if let Enqueued::Existing(id, state) = enqueued {
        context.output.say(&format!("Nothing was added: the key is held by job {id}, which is {state}."));
    }
    write(&mut context.output, &[Added::new(&enqueued)]).map_err(|error| match enqueued {
        Enqueued::Inserted(id) => error.hint(format!("the job is in: {id}")),
        _ => error,
    })
}

/// Writes jobs at once, a line each.
fn write(output: &mut Output, added: &[Added]) -> Result<(), CommandError> {
    for job in added {
        match output.format() {
            Format::People => output.text(&format!("{}\n", job.id))?,
            Format::Json | Format::Ndjson => output.done(job, "")?,
        }
    }
    output.flush()
}

impl Added {
    fn new(job: &Enqueued) -> Self {
        Added { id: job.id().to_string(), added: matches!(job, Enqueued::Inserted(_)) }
    }
}

impl AddArgs {
    fn source(&self) -> Result<Source, CommandError> {
        match (self.payload.as_deref(), &self.file) {
            (Some("-"), _) => Ok(Source::Stdin),
            (Some(_), _) if self.batch => {
                Err(CommandError::usage("with --batch the payloads come from stdin or --file, a line each"))
            }
            (Some(text), _) => Ok(Source::Argument(text.to_owned())),
            (None, Some(path)) => Ok(Source::File(path.clone())),
            (None, None) if self.batch => Ok(Source::Stdin),
            (None, None) => Err(CommandError::usage("the payload is missing")
                .hint("give it as an argument ('null' for none), as - to read stdin, or with --file")),
        }
    }

    fn options(&self) -> EnqueueOptions {
        let mut options = EnqueueOptions::default().priority(self.priority).codec(self.codec);
        options.description = self.description.clone();
        options.key = self.key.clone();
        options.run_at = self.at.map(RunAt::At).or(self.delay.map(RunAt::In));
        if self.paused { options.initial_state(InitialState::Paused) } else { options }
    }
}

async fn add_lines(context: &mut Context, args: &AddArgs, source: &Source) -> Result<(), CommandError> {
    let lines = Lines { reader: BufReader::new(source.open()?), codec: args.codec, number: 0 };
    let queue = context.connect().await?;
    context.output.outlive_reader();
    let mut batch = Batch { lines, count: 0, last: 0, held_back: Vec::new() };
    let added = batch.add(&mut context.output, &queue, args, source).await;
    let ended = added.and_then(|problem| problem.map_or(Ok(()), Err));
    let written = match context.output.format() {
        Format::Json if ended.is_ok() || batch.count > 0 => {
            context.output.document(&batch.held_back, |_| Value::Null).and_then(|()| context.output.flush())
        }
        _ => Ok(()),
    };
    ended.and(written).map_err(|error| batch.tell(error))?;
    context.output.say(&format!("Added {}.", jobs(batch.count)));
    Ok(())
}

/// A batch on its way in.
struct Batch<R> {
    lines: Lines<R>,
    /// How many jobs are in.
    count: u64,
    /// The last line of which it is known that it and those before are in.
    last: u64,
    /// What is in, for the one JSON document, which cannot be written before its end.
    held_back: Vec<Added>,
}

impl<R: BufRead> Batch<R> {
    /// Adds and writes all jobs up to the end of the lines, or to the first that is bad, and returns what is.
    async fn add(
        &mut self,
        output: &mut Output,
        queue: &Queue,
        args: &AddArgs,
        source: &Source,
    ) -> Result<Option<CommandError>, CommandError> {
        loop {
            let (payloads, problem) = self.lines.next_payloads(source);
            let is_last = payloads.is_empty() || problem.is_some();
            let added = add_payloads(queue, args, payloads).await?;
            self.count += added.len() as u64;
            self.last = self.lines.number;
            match output.format() {
                Format::People | Format::Ndjson => write(output, &added)?,
                Format::Json => self.held_back.extend(added),
            }
            if is_last {
                return Ok(problem);
            }
        }
    }

    /// Adds what is in to the error that ended it.
    fn tell(&self, error: CommandError) -> CommandError {
        let mut hint = match self.count {
            0 => "no job is in".to_owned(),
            count => format!("the lines up to {} are in: {}", self.last, jobs(count)),
        };
        // Nobody knows what the database did before it failed.
        if self.lines.number > self.last && error.exit() == Exit::Trouble {
            hint.push_str(&format!("; some of those up to {} may be too", self.lines.number));
        }
        error.hint(hint)
    }
}

async fn add_payloads(queue: &Queue, args: &AddArgs, payloads: Vec<RawPayload>) -> Result<Vec<Added>, CommandError> {
    let jobs = payloads.into_iter().map(|payload| (payload, args.options()));
    let enqueued = queue.enqueue_many(args.queue.as_str(), jobs).await?;
    Ok(enqueued.iter().map(Added::new).collect())
}

/// Payloads, a line each.
struct Lines<R> {
    reader: R,
    codec: Codec,
    /// How many lines were read and are good.
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// Reads some payloads; blank lines are passed over. None at all means that the source has ended.
    fn next_payloads(&mut self, source: &Source) -> (Vec<RawPayload>, Option<CommandError>) {
        let mut payloads = Vec::new();
        let mut bytes = 0;
        while payloads.len() < BATCH_LINES && bytes < BATCH_BYTES {
            let mut line = Vec::new();
            // What is longer is no payload, and is told so when the rest of the line is read as the next one.
            match (&mut self.reader).take(MAX_PAYLOAD_BYTES as u64 + 2).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return (payloads, Some(source.unreadable(&error))),
            }
            if !line.trim_ascii().is_empty() {
                bytes += line.len();
                line.pop_if(|last| *last == b'\n');
                match stored(self.codec, line) {
                    Ok(payload) => payloads.push(payload),
                    Err(error) => return (payloads, Some(error.within(format!("line {}", self.number + 1)))),
                }
            }
            self.number += 1;
        }
        (payloads, None)
    }
}
