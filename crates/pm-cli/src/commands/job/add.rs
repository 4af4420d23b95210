//! `pm job add`

use crate::context::Context;
use crate::duration::parse_duration;
use crate::error::{CommandError, Exit};
use crate::input::{Source, codec_parser, encode, parse_time, read_all};
use crate::render::{Format, Json, Output, Value, jobs};
use pm_core::{Codec, MAX_PAYLOAD_BYTES, QueueName, RunAt, Timestamp};
use pm_driver_tokio_postgres::{EnqueueOptions, Enqueued, InitialState, Queue, RawPayload};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::time::Duration;

/// The most lines of a batch added by one call.
const BATCH_LINES: usize = 1_000;
/// About how many bytes of a batch are added by one call.
const BATCH_BYTES: usize = 8 << 20;

/// Adds a job to a queue and prints its id
///
/// The payload is JSON by default. With --codec msgpack it is JSON that is converted to
/// MessagePack; a payload that is MessagePack already is stored unchanged. With --codec raw it is
/// bytes.
///
/// With --batch, each line of stdin (or of --file) is the payload of a separate job; the ids are
/// printed in the order of the lines. An invalid line ends the batch; the jobs of the lines before
/// it are added.
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
    #[arg(value_name = "QUEUE", value_parser = QueueName::new)]
    queue: QueueName,
    /// The payload; - reads it from stdin
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
    /// The priority; higher is claimed first
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// A description for humans
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// A key: while another job of the queue reserves it, no job is added, and the other job's id is printed
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Start no earlier than this, like 2030-05-01T12:00 (local) or 2030-05-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<Timestamp>,
    /// Start no earlier than this long from now, like 10m
    #[arg(long = "in", value_name = "TIME", value_parser = parse_duration, conflicts_with = "at")]
    delay: Option<Duration>,
    /// Fail the job if no worker has started it within this time, like 1h
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    expires_in: Option<Duration>,
    /// How long an attempt may take, instead of the queue's timeout
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Add it paused: it waits until its queue is resumed
    #[arg(long)]
    paused: bool,
}

pub(super) async fn run(context: &mut Context, args: &AddArgs) -> Result<(), CommandError> {
    let source = args.source()?;
    if args.batch {
        return add_lines(context, args, &source).await;
    }
    let payload = encode(args.codec, read_all(&source)?)?;
    let queue = context.connect().await?;
    let enqueued = queue.enqueue_with_outcome(args.queue.as_str(), payload, args.options()).await?;
    if let Enqueued::Existing(id, state) = enqueued {
        context.output.message(&format!("No job was added: the key is reserved by job {id}, which is {state}."));
    }
    write(&mut context.output, std::slice::from_ref(&enqueued)).map_err(|error| match enqueued {
        Enqueued::Inserted(id) => error.hint(format!("the job was added: {id}")),
        _ => error,
    })
}

/// Writes and flushes the ids, a line each.
fn write(output: &mut Output, added: &[Enqueued]) -> Result<(), CommandError> {
    added.iter().try_for_each(|job| output.answer(&job.json(), &job.id().to_string()))?;
    output.flush()
}

impl Json for Enqueued {
    fn json(&self) -> Value {
        // A job that was not added is the one that reserves the key.
        let added = matches!(self, Enqueued::Inserted(_));
        Value::named([("id", Value::plain(self.id())), ("added", added.into())])
    }
}

impl AddArgs {
    fn source(&self) -> Result<Source, CommandError> {
        match Source::given(self.payload.as_deref(), self.file.as_ref()) {
            Some(Source::Argument(_)) if self.batch => {
                Err(CommandError::usage("with --batch the payloads are read from stdin or --file, one per line"))
            }
            Some(source) => Ok(source),
            None if self.batch => Ok(Source::Stdin),
            None => Err(CommandError::usage("missing payload")
                .hint("give it as an argument ('null' for none), use - to read stdin, or use --file")),
        }
    }

