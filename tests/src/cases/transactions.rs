//! Inside the caller's transaction, and through a transaction pooler.

use super::Harness;
use crate::{LOCK_WAITS, unattended};
use futures_util::future::join;
use pm_queue::{ConnectOptions, EnqueueOptions, Enqueued, ErrorKind, OnConflict, State};

pub(super) async fn a_rollback_leaves_neither_job_nor_ending(harness: Harness) {
    let first = harness.put(1).await;
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let (_, mut ack) = harness.take(&mut jobs).await;
    for commits in [false, true] {
        let mut transaction = harness.begin().await;
        let inside = transaction.inside();
        let next = harness.queue.enqueue_in(&*inside, "tasks", 2u64, EnqueueOptions::default()).await.unwrap();
        let settlement = ack.commit_in(&*inside).await.unwrap();
        drop(inside);
        assert!(harness.queue.get_job(next).await.unwrap().is_none(), "not before the commit");
        assert_eq!(harness.state(first).await, State::InProgress);
        transaction.end(commits).await;
        if commits {
            settlement.committed();
        } else {
            drop(settlement);
        }
        assert_eq!(harness.queue.get_job(next).await.unwrap().is_some(), commits);
        assert_eq!(harness.state(first).await == State::Finished, commits);
    }
    drop(ack);
    harness.take(&mut jobs).await.1.commit().await.unwrap();
}

pub(super) async fn a_stale_ack_is_refused_in_a_transaction(harness: Harness) {
    let id = harness.put(1).await;
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let (_, mut ack) = harness.take(&mut jobs).await;
    harness.queue.restart_jobs(&[id], true).await.unwrap();
    let mut transaction = harness.begin().await;
    let refused = ack.commit_in(&*transaction.inside()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LeaseLost);
    transaction.end(false).await;
}

pub(super) async fn many_jobs_go_in_with_the_transaction_and_conflicts_are_reported(harness: Harness) {
    let keyed = || EnqueueOptions::default().key("once");
    let holder = harness.put_with(0, keyed()).await;
    let mut transaction = harness.begin().await;
    let inside = transaction.inside();
    let jobs = (0..2_500u64).map(|n| (n, if n == 1_200 { keyed() } else { EnqueueOptions::default() }));
    let enqueued = harness.queue.enqueue_many_in(&*inside, "tasks", jobs).await.unwrap();
    let existing: Vec<_> = enqueued.iter().filter(|one| matches!(one, Enqueued::Existing(..))).collect();
    assert_eq!((enqueued.len(), existing.len(), existing[0].id()), (2_500, 1, holder));
    let refuse = keyed().on_conflict(OnConflict::Refuse);
    let refused = harness.queue.enqueue_in(&*inside, "tasks", 0u64, refuse).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::KeyConflict);
    let nowhere = harness.queue.enqueue_in(&*inside, "nowhere", 0u64, EnqueueOptions::default()).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::QueueNotFound);
    drop(inside);
    transaction.end(true).await;
    assert_eq!(harness.number("select count(*) from pm.job"), 2_500);
}

/// A call of 1, 3 or 1,500 jobs of which one is refused enqueues none, even when the caller commits afterwards.
pub(super) async fn a_refused_item_keeps_all_of_its_call_out(harness: Harness) {
    let holder = harness.put_with(0, EnqueueOptions::default().key("taken")).await;
    let refuse = |key: &str| EnqueueOptions::default().key(key).on_conflict(OnConflict::Refuse);
    let keep = EnqueueOptions::default;
    let replace = || keep().key("taken").on_conflict(OnConflict::Replace).priority(9);
    let calls: Vec<(&str, Vec<EnqueueOptions>)> = vec![
        ("one job", vec![refuse("taken")]),
        ("the second of three", vec![keep(), refuse("taken"), keep()]),
        ("one that would replace goes first", vec![replace(), keep(), refuse("taken")]),
        ("the key is reserved by an earlier job of the call", vec![keep().key("mine"), keep(), refuse("mine")]),
        ("the last of 1,500", (1..1_500).map(|_| keep()).chain([refuse("taken")]).collect()),
        ("the first of 1,500", [refuse("taken")].into_iter().chain((1..1_500).map(|_| keep())).collect()),
        ("two of 1,500, the second in the second statement", {
            let filler = (0..1_400).map(|_| keep());
            [keep().key("far")]
                .into_iter()
                .chain(filler)
                .chain([refuse("far")])
                .chain((0..98).map(|_| keep()))
                .collect()
        }),
    ];
    for (what, options) in calls {
        let mut transaction = harness.begin().await;
        let inside = transaction.inside();
        let jobs = options.into_iter().map(|options| (7u64, options));
        let refused = harness.queue.enqueue_many_in(&*inside, "tasks", jobs).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::KeyConflict, "{what}: {refused}");
        let after = harness.queue.enqueue_in(&*inside, "tasks", 8u64, keep().description("after")).await.unwrap();
        drop(inside);
        transaction.end(true).await;
        let mut left: Vec<_> = harness.jobs().await.into_iter().map(|job| (job.id, job.priority)).collect();
        left.sort_unstable();
        let mut expected = vec![(holder, 0), (after, 0)];
        expected.sort_unstable();
        assert_eq!(left, expected, "{what}");
        assert_eq!(harness.queue.delete_jobs(&[after]).await.unwrap(), 1);
    }
}

