//! A real PgBouncer in transaction mode. The conformance suite covers that everything works through it: its stacks
//! `…::pgbouncer`.

use deadpool_postgres::{Manager, Pool};
use futures_util::future::join_all;
use pm_driver_tokio_postgres::{Advice, ConnectOptions, EnqueueOptions, Error, ErrorKind, Queue, State};
use pm_sandbox::Pooler;
use pm_tests::{Fixture, Seed, eventually, next, within};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio_postgres::NoTls;

/// Settings of a pooler that ignores startup parameters that it cannot apply.
const IGNORES: [(&str, &str); 1] = [("ignore_startup_parameters", "extra_float_digits, options")];

/// Asserts that an error names the setting, and is not one that a retry could fix.
#[track_caller]
fn assert_names_the_setting(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!(error.advice(), Some(&Advice::Pooler), "{error}");
    assert!(error.to_string().contains("ConnectOptions::pooler"), "{error}");
}

fn server(url: &str) -> PgConnectOptions {
    url.parse().unwrap()
}

async fn sqlx_pool(server: PgConnectOptions) -> PgPool {
    PgPoolOptions::new().max_connections(8).connect_with(server).await.unwrap()
}

#[tokio::test]
async fn a_pooler_that_is_not_configured_is_detected() {
    let fixture = Fixture::new().await;
    for settings in [&[][..], &IGNORES] {
        let pooler = Pooler::before_with(&fixture.database.url(), settings).unwrap();
        let url = pooler.url_of(fixture.database.name());
        assert_names_the_setting(&pm_driver_tokio_postgres::connect(&url).await.unwrap_err());
        assert_names_the_setting(&pm_driver_sqlx::connect(&url).await.unwrap_err());

        let pooled = ConnectOptions::default().pooler(true);
        let queue = pm_driver_tokio_postgres::connect_with(&url, pooled.clone()).await.unwrap();
        queue.enqueue("tasks", 1u64, EnqueueOptions::default()).await.unwrap();
        pm_driver_sqlx::connect_with(&url, pooled).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_set_on_the_sessions_of_a_pooler() {
    let fixture = Fixture::new().await;
    let pooler = Pooler::before_with(&fixture.database.url(), &IGNORES).unwrap();
    let url = pooler.url_of(fixture.database.name());
    for _ in 0..4 {
        pm_driver_tokio_postgres::connect(&url).await.unwrap_err();
        pm_driver_sqlx::connect(&url).await.unwrap_err();
    }
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..20 {
        let sql = "select current_setting('search_path') || current_setting('enable_seqscan')";
        let reply = client.simple_query(sql).await.unwrap();
        let row = reply.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        assert_eq!(row, Some("\"$user\", publicon"));
    }
}

#[tokio::test]
async fn a_listener_bypasses_the_pooler_or_is_absent() {
    let fixture = Fixture::new().await;
    let pooler = Pooler::before(&fixture.database.url()).unwrap();
    let (direct, url) = (fixture.database.url(), pooler.url_of(fixture.database.name()));
    let past = ConnectOptions::default().pooler(true).listener_url(&direct);
    let pool = || deadpool(&url);
    let sqlx = async || sqlx_pool(server(&url).statement_cache_capacity(0).extra_float_digits(None)).await;
    let queues = [
        pm_driver_tokio_postgres::connect_with(&url, past.clone()).await.unwrap(),
        pm_driver_sqlx::connect_with(&url, past.clone()).await.unwrap(),
        pm_driver_tokio_postgres::from_pool(pool(), past.clone()).await.unwrap(),
        pm_driver_sqlx::from_pool(sqlx().await, past.clone()).await.unwrap(),
    ];
    for queue in queues {
        let mut jobs = queue.try_stream_jobs::<u64>("tasks");
        assert!(futures_util::FutureExt::now_or_never(futures_util::StreamExt::next(&mut jobs)).is_none());
        eventually("the listener is connected", pm_tests::TIMEOUT, async || queue.is_listening()).await;
        let id = fixture.put(1).await;
        let job = next(&mut jobs).await;
        assert_eq!(job.id(), id);
        job.into_parts().1.commit().await.unwrap();
    }
    for url_of_listener in ["no URL", "postgres://"] {
        let bad = ConnectOptions::default().listener_url(url_of_listener);
        assert_eq!(pm_driver_tokio_postgres::connect_with(&url, bad).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert!(!format!("{:?}", ConnectOptions::default().listener_url("postgres://me:secret@there")).contains("secret"));
}

fn deadpool(url: &str) -> Pool {
    let manager = Manager::new(url.parse().unwrap(), NoTls);
    Pool::builder(manager).max_size(8).build().unwrap()
}

/// Runs many different statements concurrently, and checks each answer.
async fn check_every_answer(queue: &Queue, rounds: u64) {
    let mut seed = Seed::from_environment();
    for round in 0..rounds {
        let first = seed.next_u64() >> 8;
        let answers = join_all((0..12).map(async |n| {
            let payload = first + n;
            let named = format!("queue {payload}");
            match n % 3 {
                0 => assert!(queue.create_queue(&named, n % 2 == 0).await?, "{named}"),
                1 => assert_eq!(queue.queue_settings("tasks").await?.backoff.max_retries(), 7),
                _ => {
                    let options = EnqueueOptions::default().description(named.as_str()).priority(n as i32);
                    let id = queue.enqueue("tasks", payload, options).await?;
                    let job = queue.job(id).await?;
                    assert_eq!((job.id, job.description, job.priority), (id, Some(named), n as i32));
                    assert_eq!(job.state, State::Pending);
                }
            }
            Ok::<_, Error>(())
        }));
        for answer in within(&format!("round {round}"), answers).await {
            answer.unwrap();
        }
    }
}

/// Returns a database whose queue `tasks` has distinctive settings, and a pooler with the settings `IGNORES`.
async fn fixture_and_pooler() -> (Fixture, Pooler) {
    let fixture = Fixture::with(pm_driver_tokio_postgres::SettingsChange::new().max_retries(7)).await;
    let pooler = Pooler::before_with(&fixture.database.url(), &IGNORES).unwrap();
    (fixture, pooler)
}

/// sqlx parses in one round trip and runs in the next. In autocommit a pooler may send them to two servers, the second
/// of which runs what another client parsed there and returns rows of another statement.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlx_never_reads_the_rows_of_another_statement() {
    let (fixture, pooler) = fixture_and_pooler().await;
    let url = pooler.url_of(fixture.database.name());
    let options = || ConnectOptions::default().pooler(true).connections(8);
    let owned = pm_driver_sqlx::connect_with(&url, options()).await.unwrap();
    check_every_answer(&owned, 20).await;
    for capacity in [0, 100] {
        let pool = sqlx_pool(server(&url).statement_cache_capacity(capacity)).await;
        let borrowed = pm_driver_sqlx::from_pool(pool, options()).await.unwrap();
        check_every_answer(&borrowed, 10).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callers_pool_behind_a_pooler_works_or_is_refused() {
    let (fixture, pooler) = fixture_and_pooler().await;
    let url = pooler.url_of(fixture.database.name());
    for pooled in [false, true] {
        let options = ConnectOptions::default().pooler(pooled);
        let queue = pm_driver_tokio_postgres::from_pool(deadpool(&url), options).await.unwrap();
        check_every_answer(&queue, 10).await;
    }
    for capacity in [0, 100] {
        let pool = sqlx_pool(server(&url).statement_cache_capacity(capacity)).await;
        let error = pm_driver_sqlx::from_pool(pool.clone(), ConnectOptions::default()).await.unwrap_err();
        assert_names_the_setting(&error);
        let unchecked = ConnectOptions::default().check_schema(false);
        let queue = pm_driver_sqlx::from_pool(pool, unchecked).await.unwrap();
        for _ in 0..2 {
            assert_names_the_setting(&queue.enqueue("tasks", 1u64, EnqueueOptions::default()).await.unwrap_err());
            assert_names_the_setting(&queue.queue_settings("tasks").await.unwrap_err());
        }
    }
    assert_eq!(fixture.number("select count(*) from pm.queue"), 1 + 2 * 10 * 4);
}