    fn options(&self) -> EnqueueOptions {
        let mut options = EnqueueOptions::default().priority(self.priority).codec(self.codec);
        options.description = self.description.clone();
        options.key = self.key.clone();
        options.run_at = self.at.map(RunAt::At).or(self.delay.map(RunAt::In));
        (options.expires_in, options.timeout) = (self.expires_in, self.timeout);
        if self.paused { options.initial_state(InitialState::Paused) } else { options }
    }
}

async fn add_lines(context: &mut Context, args: &AddArgs, source: &Source) -> Result<(), CommandError> {
    let reader = BufReader::new(source.open()?);
    let queue = context.connect().await?;
    context.output.ignore_closed_pipe();
    let mut batch = Batch { args, source, reader, read: 0, count: 0, last: 0, buffered: Vec::new() };
    let added = batch.add(&mut context.output, &queue).await;
    let ended = added.and_then(|problem| problem.map_or(Ok(()), Err));
    let written = match context.output.format() {
        Format::Json if ended.is_ok() || batch.count > 0 => {
            context.output.show_all(&batch.buffered, |_| String::new()).and_then(|()| context.output.flush())
        }
        _ => Ok(()),
    };
    ended.and(written).map_err(|error| batch.with_progress(error))?;
    context.output.message(&format!("Added {}.", jobs(batch.count)));
    Ok(())
}

/// A batch in progress.
struct Batch<'a> {
    args: &'a AddArgs,
    source: &'a Source,
    /// The payloads, one per line.
    reader: BufReader<Box<dyn Read>>,
    /// How many valid lines were read.
    read: u64,
    /// How many jobs were added.
    count: u64,
    /// The last line up to which all jobs are known to be added.
    last: u64,
    /// The added jobs for `--json`, whose document is written at the end.
    buffered: Vec<Enqueued>,
}

impl Batch<'_> {
    /// Adds all jobs up to the end or the first invalid line, and writes their ids; returns the problem of that line.
    async fn add(&mut self, output: &mut Output, queue: &Queue) -> Result<Option<CommandError>, CommandError> {
        loop {
            let (payloads, problem) = self.next_payloads();
            let is_last = payloads.is_empty() || problem.is_some();
            let jobs = payloads.into_iter().map(|payload| (payload, self.args.options()));
            let added = queue.enqueue_many(self.args.queue.as_str(), jobs).await?;
            self.count += added.len() as u64;
            self.last = self.read;
            match output.format() {
                Format::Human | Format::Ndjson => write(output, &added)?,
                Format::Json => self.buffered.extend(added),
            }
            if is_last {
                return Ok(problem);
            }
        }
    }

    /// Reads some payloads; empty lines are skipped. No payloads and no problem: the source has ended.
    fn next_payloads(&mut self) -> (Vec<RawPayload>, Option<CommandError>) {
        let mut payloads = Vec::new();
        let mut bytes = 0;
        while payloads.len() < BATCH_LINES && bytes < BATCH_BYTES {
            let mut line = Vec::new();
            // A longer line is too large for a payload: it is refused when it is encoded or enqueued.
            match (&mut self.reader).take(MAX_PAYLOAD_BYTES as u64 + 2).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return (payloads, Some(self.source.unreadable(&error))),
            }
            if !line.trim_ascii().is_empty() {
                bytes += line.len();
                line.pop_if(|last| *last == b'\n');
                match encode(self.args.codec, line) {
                    Ok(payload) => payloads.push(payload),
                    Err(error) => return (payloads, Some(error.within(format!("line {}", self.read + 1)))),
                }
            }
            self.read += 1;
        }
        (payloads, None)
    }

    /// Adds a hint that says how much of the batch was added.
    fn with_progress(&self, error: CommandError) -> CommandError {
        let mut hint = match self.count {
            0 => "no job was added".to_owned(),
            count => format!("the lines up to {} were added: {}", self.last, jobs(count)),
        };
        // Whether the failed call took effect is unknown.
        if self.read > self.last && error.exit() == Exit::Trouble {
            hint.push_str(&format!("; some lines up to {} may also have been added", self.read));
        }
        error.hint(hint)
    }
}
