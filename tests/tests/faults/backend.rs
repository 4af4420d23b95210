//! A process of the server dies of SIGKILL: all its others are ended too, and the server recovers.

use futures_util::StreamExt;
use pm_driver_tokio_postgres::{EnqueueOptions, connect};
use pm_sandbox::{Server, ServerOptions};
use pm_tests::{PATIENCE, eventually, within};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const JOBS: u64 = 2_000;

fn number(server: &Server, sql: &str) -> Option<i64> {
    // While it recovers it takes nobody in.
    let rows = server.execute("faults", sql).ok()?;
    rows.first()?.first()?.as_ref()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_backend_costs_no_job_and_ends_no_stream() {
    let server = Server::start_with(ServerOptions::default().durable(true)).expect("a private Postgres starts");
    let queue = connect(&server.create_database("faults").unwrap()).await.unwrap();
    queue.create_queue("tasks", false).await.unwrap();
    queue.enqueue_many("tasks", (0..JOBS).map(|n| (n, EnqueueOptions::default()))).await.unwrap();
    let done = Arc::new(AtomicI64::new(0));
    let (jobs, counted) = (queue.try_stream_jobs::<u64>("tasks"), done.clone());
    let work = tokio::spawn(jobs.for_each(move |job| {
        let (ack, counted) =
            (job.expect("a stream shows no trouble of the connection").into_parts().1, counted.clone());
        async move {
            ack.commit().await.expect("no lease of 20 min ended meanwhile");
            counted.fetch_add(1, Ordering::Relaxed);
        }
    }));
    for kill_at in [JOBS / 10, JOBS / 2] {
        let busy = async || done.load(Ordering::Relaxed) >= kill_at as i64;
        eventually("the work has begun", PATIENCE, busy).await;
        let ours = "select min(pid) from pg_stat_activity where application_name = 'pm'";
        let pid = number(&server, ours).expect("a worker is connected");
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
        eventually("it is dead", PATIENCE, async || number(&server, ours) != Some(pid)).await;
    }
    let all = async || number(&server, "select count(*) from pm.job where state = 2") == Some(JOBS as i64);
    eventually("every job is done", PATIENCE * 3, all).await;
    assert!(!work.is_finished(), "the stream goes on");
    within("the end", queue.close()).await;
    within("the end of the stream", work).await.unwrap();
    assert_eq!(done.load(Ordering::Relaxed), JOBS as i64, "each was committed here, once");
}
