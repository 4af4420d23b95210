//! Sessions that the server ends by itself: what was sent on them is sent again on a new one. Both drivers.

use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, Queue};
use pm_tests::{Fixture, TIMEOUT, eventually, next, within};

/// Sessions may idle for so short a time that each statement but those in a row finds its connection ended, and for
/// longer than sqlx trusts an idle one.
async fn fixture() -> Fixture {
    let fixture = Fixture::new().await;
    fixture
        .database
        .execute(
            "do $$ begin execute format('alter database %I set idle_session_timeout = 150', current_database()); end $$",
        )
        .expect("it is ours");
    fixture
}

async fn every_statement_finds_its_session_ended(fixture: &Fixture, queue: Queue) {
    let sessions =
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'idle'";
    for n in 0..5 {
        eventually("its sessions are ended", TIMEOUT, async || fixture.number(sessions) == 0).await;
        within("an enqueue", queue.enqueue("tasks", n, EnqueueOptions::default())).await.expect("it goes in");
        eventually("its sessions are ended", TIMEOUT, async || fixture.number(sessions) == 0).await;
        within("a listing", queue.list_queues()).await.expect("it is sent again");
        eventually("its sessions are ended", TIMEOUT, async || fixture.number(sessions) == 0).await;
        within("a pause", queue.pause_queue("tasks")).await.expect("it is sent again");
        within("a resumption", queue.resume_queue("tasks")).await.expect("it is sent again");
    }
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    for _ in 0..5 {
        next(&mut jobs).await.into_parts().1.commit().await.expect("the lease is ours");
    }
}

#[tokio::test]
async fn sessions_ended_for_idling_cost_nothing() {
    let fixture = fixture().await;
    let options = ConnectOptions::default().application_name("idle");
    let queue = fixture.another(options).await;
    every_statement_finds_its_session_ended(&fixture, queue).await;
}

#[tokio::test]
async fn sessions_ended_for_idling_cost_nothing_over_sqlx() {
    let fixture = fixture().await;
    let options = ConnectOptions::default().application_name("idle");
    let queue = pm_driver_sqlx::connect_with(&fixture.database.url(), options).await.expect("it can be connected to");
    every_statement_finds_its_session_ended(&fixture, queue).await;
}
