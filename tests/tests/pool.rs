//! A pool of the caller's.

use deadpool_postgres::{Manager, Pool};
use futures_util::StreamExt;
use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, InTransaction, State, from_pool};
use pm_sandbox::TestDatabase;
use tokio_postgres::NoTls;

fn pool(database: &TestDatabase, size: usize) -> Pool {
    let manager = Manager::new(database.url().parse().unwrap(), NoTls);
    Pool::builder(manager).max_size(size).build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_live_their_life_on_a_pool_of_the_callers() {
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
    assert!(pool.get().await.is_ok(), "the pool stays the caller's");
}
