//! A statement that waits for a lock delays no other: claims, settles and extensions go on, on every kind of
//! connection.

use deadpool_postgres::{Manager, Pool};
use futures_util::FutureExt;
use futures_util::future::join_all;
use pm_core::StatementId;
use pm_driver_tokio_postgres::driver::{Columns, Driver, Statement};
use pm_driver_tokio_postgres::{
    BulkAction, Change, ConnectOptions, Error, ErrorKind, Precondition, Queue, QueueName, SettingsChange, Uuid,
};
use pm_sandbox::Pooler;
use pm_tests::{Direct, Fixture, LOCK_WAITS, TIMEOUT, eventually, next, take, within};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;

const SECOND: Duration = Duration::from_secs(1);
/// How many connections the caller's pool has.
const POOLED: usize = 4;

/// The ways to connect to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    TokioPostgres,
    Sqlx,
    Deadpool,
    SqlxPool,
    TokioPostgresThroughPooler,
    SqlxThroughPooler,
}

impl Way {
    const ALL: [Way; 6] = [
        Way::TokioPostgres,
        Way::Sqlx,
        Way::Deadpool,
        Way::SqlxPool,
        Way::TokioPostgresThroughPooler,
        Way::SqlxThroughPooler,
    ];

    /// Opens a handle on a database in this way.
    async fn open(self, fixture: &Fixture, pooler: &Pooler, options: &ConnectOptions) -> Queue {
        let options = options.clone();
        let (url, pooled_url) = (fixture.database.url(), pooler.url_of(fixture.database.name()));
        let opened = match self {
            Way::TokioPostgres => pm_driver_tokio_postgres::connect_with(&url, options).await,
            Way::Sqlx => pm_driver_sqlx::connect_with(&url, options).await,
            Way::Deadpool => {
                let pool = Pool::builder(Manager::new(url.parse().unwrap(), NoTls)).max_size(POOLED).build().unwrap();
                pm_driver_tokio_postgres::from_pool(pool, options).await
            }
            Way::SqlxPool => {
                let server: PgConnectOptions = url.parse().unwrap();
                let pool = PgPoolOptions::new().max_connections(POOLED as u32).connect_with(server).await.unwrap();
                pm_driver_sqlx::from_pool(pool, options).await
            }
            Way::TokioPostgresThroughPooler => {
                pm_driver_tokio_postgres::connect_with(&pooled_url, options.pooler(true)).await
            }
            Way::SqlxThroughPooler => pm_driver_sqlx::connect_with(&pooled_url, options.pooler(true)).await,
        };
        opened.unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }
}

/// Options of a handle whose statements wait for locks longer than any test.
fn long_timeouts() -> ConnectOptions {
    ConnectOptions::default().lock_timeout(SECOND * 300).statement_timeout(SECOND * 300)
}

async fn lock(session: &mut Direct, ids: &[Uuid]) {
    let ids: Vec<_> = ids.iter().map(|id| format!("'{id}'")).collect();
    let sql = format!("begin; select from pm.job where id in ({}) for update", ids.join(","));
    session.client.batch_execute(&sql).await.unwrap();
}

async fn unlock(session: &mut Direct) {
    session.client.batch_execute("rollback").await.unwrap();
}

/// Returns how many sessions wait for a lock.
fn waiting(fixture: &Fixture) -> i64 {
    fixture.number(LOCK_WAITS)
}

/// Starts copying a job `times` times in parallel; the copies wait while the job is locked.
fn copy(queue: &Queue, id: Uuid, times: usize) -> Vec<JoinHandle<Result<Uuid, Error>>> {
    let copying = |queue: Queue| tokio::spawn(async move { queue.copy_job(id, "copies", Default::default()).await });
    (0..times).map(|_| copying(queue.clone())).collect()
}

