//! How long enqueues wait for locks, what they return, and in which order they lock.

use futures_util::future::join_all;
use pm_core::op::EnqueueKeyed;
use pm_core::{NewJob, QueueName};
use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, ErrorKind, Queue, Uuid};
use pm_tests::{Direct, Fixture, within};
use std::time::Duration;

/// An enqueue that waits for a locked queue fails after 5 s, reports that the job was not enqueued, and that is true;
/// `close` waits no longer.
async fn assert_enqueues_fail_at_their_deadline(fixture: &Fixture, queue: Queue, count: u64) {
    const LOCK: &str = "select from pm.queue where name = 'tasks' for update";
    let mut session = Direct::to(&fixture.database.url()).await;
    let transaction = session.client.transaction().await.unwrap();
    transaction.batch_execute(LOCK).await.unwrap();
    let early = tokio::spawn({
        let queue = queue.clone();
        async move { queue.enqueue("tasks", 0u64, EnqueueOptions::default()).await }
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    transaction.rollback().await.unwrap();
    let early = within("an enqueue that waits until shortly before its deadline", early).await.unwrap().unwrap();
    assert_eq!(fixture.queue.delete_jobs(&[early]).await.unwrap(), 1);
    let transaction = session.client.transaction().await.unwrap();
    transaction.batch_execute(LOCK).await.unwrap();
    let options = |n| match n % 2 {
        0 => EnqueueOptions::default(),
        _ => EnqueueOptions::default().key(format!("{n}")),
    };
    let waiting: Vec<_> = (0..count)
        .map(|n| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.enqueue("tasks", n, options(n)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let outcomes = within("the answers", join_all(waiting)).await;
    for outcome in outcomes {
        let error = outcome.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Database, "{error}");
        assert!(error.to_string().contains("has locked the queue \"tasks\"") && !error.is_outcome_unknown(), "{error}");
    }
    let late = queue.enqueue("tasks", 1u64, EnqueueOptions::default());
    let (late, ()) = within("the end", async { futures_util::join!(late, queue.close()) }).await;
    assert!(late.is_err());
    transaction.rollback().await.unwrap();
    assert_eq!(fixture.number("select count(*) from pm.job"), 0, "refused jobs are not enqueued");
    fixture.put(1).await;
}

#[tokio::test]
async fn enqueues_to_a_locked_queue_fail_at_their_deadline() {
    let options = || ConnectOptions::default().lock_timeout(Duration::from_secs(1));
    let [first, second, third] = [Fixture::new().await, Fixture::new().await, Fixture::new().await];
    let (tokio, other) = (first.another(options()).await, second.another(ConnectOptions::default()).await);
    let sqlx = pm_driver_sqlx::connect_with(&third.database.url(), options()).await.unwrap();
    futures_util::join!(
        assert_enqueues_fail_at_their_deadline(&first, tokio, 64),
        assert_enqueues_fail_at_their_deadline(&second, other, 2_000),
        assert_enqueues_fail_at_their_deadline(&third, sqlx, 64),
    );
}

/// Batches of jobs with the same keys, in any order, wait for one another and never deadlock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_with_the_same_keys_in_different_orders_do_not_deadlock() {
    const KEYS: u64 = 500;
    let fixture = Fixture::new().await;
    let batch = |round: u64, side: u64| -> Vec<NewJob> {
        let job = |n: u64| NewJob {
            id: Uuid::from_u64_pair(round * 2 + side, n),
            queue: QueueName::new("tasks").unwrap(),
            payload: b"{}".as_slice().into(),
            options: EnqueueOptions::default().key(format!("{round} {n:03}")),
        };
        match side {
            0 => (0..KEYS).map(job).collect(),
            _ => (0..KEYS).rev().map(job).collect(),
        }
    };
    let mut sides = [Direct::to(&fixture.database.url()).await, Direct::to(&fixture.database.url()).await];
    for round in 0..40 {
        let batches = [batch(round, 0), batch(round, 1)];
        let [first, second] = &mut sides;
        // In transactions, so that they wait without a limit. A deadlock panics.
        let (first, second) = futures_util::join!(
            first.run(EnqueueKeyed { jobs: &batches[0], in_transaction: true }),
            second.run(EnqueueKeyed { jobs: &batches[1], in_transaction: true }),
        );
        assert_eq!(first.present.len() + second.present.len(), KEYS as usize, "each key once");
    }
}

/// However its keys sort, the jobs of a batch keep the order in which they were given.
#[tokio::test]
async fn jobs_of_a_batch_with_keys_keep_their_order() {
    let fixture = Fixture::new().await;
    let mut direct = Direct::to(&fixture.database.url()).await;
    let job = |n: u64| NewJob {
        id: Uuid::from_u64_pair(7, n),
        queue: QueueName::new("tasks").unwrap(),
        payload: n.to_string().into_bytes().into(),
        options: EnqueueOptions::default().key(format!("{:03}", (n * 379) % 1_000)),
    };
    let jobs: Vec<_> = (0..1_000).map(job).collect();
    assert!(direct.run(EnqueueKeyed { jobs: &jobs, in_transaction: false }).await.present.is_empty());
    let payloads = fixture.column("select convert_from(payload, 'utf8') from pm.job order by seq");
    assert!(payloads.into_iter().eq((0..1_000).map(|n| n.to_string())));
}
