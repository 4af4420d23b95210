//! Processes that enqueue jobs at a steady rate, or handle them, and say how far they are when they are asked.
//!
//! The number in a payload is the time at which its enqueue was called, so a worker knows how long a job took to get to
//! its handler.

use crate::contender::{Commits, Contender, handled, watch};
use crate::side::{Running, lines_after_go, print_line};
use crate::testbed::own_cpu;
use crate::{Error, Result};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{BufReader, Lines, Stdin};

/// The tasks that enqueue.
const TASKS: usize = 8;
/// The line that ends a process; any other asks it for its progress.
const END: &str = "end";

/// How long each job of this process took since the last report, from the call of enqueue, in µs: in an enqueuer to be
/// durable, in a worker to get to its handler.
static TIMES_US: Mutex<Vec<u32>> = Mutex::new(Vec::new());
static ENQUEUED: AtomicUsize = AtomicUsize::new(0);
/// Whether enqueuers shall stop.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Enqueues this number of jobs in a second, from several tasks, each of which waits until its job is durable.
    Enqueuer {
        rate: usize,
    },
    Worker(Commits),
}

impl Role {
    /// Returns the role as the name of a piece of work.
    pub(crate) fn name(self) -> String {
        match self {
            Role::Enqueuer { rate } => format!("load, enqueue {rate}"),
            Role::Worker(Commits::Awaited(handlers)) => format!("load, await {handlers}"),
            Role::Worker(Commits::Detached(handlers)) => format!("load, detach {handlers}"),
        }
    }

    /// Returns the role of this name.
    pub(crate) fn named(name: &str) -> Option<Role> {
        let (role, number) = name.strip_prefix("load, ")?.split_once(' ')?;
        let number = number.parse().ok()?;
        match role {
            "enqueue" => Some(Role::Enqueuer { rate: number }),
            "await" => Some(Role::Worker(Commits::Awaited(number))),
            "detach" => Some(Role::Worker(Commits::Detached(number))),
            _ => None,
        }
    }
}

/// How far a process is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// The jobs enqueued, or handled, so far.
    pub(crate) jobs: usize,
    /// The median and the 99th percentile of the times since the last report.
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    /// The CPU time of the process since it began.
    pub(crate) cpu: Duration,
    /// The time since 1970.
    pub(crate) at: Duration,
}

impl Progress {
    /// Asks a process for its progress.
    pub(crate) async fn of(running: &mut Running) -> Result<Progress> {
        running.say("progress").await?;
        Progress::parse(&running.line().await?)
    }

    /// Ends a process, and returns its progress once everything is durable.
    pub(crate) async fn end(mut running: Running) -> Result<Progress> {
        running.say(END).await?;
        let last = Progress::parse(&running.line().await?)?;
        running.end().await?;
        Ok(last)
    }

    /// Reads what [`serve`] prints.
    pub(crate) fn parse(line: &str) -> Result<Progress> {
        let fields = line.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let [jobs, p50_us, p99_us, cpu_us, at_ns] = fields[..] else {
            return Err(format!("an unexpected line {line:?}").into());
        };
        let (cpu, at) = (Duration::from_micros(cpu_us), Duration::from_nanos(at_ns));
        Ok(Progress { jobs: usize::try_from(jobs)?, p50_us, p99_us, cpu, at })
    }
}

/// Enqueues or handles this number of jobs, or until it is ended. It prints its progress for each line on stdin, and
/// when it is done.
pub(crate) async fn serve<C: Contender>(url: &str, role: Role, jobs: usize) -> Result<()> {
    let contender = C::open(url).await?;
    let asked = lines_after_go().await?;
    let before = own_cpu()?;
    let answers = tokio::spawn(answer(asked, contender.clone(), role, before));
    match role {
        Role::Enqueuer { rate } => enqueue(&contender, jobs, rate).await?,
        Role::Worker(commits) => {
            watch(note_time_since);
            contender.drain(jobs, commits).await?;
        }
    }
    answers.abort();
    print_line(&progress(role, before)?).await?;
    contender.close().await
}

/// Answers each line with the progress, until one asks for the end or there are no more.
async fn answer<C: Contender>(
    mut asked: Lines<BufReader<Stdin>>,
    contender: C,
    role: Role,
    before: Duration,
) -> Result<()> {
    while let Some(line) = asked.next_line().await?
        && line != END
    {
        print_line(&progress(role, before)?).await?;
    }
    IS_ENDING.store(true, Ordering::Relaxed);
    match role {
        Role::Enqueuer { .. } => Ok(()),
        Role::Worker(_) => contender.close().await,
    }
}

/// Enqueues the jobs at the rate. A task that is late enqueues at once.
async fn enqueue<C: Contender>(contender: &C, jobs: usize, rate: usize) -> Result<()> {
    let begun = Instant::now();
    let enqueue_all_of = |task: usize| {
        let contender = contender.clone();
        async move {
            for number in (task..jobs).step_by(TASKS).take_while(|_| !IS_ENDING.load(Ordering::Relaxed)) {
                let due = begun + Duration::from_secs_f64(number as f64 / rate as f64);
                tokio::time::sleep_until(due.into()).await;
                let called_ns = now_ns();
                contender.enqueue(called_ns).await?;
                note_time_since(called_ns);
                ENQUEUED.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Error>(())
        }
    };
    let tasks: Vec<_> = (0..TASKS).map(|task| tokio::spawn(enqueue_all_of(task))).collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

fn note_time_since(called_ns: usize) {
    let time_us = u32::try_from(now_ns().saturating_sub(called_ns) / 1_000).unwrap_or(u32::MAX);
    TIMES_US.lock().expect("no thread panics while it has the lock").push(time_us);
}

fn progress(role: Role, before: Duration) -> Result<String> {
    let mut times_us = std::mem::take(&mut *TIMES_US.lock().expect("no thread panics while it has the lock"));
    times_us.sort_unstable();
    let percentile = |percent: usize| times_us.get(times_us.len() * percent / 100).copied().unwrap_or(0);
    let jobs = match role {
        Role::Enqueuer { .. } => ENQUEUED.load(Ordering::Relaxed),
        Role::Worker(_) => handled(),
    };
    let cpu_us = own_cpu()?.saturating_sub(before).as_micros();
    Ok(format!("{jobs} {} {} {cpu_us} {}", percentile(50), percentile(99), now_ns()))
}

fn now_ns() -> usize {
    usize::try_from(now().as_nanos()).unwrap_or(usize::MAX)
}

/// Returns the time since 1970; all processes are on one machine.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
