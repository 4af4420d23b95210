//! A worker process that a test kills: it keeps jobs without settling them, or commits them one by one, and prints
//! which.

use futures_util::StreamExt;
use futures_util::future::join_all;
use pm_driver_tokio_postgres::{ConnectOptions, JobAck, Queue, State, StreamOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [url, command @ ..] = &arguments[..] else { panic!("usage: victim URL hold STARTED PREFETCHED | commit") };
    let options = ConnectOptions::default().application_name("victim");
    let queue = pm_driver_tokio_postgres::connect_with(url, options).await.expect("connecting succeeds");
    match command {
        ["hold", started, prefetched] => hold(&queue, number(started), number(prefetched)).await,
        ["commit"] => commit(&queue).await,
        other => panic!("no such command: {other:?}"),
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("it is a number")
}

/// Commits jobs fast until many are claimed ahead, then keeps some, prints their ids, and does nothing more.
async fn hold(queue: &Queue, started: usize, prefetched: usize) {
    let options = StreamOptions::default().prefetch(2_000).worker_name("victim");
    let mut jobs = queue.try_stream_jobs_with::<u64>("tasks", options);
    let mut next = async || jobs.next().await.expect("the stream goes on").expect("the job is readable").into_parts().1;
    loop {
        let mut settlements = Vec::new();
        for _ in 0..1_000 {
            settlements.push(next().await.commit());
        }
        assert!(join_all(settlements).await.iter().all(Result::is_ok));
        let summaries = queue.list_queues().await.expect("listing succeeds");
        if summaries[0].count(State::InProgress).jobs >= (prefetched + 2 * started) as u64 {
            break;
        }
    }
    let mut acks: Vec<JobAck> = Vec::new();
    while acks.len() < started {
        acks.push(next().await);
    }
    let ids: Vec<_> = acks.iter().map(|ack| ack.id().to_string()).collect();
    println!("holds {}", ids.join(" "));
    std::future::pending::<()>().await;
}

/// Commits jobs one by one and prints each, until it is killed.
async fn commit(queue: &Queue) {
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    loop {
        let (n, ack) = jobs.next().await.expect("the stream goes on").expect("the job is readable").into_parts();
        println!("starts {n}");
        ack.commit().await.expect("the lease is valid");
        println!("committed {n}");
    }
}
