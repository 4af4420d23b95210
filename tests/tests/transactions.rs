//! Enqueueing and settling in the caller's transaction.

use futures_util::{FutureExt, StreamExt};
use pm_core::{Failure, Rows, Statement, Value};
use pm_driver_tokio_postgres::driver::{BoxFuture, Executor, WithoutNotify};
use pm_driver_tokio_postgres::{
    ConnectOptions, EnqueueOptions, Enqueued, Error, ErrorKind, InTransaction, OnConflict, SettingsChange, State,
    StreamOptions,
};
use pm_sandbox::{Server, ServerOptions};
use pm_tests::{Fixture, TIMEOUT, eventually, unattended, within};
use std::error::Error as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

async fn client(fixture: &Fixture) -> Client {
    let (client, connection) = tokio_postgres::connect(&fixture.database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn a_commit_makes_job_and_ending_visible_and_a_rollback_neither() {
    let fixture = Fixture::new().await;
    let mut client = client(&fixture).await;
    let first = fixture.queue.enqueue("tasks", 1u64, EnqueueOptions::default()).await.unwrap();
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", StreamOptions::default().heartbeat(None));
    let (_, mut ack) = jobs.next().await.unwrap().unwrap().into_parts();

    let transaction = client.transaction().await.unwrap();
    let inside = InTransaction(&transaction);
    let next = fixture.queue.enqueue_in(&inside, "tasks", 2u64, EnqueueOptions::default()).await.unwrap();
    let settlement = ack.commit_in(&inside).await.unwrap();
    transaction.rollback().await.unwrap();
    drop(settlement);
    assert!(fixture.queue.get_job(next).await.unwrap().is_none());
    assert_eq!(fixture.queue.job(first).await.unwrap().state, State::InProgress);

    let transaction = client.transaction().await.unwrap();
    let inside = InTransaction(&transaction);
    let next = fixture.queue.enqueue_in(&inside, "tasks", 2u64, EnqueueOptions::default()).await.unwrap();
    let settlement = ack.commit_in(&inside).await.unwrap();
    assert!(fixture.queue.get_job(next).await.unwrap().is_none(), "not before the commit");
    transaction.commit().await.unwrap();
    settlement.committed();
    assert_eq!(fixture.queue.job(first).await.unwrap().state, State::Finished);
    assert_eq!(jobs.next().await.unwrap().unwrap().id(), next);
}

#[tokio::test]
async fn after_a_rollback_the_ack_can_be_settled_again() {
    let fixture = Fixture::new().await;
    let mut client = client(&fixture).await;
    let id = fixture.queue.enqueue("tasks", 1u64, EnqueueOptions::default()).await.unwrap();
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let (_, mut ack) = jobs.next().await.unwrap().unwrap().into_parts();
    let transaction = client.transaction().await.unwrap();
    let settlement = ack.commit_in(&InTransaction(&transaction)).await.unwrap();
    transaction.rollback().await.unwrap();
    drop(settlement);
    ack.hard_fail("the order was refused").await.unwrap();
    assert_eq!(fixture.queue.job(id).await.unwrap().state, State::Failed);
}

/// A handler in REPEATABLE READ whose work takes longer than a third of the lease: the extension during its first try
/// fails that try, and there is none during the second.
#[tokio::test]
async fn a_second_try_has_most_of_the_lease() {
    const LEASE: Duration = Duration::from_secs(15);
    let fixture = Fixture::with(SettingsChange::new().lease(LEASE)).await;
    let mut client = client(&fixture).await;
    let id = fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let (_, mut ack) = jobs.next().await.unwrap().unwrap().into_parts();
    let left_ms = "select (extract(epoch from lease_expires_at - now()) * 1000)::int8 from pm.job where state = 1";
    for attempt in 1..=2 {
        let transaction = client.transaction().await.unwrap();
        let snapshot = "set transaction isolation level repeatable read; select from pm.job";
        transaction.batch_execute(snapshot).await.unwrap();
        let before = fixture.column("select lease_expires_at from pm.job");
        let a_third_has_passed =
            async || fixture.column("select lease_expires_at from pm.job") != before || fixture.number(left_ms) < 9_000;
        eventually("the work takes a while", LEASE, a_third_has_passed).await;
        match (attempt, ack.commit_in(&InTransaction(&transaction)).await) {
            (1, Err(refused)) => assert!(refused.to_string().contains("40001"), "{refused}"),
            (2, Ok(settlement)) => {
                transaction.commit().await.unwrap();
                settlement.committed();
            }
            (_, answer) => panic!("try {attempt}: {answer:?}"),
        }
    }
    assert_eq!(fixture.job(id).await.state, State::Finished);
}

#[tokio::test]
async fn a_stale_ack_is_refused_in_a_transaction_too() {
    let fixture = Fixture::new().await;
    let mut client = client(&fixture).await;
    let id = fixture.queue.enqueue("tasks", 1u64, EnqueueOptions::default()).await.unwrap();
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let (_, mut ack) = jobs.next().await.unwrap().unwrap().into_parts();
    fixture.queue.restart_jobs(&[id], true).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let refused = ack.commit_in(&InTransaction(&transaction)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn many_jobs_go_in_together_and_key_conflicts_are_reported() {
    let fixture = Fixture::new().await;
    let mut client = client(&fixture).await;
    let keyed = || EnqueueOptions::default().key("once");
    let holder = fixture.queue.enqueue("tasks", 0u64, keyed()).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let inside = InTransaction(&transaction);
    let jobs = (0..2_500u64).map(|n| (n, if n == 1_200 { keyed() } else { EnqueueOptions::default() }));
    let enqueued = fixture.queue.enqueue_many_in(&inside, "tasks", jobs).await.unwrap();
    let existing: Vec<_> = enqueued.iter().filter(|one| matches!(one, Enqueued::Existing(..))).collect();
    assert_eq!((enqueued.len(), existing.len(), existing[0].id()), (2_500, 1, holder));
    transaction.commit().await.unwrap();
    assert_eq!(fixture.jobs_in(State::Pending), 2_500);

    let transaction = client.transaction().await.unwrap();
    let inside = InTransaction(&transaction);
    let refuse = keyed().on_conflict(OnConflict::Refuse);
    let refused = fixture.queue.enqueue_in(&inside, "tasks", 0u64, refuse).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::KeyConflict);
    let nowhere = fixture.queue.enqueue_in(&inside, "nowhere", 0u64, EnqueueOptions::default()).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::QueueNotFound);
    transaction.commit().await.expect("a refusal leaves the transaction usable");
}

/// Runs statements in a transaction, and records how many bytes of payloads each had.
#[derive(Debug)]
struct Scale<'t>(InTransaction<'t>, Mutex<Vec<usize>>);

impl Executor for Scale<'_> {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        let bytes = params.iter().map(|value| match value {
            Value::BytesArray(cells) => cells.iter().flatten().map(|cell| cell.len()).sum(),
            _ => 0,
        });
        self.1.lock().unwrap().push(bytes.sum());
        self.0.run(statement, params)
    }
}

