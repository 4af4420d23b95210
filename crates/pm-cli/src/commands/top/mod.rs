//! `pm top`

mod draw;
mod look;
mod screen;
mod view;

use crate::context::Context;
use crate::error::CommandError;
use crate::input::parse_duration;
use crate::render::{Format, jobs, may_colour};
use crate::stop::Stop;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use pm_driver_tokio_postgres::{Error, Queue, Uuid};
use screen::Screen;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};
use view::{Request, Snapshot, Top, quoted};

/// Of the time, at most one part in so many is spent on looking.
const SHARE: u32 = 10;
/// The shortest time between two looks.
const SHORTEST: Duration = Duration::from_millis(100);

/// Shows the queues at work, live, until q
///
/// Queues with the number of their jobs by status, how long the oldest ready job waits and what
/// came in, finished and failed a minute over the last 5m; the leases that end next; the jobs
/// that failed last. A number marked ~ is estimated, as in `pm db stats`.
///
/// Keys: up and down (or k and j) move, Tab goes to the next list, p pauses the chosen queue and
/// r resumes it (both ask first), Enter opens the chosen job, Esc closes it, space looks at once,
/// q or Ctrl-C quits.
///
/// A look is five statements that read; with 1 M jobs they take about 0.2 s of one connection.
/// However long they take, at least nine times as long passes before the next. Colours are the
/// terminal's own; NO_COLOR is obeyed.
///
/// Example:
///   pm top
///   pm top --every 10s
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct TopArgs {
    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    every: Duration,
    /// Panics once the terminal is taken: for the test that it is given back
    #[arg(long, hide = true)]
    panic: bool,
}

/// What came of something that was begun.
enum News {
    Looked(Result<Snapshot, Error>, Duration),
    Said(Result<String, Error>),
    Opened(Uuid, Result<Option<String>, Error>),
}

type Pending = FuturesUnordered<BoxFuture<'static, News>>;

pub(super) async fn run(context: &mut Context, args: &TopArgs) -> Result<(), CommandError> {
    if context.output.format() != Format::People || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let error = CommandError::usage("pm top is for people at a terminal");
        return Err(error.hint("for programs: pm db stats --json, pm job watch --ndjson"));
    }
    let schema = context.schema()?;
    let queue = context.connect().await?;
    let mut stop = Stop::listen()?;
    let mut screen = Screen::open()?;
    assert!(!args.panic, "asked to panic");
    let mut top = Top::new(schema.as_str(), args.every, may_colour());
    let mut pending = Pending::new();
    pending.push(look(queue.clone()));
    let mut next_look: Option<Instant> = None;
    loop {
        screen.draw(&top)?;
        tokio::select! {
            event = screen.event() => match top.heard(&event?) {
                Some(Request::Quit) => return screen.close(),
                Some(Request::Look) => next_look = next_look.map(|_| Instant::now()),
                Some(request) => pending.push(perform(queue.clone(), request)),
                None => {}
            },
            Some(news) = pending.next() => {
                if let News::Looked(_, took) = &news {
                    next_look = Some(Instant::now() + args.every.max(*took * (SHARE - 1)).max(SHORTEST));
                }
                let is_change = matches!(news, News::Said(_));
                hear(&mut top, news);
                if is_change {
                    next_look = next_look.map(|_| Instant::now());
                }
            }
            () = until(next_look) => {
                next_look = None;
                pending.push(look(queue.clone()));
            }
            () = stop.asked() => return screen.close(),
        }
    }
}

fn look(queue: Queue) -> BoxFuture<'static, News> {
    async move {
        let began = Instant::now();
        let snapshot = Snapshot::take(&queue).await;
        News::Looked(snapshot, began.elapsed())
    }
    .boxed()
}

fn perform(queue: Queue, request: Request) -> BoxFuture<'static, News> {
    async move {
        match request {
            Request::Pause(name) => {
                let held = queue.pause_queue(&name).await;
                News::Said(held.map(|held| format!("Paused queue {}: {} held now.", quoted(&name), jobs(held))))
            }
            Request::Resume(name) => {
                let freed = queue.resume_queue(&name).await;
                News::Said(freed.map(|freed| format!("Resumed queue {}: {} set free.", quoted(&name), jobs(freed))))
            }
            Request::Open(id) => News::Opened(id, look::job(&queue, id).await),
            Request::Quit | Request::Look => News::Said(Ok(String::new())),
        }
    }
    .boxed()
}

fn hear(top: &mut Top, news: News) {
    match news {
        News::Looked(Ok(snapshot), took) => top.saw(snapshot, took),
        News::Said(Ok(sentence)) => top.say(&sentence),
        News::Opened(id, Ok(Some(text))) => top.open(&id.to_string(), &text),
        News::Opened(id, Ok(None)) => top.say(&format!("Job {id} is gone.")),
        // It heals by itself; what was seen before stays on the screen.
        News::Looked(Err(error), _) | News::Said(Err(error)) | News::Opened(_, Err(error)) => {
            top.trouble(&error.to_string());
        }
    }
}

/// Returns at that time; never without one.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
