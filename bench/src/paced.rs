//! Q15: what jobs cost when they come at a steady rate, far below what is possible, so that batches are small.
//!
//! One process enqueues from several tasks, each of which waits until its job is durable; another handles them, and each
//! handler waits for its commit. The number in a payload is the time at which its enqueue was called.

use crate::contender::{Commits, Contender, handled, watch};
use crate::options::Options;
use crate::report::{Measured, Report};
use crate::side::{Side, limited, print_line, wait_for_go};
use crate::testbed::{Database, Spent, Testbed, own_cpu};
use crate::{Error, Result};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) const CASE: &str = "Q15";
/// The jobs enqueued in a second.
const RATE: usize = 3_000;
const TASKS: usize = 8;
const HANDLERS: usize = 8;
const SECONDS: usize = 20;
const QUICK_SECONDS: usize = 5;

/// The kinds of pm's statements, each with a part of its text; the first that fits counts.
const KINDS: [(&str, &str); 5] = [
    ("enqueues", "insert into \"pm\".job ("),
    ("settlements", "ended_at = "),
    ("claims", "worker = "),
    ("notifications", "pg_notify("),
    ("polls", "set idle_until"),
];

/// How long each job of this process took: in the enqueuer to be durable, in the worker to get to its handler, from the
/// call of enqueue, in µs.
static TIMES_US: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// What a process does for the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Enqueuer,
    Worker,
}

impl Role {
    /// The name of the role, as the name of a piece of work.
    const fn name(self) -> &'static str {
        match self {
            Role::Enqueuer => "paced, enqueuer",
            Role::Worker => "paced, worker",
        }
    }

    /// Returns the role of this name.
    pub(crate) fn named(name: &str) -> Option<Role> {
        [Role::Enqueuer, Role::Worker].into_iter().find(|role| role.name() == name)
    }
}

/// What a process prints when it is done.
struct Figures {
    cpu_us: u64,
    handled: usize,
    p50_us: u64,
    p99_us: u64,
}

impl Figures {
    fn parse(line: &str) -> Result<Figures> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [cpu, handled, p50, p99] = fields[..] else { return Err(format!("an unexpected line {line:?}").into()) };
        Ok(Figures { cpu_us: cpu.parse()?, handled: handled.parse()?, p50_us: p50.parse()?, p99_us: p99.parse()? })
    }
}

/// Is one of the two processes. When it is done, it prints its CPU time in µs, the number of jobs that its handlers have
/// had, and the median and the 99th percentile of the times in µs.
pub(crate) async fn serve<C: Contender>(url: &str, role: Role, jobs: usize) -> Result<()> {
    let contender = C::open(url).await?;
    wait_for_go().await?;
    let before = own_cpu()?;
    match role {
        Role::Enqueuer => enqueue(&contender, jobs).await?,
        Role::Worker => {
            watch(note_time_since);
            contender.drain(jobs, Commits::Awaited(HANDLERS)).await?;
        }
    }
    let cpu_us = own_cpu()?.saturating_sub(before).as_micros();
    let mut times_us = std::mem::take(&mut *TIMES_US.lock().expect("no thread panics while it has the lock"));
    times_us.sort_unstable();
    let percentile = |percent: usize| times_us.get(times_us.len() * percent / 100).copied().unwrap_or(0);
    print_line(&format!("{cpu_us} {} {} {}", handled(), percentile(50), percentile(99))).await?;
    contender.close().await
}

/// Enqueues the jobs at the rate. A task that is late enqueues at once.
async fn enqueue<C: Contender>(contender: &C, jobs: usize) -> Result<()> {
    let begun = Instant::now();
    let enqueue_all_of = |task: usize| {
        let contender = contender.clone();
        async move {
            for number in (task..jobs).step_by(TASKS) {
                let due = begun + Duration::from_secs_f64(number as f64 / RATE as f64);
                tokio::time::sleep_until(due.into()).await;
                let called_ns = now_ns();
                contender.enqueue(called_ns).await?;
                note_time_since(called_ns);
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

/// Returns the time since 1970; both processes are on one machine.
fn now_ns() -> usize {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    usize::try_from(since.as_nanos()).unwrap_or(usize::MAX)
}

/// Measures one side in a new database, and checks that every job was done.
pub(crate) async fn measure(testbed: &Testbed, side: &Side, options: &Options, report: &mut Report) -> Result<()> {
    let seconds = if options.quick { QUICK_SECONDS } else { SECONDS };
    let jobs = options.jobs.unwrap_or(RATE * seconds);
    let database = testbed.database().await?;
    let outcome = limited(measure_in(testbed, &database, side, jobs)).await;
    testbed.print_statements(side.name, &database.name).await?;
    database.drop().await?;
    let (values, repeats) = outcome?;
    report.add_all(side.name, values);
    if repeats > 0 {
        report.add_repeats(side.name, CASE, repeats);
    }
    Ok(())
}

/// Returns the values, and how many jobs more than there are handlers have had.
async fn measure_in(
    testbed: &Testbed,
    database: &Database<'_>,
    side: &Side,
    jobs: usize,
) -> Result<(Vec<Measured>, usize)> {
    database.count_statements().await?;
    // One after the other: the first sets up the queue.
    let mut enqueuer = side.start(&database.url, Role::Enqueuer.name(), jobs).await?;
    let mut worker = side.start(&database.url, Role::Worker.name(), jobs).await?;
    testbed.reset_statements().await?;
    let before = testbed.read().await?;
    worker.go().await?;
    enqueuer.go().await?;
    let enqueuers = Figures::parse(&enqueuer.line().await?)?;
    let workers = Figures::parse(&worker.line().await?)?;
    let spent = testbed.spent_since(before).await?;
    let kinds = database.statements(&KINDS).await?;
    enqueuer.end().await?;
    worker.end().await?;
    let all = database.number(side.count_all).await?;
    let ended = match side.count_ended {
        Some(sql) => database.number(sql).await?,
        None => i64::try_from(jobs)? - all,
    };
    if ended != i64::try_from(jobs)? || workers.handled < jobs {
        let handled = workers.handled;
        return Err(format!("{ended} jobs ended and {handled} were handled instead of {jobs}").into());
    }
    let spent = Spent { client_cpu: Duration::from_micros(enqueuers.cpu_us + workers.cpu_us), ..spent };
    let times = [("to the reply", &enqueuers), ("to the handler", &workers)];
    Ok((values(&spent, times, &kinds, jobs as f64), workers.handled - jobs))
}

fn values(spent: &Spent, times: [(&str, &Figures); 2], kinds: &[(&'static str, i64)], jobs: f64) -> Vec<Measured> {
    let row = |what: &str, value: f64| (CASE, format!("paced, {what}"), value);
    let mut values = vec![
        row("jobs/s", jobs / spent.time.as_secs_f64()),
        row("server µs/job", spent.server_cpu.as_secs_f64() * 1e6 / jobs),
        row("client µs/job", spent.client_cpu.as_secs_f64() * 1e6 / jobs),
        row("WAL B/job", spent.wal_bytes as f64 / jobs),
    ];
    for (what, Figures { p50_us, p99_us, .. }) in times {
        values.push(row(&format!("ms from the call of enqueue {what}, p50"), *p50_us as f64 / 1e3));
        values.push(row(&format!("ms from the call of enqueue {what}, p99"), *p99_us as f64 / 1e3));
    }
    values.extend(kinds.iter().map(|(kind, calls)| row(&format!("{kind} per 1,000 jobs"), *calls as f64 * 1e3 / jobs)));
    values
}
