//! The caller's own connection pool.

use deadpool_postgres::{Manager, Pool};
use futures_util::StreamExt;
use pm_driver_tokio_postgres::{
    ConnectOptions, EnqueueOptions, ErrorKind, InTransaction, JobFilter, OnConflict, State, from_pool,
};
use pm_sandbox::TestDatabase;
use tokio_postgres::NoTls;

fn pool(database: &TestDatabase, size: usize) -> Pool {
    let manager = Manager::new(database.url().parse().unwrap(), NoTls);
    Pool::builder(manager).max_size(size).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_enqueued_and_committed_on_the_callers_pool() {
    let database = TestDatabase::create().unwrap();
    let pool = pool(&database, 3);
    let queue = from_pool(pool.clone(), ConnectOptions::default()).await.unwrap();
    queue.create_queue("tasks", false).await.unwrap();
    let mut client = pool.get().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let plain: &tokio_postgres::Transaction<'_> = &transaction;
    queue.enqueue_in(&InTransaction(plain), "tasks", 0u64, EnqueueOptions::default()).await.unwrap();
    transaction.commit().await.unwrap();
    drop(client);
    queue.enqueue_many("tasks", (1..500u64).map(|n| (n, EnqueueOptions::default()))).await.unwrap();
    let jobs = queue.try_stream_jobs::<u64>("tasks").take(500);
    jobs.for_each_concurrent(8, async |job| job.unwrap().into_parts().1.commit().await.unwrap()).await;
    let queues = queue.list_queues().await.unwrap();
    assert_eq!(queues[0].count(State::Finished).jobs, 500);
    queue.close().await;
    assert!(pool.get().await.is_ok(), "the pool stays usable");
}

/// deadpool's transactions are those of tokio-postgres, and one connection serves both handler and settlement.
#[tokio::test]
async fn a_transaction_of_a_pool_settles_a_job_and_a_refused_call_leaves_nothing_in_it() {
    let database = TestDatabase::create().unwrap();
    let pool = pool(&database, 2);
    let queue = from_pool(pool.clone(), ConnectOptions::default()).await.unwrap();
    queue.create_queue("tasks", false).await.unwrap();
    let keyed = || EnqueueOptions::default().key("once");
    let id = queue.enqueue("tasks", 0u64, keyed()).await.unwrap();
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    let (_, mut ack) = jobs.next().await.unwrap().unwrap().into_parts();
    let mut client = pool.get().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let inside = InTransaction(&transaction);
    let refuse = keyed().on_conflict(OnConflict::Refuse);
    let call = [(1u64, EnqueueOptions::default()), (2, refuse), (3, EnqueueOptions::default())];
    let refused = queue.enqueue_many_in(&inside, "tasks", call).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::KeyConflict);
    let settlement = ack.hard_fail_in(&inside, "the key was taken").await.unwrap();
    transaction.commit().await.unwrap();
    settlement.committed();
    assert_eq!(queue.job(id).await.unwrap().state, State::Failed);
    assert_eq!(queue.list_jobs(JobFilter::default()).await.unwrap().len(), 1);
}
