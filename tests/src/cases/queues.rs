//! Operations on queues.

use super::Harness;
use crate::unattended;
use futures_util::StreamExt;
use pm_queue::{EnqueueOptions, ErrorKind, InitialState, SettingsChange, State};
use std::time::Duration;

pub(super) async fn a_paused_queue_hands_out_no_jobs(harness: Harness) {
    harness.put(1).await;
    assert_eq!(harness.queue.pause_queue("tasks").await.unwrap(), 1);
    let paused = harness.put_with(2, EnqueueOptions::default().initial_state(InitialState::Paused)).await;
    assert_eq!(harness.state(paused).await, State::Paused);
    let mut jobs = harness.queue.try_stream_jobs::<u64>("tasks");
    assert!(harness.before(Duration::from_millis(300), jobs.next()).await.is_none());
    assert_eq!(harness.queue.resume_queue("tasks").await.unwrap(), 2);
    for _ in 0..2 {
        harness.take(&mut jobs).await.1.commit().await.unwrap();
    }
    assert_eq!(harness.queue.pause_queue("nowhere").await.unwrap_err().kind(), ErrorKind::QueueNotFound);
}

pub(super) async fn settings_are_kept_and_obeyed(harness: Harness) {
    let minute = Duration::from_secs(60);
    let change =
        SettingsChange::new().lease(minute * 9).max_retries(5).backoff(vec![minute, minute * 2]).retain(Some(minute));
    let changed = harness.queue.set_queue_settings("tasks", change).await.unwrap();
    assert_eq!(harness.queue.queue_settings("tasks").await.unwrap(), changed);
    assert_eq!((changed.lease, changed.retain), (minute * 9, Some(minute)));
    let id = harness.put(1).await;
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let (_, ack) = harness.take(&mut jobs).await;
    let job = harness.job(id).await;
    let lease_us = job.lease_expires_at.unwrap().unix_us() - job.read_at.unix_us();
    assert!((530_000_000..=540_000_000).contains(&lease_us), "{lease_us}");
    assert_eq!(job.max_retries, 5);
    ack.soft_fail("later").await.unwrap();
    assert!(harness.job(id).await.run_at.is_some());
    assert_eq!(harness.queue.set_queue_settings("tasks", changed.clone()).await.unwrap(), changed);
    let bad = harness.queue.set_queue_settings("tasks", SettingsChange::new().lease(Duration::ZERO)).await.unwrap_err();
    assert_eq!(bad.kind(), ErrorKind::Invalid);
}

pub(super) async fn queues_are_listed_with_their_jobs(harness: Harness) {
    assert!(!harness.queue.create_queue("tasks", true).await.unwrap(), "it exists");
    assert!(harness.queue.create_queue("paused", true).await.unwrap());
    for n in 0..3 {
        harness.queue.enqueue("paused", n, EnqueueOptions::default()).await.unwrap();
    }
    let ids = harness.put_many(4).await;
    harness.queue.finish_jobs(&ids[..1]).await.unwrap();
    harness.queue.fail_jobs(&ids[1..2], "no").await.unwrap();
    let queues = harness.queue.list_queues().await.unwrap();
    assert_eq!(
        queues.iter().map(|queue| (queue.name.as_str(), queue.paused)).collect::<Vec<_>>(),
        [("paused", true), ("tasks", false)]
    );
    let counts = |index: usize| State::ALL.map(|state| queues[index].count(state).jobs);
    assert_eq!((counts(0), counts(1)), ([0, 3, 0, 0, 0], [2, 0, 0, 1, 1]));
}

pub(super) async fn a_renamed_queue_keeps_its_jobs(harness: Harness) {
    harness.queue.create_queue("taken", false).await.unwrap();
    let id = harness.put(1).await;
    assert_eq!(harness.queue.rename_queue("tasks", "taken").await.unwrap_err().kind(), ErrorKind::QueueExists);
    assert_eq!(harness.queue.rename_queue("nowhere", "x").await.unwrap_err().kind(), ErrorKind::QueueNotFound);
    harness.queue.rename_queue("tasks", "chores").await.unwrap();
    let mut jobs = harness.queue.try_stream_jobs::<u64>("chores");
    let (_, ack) = harness.take(&mut jobs).await;
    assert_eq!(ack.id(), id);
    ack.commit().await.unwrap();
    let mut old = harness.queue.try_stream_jobs::<u64>("tasks");
    let gone = harness.within("the refusal", old.next()).await.unwrap().unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::QueueNotFound);
}

pub(super) async fn a_deleted_queue_goes_with_its_jobs(harness: Harness) {
    harness.queue.create_queue("other", false).await.unwrap();
    let kept = harness.queue.enqueue("other", 1u64, EnqueueOptions::default()).await.unwrap();
    harness.put_many(1_500).await;
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let (_, ack) = harness.take(&mut jobs).await;
    assert_eq!(harness.queue.delete_queue("tasks").await.unwrap(), 1_500);
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(harness.queue.delete_queue("tasks").await.unwrap_err().kind(), ErrorKind::QueueNotFound);
    assert!(harness.queue.get_job(kept).await.unwrap().is_some());
    assert_eq!(harness.jobs().await.len(), 1);
    assert_eq!(harness.queue.prune().await.unwrap(), 0);
}

pub(super) async fn stats_report_what_waits_and_what_ended(harness: Harness) {
    let ids = harness.put_many(5).await;
    harness.queue.finish_jobs(&ids[..2]).await.unwrap();
    harness.queue.fail_jobs(&ids[2..3], "no").await.unwrap();
    let stats = harness.queue.stats().await.unwrap();
    assert_eq!(stats.queues.len(), 1);
    let tasks = &stats.queues[0];
    assert_eq!(State::ALL.map(|state| tasks.queue.count(state).jobs), [2, 0, 0, 2, 1]);
    assert_eq!([tasks.enqueued, tasks.finished, tasks.failed].map(|count| count.jobs), [5, 2, 1]);
    assert!(tasks.oldest_waiting.is_some());
    harness.queue.finish_jobs(&ids).await.unwrap();
    assert_eq!(harness.queue.activity(Duration::from_secs(60)).await.unwrap()[0].oldest_waiting, None);
}
