//! `pm top`

mod draw;
mod look;
mod screen;
mod view;

use crate::context::Context;
use crate::duration::parse_duration;
use crate::error::CommandError;
use crate::render::{Format, jobs, may_colour};
use crate::stop::Stop;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use pm_driver_tokio_postgres::{Error, Queue, Uuid};
use screen::Screen;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};
use view::{Request, Snapshot, Top, quoted};

/// At most one part in this many of the time is spent on queries.
const SHARE: u32 = 10;
/// The shortest time between two updates.
const SHORTEST: Duration = Duration::from_millis(100);

/// Shows a live view of queues, leases and failures
///
/// It shows the queues, with the number of their jobs by status, the waiting time of the oldest
/// ready job, and the rates per minute of jobs added, finished and failed over the last 5m; the
/// leases that expire next; and the jobs that failed last. A number marked ~ is an estimate, as
/// in `pm db stats`.
///
/// Keys: up and down (or k and j) move, Tab switches to the next list, p pauses the selected queue
/// and r resumes it (both ask for confirmation), Enter opens the selected job, Esc closes it,
/// space updates immediately, q or Ctrl-C quits.
///
/// An update runs five read-only statements; with 1 M jobs they take about 0.2 s on one
/// connection. The time between two updates is at least nine times as long as an update takes.
/// Colours are those of the terminal's theme; NO_COLOR is respected.
///
/// Example:
///   pm top
///   pm top --every 10s
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct TopArgs {
    /// How often to update
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    every: Duration,
    /// Panics after opening the terminal: for the test that it is restored
    #[arg(long, hide = true)]
    panic: bool,
}

/// The result of a query or an action.
enum Outcome {
    Update(Result<Snapshot, Error>, Duration),
    Action(Result<String, Error>),
    Job(Uuid, Result<Option<String>, Error>),
}

type Pending = FuturesUnordered<BoxFuture<'static, Outcome>>;

pub(super) async fn run(context: &mut Context, args: &TopArgs) -> Result<(), CommandError> {
    if context.output.format() != Format::Human || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let error = CommandError::usage("pm top needs a terminal and has no JSON output");
        return Err(error.hint("for programs, use pm db stats --json or pm job watch --ndjson"));
    }
    let schema = context.settings()?.schema;
    let queue = context.connect().await?;
    let mut stop = Stop::listen()?;
    let mut screen = Screen::open()?;
    assert!(!args.panic, "asked to panic");
    let mut top = Top::new(schema.as_str(), args.every, may_colour());
    let mut pending = Pending::new();
    pending.push(update(queue.clone()));
    let mut next_update: Option<Instant> = None;
    loop {
        screen.draw(&top)?;
        tokio::select! {
            event = screen.event() => match top.handle(&event?) {
                Some(Request::Quit) => return Ok(()),
                Some(Request::Update) => next_update = next_update.map(|_| Instant::now()),
                Some(request) => pending.push(perform(queue.clone(), request)),
                None => {}
            },
            Some(outcome) = pending.next() => {
                if let Outcome::Update(_, took) = &outcome {
                    next_update = Some(Instant::now() + args.every.max(*took * (SHARE - 1)).max(SHORTEST));
                }
                let is_action = matches!(outcome, Outcome::Action(_));
                apply(&mut top, outcome);
                if is_action {
                    next_update = next_update.map(|_| Instant::now());
                }
            }
            () = until(next_update) => {
                next_update = None;
                pending.push(update(queue.clone()));
            }
            () = stop.requested() => return Ok(()),
        }
    }
}

fn update(queue: Queue) -> BoxFuture<'static, Outcome> {
    async move {
        let began = Instant::now();
        let snapshot = Snapshot::take(&queue).await;
        Outcome::Update(snapshot, began.elapsed())
    }
    .boxed()
}

fn perform(queue: Queue, request: Request) -> BoxFuture<'static, Outcome> {
    async move {
        let acted = match request {
            Request::Pause(name) => {
                let paused = queue.pause_queue(&name).await;
                paused.map(|paused| format!("Paused queue {}: {} paused now.", quoted(&name), jobs(paused)))
            }
            Request::Resume(name) => {
                let resumed = queue.resume_queue(&name).await;
                resumed.map(|resumed| format!("Resumed queue {}: {} resumed.", quoted(&name), jobs(resumed)))
            }
            Request::Open(id) => return Outcome::Job(id, look::job(&queue, id).await),
            Request::Quit | Request::Update => Ok(String::new()),
        };
        Outcome::Action(acted)
    }
    .boxed()
}

fn apply(top: &mut Top, outcome: Outcome) {
    match outcome {
        Outcome::Update(Ok(snapshot), took) => top.update(snapshot, took),
        Outcome::Action(Ok(message)) => top.message = message,
        Outcome::Job(id, Ok(Some(text))) => top.open(&id.to_string(), &text),
        Outcome::Job(id, Ok(None)) => top.message = format!("Job {id} no longer exists."),
        // The next update may succeed; the data of the last one stays on the screen.
        Outcome::Update(Err(error), _) | Outcome::Action(Err(error)) | Outcome::Job(_, Err(error)) => {
            top.error = Some(error.message().to_owned());
        }
    }
}

/// Sleeps until the time; forever without one.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
