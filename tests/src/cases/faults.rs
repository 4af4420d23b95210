//! Failures: lost connections, closing, locks.

use super::Harness;
use crate::unattended;
use pm_queue::{ConnectOptions, EnqueueOptions, ErrorKind, JobFilter, State};
use std::time::Duration;

/// Terminates all connections to the database but its own, and counts them.
const END_THE_OTHERS: &str = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                        where datname = current_database() and pid <> pg_backend_pid()";

pub(super) async fn close_releases_unstarted_jobs(harness: Harness) {
    harness.put_many(20).await;
    let queue = harness.another(ConnectOptions::default()).await;
    let mut jobs = queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let (_, ack) = harness.take(&mut jobs).await;
    ack.commit().detach();
    drop(jobs);
    harness.within("the end", queue.close()).await;
    assert_eq!(queue.list_jobs(JobFilter::default()).await.unwrap_err().kind(), ErrorKind::Closed);
    let refused = queue.enqueue("tasks", 1u64, EnqueueOptions::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    let queues = harness.queue.list_queues().await.unwrap();
    let jobs = |state| queues[0].count(state).jobs;
    assert_eq!((jobs(State::Finished), jobs(State::Pending)), (1, 19));
    assert!(harness.jobs().await.iter().all(|job| job.retry_count == 0));
}

pub(super) async fn all_backends_are_killed_and_every_job_is_done(harness: Harness) {
    const JOBS: u64 = 400;
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended().prefetch(50));
    let mut done = 0;
    let mut put = 0;
    while done < JOBS {
        if put < JOBS {
            harness.put_many(40).await;
            put += 40;
        }
        for _ in 0..20 {
            harness.take(&mut jobs).await.1.commit().await.unwrap();
            done += 1;
        }
        if done % 100 == 0 {
            assert!(harness.number(END_THE_OTHERS) > 0);
        }
    }
    let finished = harness.number("select count(*) from pm.job where state = 2");
    assert_eq!((finished, harness.number("select count(*) from pm.job")), (JOBS as i64, JOBS as i64));
}

pub(super) async fn a_lost_listener_comes_back(harness: Harness) {
    let _jobs = harness.queue.try_stream_jobs::<u64>("tasks");
    harness.eventually("the listener is connected", async || harness.queue.is_listening()).await;
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
               where query ilike '%listen \"%' and pid <> pg_backend_pid() and datname = current_database()";
    assert_eq!(harness.number(cut), 1);
    harness.eventually("the loss is detected", async || !harness.queue.is_listening()).await;
    harness.eventually("the listener is back", async || harness.queue.is_listening()).await;
}

pub(super) async fn connection_failures_have_their_kind(harness: Harness) {
    let quick = || ConnectOptions::default().connect_timeout(Duration::from_millis(300));
    let kind = async |url: &str, options| harness.connect(url, options).await.map(drop).unwrap_err().kind();
    assert_eq!(kind("not a URL", quick()).await, ErrorKind::Invalid);
    assert_eq!(kind("postgres://postgres@127.0.0.1:1/nowhere", quick()).await, ErrorKind::Unavailable);
    let unreachable =
        harness.connect("postgres://postgres:secret@127.0.0.1:1/x", quick()).await.unwrap_err().to_string();
    assert!(unreachable.contains("127.0.0.1:1") && !unreachable.contains("secret"), "{unreachable}");
    let url = harness.url();
    let missing = quick().schema("missing").migrate(false);
    assert_eq!(kind(&url, missing).await, ErrorKind::Schema);
    assert_eq!(kind(&url, quick().schema("")).await, ErrorKind::Invalid);
}

pub(super) async fn a_lock_timeout_is_reported(harness: Harness) {
    if harness.is_pooled() {
        // Behind a pooler the timeout is the server's, and connections read it when they are opened.
        let set = "do $$ begin execute format('alter database %I set lock_timeout = 100', current_database()); end $$";
        assert_eq!(harness.number(&format!("{set}; select 1")), 1);
        assert!(harness.number(END_THE_OTHERS) > 0);
        let answers = async || harness.queue.queue_settings("tasks").await.is_ok();
        harness.eventually("the pooler has noticed that its connections are closed", answers).await;
    }
    // The enqueue locks its queue until its transaction ends. The server cancels the rename; the connection survives.
    let options = ConnectOptions::default().lock_timeout(Duration::from_millis(100)).connections(1);
    let queue = harness.another(options).await;
    let mut transaction = harness.begin().await;
    queue.enqueue_in(&*transaction.inside(), "tasks", 1u64, EnqueueOptions::default()).await.unwrap();
    let refused = queue.rename_queue("tasks", "chores").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Database, "{refused}");
    assert!(refused.to_string().contains("55P03"), "{refused}");
    transaction.end(true).await;
    queue.rename_queue("tasks", "chores").await.unwrap();
    assert_eq!(queue.list_pending("chores").await.unwrap().len(), 1);
}
