//! Tests specific to sqlx: the caller's pool, connections outside a transaction, abandoned statements.

use futures_util::StreamExt;
use pm_driver_sqlx::driver::{Columns, Executor, Statement, StatementId};
use pm_driver_sqlx::{ConnectOptions, EnqueueOptions, ErrorKind, InTransaction, Sqlx, State, StreamOptions, from_pool};
use pm_sandbox::TestDatabase;
use sqlx::postgres::{PgPool, PgPoolOptions};
use std::time::Duration;

async fn pool(database: &TestDatabase, size: u32) -> PgPool {
    PgPoolOptions::new().max_connections(size).connect(&database.url()).await.expect("the server accepts connections")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_enqueued_and_worked_off_on_the_callers_pool() {
    let database = TestDatabase::create().unwrap();
    let pool = pool(&database, 3).await;
    let queue = from_pool(pool.clone(), ConnectOptions::default()).await.unwrap();
    queue.create_queue("tasks", false).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let inside = InTransaction::new(&mut transaction);
    queue.enqueue_in(&inside, "tasks", 0u64, EnqueueOptions::default()).await.unwrap();
    transaction.commit().await.unwrap();
    queue.enqueue_many("tasks", (1..500u64).map(|n| (n, EnqueueOptions::default()))).await.unwrap();
    let jobs = queue.try_stream_jobs::<u64>("tasks").take(500);
    jobs.for_each_concurrent(8, async |job| job.unwrap().into_parts().1.commit().await.unwrap()).await;
    assert_eq!(queue.list_queues().await.unwrap()[0].count(State::Finished).jobs, 500);
    queue.close().await;
    assert!(pool.acquire().await.is_ok(), "the pool stays open");
}

#[tokio::test]
async fn a_stream_listens_beside_a_pool_with_a_single_connection() {
    let database = TestDatabase::create().unwrap();
    let queue = from_pool(pool(&database, 1).await, ConnectOptions::default()).await.unwrap();
    queue.create_queue("tasks", false).await.unwrap();
    let _jobs = queue.try_stream_jobs_with::<u64>("tasks", StreamOptions::default());
    let listening = async {
        while !queue.is_listening() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), listening).await.expect("the listener connects");
}

#[tokio::test]
async fn a_connection_outside_a_transaction_is_refused() {
    let database = TestDatabase::create().unwrap();
    let pool = pool(&database, 2).await;
    let queue = from_pool(pool.clone(), ConnectOptions::default()).await.unwrap();
    queue.create_queue("tasks", false).await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    let inside = InTransaction::new(&mut connection);
    let refused = queue.enqueue_in(&inside, "tasks", 1u64, EnqueueOptions::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Database);
    assert!(refused.to_string().contains("not in a transaction"), "{refused}");
    assert!(queue.list_pending("tasks").await.unwrap().is_empty());
}

#[tokio::test]
async fn the_connection_of_an_abandoned_statement_is_closed() {
    let database = TestDatabase::create().unwrap();
    let driver = Sqlx::new(
        &database.url(),
        &ConnectOptions::default().connections(1),
        std::sync::Arc::new(pm_driver_sqlx::runtime::Tokio::current()),
    )
    .unwrap();
    let statement = |text: &str| Statement {
        id: StatementId::SchemaVersion,
        text: text.to_owned(),
        params: vec![],
        columns: <i32 as Columns>::COLUMNS,
    };
    let (slow, quick) = (statement("select 1 from pg_sleep(60)"), statement("select 2"));
    assert!(tokio::time::timeout(Duration::from_millis(300), driver.run(&slow, &[])).await.is_err());
    let rows = tokio::time::timeout(Duration::from_secs(5), driver.run(&quick, &[])).await.expect("in time").unwrap();
    let mut row = rows.only(quick.id).unwrap();
    assert_eq!(row.read::<i32>(), Ok(2), "the reply to this statement, not to the abandoned one");
}
