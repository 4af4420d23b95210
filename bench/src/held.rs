//! Q9: a drain during which another session holds a snapshot, so that the server cannot remove dead rows and index
//! entries. Each must cost no more than the first.

use crate::contender::{Commits, Contender};
use crate::load::{Progress, Role, now};
use crate::options::Options;
use crate::ours::Ours;
use crate::report::{Measured, Report};
use crate::side::{Side, limited};
use crate::testbed::{Database, Testbed, connect};
use crate::{Error, Result};
use std::time::Duration;
use tokio_postgres::Client;

pub(crate) const CASE: &str = "Q9";
const WORKS: [(Commits, &str); 2] = [(Commits::Awaited(32), "awaited"), (Commits::Detached(32), "detached")];
const JOBS: usize = 300_000;
const QUICK_JOBS: usize = 30_000;
/// The time between two looks at how far the worker is.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How many jobs were done at a time since 1970.
#[derive(Debug, Clone, Copy)]
struct Look {
    jobs: usize,
    at: Duration,
}

/// Measures both ways to commit, each in a new database.
pub(crate) async fn measure(testbed: &Testbed, side: &Side, options: &Options, report: &mut Report) -> Result<()> {
    let jobs = options.jobs.unwrap_or(if options.quick { QUICK_JOBS } else { JOBS });
    for (commits, what) in WORKS {
        let database = testbed.database().await?;
        let outcome = limited(drain(&database, side, commits, jobs)).await;
        database.drop().await?;
        report.add_all(side.name, values(what, jobs, &outcome?));
    }
    Ok(())
}

/// Returns a connection with an open snapshot, which ends with it.
pub(crate) async fn hold_snapshot(url: &str) -> Result<Client> {
    let client = connect(url).await?;
    client.batch_execute("begin isolation level repeatable read; select from pm.job limit 1").await?;
    Ok(client)
}

/// Drains this number of jobs, and checks that they ended; returns how far it was when.
async fn drain(database: &Database<'_>, side: &Side, commits: Commits, jobs: usize) -> Result<Vec<Look>> {
    let ours = <Ours>::open(&database.url).await?;
    ours.enqueue_many(jobs).await?;
    ours.close().await?;
    let mut worker = side.start(&database.url, &Role::Worker(commits).name(), usize::MAX).await?;
    let _holder = hold_snapshot(&database.url).await?;
    let mut looks = vec![Look { jobs: 0, at: now() }];
    worker.go().await?;
    while looks.last().is_none_or(|look| look.jobs < jobs) {
        tokio::time::sleep(LOOK_EVERY).await;
        let progress = Progress::of(&mut worker).await?;
        looks.push(Look { jobs: progress.jobs, at: progress.at });
    }
    // The last jobs are done when their settlements are durable.
    let ended = Progress::end(worker).await?;
    looks.pop();
    looks.push(Look { jobs: ended.jobs, at: ended.at });
    let counted = database.number(side.count_ended.unwrap_or(side.count_all)).await?;
    match counted == i64::try_from(jobs)? && ended.jobs == jobs {
        true => Ok(looks),
        false => Err(Error::from(format!("{counted} jobs ended and {} were handled instead of {jobs}", ended.jobs))),
    }
}

fn values(what: &str, jobs: usize, looks: &[Look]) -> Vec<Measured> {
    let reaching = |jobs: usize| looks.iter().find(|look| look.jobs >= jobs).or(looks.last()).copied();
    let rate = |from: Option<Look>, to: Option<Look>| match (from, to) {
        (Some(from), Some(to)) => (to.jobs - from.jobs) as f64 / to.at.saturating_sub(from.at).as_secs_f64(),
        _ => f64::NAN,
    };
    let first = rate(looks.first().copied(), reaching(jobs / 10));
    let last = rate(reaching(jobs - jobs / 10), looks.last().copied());
    let row = |of: &str, value: f64| (CASE, format!("drain with a held snapshot, {what}, {of}"), value);
    vec![row("first tenth, jobs/s", first), row("last tenth, jobs/s", last), row("last / first tenth", last / first)]
}
