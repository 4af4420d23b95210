//! Jobs enqueued in bulk, of which two statements are in flight at a time.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use pm_core::machine::{Enqueued, Entropy, Machine, Producer, ProducerEvent, Request};
use pm_core::{Catalog, EnqueueOptions, Instant, NewJob, QueueName, SchemaName, StatementId, job_id};
use pm_driver_tokio_postgres::driver::Executor;
use pm_driver_tokio_postgres::{ConnectOptions, Queue, TokioPostgres, Uuid, connect_with};
use pm_sandbox::Pooler;
use pm_tests::{Direct, Fixture, Loss, Proxy};
use std::time::Duration;

const FRESH: &str = "placed as (";

/// Enqueues the numbers from zero up in one call; returns the ids.
async fn enqueue_many(queue: &Queue, count: u64) -> Vec<Uuid> {
    let jobs = (0..count).map(|n| (n, EnqueueOptions::default()));
    let enqueued = queue.enqueue_many("tasks", jobs).await.expect("the jobs are enqueued");
    enqueued.into_iter().map(|enqueued| enqueued.id()).collect()
}

/// Returns the ids in the order of the line.
fn line(fixture: &Fixture) -> Vec<String> {
    fixture.column("select id from pm.job order by seq")
}

fn texts(ids: &[Uuid]) -> Vec<String> {
    ids.iter().map(Uuid::to_string).collect()
}

