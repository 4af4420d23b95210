//! The server runs, but has no time or no free connections.

use crate::ledger::now_us;
use crate::scenario::{SECOND, Scenario, durable};
use pm_driver_tokio_postgres::{ConnectOptions, ErrorKind};
use pm_sandbox::Server;
use pm_tests::{Direct, Fixture, within};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_time_out_are_retried() {
    let mut scenario = Scenario::with_leases_of(SECOND * 4).await;
    scenario.produce(4, Duration::from_millis(10));
    (0..2).for_each(|_| scenario.work(&["statement_timeout_ms=500", "lock_timeout_ms=60000"]));
    scenario.under_way().await;
    let mut session = Direct::to(&scenario.url()).await;
    let transaction = session.client.transaction().await.unwrap();
    transaction.batch_execute("lock table pm.job in access exclusive mode").await.unwrap();
    let from = now_us();
    scenario.go_on(SECOND * 10).await;
    assert!(scenario.ledger.endings_since(from + 500_000) == 0, "every statement runs into its timeout");
    transaction.rollback().await.unwrap();
    let recovery = format!("{:.1} s", scenario.recovered(now_us()).await.as_secs_f64());
    scenario.finish("every statement canceled after 0.5 s (57014), for 10 s, lease 4 s", &recovery).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_free_connections_costs_time_only() {
    const MOST: usize = 20;
    let options = durable().setting("max_connections", MOST.to_string());
    let mut scenario = Scenario::on(Server::start_with(options).expect("a private Postgres starts"), SECOND * 4).await;
    scenario.produce(4, Duration::from_millis(10));
    (0..3).for_each(|_| scenario.work(&["connect_timeout_ms=1000"]));
    scenario.under_way().await;
    let mut theirs = vec![Direct::to(&scenario.url()).await];
    let url = scenario.url();
    // Every slot that a session of pm leaves free is taken, until all are.
    let all = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend' and application_name <> ''";
    while theirs.len() < MOST {
        theirs[0].client.batch_execute(all).await.unwrap();
        while let Ok((client, connection)) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await {
            tokio::spawn(connection);
            theirs.push(Direct { client });
        }
    }
    let from = now_us();
    scenario.go_on(SECOND * 10).await;
    assert_eq!(scenario.ledger.endings_since(from), 0, "no worker can connect");
    drop(theirs);
    let recovery = format!("{:.1} s", scenario.recovered(now_us()).await.as_secs_f64());
    scenario.finish("all connection slots taken by others (53300) for 10 s, lease 4 s", &recovery).await;
}

/// Behind a pooler no session keeps a timeout: a statement that does not bring its own would wait for the lock for
/// ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_pooler_the_timeout_is_sent_with_the_statement() {
    let fixture = Fixture::new().await;
    let id = fixture.put(1).await;
    let options = || ConnectOptions::default().pooler(true).statement_timeout(SECOND);
    let url = fixture.database.url();
    let queues = [
        pm_driver_tokio_postgres::connect_with(&url, options()).await.expect("connecting succeeds"),
        pm_driver_sqlx::connect_with(&url, options()).await.expect("connecting succeeds"),
    ];
    let mut session = Direct::to(&url).await;
    let transaction = session.client.transaction().await.unwrap();
    transaction.batch_execute("lock table pm.job in access exclusive mode").await.unwrap();
    for queue in &queues {
        let error = within("the statement's own timeout", queue.job(id)).await.expect_err("the table is locked");
        assert_eq!(error.kind(), ErrorKind::Database, "{error}");
        assert!(error.to_string().contains("57014"), "{error}");
    }
    transaction.rollback().await.unwrap();
    for queue in &queues {
        within("an answer", queue.job(id)).await.expect("the lock is released");
    }
}
