//! A worker process that another kills: it holds jobs without a word, or commits one by one, and says so.

use futures_util::StreamExt;
use futures_util::future::join_all;
use pm_driver_tokio_postgres::{ConnectOptions, JobAck, Queue, State, StreamOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [url, orders @ ..] = &arguments[..] else { panic!("usage: doomed URL hold STARTED PREFETCHED | commit") };
    let options = ConnectOptions::default().application_name("doomed");
    let queue = pm_driver_tokio_postgres::connect_with(url, options).await.expect("the database is there");
    match orders {
        ["hold", started, prefetched] => hold(&queue, number(started), number(prefetched)).await,
        ["commit"] => commit(&queue).await,
        other => panic!("no such orders: {other:?}"),
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("it is a number")
}

/// Takes jobs fast until many are claimed ahead, then holds some, says which, and never says a word again.
async fn hold(queue: &Queue, started: usize, prefetched: usize) {
    let options = StreamOptions::default().prefetch(2_000).worker_name("doomed");
    let mut jobs = queue.try_stream_jobs_with::<u64>("tasks", options);
    let mut next = async || jobs.next().await.expect("the stream goes on").expect("the job is good").into_parts().1;
    loop {
        let mut words = Vec::new();
        for _ in 0..1_000 {
            words.push(next().await.commit());
        }
        assert!(join_all(words).await.iter().all(Result::is_ok));
        let summaries = queue.list_queues().await.expect("they can be listed");
        if summaries[0].count(State::InProgress).jobs >= (prefetched + 2 * started) as u64 {
            break;
        }
    }
    let mut held: Vec<JobAck> = Vec::new();
    while held.len() < started {
        held.push(next().await);
    }
    let ids: Vec<_> = held.iter().map(|ack| ack.id().to_string()).collect();
    println!("holds {}", ids.join(" "));
    std::future::pending::<()>().await;
}

/// Commits jobs one by one and says so after each, until it is killed.
async fn commit(queue: &Queue) {
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    loop {
        let (n, ack) = jobs.next().await.expect("the stream goes on").expect("the job is good").into_parts();
        println!("starts {n}");
        ack.commit().await.expect("the lease is ours");
        println!("committed {n}");
    }
}
