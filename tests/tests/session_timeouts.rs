//! Sessions that the server ends by itself: what was sent on them is sent again on a new one. Both drivers.

use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, Queue};
use pm_tests::{Ground, PATIENCE, eventually, next, within};

/// Sessions may idle for so short a time that each statement but those in a row finds its connection ended, and for
/// longer than sqlx trusts an idle one.
async fn ground() -> Ground {
    let ground = Ground::new().await;
    ground
        .database
        .execute(
            "do $$ begin execute format('alter database %I set idle_session_timeout = 150', current_database()); end $$",
        )
        .expect("it is ours");
    ground
}

async fn every_statement_finds_its_session_ended(ground: &Ground, queue: Queue) {
    let sessions =
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'idle'";
    for n in 0..5 {
        eventually("its sessions are ended", PATIENCE, async || ground.number(sessions) == 0).await;
        within("an enqueue", queue.enqueue("tasks", n, EnqueueOptions::default())).await.expect("it goes in");
        eventually("its sessions are ended", PATIENCE, async || ground.number(sessions) == 0).await;
        within("a listing", queue.list_queues()).await.expect("it is sent again");
        eventually("its sessions are ended", PATIENCE, async || ground.number(sessions) == 0).await;
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
    let ground = ground().await;
    let options = ConnectOptions::default().application_name("idle");
    let queue = ground.another(options).await;
    every_statement_finds_its_session_ended(&ground, queue).await;
}

#[tokio::test]
async fn sessions_ended_for_idling_cost_nothing_over_sqlx() {
    let ground = ground().await;
    let options = ConnectOptions::default().application_name("idle");
    let queue = pm_driver_sqlx::connect_with(&ground.database.url(), options).await.expect("it can be connected to");
    every_statement_finds_its_session_ended(&ground, queue).await;
}
