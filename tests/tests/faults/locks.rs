//! Other sessions hold locks for a long time, or in another order.

use crate::ledger::now_us;
use crate::processes::range;
use crate::scenario::{SECOND, Scenario, durable};
use pm_sandbox::Server;
use pm_tests::{Direct, Seed};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_locked_by_an_idle_transaction_delay_no_others() {
    let mut scenario = Scenario::with_leases_of(SECOND * 4).await;
    scenario.produce(4, Duration::from_millis(10));
    (0..2).for_each(|_| scenario.work(&["lock_timeout_ms=1000", "handlers=32"]));
    scenario.under_way().await;
    let mut session = Direct::to(&scenario.url()).await;
    let transaction = session.client.transaction().await.unwrap();
    let lock = "select id from pm.job where state = 1 order by id limit 10 for update skip locked";
    let locked = transaction.query(lock, &[]).await.unwrap().len();
    assert!(locked > 0);
    let from = now_us();
    scenario.go_on(SECOND * 12).await;
    let (endings, pause) = (scenario.ledger.endings_since(from), scenario.ledger.longest_pause(from));
    assert!(endings > 100, "other jobs go on: {endings}");
    transaction.rollback().await.unwrap();
    let released = now_us();
    let recovery = format!(
        "others went on: {endings} endings, at most {:.1} s apart; then {:.1} s",
        pause.as_secs_f64(),
        scenario.recovered(released).await.as_secs_f64()
    );
    let fault = format!("{locked} jobs in progress locked for 12 s by an idle transaction, lease 4 s");
    let duplicates = scenario.finish(&fault, &recovery).await.duplicates;
    assert!(duplicates <= locked, "only the locked may lose their leases: {duplicates} ran again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_locked_by_an_idle_transaction_stops_enqueues_only() {
    let mut scenario = Scenario::with_leases_of(SECOND * 4).await;
    scenario.produce(4, Duration::from_millis(10));
    (0..2).for_each(|_| scenario.work(&[]));
    scenario.under_way().await;
    scenario.put(500).await;
    let mut session = Direct::to(&scenario.url()).await;
    let transaction = session.client.transaction().await.unwrap();
    transaction.batch_execute("select from pm.queue where name = 'tasks' for update").await.unwrap();
    let (from, before) = (now_us(), scenario.ledger.lock().confirmed.len());
    scenario.go_on(SECOND * 8).await;
    let (endings, enqueued) = (scenario.ledger.endings_since(from), scenario.ledger.lock().confirmed.len() - before);
    assert!(endings >= 400, "jobs enqueued before go on: {endings}");
    assert!(enqueued <= 4, "enqueues wait for the lock: {enqueued}");
    transaction.rollback().await.unwrap();
    let recovery = format!(
        "work went on: {endings} endings, {enqueued} enqueues; then {:.1} s",
        scenario.recovered(now_us()).await.as_secs_f64()
    );
    scenario.finish("the queue's row locked for 8 s by an idle transaction", &recovery).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_retried_and_costs_no_job() {
    const ROUNDS: usize = 20;
    // The session that waits first checks first for a deadlock, and is the one that is cancelled: the queue's.
    let options = durable().setting("deadlock_timeout", "200ms");
    let mut scenario = Scenario::on(Server::start_with(options).expect("a private Postgres starts"), SECOND * 20).await;
    let mut seed = Seed::from_environment();
    scenario.produce(4, Duration::from_millis(5));
    (0..2).for_each(|_| scenario.work(&["handlers=32"]));
    scenario.under_way().await;
    let mut session = Direct::to(&scenario.url()).await;
    session.client.batch_execute("set deadlock_timeout = '1h'").await.unwrap();
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    let mut recoveries = Vec::new();
    for _ in 0..ROUNDS {
        let transaction = session.client.transaction().await.unwrap();
        // From the last id to the first, one by one: against the order in which a batch of settles locks.
        let ids = transaction
            .query("select id::text from pm.job where state = 1 order by id desc limit 30", &[])
            .await
            .unwrap();
        for row in ids {
            let id: String = row.get(0);
            let lock = format!("select from pm.job where id = '{id}' for update");
            transaction.batch_execute(&lock).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5 + seed.below(20))).await;
        }
        transaction.rollback().await.unwrap();
        recoveries.push(scenario.recovered(now_us()).await);
    }
    let provoked = scenario.number(deadlocks);
    assert!(provoked > 0, "there was a deadlock");
    let recovery = range(recoveries);
    scenario
        .finish(
            &format!("{provoked} deadlocks (40P01) in {ROUNDS} transactions that lock against the order"),
            &recovery,
        )
        .await;
}
