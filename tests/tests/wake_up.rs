//! Workers hear of work in other processes.

use futures_util::StreamExt;
use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, RunAt, StreamOptions};
use pm_tests::{Fixture, eventually};
use std::time::{Duration, Instant};

/// So seldom that a job found before is found by a notification.
fn notified_only() -> StreamOptions {
    let hour = Duration::from_secs(3_600);
    StreamOptions::default().poll(hour, hour).idle_poll(hour)
}

async fn listening(fixture: &Fixture) {
    eventually("the listener hears", Duration::from_secs(10), async || fixture.queue.is_listening()).await;
    // The poll that follows has told the database that this worker sleeps.
    let asleep = "select count(*) from pm.queue where idle_until > now()";
    eventually("the worker sleeps", Duration::from_secs(10), async || fixture.number(asleep) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_is_woken_by_another_process() {
    let fixture = Fixture::new().await;
    let producer = fixture.another(ConnectOptions::default()).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", notified_only());
    let worker = tokio::spawn(async move {
        let mut latencies = Vec::new();
        for _ in 0..20 {
            let (sent_us, ack) = jobs.next().await.unwrap().unwrap().into_parts();
            latencies.push(micros() - sent_us);
            ack.commit().await.unwrap();
        }
        latencies
    });
    listening(&fixture).await;
    for _ in 0..20 {
        producer.enqueue("tasks", micros(), EnqueueOptions::default()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut latencies = tokio::time::timeout(Duration::from_secs(20), worker).await.expect("all are found").unwrap();
    latencies.sort_unstable();
    println!("pick-up from before the enqueue: p50 {} us, max {} us", latencies[10], latencies[19]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_hears_of_a_job_that_is_due_later() {
    let fixture = Fixture::new().await;
    let producer = fixture.another(ConnectOptions::default()).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<()>("tasks", notified_only());
    let worker = tokio::spawn(async move { jobs.next().await.unwrap().unwrap().into_parts().1.commit().await });
    listening(&fixture).await;
    let soon = EnqueueOptions::default().run_at(RunAt::In(Duration::from_millis(300)));
    producer.enqueue("tasks", (), soon).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), worker).await.expect("it is found").unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_listener_comes_back() {
    let fixture = Fixture::new().await;
    let producer = fixture.another(ConnectOptions::default()).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<()>("tasks", StreamOptions::default());
    let worker = tokio::spawn(async move {
        for _ in 0..2 {
            jobs.next().await.unwrap().unwrap().into_parts().1.commit().await.unwrap();
        }
    });
    listening(&fixture).await;
    producer.enqueue("tasks", (), EnqueueOptions::default()).await.unwrap();
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
               where query like '%listen%' and query not like '%pg_stat%' and datname = current_database()";
    assert_eq!(fixture.number(cut), 1);
    eventually("the loss is seen", Duration::from_secs(10), async || !fixture.queue.is_listening()).await;
    eventually("the listener is back", Duration::from_secs(10), async || fixture.queue.is_listening()).await;
    producer.enqueue("tasks", (), EnqueueOptions::default()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), worker).await.expect("both are found").unwrap();
}

/// Returns microseconds since some moment before all tests.
fn micros() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_micros() as u64
}

/// Returns how soon each connection to `port` on this machine will be probed, as the kernel tells.
#[cfg(target_os = "linux")]
fn probes(port: u16) -> Vec<Option<Duration>> {
    const PROBE: &str = "02";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let of_ours = format!("0100007F:{port:04X}");
    let probe = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (timer, left) = words[5].split_once(':')?;
        // In hundredths of a second, whatever the kernel's own tick.
        let left = u64::from_str_radix(left, 16).unwrap();
        (timer == PROBE).then(|| Duration::from_millis(10 * left))
    };
    table.lines().filter(|line| line.split_whitespace().nth(2) == Some(&of_ours)).map(probe).collect()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_notices_that_its_server_is_gone_without_a_word() {
    let fixture = Fixture::new().await;
    let proxy = pm_tests::Proxy::before(&fixture.database.url()).await;
    let port = proxy.url().rsplit([':', '/']).nth(1).unwrap().parse().unwrap();
    let queue = pm_driver_tokio_postgres::connect(proxy.url()).await.unwrap();
    let _jobs = queue.try_stream_jobs::<u64>("tasks");
    eventually("it hears", Duration::from_secs(10), async || queue.is_listening()).await;
    // What was just sent is awaited first, by another timer.
    eventually("every connection is to be probed within 30 s", Duration::from_secs(10), async || {
        let probes = probes(port);
        probes.len() >= 2 && probes.iter().all(|probe| probe.is_some_and(|left| left <= Duration::from_secs(30)))
    })
    .await;
    // Others say themselves how long.
    let later = format!("{}&keepalives_idle=300", proxy.url());
    let queue = pm_driver_tokio_postgres::connect(&later).await.unwrap();
    eventually("one is probed later", Duration::from_secs(10), async || {
        probes(port).iter().flatten().any(|left| *left > Duration::from_secs(200))
    })
    .await;
    queue.close().await;
}
