//! Enqueues while open transactions lock a queue's row or a key.

use super::{Harness, Transaction};
use futures_util::FutureExt;
use futures_util::future::join_all;
use pm_core::op::RenameQueue;
use pm_core::{Catalog, Operation, QueueName, SchemaName};
use pm_queue::{EnqueueOptions, Enqueued};
use std::time::Duration;

/// Locks the row of `tasks` as an operator's rename does, until the transaction ends.
async fn lock_tasks(transaction: &mut Box<dyn Transaction>) {
    let name = |name| QueueName::new(name).unwrap();
    let rename = RenameQueue { from: name("tasks"), to: name("chores") };
    let (catalog, plan) = (Catalog::new(&SchemaName::default()), rename.plan());
    transaction.inside().run(catalog.statement(plan.statement), &plan.params).await.unwrap();
}

pub(super) async fn a_locked_queue_delays_no_other_queue(harness: Harness) {
    harness.queue.create_queue("other", false).await.unwrap();
    let mut transaction = harness.begin().await;
    lock_tasks(&mut transaction).await;
    let put = |queue: &'static str, n: u64, key: bool| {
        let options = EnqueueOptions::default();
        let options = if key { options.key(n.to_string()) } else { options };
        harness.queue.enqueue(queue, n, options)
    };
    let mut blocked = Box::pin(join_all((0..64).map(|n| put("tasks", n, n % 2 == 0))));
    assert!((&mut blocked).now_or_never().is_none(), "they are sent and block");
    harness.within("the other queue", join_all((0..64).map(|n| put("other", n, n % 2 == 0)))).await;
    assert!((&mut blocked).now_or_never().is_none(), "they still wait");
    transaction.end(false).await;
    for outcome in harness.within("the blocked enqueues", blocked).await {
        outcome.expect("the job is enqueued once the lock is released");
    }
    assert_eq!(harness.number("select count(*) from pm.job"), 128);
}

pub(super) async fn a_locked_key_delays_no_other(harness: Harness) {
    let keyed = |n: u64| EnqueueOptions::default().key(format!("key {n}"));
    let mut transaction = harness.begin().await;
    let inside = transaction.inside();
    let locked: Vec<u64> = (0..250).step_by(50).collect();
    harness.queue.enqueue_many_in(&*inside, "tasks", locked.iter().map(|n| (*n, keyed(*n)))).await.unwrap();
    drop(inside);
    let blocked = locked.iter().map(|n| harness.queue.enqueue_with_outcome("tasks", *n, keyed(*n)));
    let mut blocked = Box::pin(join_all(blocked));
    assert!((&mut blocked).now_or_never().is_none(), "they are sent and block");
    let neighbours = (0..250).filter(|n| n % 50 > 0).map(|n| harness.queue.enqueue("tasks", n, keyed(n)));
    let plain = (0..250).map(|n| harness.queue.enqueue("tasks", n, EnqueueOptions::default()));
    let others = join_all(neighbours.collect::<Vec<_>>());
    // Far less than the 5 s for which a statement waits for a lock by default.
    let others = harness.before(Duration::from_millis(4_000), others);
    let (plain, others) = futures_util::join!(harness.within("those without keys", join_all(plain)), others);
    assert!(plain.into_iter().chain(others.expect("they wait for no other lock")).all(|outcome| outcome.is_ok()));
    assert!((&mut blocked).now_or_never().is_none(), "they still wait");
    transaction.end(false).await;
    for outcome in harness.within("the blocked enqueues", blocked).await {
        assert!(matches!(outcome, Ok(Enqueued::Inserted(_))), "{outcome:?}");
    }
    assert_eq!(harness.number("select count(*) from pm.job"), 500);
}

pub(super) async fn jobs_with_and_without_keys_keep_their_order(harness: Harness) {
    let options = |n: u64| match n % 3 {
        // The keys sort against the order of the jobs.
        1 => EnqueueOptions::default().key(format!("key {:05}", 99_999 - n)),
        _ => EnqueueOptions::default(),
    };
    let enqueued = harness.queue.enqueue_many("tasks", (0..2_500).map(|n| (n, options(n)))).await.unwrap();
    assert!(enqueued.iter().all(|enqueued| matches!(enqueued, Enqueued::Inserted(_))));
    let mut jobs = harness.queue.try_stream_jobs_with::<u64>("tasks", crate::unattended());
    for n in 0..2_500 {
        let (payload, ack) = harness.take(&mut jobs).await;
        assert_eq!(payload, n);
        ack.commit().detach();
    }
}
