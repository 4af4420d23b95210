//! Streams.

use super::Harness;
use crate::unattended;
use futures_util::StreamExt;
use futures_util::future::join_all;
use pm_queue::{ConnectOptions, Ending, EnqueueOptions, ErrorKind, State, StreamOptions};
use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

pub(super) async fn the_highest_priority_of_many_queues_comes_first(harness: Harness) {
    let names: Vec<String> = (0..5).map(|n| format!("queue {n}")).collect();
    for name in &names {
        harness.queue.create_queue(name, false).await.unwrap();
    }
    harness.put(99).await;
    let mut expected = Vec::new();
    for n in 0..50u64 {
        let (name, priority) = (&names[n as usize % 5], n as i32 % 7 - 3);
        let options = EnqueueOptions::default().priority(priority);
        expected.push((-priority, harness.queue.enqueue(name, n, options).await.unwrap()));
    }
    expected.sort_by_key(|(priority, _)| *priority);
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>(&names[..], unattended().prefetch(1));
    for (priority, _) in &expected {
        let job = harness.next(&mut jobs).await;
        assert_eq!(job.metadata().priority, -priority);
        job.into_parts().1.commit().await.unwrap();
    }
    assert_eq!(harness.jobs().await.iter().filter(|job| job.state == State::Finished).count(), 50);
    assert_eq!(harness.queue.list_pending("tasks").await.unwrap().len(), 1, "the stream does not read that queue");
}

pub(super) async fn a_payload_of_another_type_does_not_end_the_stream(harness: Harness) {
    let id = harness.queue.enqueue("tasks", "no number", EnqueueOptions::default()).await.unwrap();
    harness.put(7).await;
    let mut jobs = harness.queue.try_stream_jobs::<u64>("tasks");
    let error = harness.within("the bad one", jobs.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Payload);
    let (payload, ack) = harness.take(&mut jobs).await;
    assert_eq!(payload, 7);
    ack.commit().await.unwrap();
    drop(error);
    harness.eventually("the unreadable job has a reason", async || harness.job(id).await.reason.is_some()).await;
}

/// During a deployment, workers of the old version receive payloads of the new one.
pub(super) async fn an_unreadable_payload_waits_for_a_worker_that_can_read_it(harness: Harness) {
    let id = harness.queue.enqueue("tasks", "of the new version", EnqueueOptions::default()).await.unwrap();
    let mut old = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    drop(harness.within("the error", old.next()).await.unwrap().unwrap_err());
    harness.eventually("it is delayed", async || harness.job(id).await.state == State::Pending).await;
    drop(old);
    let job = harness.job(id).await;
    assert_eq!((job.retry_count, job.attempt), (0, 1), "no retry is counted");
    assert!(job.run_at.is_some() && job.reason.is_some_and(|reason| reason.contains("cannot be read")));
    assert_eq!(harness.queue.attempts(id).await.unwrap()[0].ending, Ending::Unreadable);
    assert_eq!(harness.queue.restart_jobs(&[id], false).await.unwrap(), 1);
    let mut new = harness.queue.try_stream_jobs::<String>("tasks");
    let job = harness.within("the job", new.next()).await.unwrap().unwrap();
    assert_eq!(job.payload(), "of the new version");
    job.into_parts().1.commit().await.unwrap();
}

pub(super) async fn a_worker_may_decide_about_a_job_it_cannot_read(harness: Harness) {
    let id = harness.queue.enqueue("tasks", "no number", EnqueueOptions::default()).await.unwrap();
    let mut jobs = harness.queue.try_stream_jobs::<u64>("tasks");
    let error = harness.within("the error", jobs.next()).await.unwrap().unwrap_err();
    let ack = error.clone().take_ack().expect("it has the ack");
    assert_eq!(ack.id(), id);
    assert!(error.take_ack().is_none(), "it has it once");
    ack.hard_fail("never").await.unwrap();
    let job = harness.job(id).await;
    assert_eq!((job.state, job.reason.as_deref()), (State::Failed, Some("never")));
}

pub(super) async fn an_idle_stream_is_notified_by_another_process(harness: Harness) {
    let hour = Duration::from_secs(3_600);
    let producer = harness.another(ConnectOptions::default()).await;
    let options = StreamOptions::default().poll(hour, hour).idle_poll(hour);
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", options);
    for n in 0..5 {
        let waiting = async {
            harness.eventually("the listener is connected", async || harness.queue.is_listening()).await;
            let idle = "select count(*) from pm.queue where idle_until > now()";
            harness.eventually("the worker is idle", async || harness.number(idle) == 1).await;
            producer.enqueue("tasks", n, EnqueueOptions::default()).await.unwrap();
        };
        let ((payload, ack), ()) = futures_util::future::join(harness.take(&mut jobs), waiting).await;
        assert_eq!(payload, n);
        ack.commit().await.unwrap();
    }
}

pub(super) async fn two_workers_never_get_the_same_job(harness: Harness) {
    const JOBS: u64 = 600;
    harness.put_many(JOBS).await;
    let seen = Mutex::new(HashSet::new());
    let worker = async || {
        let mut jobs = harness.another(ConnectOptions::default()).await.try_stream_jobs::<u64>("tasks");
        while seen.lock().unwrap().len() < JOBS as usize {
            let Some(job) = harness.before(Duration::from_millis(100), jobs.next()).await else { continue };
            let (n, ack) = job.unwrap().unwrap().into_parts();
            assert!(seen.lock().unwrap().insert(n), "twice: {n}");
            ack.commit().await.unwrap();
        }
    };
    harness.within("the work", join_all([worker(), worker(), worker()])).await;
    assert_eq!(harness.finished_at_once().await, JOBS);
}
