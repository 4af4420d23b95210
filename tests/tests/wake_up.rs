//! Workers are notified of jobs from other processes.

use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use pm_driver_tokio_postgres::{
    ConnectOptions, EnqueueOptions, Error, InTransaction, RunAt, StreamOptions, connect_with,
};
use pm_tests::{Direct, Fixture, Proxy, eventually, next, take};
use std::time::{Duration, Instant};

/// Polls so rarely that a job found earlier was found through a notification.
fn notified_only() -> StreamOptions {
    let hour = Duration::from_secs(3_600);
    StreamOptions::default().poll(hour, hour).idle_poll(hour)
}

async fn listening(fixture: &Fixture) {
    eventually("the listener is connected", Duration::from_secs(10), async || fixture.queue.is_listening()).await;
    // The poll that follows has recorded in the database that this worker is idle.
    let idle = "select count(*) from pm.queue where idle_until > now()";
    eventually("the worker is idle", Duration::from_secs(10), async || fixture.number(idle) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_is_notified_by_another_process() {
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
    let mut latencies =
        tokio::time::timeout(Duration::from_secs(20), worker).await.expect("all jobs are found").unwrap();
    latencies.sort_unstable();
    println!("pick-up from before the enqueue: p50 {} us, max {} us", latencies[10], latencies[19]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_is_notified_of_a_job_that_is_due_later() {
    let fixture = Fixture::new().await;
    let producer = fixture.another(ConnectOptions::default()).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<()>("tasks", notified_only());
    let worker = tokio::spawn(async move { jobs.next().await.unwrap().unwrap().into_parts().1.commit().await });
    listening(&fixture).await;
    let soon = EnqueueOptions::default().run_at(RunAt::In(Duration::from_millis(300)));
    producer.enqueue("tasks", (), soon).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), worker).await.expect("the job is found").unwrap().unwrap();
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
    eventually("the loss is detected", Duration::from_secs(10), async || !fixture.queue.is_listening()).await;
    eventually("the listener is back", Duration::from_secs(10), async || fixture.queue.is_listening()).await;
    producer.enqueue("tasks", (), EnqueueOptions::default()).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), worker).await.expect("both jobs are found").unwrap();
}

/// Returns the microseconds since the first call.
fn micros() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_micros() as u64
}

/// Returns how soon the kernel will probe each connection to `port` on this machine.
#[cfg(target_os = "linux")]
fn probes(port: u16) -> Vec<Option<Duration>> {
    const PROBE: &str = "02";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let of_ours = format!("0100007F:{port:04X}");
    let probe = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (timer, left) = fields[5].split_once(':')?;
        // In hundredths of a second, whatever the kernel's tick.
        let left = u64::from_str_radix(left, 16).unwrap();
        (timer == PROBE).then(|| Duration::from_millis(10 * left))
    };
    table.lines().filter(|line| line.split_whitespace().nth(2) == Some(&of_ours)).map(probe).collect()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_detects_that_its_server_has_silently_gone() {
    let fixture = Fixture::new().await;
    let proxy = Proxy::before(&fixture.database.url()).await;
    let port = proxy.url().rsplit([':', '/']).nth(1).unwrap().parse().unwrap();
    let queue = pm_driver_tokio_postgres::connect(proxy.url()).await.unwrap();
    let _jobs = queue.try_stream_jobs::<u64>("tasks");
    eventually("the listener is connected", Duration::from_secs(10), async || queue.is_listening()).await;
    // For data just sent, another timer runs first.
    eventually("every connection is to be probed within 30 s", Duration::from_secs(10), async || {
        let probes = probes(port);
        probes.len() >= 2 && probes.iter().all(|probe| probe.is_some_and(|left| left <= Duration::from_secs(30)))
    })
    .await;
    // The URL can set another time.
    let later_url = format!("{}&keepalives_idle=300", proxy.url());
    let queue = pm_driver_tokio_postgres::connect(&later_url).await.unwrap();
    eventually("one is probed later", Duration::from_secs(10), async || {
        probes(port).iter().flatten().any(|left| *left > Duration::from_secs(200))
    })
    .await;
    queue.close().await;
}

/// A line is notified at most once in 5 ms, and the last enqueue is notified too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_are_coalesced_and_the_last_enqueue_is_found() {
    const JOBS: u64 = 2_000;
    let fixture = Fixture::new().await;
    let proxy = Proxy::before(&fixture.database.url()).await;
    let producer = connect_with(proxy.url(), ConnectOptions::default()).await.unwrap();
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", notified_only());
    assert!(jobs.next().now_or_never().is_none());
    let idle = "select count(*) from pm.queue where idle_until > now()";
    eventually("the worker is idle", Duration::from_secs(10), async || fixture.number(idle) == 1).await;

    let start = Instant::now();
    let produce = async {
        for outcome in join_all((0..16).map(|task| {
            let producer = producer.clone();
            async move {
                for n in 0..JOBS / 16 {
                    producer.enqueue("tasks", task * JOBS + n, EnqueueOptions::default()).await?;
                }
                Ok::<_, Error>(())
            }
        }))
        .await
        {
            outcome.unwrap();
        }
        start.elapsed()
    };
    let (took, taken) = tokio::join!(produce, take(&mut jobs, JOBS as usize));
    assert_eq!(taken.len(), JOBS as usize, "all are found, the last included");
    let notifications = proxy.executions("pg_notify") as u128;
    println!("{notifications} notifications in {took:?}");
    assert!((1..=took.as_millis() / 5 + 2).contains(&notifications), "{notifications} in {took:?}");
}

#[tokio::test]
async fn all_lines_that_a_transaction_fills_are_notified() {
    let fixture = Fixture::new().await;
    let other = fixture.another(ConnectOptions::default()).await;
    let mut jobs = other.try_stream_jobs_with::<u64>("tasks", notified_only());
    assert!(jobs.next().now_or_never().is_none());
    eventually("its listener is connected", Duration::from_secs(10), async || other.is_listening()).await;
    let idle = "select count(*) from pm.queue where idle_until > now()";
    eventually("the worker is idle", Duration::from_secs(10), async || fixture.number(idle) == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;

    let mut direct = Direct::to(&fixture.database.url()).await;
    let transaction = direct.client.transaction().await.unwrap();
    let batch = [3i32, 2, 1].map(|n| (u64::from(n.unsigned_abs()), EnqueueOptions::default().priority(n)));
    fixture.queue.enqueue_many_in(&InTransaction(&transaction), "tasks", batch).await.unwrap();
    transaction.commit().await.unwrap();
    for expected in [3, 2, 1] {
        let (payload, ack) = next(&mut jobs).await.into_parts();
        assert_eq!(payload, expected);
        ack.commit().await.unwrap();
    }
}
