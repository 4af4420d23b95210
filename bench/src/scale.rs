//! Q11: several worker processes on one queue.

use crate::contender::{Commits, Contender};
use crate::load::{Progress, Role, now};
use crate::options::Options;
use crate::ours::Ours;
use crate::report::Report;
use crate::side::{Running, Side, limited};
use crate::testbed::{Checkpoints, Database, Spent, Statements, Testbed};
use crate::{Error, Result};
use futures_util::future::try_join_all;
use std::time::Duration;

pub(crate) const CASE: &str = "Q11";
/// The numbers of processes, with their names in the table.
const PROCESSES: [(usize, &str); 3] = [(1, "1 process"), (2, "2 processes"), (4, "4 processes")];
const WORKS: [(Commits, &str); 2] = [(Commits::Awaited(32), "awaited"), (Commits::Detached(32), "detached")];
const JOBS: usize = 200_000;
const QUICK_JOBS: usize = 20_000;
/// The time between two looks at how far the processes are.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a drain took, and how many jobs each process had.
struct Drained {
    spent: Spent,
    shares: Vec<usize>,
}

/// Measures the numbers of processes in turn in each round, and prints a table with ratios to one process.
pub(crate) async fn measure(options: &Options) -> Result<()> {
    let testbed = Testbed::start(Statements::Uncounted, Checkpoints::Between).await?;
    let side = Side::of::<Ours>()?;
    let jobs = options.jobs.unwrap_or(if options.quick { QUICK_JOBS } else { JOBS });
    let mut report = Report::against(PROCESSES[0].1);
    for (_, name) in PROCESSES {
        report.add_version(name, "of this build".to_owned());
    }
    let mut order = PROCESSES;
    for round in 1..=options.rounds {
        report.begin_round(round);
        for (commits, what) in WORKS {
            for (processes, name) in order {
                eprintln!("round {round} of {}: {name}, {what}", options.rounds);
                let database = testbed.database().await?;
                let outcome = limited(drain(&testbed, &database, &side, (processes, commits), jobs)).await;
                database.drop().await?;
                add(&mut report, name, what, jobs, &outcome.map_err(|error| format!("{name}, {what}: {error}"))?);
            }
        }
        order.reverse();
    }
    report.finish(options, &testbed).await
}

async fn drain(
    testbed: &Testbed,
    database: &Database<'_>,
    side: &Side,
    (processes, commits): (usize, Commits),
    jobs: usize,
) -> Result<Drained> {
    let ours = <Ours>::open(&database.url).await?;
    ours.enqueue_many(jobs).await?;
    ours.close().await?;
    let role = Role::Worker(commits).name();
    let mut workers: Vec<Running> = Vec::new();
    for _ in 0..processes {
        workers.push(side.start(&database.url, &role, usize::MAX).await?);
    }
    let (before, begun) = (testbed.read().await?, now());
    try_join_all(workers.iter_mut().map(Running::go)).await?;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let handled = try_join_all(workers.iter_mut().map(Progress::of)).await?;
        if handled.iter().map(|progress| progress.jobs).sum::<usize>() >= jobs {
            break;
        }
    }
    let ended = try_join_all(workers.into_iter().map(Progress::end)).await?;
    let spent = testbed.spent_since(before).await?;
    let durable = ended.iter().map(|progress| progress.at).max().unwrap_or_default();
    let client_cpu = ended.iter().map(|progress| progress.cpu).sum();
    let shares: Vec<usize> = ended.iter().map(|progress| progress.jobs).collect();
    let counted = database.number(side.count_ended.unwrap_or(side.count_all)).await?;
    if counted != i64::try_from(jobs)? || shares.iter().sum::<usize>() != jobs {
        return Err(Error::from(format!("{counted} jobs ended and {shares:?} were handled instead of {jobs}")));
    }
    Ok(Drained { spent: Spent { time: durable.saturating_sub(begun), client_cpu, ..spent }, shares })
}

fn add(report: &mut Report, name: &'static str, what: &str, jobs: usize, drained: &Drained) {
    let Drained { spent, shares } = drained;
    let us_per_job = |cpu: Duration| cpu.as_secs_f64() * 1e6 / jobs as f64;
    let mut row = |unit: &str, value: f64| report.add(CASE, format!("drain, {what}, {unit}"), name, value);
    row("jobs/s", jobs as f64 / spent.time.as_secs_f64());
    row("server µs/job", us_per_job(spent.server_cpu));
    row("client µs/job", us_per_job(spent.client_cpu));
    if shares.len() > 1 {
        let even = jobs as f64 / shares.len() as f64;
        let least = shares.iter().min().copied().unwrap_or_default();
        row("least share of a process, % of an even share", least as f64 * 100.0 / even);
    }
}
