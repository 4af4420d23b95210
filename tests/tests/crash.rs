//! A worker process is killed: its jobs run on another worker when their leases expire, and none is lost.
//!
//! The worker process is `tests/src/bin/victim.rs`.

use futures_util::StreamExt;
use pm_driver_tokio_postgres::{Ending, SettingsChange, State, Uuid};
use pm_tests::{Fixture, Seed, TIMEOUT, eventually, within};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

const PREFETCHED: i64 = 500;
const STARTED: usize = 20;
/// Unstarted jobs are released after a quarter of it: the worker is killed before.
const LEASE: Duration = Duration::from_secs(8);

/// A worker process and the lines it prints.
struct Process {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts a worker with a command.
    fn start(command: &[&str], url: &str) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_victim"))
            .arg(url)
            .args(command)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the worker starts");
        let lines = BufReader::new(child.stdout.take().expect("it was piped")).lines();
        Process { child, lines }
    }

    /// Returns the rest of the next line that starts with `prefix`.
    fn next_line(&mut self, prefix: &str) -> Option<String> {
        self.lines.by_ref().find_map(|line| Some(line.expect("a pipe can be read").strip_prefix(prefix)?.to_owned()))
    }

    /// Kills it with SIGKILL and returns when it is gone.
    fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it was our child");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_a_killed_worker_run_on_another_after_their_lease_at_the_cost_of_one_retry() {
    const JOBS: u64 = 30_000;
    let fixture = Fixture::with(SettingsChange::new().lease(LEASE).backoff(vec![Duration::ZERO])).await;
    fixture.put_many(JOBS).await;
    let mut worker = Process::start(&["hold", &STARTED.to_string(), &PREFETCHED.to_string()], &fixture.database.url());
    let (started, mut worker) = tokio::task::spawn_blocking(move || {
        let ids = worker.next_line("holds ");
        worker.kill();
        (ids.expect("it prints the jobs it holds"), worker)
    })
    .await
    .unwrap();
    let started: BTreeSet<Uuid> = started.split(' ').map(|id| id.parse().unwrap()).collect();
    assert_eq!(worker.next_line(""), None, "it is dead");
    let backends = "select count(*) from pg_stat_activity where application_name = 'victim'";
    eventually("its last statement is over", TIMEOUT, async || fixture.number(backends) == 0).await;
    fixture.database.execute("create table orphan as select id, lease_expires_at from pm.job where state = 1").unwrap();
    let orphans = "select id from orphan";
    let orphans: BTreeSet<Uuid> = fixture.column(orphans).iter().map(|id| id.parse().unwrap()).collect();
    let unstarted = orphans.len() - started.len();
    assert!(started.is_subset(&orphans) && unstarted as i64 >= PREFETCHED, "{unstarted} unstarted");
    println!("killed with {unstarted} unstarted and {} started jobs", started.len());

    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let mut handed: BTreeMap<Uuid, u32> = BTreeMap::new();
    let mut idle = 0;
    while idle < 40 {
        match tokio::time::timeout(Duration::from_millis(500), jobs.next()).await {
            Ok(job) => {
                let ack = job.unwrap().unwrap().into_parts().1;
                *handed.entry(ack.id()).or_default() += 1;
                ack.commit().detach();
            }
            Err(_) if fixture.number("select count(*) from pm.job where state < 2") == 0 => break,
            Err(_) => idle += 1,
        }
    }
    assert_eq!(fixture.jobs_in(State::Finished), JOBS as i64, "none is lost");
    assert!(handed.values().all(|times| *times == 1), "each was handed out once");
    assert!(orphans.iter().all(|id| handed.contains_key(id)), "all jobs of the killed worker ran");
    for id in &started {
        let attempts = fixture.queue.attempts(*id).await.unwrap();
        assert_eq!((fixture.job(*id).await.retry_count, attempts.len()), (1, 1));
        assert_eq!((attempts[0].ending, attempts[0].worker.as_deref()), (Ending::Reap, Some("victim")));
    }
    assert_eq!(
        fixture.number("select max(retry_count) from pm.job"),
        1,
        "unstarted jobs lose one retry, like started ones"
    );
    let retried = "select count(*) from pm.job where retry_count = 1";
    assert_eq!(fixture.number(retried) as usize, orphans.len(), "and no other job does");
    let early = "select count(*) from orphan join pm.attempt on job_id = id where ended_at < lease_expires_at";
    assert_eq!(fixture.number(early), 0, "not before the leases expired");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_confirmed_to_a_killed_worker_are_durable_and_the_rest_runs_again() {
    const JOBS: u64 = 3_000;
    let mut seed = Seed::from_environment();
    let lease = SettingsChange::new().lease(Duration::from_secs(2)).backoff(vec![Duration::ZERO]);
    let fixture = Fixture::with(lease.max_retries(20)).await;
    fixture.put_many(JOBS).await;
    let mut committed = BTreeSet::new();
    let mut starts: BTreeMap<u64, u32> = BTreeMap::new();
    for _ in 0..4 {
        let mut worker = Process::start(&["commit"], &fixture.database.url());
        let before_the_end = 1 + seed.below(300);
        let lines = tokio::task::spawn_blocking(move || {
            let mut lines: Vec<String> = (0..before_the_end).filter_map(|_| worker.next_line("")).collect();
            worker.kill();
            // Lines printed before the kill are still in the pipe.
            lines.extend(std::iter::from_fn(|| worker.next_line("")));
            lines
        });
        for line in lines.await.unwrap() {
            if let Some(n) = line.strip_prefix("starts ") {
                *starts.entry(n.parse().unwrap()).or_default() += 1;
            } else if let Some(n) = line.strip_prefix("committed ").and_then(|n| n.parse().ok()) {
                assert!(committed.insert(n), "job {n} was committed twice");
            }
        }
    }
    assert!(!committed.is_empty());
    for n in &committed {
        assert_eq!(starts[n], 1, "job {n} started again after its commit was confirmed");
    }
    let finished = format!(
        "select count(*) from pm.job where state = 2 and convert_from(payload, 'UTF8')::int8 = any('{:?}')",
        committed
    );
    assert_eq!(fixture.number(&finished) as usize, committed.len(), "confirmed commits are durable");

    let mut rest = fixture.queue.try_stream_jobs::<u64>("tasks");
    let drained = async || {
        while let Ok(Some(job)) = tokio::time::timeout(Duration::from_millis(200), rest.next()).await {
            let (n, ack) = job.unwrap().into_parts();
            assert!(!committed.contains(&n));
            ack.commit().detach();
        }
        fixture.jobs_in(State::Finished) == JOBS as i64
    };
    eventually("all have finished", TIMEOUT * 2, drained).await;
    within("the end", fixture.queue.close()).await;
}