#[tokio::test]
async fn jobs_of_one_call_keep_their_order_with_two_statements_in_flight() {
    let fixture = Fixture::new().await;
    let proxy = Proxy::before(&fixture.database.url()).await;
    let queue = connect_with(proxy.url(), ConnectOptions::default()).await.unwrap();
    assert_eq!(proxy.most_in_flight(), 1);
    // The first call also opens the connections and prepares the statement.
    let mut ids = enqueue_many(&queue, 8_500).await;
    proxy.late_replies(Duration::from_millis(2));
    ids.extend(enqueue_many(&queue, 8_500).await);
    assert_eq!(proxy.most_in_flight(), 2);
    assert_eq!(proxy.executions(FRESH), 18);
    assert_eq!(line(&fixture), texts(&ids));
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_one_call_keep_their_order_through_a_transaction_pooler() {
    let fixture = Fixture::new().await;
    let pooler = Pooler::before(&fixture.database.url()).unwrap();
    let options = ConnectOptions::default().pooler(true);
    let queue = connect_with(&pooler.url_of(fixture.database.name()), options).await.unwrap();
    let ids = enqueue_many(&queue, 8_500).await;
    assert_eq!(line(&fixture), texts(&ids));
}

/// A connection is lost with two statements in flight, and again with those that are sent again.
#[tokio::test]
async fn jobs_whose_connection_is_lost_in_the_middle_are_inserted_once() {
    for loss in [Loss::AtOnce, Loss::Reply] {
        let fixture = Fixture::new().await;
        let proxy = Proxy::before(&fixture.database.url()).await;
        let queue = connect_with(proxy.url(), ConnectOptions::default()).await.unwrap();
        let enqueueing = tokio::spawn(async move { enqueue_many(&queue, 7_000).await });
        for executions in [2, 5] {
            while proxy.executions(FRESH) < executions {
                tokio::task::yield_now().await;
            }
            proxy.trap(FRESH, loss);
        }
        let ids = enqueueing.await.unwrap();
        assert!(proxy.cuts() >= 1 && proxy.most_in_flight() == 2, "{} cuts", proxy.cuts());
        let (mut inserted, mut expected) = (line(&fixture), texts(&ids));
        inserted.sort();
        expected.sort();
        assert_eq!(inserted, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_whose_backends_are_killed_again_and_again_are_inserted_once() {
    let fixture = Fixture::new().await;
    let queue = fixture.another(ConnectOptions::default()).await;
    let killer = Direct::to(&fixture.database.url()).await;
    let enqueueing = tokio::spawn(async move { enqueue_many(&queue, 20_000).await });
    let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                where datname = current_database() and state = 'active' and query like '%placed as (%'
                    and pid <> pg_backend_pid()";
    let mut killed = 0;
    while !enqueueing.is_finished() && killed < 6 {
        killed += killer.client.query_one(kill, &[]).await.unwrap().get::<_, i64>(0);
    }
    let ids = enqueueing.await.unwrap();
    assert!(killed > 0);
    let (mut inserted, mut expected) = (line(&fixture), texts(&ids));
    inserted.sort();
    expected.sort();
    assert_eq!(inserted, expected);
}

struct NoEntropy;

impl Entropy for NoEntropy {
    fn next_u64(&mut self) -> u64 {
        0
    }
}

fn job(n: u64) -> NewJob {
    NewJob {
        id: job_id(1_700_000_000_000 + n, [7; 10]),
        queue: QueueName::new("tasks").expect("a valid name"),
        payload: b"1"[..].into(),
        options: EnqueueOptions::default(),
    }
}

/// Sends jobs as a process does; returns the outcomes in order, the statements, and how many were in flight together.
async fn produce(driver: &TokioPostgres, jobs: impl Iterator<Item = u64>) -> (Vec<Enqueued>, Vec<StatementId>, usize) {
    let catalog = Catalog::new(&SchemaName::default());
    let mut producer = Producer::new(&SchemaName::default()).pipelined(1_000);
    let mut now = Instant::from_start(Duration::from_secs(1));
    for n in jobs {
        producer.enqueue(job(n), now);
    }
    let (mut outcomes, mut sent, mut most) = (Vec::new(), Vec::new(), 0);
    let mut in_flight = FuturesUnordered::new();
    while !producer.is_empty() {
        while let Some(request) = producer.poll_request(now, &mut NoEntropy) {
            sent.push(request.plan().statement);
            let catalog = &catalog;
            in_flight.push(async move {
                let plan = request.plan();
                let reply = driver.run(catalog.statement(plan.statement), &plan.params).await;
                drop(plan);
                (request, reply)
            });
        }
        most = most.max(in_flight.len());
        match in_flight.next().await {
            Some((request, reply)) => producer.handle_reply(request, reply, now, &mut NoEntropy),
            None => now = producer.poll_timeout().expect("something is left to send").0,
        }
        while let Some(event) = producer.poll_event() {
            if let ProducerEvent::Enqueued { request_id, outcome } = event {
                outcomes.push((request_id, outcome.expect("the job is enqueued")));
            }
        }
    }
    outcomes.sort_by_key(|(request_id, _)| *request_id);
    (outcomes.into_iter().map(|(_, outcome)| outcome).collect(), sent, most)
}

/// Another process has sent jobs with the same ids, so that the first statement, the second or both fail (23505).
#[tokio::test]
async fn ids_that_exist_already_disturb_neither_batch_in_flight() {
    for existing in [&[500][..], &[1_500], &[500, 1_500], &[0, 999, 1_000, 1_999]] {
        let fixture = Fixture::new().await;
        let driver = TokioPostgres::new(&fixture.database.url(), &ConnectOptions::default()).unwrap();
        produce(&driver, existing.iter().copied()).await;
        let (outcomes, sent, most) = produce(&driver, 0..3_500).await;
        assert_eq!(most, 2, "{sent:?}");
        let failed = [0..1_000, 1_000..2_000].iter().filter(|batch| existing.iter().any(|n| batch.contains(n))).count();
        let general = sent.iter().filter(|statement| **statement == StatementId::Enqueue).count();
        assert_eq!(general, failed, "{sent:?}");
        let expected: Vec<_> = (0..3_500).map(|n| Enqueued::Inserted(job(n).id)).collect();
        assert_eq!(outcomes, expected);
        let inserted = fixture.column("select id from pm.job order by id");
        assert_eq!(inserted, (0..3_500).map(|n| job(n).id.to_string()).collect::<Vec<_>>());
    }
}
