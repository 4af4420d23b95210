//! Processes are killed: workers, a backend, the server.

use crate::ledger::now_us;
use crate::scenario::{SECOND, Scenario, TIMEOUT};
use pm_tests::{Seed, eventually};
use std::process::Command;
use std::time::Duration;

/// Formats the shortest and the longest of some durations.
pub(crate) fn range(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return "none".to_owned() };
    format!("{:.1} to {:.1} s", first.as_secs_f64(), last.as_secs_f64())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_workers_cost_a_lease_each_and_no_job() {
    const KILLS: u64 = 100;
    let mut seed = Seed::from_environment();
    let mut scenario = Scenario::with_leases_of(SECOND * 3).await;
    scenario.produce(4, Duration::from_millis(20));
    (0..4).for_each(|_| scenario.work(&[]));
    scenario.under_way().await;
    let mut victims = Vec::new();
    for _ in 0..KILLS {
        let victim = scenario.workers.remove(seed.below(4) as usize);
        let at = now_us();
        victims.push((at, victim.kill()));
        scenario.work(&[]);
        // The next one is killed in the middle of work, too.
        scenario.endings(at, 5).await;
        scenario.go_on(Duration::from_millis(seed.below(150))).await;
    }
    let jobs: usize = victims.iter().map(|(_, jobs)| jobs.len()).sum();
    assert!(jobs > 100, "they were killed in the middle of work: {jobs}");
    let all_ended = async || victims.iter().flat_map(|(_, jobs)| jobs).all(|n| scenario.ended_at_us(*n).is_some());
    eventually("the jobs of the killed workers have ended", TIMEOUT, all_ended).await;
    let wait = |at: u64, n| Some(Duration::from_micros(scenario.ended_at_us(n)?.checked_sub(at)?));
    let waits = victims.iter().flat_map(|(at, jobs)| jobs.iter().filter_map(|n| wait(*at, *n)));
    let recovery = format!("{} ({jobs} jobs leased by the killed workers, lease 3 s)", range(waits.collect()));
    scenario.finish("SIGKILL of 100 worker processes at work", &recovery).await;
}

/// Kills a process that is not a child of this one.
fn kill(pid: &str) {
    assert!(Command::new("kill").args(["-9", pid]).status().expect("the command exists").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_backend_costs_no_job() {
    let mut scenario = Scenario::with_leases_of(SECOND * 30).await;
    scenario.produce(4, Duration::from_millis(10));
    (0..3).for_each(|_| scenario.work(&[]));
    scenario.under_way().await;
    let mut recoveries = Vec::new();
    for _ in 0..3 {
        let backend = scenario.sql("select pid from pg_stat_activity where application_name like 'worker-%' limit 1");
        let at = now_us();
        kill(backend[0][0].as_ref().expect("a pid is never null"));
        recoveries.push(scenario.recovered(at + 100_000).await);
        scenario.go_on(SECOND).await;
    }
    scenario.finish("kill -9 of a backend, 3 times", &range(recoveries)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_costs_no_job() {
    let mut scenario = Scenario::with_leases_of(SECOND * 30).await;
    scenario.produce(4, Duration::from_millis(10));
    (0..3).for_each(|_| scenario.work(&[]));
    scenario.under_way().await;
    let mut recoveries = Vec::new();
    for outage in [Duration::ZERO, SECOND * 2, SECOND * 8] {
        tokio::task::block_in_place(|| {
            scenario.server.kill();
            std::thread::sleep(outage);
            scenario.server.restart().expect("it recovers");
        });
        recoveries.push(scenario.recovered(now_us()).await);
        scenario.go_on(SECOND).await;
    }
    let recovery = format!("{} after it answers again", range(recoveries));
    scenario.finish("kill -9 of the server under load, down for 0, 2 and 8 s", &recovery).await;
}
