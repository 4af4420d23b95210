//! What happens inside a transaction of the caller's, and what a transaction pooler allows.

use super::Stage;
use crate::unattended;
use pm_queue::{ConnectOptions, EnqueueOptions, Enqueued, ErrorKind, OnConflict, State};

pub(super) async fn a_rollback_leaves_neither_job_nor_ending(stage: Stage) {
    let first = stage.put(1).await;
    let mut jobs = stage.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let (_, mut ack) = stage.take(&mut jobs).await;
    for commits in [false, true] {
        let mut transaction = stage.begin().await;
        let inside = transaction.inside();
        let next = stage.queue.enqueue_in(&*inside, "tasks", 2u64, EnqueueOptions::default()).await.unwrap();
        ack.commit_in(&*inside).await.unwrap();
        drop(inside);
        assert!(stage.queue.get_job(next).await.unwrap().is_none(), "not before the commit");
        assert_eq!(stage.state(first).await, State::InProgress);
        transaction.end(commits).await;
        assert_eq!(stage.queue.get_job(next).await.unwrap().is_some(), commits);
        assert_eq!(stage.state(first).await == State::Finished, commits);
    }
    drop(ack);
    stage.take(&mut jobs).await.1.commit().await.unwrap();
}

pub(super) async fn a_stale_ack_is_refused_in_a_transaction(stage: Stage) {
    let id = stage.put(1).await;
    let mut jobs = stage.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let (_, mut ack) = stage.take(&mut jobs).await;
    stage.queue.restart_jobs(&[id], true).await.unwrap();
    let mut transaction = stage.begin().await;
    let refused = ack.commit_in(&*transaction.inside()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LeaseLost);
    transaction.end(false).await;
}

pub(super) async fn many_go_in_with_the_transaction_and_keys_are_told(stage: Stage) {
    let keyed = || EnqueueOptions::default().key("once");
    let holder = stage.put_with(0, keyed()).await;
    let mut transaction = stage.begin().await;
    let inside = transaction.inside();
    let jobs = (0..2_500u64).map(|n| (n, if n == 1_200 { keyed() } else { EnqueueOptions::default() }));
    let enqueued = stage.queue.enqueue_many_in(&*inside, "tasks", jobs).await.unwrap();
    let existing: Vec<_> = enqueued.iter().filter(|one| matches!(one, Enqueued::Existing(..))).collect();
    assert_eq!((enqueued.len(), existing.len(), existing[0].id()), (2_500, 1, holder));
    let refuse = keyed().on_conflict(OnConflict::Refuse);
    let refused = stage.queue.enqueue_in(&*inside, "tasks", 0u64, refuse).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::KeyConflict);
    let nowhere = stage.queue.enqueue_in(&*inside, "nowhere", 0u64, EnqueueOptions::default()).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::QueueNotFound);
    drop(inside);
    transaction.end(true).await;
    assert_eq!(stage.number("select count(*) from pm.job"), 2_500);
}

pub(super) async fn nothing_is_kept_in_a_session_of_a_pooler(stage: Stage) {
    let options = ConnectOptions::default().pooler(true).application_name("pooled");
    let queue = stage.another(options).await;
    for n in 0..20u64 {
        queue.enqueue("tasks", n, EnqueueOptions::default()).await.unwrap();
    }
    let nowhere = queue.enqueue("nowhere", 1u64, EnqueueOptions::default()).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::QueueNotFound);
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    for n in 0..20 {
        let (payload, ack) = stage.take(&mut jobs).await;
        assert_eq!(payload, n);
        ack.commit().await.unwrap();
    }
    assert_eq!(queue.list_queues().await.unwrap()[0].count(State::Finished).jobs, 20);
    assert!(stage.is_pooled() || !queue.is_listening(), "unless it goes past the pooler");
    let open = "select count(*) from pg_stat_activity where application_name = 'pooled' and xact_start is not null";
    stage.eventually("no transaction is left open", async || stage.number(open) == 0).await;
}