/// Runs a test on every way in parallel, each with its own database.
async fn each_way(settings: SettingsChange, options: ConnectOptions, test: impl AsyncFn(Way, &Fixture, &Queue)) {
    let on = async |way: Way| {
        let fixture = Fixture::with(settings.clone()).await;
        let pooler = Pooler::before(&fixture.database.url()).unwrap();
        let queue = way.open(&fixture, &pooler, &options).await;
        test(way, &fixture, &queue).await;
        within(&format!("{way:?}: the end"), queue.close()).await;
    };
    join_all(Way::ALL.map(on)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_enqueued_and_committed_while_operators_wait_for_a_locked_job() {
    each_way(SettingsChange::new(), long_timeouts(), async |way, fixture, queue| {
        let locked = fixture.put(0).await;
        let mut jobs = queue.try_stream_jobs::<u64>("tasks");
        next(&mut jobs).await.into_parts().1.leave();
        let mut session = Direct::to(&fixture.database.url()).await;
        lock(&mut session, &[locked]).await;
        queue.create_queue("copies", false).await.unwrap();
        let copying = copy(queue, locked, 30);
        eventually("a copy waits", TIMEOUT, async || waiting(fixture) > 0).await;
        for n in 1..20u64 {
            within(&format!("{way:?}: an enqueue"), queue.enqueue("tasks", n, Default::default())).await.unwrap();
            let job = next(&mut jobs).await;
            within(&format!("{way:?}: a commit"), job.into_parts().1.commit()).await.unwrap();
        }
        assert!(copying.iter().all(|one| !one.is_finished()), "{way:?}: the copies still wait");
        unlock(&mut session).await;
        for copied in within(&format!("{way:?}: the copies"), join_all(copying)).await {
            copied.unwrap().unwrap_or_else(|error| panic!("{way:?}: {error}"));
        }
    })
    .await;
}

/// Lets the heartbeat extend a job's lease several times while other statements wait for locks, and commits it.
async fn heartbeat(way: Way, fixture: &Fixture, queue: &Queue, block: impl AsyncFnOnce(&mut Direct)) {
    let kept = fixture.put(0).await;
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    let ack = next(&mut jobs).await.into_parts().1;
    assert_eq!(ack.id(), kept);
    let mut session = Direct::to(&fixture.database.url()).await;
    block(&mut session).await;
    let ends = format!("select (extract(epoch from lease_expires_at) * 1000)::int8 from pm.job where id = '{kept}'");
    let first = fixture.number(&ends);
    let is_extended = async || fixture.number(&ends) > first + 6_000;
    eventually(&format!("{way:?}: the lease of 3 s is extended, more than once"), TIMEOUT, is_extended).await;
    assert!(ack.lost().now_or_never().is_none(), "{way:?}");
    unlock(&mut session).await;
    within(&format!("{way:?}: the commit"), ack.commit()).await.unwrap_or_else(|error| panic!("{way:?}: {error}"));
    assert_eq!(fixture.job(kept).await.attempt, 1, "{way:?}: no other worker began it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_extended_while_operators_wait_for_a_locked_job() {
    each_way(SettingsChange::new().lease(SECOND * 3), long_timeouts(), async |way, fixture, queue| {
        let other = fixture.put(1).await;
        fixture.queue.fail_jobs(&[other], "not to be claimed").await.unwrap();
        fixture.queue.create_queue("copies", false).await.unwrap();
        heartbeat(way, fixture, queue, async |session| {
            lock(session, &[other]).await;
            drop(copy(queue, other, 4));
            eventually("a copy waits", TIMEOUT, async || waiting(fixture) > 0).await;
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_extended_while_many_settles_wait_for_locked_jobs() {
    const LOCKED: usize = 8;
    each_way(SettingsChange::new().lease(SECOND * 3), long_timeouts(), async |way, fixture, queue| {
        fixture.queue.create_queue("others", false).await.unwrap();
        let others = (0..LOCKED as u64).map(|n| (n, Default::default()));
        fixture.queue.enqueue_many("others", others).await.unwrap();
        let mut acks = Vec::new();
        for _ in 0..LOCKED {
            // One stream each: the settles of one stream share a statement.
            let mut jobs = queue.try_stream_jobs_with::<u64>("others", pm_tests::unattended().prefetch(1));
            acks.push(take(&mut jobs, 1).await.remove(0).into_parts().1);
        }
        heartbeat(way, fixture, queue, async |session| {
            lock(session, &acks.iter().map(|ack| ack.id()).collect::<Vec<_>>()).await;
            acks.into_iter().for_each(|ack| ack.commit().detach());
            eventually(&format!("{way:?}: a settle waits"), TIMEOUT, async || waiting(fixture) > 0).await;
        })
        .await;
    })
    .await;
}

/// How many sessions may still wait: statements that were given up are cancelled, however long the lock lasts.
const LEFT_WAITING: i64 = 2;

/// Options of a handle whose statements soon stop waiting for a lock.
fn short_timeouts() -> ConnectOptions {
    ConnectOptions::default().lock_timeout(SECOND / 4).statement_timeout(SECOND * 2)
}

/// The settles of 40 jobs share a statement that contains the locked one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_of_a_locked_job_are_settled_and_statements_given_up_are_cancelled_on_the_server() {
    const JOBS: usize = 40;
    each_way(SettingsChange::new(), short_timeouts(), async |way, fixture, queue| {
        fixture.put_many(JOBS as u64).await;
        let mut jobs = queue.try_stream_jobs_with::<u64>("tasks", pm_tests::unattended());
        let acks: Vec<_> = take(&mut jobs, JOBS).await.into_iter().map(|job| job.into_parts().1).collect();
        let locked = acks[JOBS / 3].id();
        let mut session = Direct::to(&fixture.database.url()).await;
        lock(&mut session, &[locked]).await;
        let start = std::time::Instant::now();
        let mut settling: Vec<_> = acks.into_iter().map(|ack| (ack.id(), ack.commit())).collect();
        let (_, mut locked_one) = settling.remove(JOBS / 3);
        let operators = async {
            for _ in 0..3 {
                let refused = queue.copy_job(locked, "tasks", Default::default()).await.expect_err("it is locked");
                assert!(refused.to_string().contains("55P03"), "{way:?}: {refused}");
            }
        };
        let neighbours = async {
            for settled in join_all(settling.into_iter().map(|(_, settling)| settling)).await {
                settled.unwrap_or_else(|error| panic!("{way:?}: {error}"));
            }
        };
        within(&format!("{way:?}: the neighbours"), futures_util::future::join(neighbours, operators)).await;
        // 24 times as long as any statement may wait.
        while start.elapsed() < SECOND * 6 {
            let waiting = waiting(fixture);
            assert!(waiting <= LEFT_WAITING, "{way:?}: {waiting} sessions wait");
            tokio::time::sleep(SECOND / 10).await;
        }
        assert!((&mut locked_one).now_or_never().is_none(), "{way:?}: it waits for the lock");
        unlock(&mut session).await;
        within(&format!("{way:?}: the locked one"), locked_one)
            .await
            .unwrap_or_else(|error| panic!("{way:?}: {error}"));
    })
    .await;
}

/// A bulk action on jobs of which one is locked changes the others at once, and keeps none of them locked while it
/// waits for that one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_action_delays_no_neighbour_of_a_locked_job() {
    const JOBS: usize = 40;
    each_way(SettingsChange::new(), long_timeouts(), async |way, fixture, queue| {
        fixture.put_many(JOBS as u64).await;
        queue.create_queue("others", false).await.unwrap();
        let mut jobs = queue.try_stream_jobs_with::<u64>("tasks", pm_tests::unattended());
        let mut acks: Vec<_> = take(&mut jobs, JOBS).await.into_iter().map(|job| job.into_parts().1).collect();
        let ids: Vec<Uuid> = acks.iter().map(|ack| ack.id()).collect();
        let locked = JOBS / 3;
        let mut session = Direct::to(&fixture.database.url()).await;
        lock(&mut session, &ids[locked..=locked]).await;
        let (mover, of) = (queue.clone(), ids.clone());
        let moving = tokio::spawn(async move { mover.move_jobs(&of, "others").await });
        let moved = "select count(*) from pm.job join pm.queue on queue.id = queue_id where name = 'others'";
        eventually(&format!("{way:?}: the others are moved"), TIMEOUT, async || {
            fixture.number(moved) == JOBS as i64 - 1
        })
        .await;
        let theirs = acks.remove(locked);
        for settled in within(&format!("{way:?}: the others"), join_all(acks.into_iter().map(|ack| ack.commit()))).await
        {
            settled.unwrap_or_else(|error| panic!("{way:?}: {error}"));
        }
        assert!(!moving.is_finished(), "{way:?}: it is retried while the job is locked");
        unlock(&mut session).await;
        let count = within(&format!("{way:?}: the locked one"), moving).await.unwrap();
        assert_eq!(count.unwrap_or_else(|error| panic!("{way:?}: {error}")), JOBS as u64);
        within(&format!("{way:?}: its commit"), theirs.commit()).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bulk_call_reports_which_jobs_stay_locked_and_changes_the_others() {
    each_way(SettingsChange::new(), short_timeouts(), async |way, fixture, queue| {
        queue.create_queue("others", false).await.unwrap();
        let (locked, missing, anything) = (fixture.put(0).await, Uuid::from_u128(1), Precondition::default());
        let mut session = Direct::to(&fixture.database.url()).await;
        lock(&mut session, &[locked]).await;
        let mut ids = [locked, fixture.put(1).await, missing];
        let expected = [Change::Locked, Change::Changed, Change::NotFound];
        let to = QueueName::new("others").unwrap();
        for action in [
            BulkAction::Restart { force: false },
            BulkAction::Move { to },
            BulkAction::SetPriority(5),
            BulkAction::Fail { reason: "enough".to_owned() },
            BulkAction::Delete,
            BulkAction::Finish,
        ] {
            if action == BulkAction::Finish {
                ids[1] = fixture.put(2).await;
            }
            let report = queue.change_jobs(&action, &ids, &anything).await.unwrap();
            assert_eq!(report.changes(), expected, "{way:?}: {action:?}");
        }
        let refused = queue.delete_jobs(&ids).await.expect_err("one is locked");
        assert_eq!(refused.kind(), ErrorKind::Database, "{way:?}");
        assert!(refused.to_string().contains("locked 1 of 3 jobs"), "{way:?}: {refused}");
        assert_eq!(fixture.number("select count(*) from pm.job"), 1, "{way:?}: only the locked one is left");
        assert_eq!(waiting(fixture), 0, "{way:?}");
        unlock(&mut session).await;
        assert_eq!(queue.delete_jobs(&[locked]).await.unwrap(), 1, "{way:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_while_locked_jobs_are_retried_does_not_hide_what_became_of_the_others() {
    let fixture = Fixture::new().await;
    let ids = [fixture.put(0).await, fixture.put(1).await];
    let mut session = Direct::to(&fixture.database.url()).await;
    lock(&mut session, &ids[..1]).await;
    let queue = fixture.another(long_timeouts()).await;
    let (deleter, another) = (queue.clone(), queue.clone());
    let deleting =
        tokio::spawn(
            async move { deleter.change_jobs(&BulkAction::Delete, &ids, &Precondition::default()).await.unwrap() },
        );
    let jobs = async || fixture.number("select count(*) from pm.job") == 1;
    eventually("the other is deleted", TIMEOUT, jobs).await;
    let counting = tokio::spawn(async move { another.delete_jobs(&ids[..1]).await });
    tokio::time::sleep(SECOND / 10).await;
    queue.close().await;
    let report = within("the report", deleting).await.unwrap();
    assert_eq!(report.changes(), [Change::Locked, Change::Changed]);
    let error = within("the count", counting).await.unwrap().expect_err("it was interrupted");
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_enqueue_that_was_refused_for_a_lock_does_not_go_in_later() {
    let options = short_timeouts().lock_timeout(SECOND / 10);
    each_way(SettingsChange::new(), options, async |way, fixture, queue| {
        let mut session = Direct::to(&fixture.database.url()).await;
        session.client.batch_execute("begin; select from pm.queue for update").await.unwrap();
        let enqueues = (0..50u64).map(|n| queue.enqueue("tasks", n, Default::default()));
        let answers = tokio::time::timeout(TIMEOUT * 2, join_all(enqueues)).await;
        for answer in answers.unwrap_or_else(|_| panic!("{way:?}: no answer")) {
            let refused = answer.expect_err("the queue is locked");
            assert!(refused.to_string().contains("55P03"), "{way:?}: {refused}");
        }
        assert_eq!(waiting(fixture), 0, "{way:?}");
        unlock(&mut session).await;
        within("one more", queue.enqueue("tasks", 50u64, Default::default())).await.unwrap();
        assert_eq!(fixture.number("select count(*) from pm.job"), 1, "{way:?}");
    })
    .await;
}

/// Sets a timeout for all later sessions of a database.
fn set_for_all(fixture: &Fixture, setting: &str) {
    fixture.database.execute(&format!("alter database \"{}\" set {setting}", fixture.database.name())).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shorter_timeout_of_the_callers_sessions_is_kept() {
    let fixture = Fixture::new().await;
    let pooler = Pooler::before(&fixture.database.url()).unwrap();
    let id = fixture.put(1).await;
    set_for_all(&fixture, "lock_timeout = '200ms'");
    let mut session = Direct::to(&fixture.database.url()).await;
    lock(&mut session, &[id]).await;
    for way in [Way::Deadpool, Way::SqlxPool, Way::TokioPostgresThroughPooler, Way::SqlxThroughPooler] {
        let queue = way.open(&fixture, &pooler, &long_timeouts()).await;
        let refused = within(&format!("{way:?}"), queue.copy_job(id, "tasks", Default::default())).await;
        let refused = refused.expect_err("it is locked");
        assert!(refused.to_string().contains("55P03"), "{way:?}: {refused}");
    }
}

fn statement(text: &str) -> Statement {
    Statement { id: StatementId::Job, text: text.to_owned(), params: vec![], columns: <String as Columns>::COLUMNS }
}

/// In sessions of a pool, a statement runs with the same settings as in pm's own, and leaves none behind, even when its
/// future is dropped halfway; no transaction stays open either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_sent_with_each_statement_and_leave_no_trace() {
    let fixture = Fixture::new().await;
    let pooler = Pooler::before(&fixture.database.url()).unwrap();
    let (url, pooled_url) = (fixture.database.url(), pooler.url_of(fixture.database.name()));
    let server: PgConnectOptions = url.parse().unwrap();
    let pool = PgPoolOptions::new().max_connections(2).connect_with(server).await.unwrap();
    let options = ConnectOptions::default();
    let pooled = options.clone().pooler(true);
    let runtime = std::sync::Arc::new(pm_driver_sqlx::runtime::Tokio::current());
    let drivers: [Box<dyn Driver>; 3] = [
        Box::new(pm_driver_sqlx::Sqlx::of_pool(pool.clone(), &options, runtime.clone()).unwrap()),
        Box::new(pm_driver_sqlx::Sqlx::new(&pooled_url, &pooled, runtime.clone()).unwrap()),
        Box::new(pm_driver_tokio_postgres::TokioPostgres::new(&pooled_url, &pooled).unwrap()),
    ];
    let names = "array['lock_timeout', 'statement_timeout', 'enable_seqscan', 'jit', 'search_path']";
    let all = format!(
        "select string_agg(name || '=' || current_setting(name), ' ' order by number)
                       from unnest({names}) with ordinality as setting(name, number)"
    );
    let settings = statement(&all);
    let slow = statement("select 'slow' from pg_catalog.pg_sleep(0.3)");
    for (n, driver) in drivers.iter().enumerate() {
        let rows = driver.run(&settings, &[]).await.unwrap();
        let mut row = rows.only(StatementId::Job).unwrap();
        let seen: String = row.read().unwrap();
        assert_eq!(
            seen, "lock_timeout=5s statement_timeout=30s enable_seqscan=off jit=off search_path=pg_catalog",
            "{n}"
        );
        for ms in [0, 1, 2, 5, 20, 100] {
            drop(tokio::time::timeout(Duration::from_millis(ms), driver.run(&slow, &[])).await);
        }
        driver.run(&statement("select 'x' from nowhere"), &[]).await.expect_err("there is no such table");
    }
    let open = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in%'";
    eventually("no transaction is open", TIMEOUT, async || fixture.number(open) == 0).await;
    let mut of_pool = Vec::new();
    for _ in 0..2 {
        of_pool.push(pool.acquire().await.unwrap());
    }
    let (client, connection) = tokio_postgres::connect(&pooled_url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let default = "lock_timeout=0 statement_timeout=0 enable_seqscan=on jit=on search_path=\"$user\", public";
    for connection in &mut of_pool {
        let seen: String =
            sqlx::query_scalar(sqlx::AssertSqlSafe(all.clone())).fetch_one(&mut **connection).await.unwrap();
        assert_eq!(seen, default);
    }
    for _ in 0..8 {
        assert_eq!(client.query_typed(&all, &[]).await.unwrap()[0].get::<_, String>(0), default);
    }
}
