//! P5: how fast an idle worker gets a job that another process enqueues.

use crate::contender::{Commits, Contender, watch};
use crate::report::Report;
use crate::side::{Side, limited, print_line, wait_for_go};
use crate::testbed::{Database, Testbed};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time between two jobs, so that the worker is idle again. Not a multiple of any of its timers.
const GAP: Duration = Duration::from_millis(47);

/// What a process does for the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Enqueuer,
    Worker,
}

impl Role {
    /// The name of the role, as the name of a piece of work.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Role::Enqueuer => "pick-up, enqueuer",
            Role::Worker => "pick-up, worker",
        }
    }

    /// Returns the role of this name.
    pub(crate) fn named(name: &str) -> Option<Role> {
        [Role::Enqueuer, Role::Worker].into_iter().find(|role| role.name() == name)
    }
}

/// Is one of the two processes. The enqueuer prints for each job its number and the times before and after the call;
/// the worker prints the number and the time at which the handler began, until it is killed.
pub(crate) async fn serve<C: Contender>(url: &str, role: Role, jobs: usize) -> Result<()> {
    let contender = C::open(url).await?;
    wait_for_go().await?;
    if role == Role::Worker {
        watch(|number| println!("{number} {}", now_ns()));
        return contender.drain(usize::MAX, Commits::Awaited(1)).await;
    }
    for number in 0..=jobs {
        tokio::time::sleep(GAP).await;
        let called = now_ns();
        contender.enqueue(number).await?;
        print_line(&format!("{number} {called} {}", now_ns())).await?;
    }
    contender.close().await
}

/// Measures this number of jobs on one side.
pub(crate) async fn measure(testbed: &Testbed, side: &Side, jobs: usize, report: &mut Report) -> Result<()> {
    let database = testbed.database().await?;
    let outcome = limited(measure_in(&database, side, jobs)).await;
    database.drop().await?;
    for (what, mut values) in outcome? {
        values.sort_by(f64::total_cmp);
        for percent in [50, 99] {
            let value = values[values.len() * percent / 100];
            report.add("P5", format!("pick-up, ms {what}, p{percent}"), side.name, value);
        }
    }
    Ok(())
}

async fn measure_in(database: &Database<'_>, side: &Side, jobs: usize) -> Result<[(&'static str, Vec<f64>); 2]> {
    // One after the other: the first sets up the queue.
    let mut enqueuer = side.start(&database.url, Role::Enqueuer.name(), jobs).await?;
    let mut worker = side.start(&database.url, Role::Worker.name(), jobs).await?;
    worker.go().await?;
    enqueuer.go().await?;
    let enqueues = async {
        let mut times = BTreeMap::new();
        while times.len() <= jobs {
            let [number, called, committed] = numbers(&enqueuer.line().await?)?;
            times.insert(number, (called, committed));
        }
        enqueuer.end().await?;
        Ok::<_, Error>(times)
    };
    let pickups = async {
        let mut times = BTreeMap::new();
        while times.len() <= jobs {
            let [number, taken] = numbers(&worker.line().await?)?;
            times.entry(number).or_insert(taken);
        }
        Ok::<_, Error>(times)
    };
    let (enqueued, taken) = futures_util::future::try_join(enqueues, pickups).await?;
    let (mut from_call, mut from_commit) = (Vec::new(), Vec::new());
    // The first job waits for the worker to start and is not measured.
    for (number, (called, committed)) in enqueued.into_iter().skip(1) {
        let taken = *taken.get(&number).ok_or_else(|| format!("the worker did not get job {number}"))?;
        from_call.push(taken.saturating_sub(called) as f64 / 1e6);
        from_commit.push(taken.saturating_sub(committed) as f64 / 1e6);
    }
    Ok([("from the reply to enqueue", from_commit), ("from the call of enqueue", from_call)])
}

fn numbers<const N: usize>(line: &str) -> Result<[u128; N]> {
    let numbers = line.split_whitespace().map(str::parse).collect::<Result<Vec<u128>, _>>()?;
    numbers.try_into().map_err(|_| format!("an unexpected line {line:?}").into())
}

fn now_ns() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos())
}