/// A missing queue and invalid input enqueue nothing either, and the transaction stays usable.
pub(super) async fn a_call_into_a_missing_queue_leaves_the_transaction_usable(harness: Harness) {
    let mut transaction = harness.begin().await;
    let inside = transaction.inside();
    for count in [1, 3, 1_500] {
        let jobs = (0..count).map(|n: u64| (n, EnqueueOptions::default()));
        let refused = harness.queue.enqueue_many_in(&*inside, "nowhere", jobs).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::QueueNotFound);
    }
    let last_is_bad = (0..3u64).map(|n| (n, EnqueueOptions::default().key(if n == 2 { "" } else { "good" })));
    let refused = harness.queue.enqueue_many_in(&*inside, "tasks", last_is_bad).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let id = harness.queue.enqueue_in(&*inside, "tasks", 1u64, EnqueueOptions::default()).await.unwrap();
    drop(inside);
    transaction.end(true).await;
    assert_eq!(harness.jobs().await.iter().map(|job| job.id).collect::<Vec<_>>(), [id]);
}

/// A key whose holder is enqueued by a transaction that commits while the call waits for it refuses the call too.
pub(super) async fn a_holder_that_commits_concurrently_refuses_the_whole_call(harness: Harness) {
    let keyed = || EnqueueOptions::default().key("raced");
    let mut theirs = harness.begin().await;
    let holder = harness.queue.enqueue_in(&*theirs.inside(), "tasks", 0u64, keyed()).await.unwrap();
    let mut mine = harness.begin().await;
    let inside = mine.inside();
    let jobs = (0..3u64).map(|n| match n {
        1 => (n, keyed().on_conflict(OnConflict::Refuse)),
        _ => (n, EnqueueOptions::default()),
    });
    let call = harness.queue.enqueue_many_in(&*inside, "tasks", jobs);
    let commit = async {
        harness.eventually("the call waits for the holder", async || harness.number(LOCK_WAITS) > 0).await;
        theirs.end(true).await;
    };
    let (refused, ()) = harness.within("both end", join(call, commit)).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::KeyConflict);
    drop(inside);
    mine.end(true).await;
    assert_eq!(harness.jobs().await.iter().map(|job| job.id).collect::<Vec<_>>(), [holder]);
}

pub(super) async fn nothing_is_kept_in_a_session_of_a_pooler(harness: Harness) {
    let options = ConnectOptions::default().pooler(true).application_name("pooled");
    let queue = harness.another(options).await;
    for n in 0..20u64 {
        queue.enqueue("tasks", n, EnqueueOptions::default()).await.unwrap();
    }
    let nowhere = queue.enqueue("nowhere", 1u64, EnqueueOptions::default()).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::QueueNotFound);
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    let mut payloads = Vec::new();
    for _ in 0..20 {
        let (payload, ack) = harness.take(&mut jobs).await;
        payloads.push(payload);
        ack.commit().await.unwrap();
    }
    // A prefetched job that nothing asks for in 5 s is released, and then comes after others.
    payloads.sort_unstable();
    assert_eq!(payloads, (0..20).collect::<Vec<_>>());
    assert_eq!(queue.list_queues().await.unwrap()[0].count(State::Finished).jobs, 20);
    assert!(harness.is_pooled() || !queue.is_listening(), "it listens only if the listener bypasses the pooler");
    let open = "select count(*) from pg_stat_activity where application_name = 'pooled' and xact_start is not null";
    harness.eventually("no transaction is left open", async || harness.number(open) == 0).await;
}
