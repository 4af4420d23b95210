//! The server is killed while a stream runs.

use super::Stack;
use crate::TIMEOUT;
use futures_util::StreamExt;
use pm_queue::{ConnectOptions, EnqueueOptions, ErrorKind, Queue, StreamOptions, Uuid};
use pm_sandbox::{Server, ServerOptions};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const BACKLOG: u64 = 400;

/// What a producer and a worker of one process recorded.
#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    stopped: AtomicBool,
    confirmed: Mutex<Vec<Uuid>>,
    commits: Mutex<BTreeMap<Uuid, u32>>,
}

impl Tally {
    fn commits(&self) -> usize {
        self.commits.lock().unwrap().len()
    }
}

async fn produce(queue: Queue, tally: Arc<Tally>) {
    for n in BACKLOG.. {
        match queue.enqueue("tasks", n, EnqueueOptions::default()).await {
            Ok(id) => tally.confirmed.lock().unwrap().push(id),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
        }
        if tally.stop.load(Ordering::Acquire) {
            break;
        }
    }
    tally.stopped.store(true, Ordering::Release);
}

async fn work(queue: Queue, tally: Arc<Tally>) {
    let options = StreamOptions::default().reaper(false).prefetch(50);
    let work = queue.try_stream_jobs_with::<u64>("tasks", options).for_each_concurrent(4, |job| {
        let ack = job.expect("a stream reports no connection failure").into_parts().1;
        let tally = tally.clone();
        async move {
            let id = ack.id();
            ack.commit().await.expect("a lease of 20 min does not expire during the test");
            *tally.commits.lock().unwrap().entry(id).or_default() += 1;
        }
    });
    work.await;
}

/// Kills the server of a stack with SIGKILL under load, and restarts it: the same process commits every job once.
pub fn a_killed_server_costs_no_job_and_ends_no_stream(stack: Stack) {
    stack.run(Box::pin(async move {
        // Confirmed enqueues must survive the crash of the server; not that of the machine.
        let options = ServerOptions::default().setting("synchronous_commit", "on");
        let mut server = Server::start_with(options).expect("a private Postgres starts");
        let url = server.create_database("outage").expect("a database can be created");
        let queue = stack.connect(url, ConnectOptions::default()).await.expect("connecting succeeds");
        queue.create_queue("tasks", false).await.expect("a queue can be created");
        let backlog = (0..BACKLOG).map(|n| (n, EnqueueOptions::default()));
        queue.enqueue_many("tasks", backlog).await.expect("the jobs are enqueued");
        let (runtime, tally) = (stack.runtime(), Arc::new(Tally::default()));
        runtime.spawn(Box::pin(produce(queue.clone(), tally.clone())));
        runtime.spawn(Box::pin(work(queue.clone(), tally.clone())));
        let eventually = async |what: &str, is_so: &dyn Fn() -> bool| {
            let start = Instant::now();
            while !is_so() {
                assert!(start.elapsed() < TIMEOUT * 2, "not within {:?}: {what}", TIMEOUT * 2);
                runtime.sleep(Duration::from_millis(10)).await;
            }
        };

        eventually("the work has begun", &|| tally.commits() > 100).await;
        // Producer and worker go on, on the runtime's threads.
        server.kill();
        std::thread::sleep(Duration::from_millis(300));
        server.restart().expect("it recovers");
        let before = tally.commits();
        eventually("the work goes on", &|| tally.commits() > before + 100).await;
        tally.stop.store(true, Ordering::Release);
        eventually("the producer ends", &|| tally.stopped.load(Ordering::Acquire)).await;

        let number = |sql: &str| {
            let rows = server.execute("outage", sql).expect("the statement is valid");
            rows[0][0].as_ref().map_or(0, |cell| cell.parse::<usize>().expect("a number"))
        };
        eventually("all jobs have finished", &|| number("select count(*) from pm.job where state <> 2") == 0).await;
        let jobs = number("select count(*) from pm.job");
        eventually("all commits have returned", &|| tally.commits() == jobs).await;
        queue.close().await;
        assert_eq!(number("select count(distinct payload) from pm.job"), jobs, "no enqueue went in twice");
        let commits = tally.commits.lock().unwrap();
        assert!(commits.values().all(|times| *times == 1), "each was committed once");
        assert!(
            tally.confirmed.lock().unwrap().iter().all(|id| commits.contains_key(id)),
            "every confirmed enqueue is done"
        );
        assert_eq!(number("select max(retry_count) from pm.job"), 0, "the server's outage costs no job a retry");
    }));
}