#[tokio::test]
async fn jobs_enqueued_in_a_transaction_are_sent_in_statements_of_16_mib() {
    let fixture = Fixture::new().await;
    let mut client = client(&fixture).await;
    let transaction = client.transaction().await.unwrap();
    let scale = Scale(InTransaction(&transaction), Mutex::default());
    let sizes = [900_000; 30].into_iter().chain([3_000_000; 2]);
    let jobs = sizes.map(|size| ("x".repeat(size), EnqueueOptions::default()));
    let enqueued = fixture.queue.enqueue_many_in(&scale, "tasks", jobs).await.unwrap();
    let sent = scale.1.into_inner().unwrap();
    assert_eq!((sent.len(), sent.iter().max() < Some(&(16 << 20))), (4, true), "{sent:?}");
    transaction.commit().await.unwrap();
    let (ids, mut stored) = (
        enqueued.iter().map(|job| job.id().to_string()).collect::<Vec<_>>(),
        fixture.column("select id from pm.job order by seq"),
    );
    stored.truncate(ids.len() + 1);
    assert_eq!(stored, ids, "in order");
}

#[tokio::test]
async fn an_idle_worker_is_notified_at_the_commit() {
    let fixture = Fixture::new().await;
    let mut client = client(&fixture).await;
    let hour = Duration::from_secs(3_600);
    let options = StreamOptions::default().poll(hour, hour).idle_poll(hour);
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", options);
    let worker = tokio::spawn(async move { jobs.next().await.unwrap().unwrap().into_parts().1.commit().await });
    let idle = "select count(*) from pm.queue where idle_until > now()";
    eventually("the worker is idle", Duration::from_secs(10), async || fixture.number(idle) == 1).await;
    let producer = fixture.another(ConnectOptions::default()).await;
    let transaction = client.transaction().await.unwrap();
    producer.enqueue_in(&InTransaction(&transaction), "tasks", 1u64, EnqueueOptions::default()).await.unwrap();
    transaction.commit().await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), worker).await.expect("the job is found").unwrap().unwrap();
}

