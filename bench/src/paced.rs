//! Q15: what jobs cost when they come at a steady rate, far below what is possible, so that batches are small.
//!
//! One process enqueues, another handles the jobs, and each handler waits for its commit.

use crate::Result;
use crate::contender::Commits;
use crate::load::{Progress, Role};
use crate::options::Options;
use crate::report::{Measured, Report};
use crate::side::{Side, limited};
use crate::testbed::{Database, Spent, Testbed};

pub(crate) const CASE: &str = "Q15";
/// The jobs enqueued in a second.
pub(crate) const RATE: usize = 3_000;
pub(crate) const COMMITS: Commits = Commits::Awaited(8);
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
    let mut enqueuer = side.start(&database.url, &Role::Enqueuer { rate: RATE }.name(), jobs).await?;
    let mut worker = side.start(&database.url, &Role::Worker(COMMITS).name(), jobs).await?;
    testbed.reset_statements().await?;
    let before = testbed.read().await?;
    worker.go().await?;
    enqueuer.go().await?;
    let enqueued = Progress::parse(&enqueuer.line().await?)?;
    let handled = Progress::parse(&worker.line().await?)?;
    let spent = testbed.spent_since(before).await?;
    let kinds = database.statements(&KINDS).await?;
    enqueuer.end().await?;
    worker.end().await?;
    let all = database.number(side.count_all).await?;
    let ended = match side.count_ended {
        Some(sql) => database.number(sql).await?,
        None => i64::try_from(jobs)? - all,
    };
    if ended != i64::try_from(jobs)? || handled.jobs < jobs {
        return Err(format!("{ended} jobs ended and {} were handled instead of {jobs}", handled.jobs).into());
    }
    let spent = Spent { client_cpu: enqueued.cpu + handled.cpu, ..spent };
    let times = [("to the reply", &enqueued), ("to the handler", &handled)];
    Ok((values(&spent, times, &kinds, jobs as f64), handled.jobs - jobs))
}

fn values(spent: &Spent, times: [(&str, &Progress); 2], kinds: &[(&'static str, i64)], jobs: f64) -> Vec<Measured> {
    let row = |what: &str, value: f64| (CASE, format!("paced, {what}"), value);
    let mut values = vec![
        row("jobs/s", jobs / spent.time.as_secs_f64()),
        row("server µs/job", spent.server_cpu.as_secs_f64() * 1e6 / jobs),
        row("client µs/job", spent.client_cpu.as_secs_f64() * 1e6 / jobs),
        row("WAL B/job", spent.wal_bytes as f64 / jobs),
    ];
    for (what, Progress { p50_us, p99_us, .. }) in times {
        values.push(row(&format!("ms from the call of enqueue {what}, p50"), *p50_us as f64 / 1e3));
        values.push(row(&format!("ms from the call of enqueue {what}, p99"), *p99_us as f64 / 1e3));
    }
    values.extend(kinds.iter().map(|(kind, calls)| row(&format!("{kind} per 1,000 jobs"), *calls as f64 * 1e3 / jobs)));
    values
}
