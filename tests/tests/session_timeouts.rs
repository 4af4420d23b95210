//! Sessions that the server ends: statements sent on them are sent again on a new one. Both drivers.

use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, Queue};
use pm_tests::{Fixture, TIMEOUT, eventually, next, within};

/// Sessions may idle so briefly that every statement after a pause finds its connection closed, but longer than sqlx
/// trusts an idle connection.
async fn fixture() -> Fixture {
    let fixture = Fixture::new().await;
    fixture
        .database
        .execute(
            "do $$ begin execute format('alter database %I set idle_session_timeout = 150', current_database()); end $$",
        )
        .expect("the statement is valid");
    fixture
}

async fn run_statements_on_closed_sessions(fixture: &Fixture, queue: Queue) {
    let sessions =
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'idle'";
    for n in 0..5 {
        eventually("its sessions are closed", TIMEOUT, async || fixture.number(sessions) == 0).await;
        within("an enqueue", queue.enqueue("tasks", n, EnqueueOptions::default())).await.expect("the job is enqueued");
        eventually("its sessions are closed", TIMEOUT, async || fixture.number(sessions) == 0).await;
        within("a listing", queue.list_queues()).await.expect("it is sent again");
        eventually("its sessions are closed", TIMEOUT, async || fixture.number(sessions) == 0).await;
        within("a pause", queue.pause_queue("tasks")).await.expect("it is sent again");
        within("a resumption", queue.resume_queue("tasks")).await.expect("it is sent again");
    }
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    for _ in 0..5 {
        next(&mut jobs).await.into_parts().1.commit().await.expect("the lease is valid");
    }
}

#[tokio::test]
async fn sessions_ended_for_idling_cost_nothing() {
    let fixture = fixture().await;
    let options = ConnectOptions::default().application_name("idle");
    let queue = fixture.another(options).await;
    run_statements_on_closed_sessions(&fixture, queue).await;
}

#[tokio::test]
async fn sessions_ended_for_idling_cost_nothing_over_sqlx() {
    let fixture = fixture().await;
    let options = ConnectOptions::default().application_name("idle");
    let queue = pm_driver_sqlx::connect_with(&fixture.database.url(), options).await.expect("connecting succeeds");
    run_statements_on_closed_sessions(&fixture, queue).await;
}