#[tokio::test]
async fn everything_works_without_anything_kept_in_a_session() {
    let fixture = Fixture::new().await;
    let queue = fixture.another(ConnectOptions::default().pooler(true)).await;
    let id = queue.enqueue("tasks", 1u64, EnqueueOptions::default()).await.unwrap();
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    jobs.next().await.unwrap().unwrap().into_parts().1.commit().await.unwrap();
    assert_eq!(queue.job(id).await.unwrap().state, State::Finished);
    assert!(!queue.is_listening());
    assert_eq!(fixture.number("select count(*) from pg_prepared_statements"), 0);
}

/// Returns whether a refusal has ended the transaction.
fn is_of_the_server(error: &Error) -> bool {
    error.source().is_some_and(|source| source.is::<Failure>())
}

/// An error of pm itself leaves the transaction usable; an error of the server has it as its source.
#[tokio::test]
async fn whether_a_refusal_has_ended_the_transaction_shows_in_its_source() {
    let fixture = Fixture::new().await;
    let mut client = client(&fixture).await;
    let transaction = client.transaction().await.unwrap();
    let inside = InTransaction(&transaction);
    let put = async |queue: &str, options| fixture.queue.enqueue_in(&inside, queue, 1u64, options).await;
    let long = EnqueueOptions::default().key("x".repeat(2_000));
    let [own, nowhere] = [put("tasks", long).await, put("nowhere", EnqueueOptions::default()).await];
    for error in [own.unwrap_err(), nowhere.unwrap_err()] {
        assert!(!is_of_the_server(&error), "{error:?}");
        transaction.batch_execute("select 1").await.expect("the transaction is usable");
    }
    transaction.batch_execute("set local search_path = public, pg_catalog").await.unwrap();
    let error = put("tasks", EnqueueOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(is_of_the_server(&error), "{error:?}");
    transaction.batch_execute("select 1").await.expect_err("the server has aborted it");
}

/// Runs statements in a transaction, and counts them.
struct Counting<'t>(InTransaction<'t>, AtomicUsize);

impl Executor for Counting<'_> {
    fn run<'a>(&'a self, statement: &'a Statement, params: &'a [Value<'a>]) -> BoxFuture<'a, Result<Rows, Failure>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.run(statement, params)
    }
}

/// A job that has the key is locked but not changed: the call waits for it without sending statements all the time.
#[tokio::test]
async fn a_call_whose_key_is_reserved_by_a_locked_job_polls_seldom_and_ends() {
    let fixture = Fixture::new().await;
    let replace = || EnqueueOptions::default().key("once").on_conflict(OnConflict::Replace);
    let id = fixture.put_with(0, replace()).await;
    let (mut client, mut holder) = (client(&fixture).await, client(&fixture).await);
    let lock = holder.transaction().await.unwrap();
    lock.batch_execute("select from pm.job for update").await.unwrap();
    for is_locked_for_ever in [false, true] {
        let transaction = client.transaction().await.unwrap();
        let counting = Counting(InTransaction(&transaction), AtomicUsize::new(0));
        let call = fixture.queue.enqueue_many_in(&counting, "tasks", [(1u64, replace())]);
        if is_locked_for_ever {
            let refused = call.await.unwrap_err();
            assert!(refused.to_string().contains("locked") && is_of_the_server(&refused), "{refused}");
        } else {
            let timed_out = tokio::time::timeout(Duration::from_secs(1), call).await;
            assert!(timed_out.is_err(), "{timed_out:?}");
        }
        let sent = counting.1.into_inner();
        assert!(sent <= 2 * 15, "{sent} statements");
        transaction.rollback().await.unwrap();
    }
    lock.rollback().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let call = fixture.queue.enqueue_many_in(&InTransaction(&transaction), "tasks", [(1u64, replace())]).await;
    assert_eq!(call.unwrap(), [Enqueued::Replaced(id)]);
}

/// A transaction prepared for two-phase commit is not refused because a worker is idle.
#[tokio::test]
async fn a_transaction_that_notifies_nothing_can_be_prepared_while_workers_are_idle() {
    let options = ServerOptions::shared().setting("max_prepared_transactions", "4");
    let server = Server::start_with(options).expect("a private Postgres starts");
    let url = server.create_database("prepared").expect("the database is created");
    let connect = async || pm_driver_tokio_postgres::connect(&url).await.unwrap();
    let (queue, worker) = (connect().await, connect().await);
    queue.create_queue("tasks", false).await.unwrap();
    let hour = Duration::from_secs(3_600);
    let options = StreamOptions::default().poll(hour, hour).idle_poll(hour);
    let mut jobs = worker.try_stream_jobs_with::<u64>("tasks", options);
    let idle = "select count(*) from pm.queue where idle_until > now()";
    assert!(jobs.next().now_or_never().is_none());
    let is_idle = async || server.execute("prepared", idle).unwrap()[0][0].as_deref() == Some("1");
    eventually("the worker is idle", TIMEOUT, is_idle).await;

    let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let transaction = client.transaction().await.unwrap();
    queue.enqueue_in(&InTransaction(&transaction), "tasks", 1u64, EnqueueOptions::default()).await.unwrap();
    let refused = transaction.batch_execute("prepare transaction 'one'").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "0A000", "without WithoutNotify it is refused: {refused}");
    transaction.rollback().await.unwrap();

    let transaction = client.transaction().await.unwrap();
    let inside = InTransaction(&transaction);
    let many = (0..3u64).map(|n| (n, EnqueueOptions::default()));
    queue.enqueue_many_in(&WithoutNotify(&inside), "tasks", many).await.unwrap();
    transaction.batch_execute("prepare transaction 'two'").await.unwrap();
    // The session's transaction has ended; the rollback of tokio-postgres has no effect.
    drop(transaction);
    client.batch_execute("commit prepared 'two'").await.unwrap();
    queue.wake_workers().await.unwrap();
    for _ in 0..3 {
        let job = tokio::time::timeout(TIMEOUT, jobs.next()).await.expect("the worker is notified").unwrap().unwrap();
        let (_, mut ack) = job.into_parts();
        let transaction = client.transaction().await.unwrap();
        let settlement = ack.commit_in(&InTransaction(&transaction)).await.unwrap();
        transaction.batch_execute("prepare transaction 'three'").await.unwrap();
        drop(transaction);
        client.batch_execute("commit prepared 'three'").await.unwrap();
        settlement.committed();
    }
    let finished = server.execute("prepared", "select count(*) from pm.job where state = 2").unwrap();
    assert_eq!(finished[0][0].as_deref(), Some("3"));
}

/// A handler that commits its job and enqueues the next one in a transaction: if the next queue is missing, both roll
/// back.
#[tokio::test]
async fn a_chain_into_a_missing_queue_does_not_finish_its_source() {
    let fixture = Fixture::new().await;
    let id = fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let (_, mut ack) = jobs.next().await.unwrap().unwrap().into_parts();
    let mut client = client(&fixture).await;

    let transaction = client.transaction().await.unwrap();
    let inside = InTransaction(&transaction);
    let settlement = ack.commit_in(&inside).await.unwrap();
    let missing = fixture.queue.enqueue_in(&inside, "next", 2u64, EnqueueOptions::default()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::QueueNotFound);
    transaction.rollback().await.unwrap();
    drop(settlement);
    assert_eq!(fixture.state(id).await, State::InProgress, "nothing has changed");

    fixture.queue.create_queue("next", false).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let inside = InTransaction(&transaction);
    let settlement = ack.commit_in(&inside).await.unwrap();
    let successor = fixture.queue.enqueue_in(&inside, "next", 2u64, EnqueueOptions::default()).await.unwrap();
    transaction.commit().await.unwrap();
    settlement.committed();
    assert_eq!((fixture.state(id).await, fixture.state(successor).await), (State::Finished, State::Pending));
}

/// Under a stricter isolation level than READ COMMITTED a conflict is an error that the caller retries.
#[tokio::test]
async fn a_key_conflict_in_a_repeatable_read_transaction_surfaces_as_40001() {
    let fixture = Fixture::new().await;
    let mut client = client(&fixture).await;
    let transaction = client.transaction().await.unwrap();
    transaction
        .batch_execute("set transaction isolation level repeatable read; select count(*) from pm.job")
        .await
        .unwrap();
    let key = || EnqueueOptions::default().key("one");
    let first = fixture.put_with(1, key()).await;
    let refused = fixture.queue.enqueue_in(&InTransaction(&transaction), "tasks", 2u64, key()).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Database && refused.to_string().contains("40001"), "{refused}");
    transaction.rollback().await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let again = fixture.queue.enqueue_in(&InTransaction(&transaction), "tasks", 2u64, key()).await.unwrap();
    assert_eq!(again, first, "under READ COMMITTED the answer is exact");
}

#[tokio::test]
async fn lost_ends_when_the_transaction_that_settled_the_job_has_committed() {
    let fixture = Fixture::new().await;
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let (_, mut ack) = jobs.next().await.unwrap().unwrap().into_parts();
    let lost = tokio::spawn(ack.lost());
    tokio::task::yield_now().await;
    let mut client = client(&fixture).await;
    let transaction = client.transaction().await.unwrap();
    let settlement = ack.commit_in(&InTransaction(&transaction)).await.unwrap();
    transaction.commit().await.unwrap();
    settlement.committed();
    within("the end of lost()", lost).await.unwrap();
}
