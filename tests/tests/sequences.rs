//! Sequences that are behind the rows they number, as after a failover by logical replication or a partial restore.

use deadpool_postgres::{Manager, Pool};
use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, Finding, Queue};
use pm_sandbox::Pooler;
use pm_tests::{Fixture, next, unattended};
use std::time::Duration;
use tokio_postgres::NoTls;

const SEQUENCES: [&str; 4] = ["job_seq", "queue_id_seq", "payload_id_seq", "schedule_id_seq"];

/// Resets sequences, as on a server to which only the rows were copied.
fn fall_behind(fixture: &Fixture) {
    for sequence in SEQUENCES {
        fixture.database.execute(&format!("select setval('pm.{sequence}', 1, false)")).unwrap();
    }
}

async fn lagging(queue: &Queue) -> Vec<Finding> {
    let findings = queue.doctor(Duration::from_secs(300)).await.unwrap();
    findings.into_iter().filter(|finding| finding.check.name() == "lagging_sequence").collect()
}

/// Adds rows so that every sequence is used.
async fn use_every_sequence(fixture: &Fixture) {
    let id = fixture.put(0).await;
    fixture.queue.copy_job(id, "tasks", EnqueueOptions::default()).await.unwrap();
    fixture
        .database
        .execute(
            "insert into pm.schedule (name, queue_id, priority, codec, missed, overlap, cron, zone, payload)
        values ('nightly', 1, 0, 0, 0, 0, '0 3 * * *', 'UTC', '1')",
        )
        .unwrap();
}

#[tokio::test]
async fn each_sequence_that_is_behind_is_found_and_fixed() {
    let fixture = Fixture::new().await;
    use_every_sequence(&fixture).await;
    assert_eq!(lagging(&fixture.queue).await, []);
    fall_behind(&fixture);
    let found = lagging(&fixture.queue).await;
    assert_eq!(found.len(), SEQUENCES.len(), "{found:#?}");
    for sequence in SEQUENCES {
        let finding = found.iter().find(|finding| finding.what.starts_with(&format!("sequence {sequence} "))).unwrap();
        fixture.database.execute(&finding.remedy.sql()[0]).unwrap();
        // Run again after the sequence was used, the remedy does not set it back.
        let before = fixture.number(&format!("select nextval('pm.{sequence}')"));
        fixture.database.execute(&finding.remedy.sql()[0]).unwrap();
        assert!(fixture.number(&format!("select nextval('pm.{sequence}')")) > before, "{sequence}");
    }
    assert_eq!(lagging(&fixture.queue).await, []);
    fixture.queue.create_queue("more", false).await.unwrap();
}

/// If all jobs of a line have ended, its claim frontier shows how far positions have come.
#[tokio::test]
async fn a_sequence_behind_the_claim_frontier_is_found() {
    let fixture = Fixture::new().await;
    fixture.database.execute("insert into pm.claim_frontier (queue_id, priority, seq) values (1, 0, 5000)").unwrap();
    assert_eq!(lagging(&fixture.queue).await.len(), 1);
}

/// However a handle gets its connections, its jobs come after those that were enqueued before.
#[tokio::test]
async fn a_new_job_is_never_put_before_older_ones() {
    for way in ["own", "sqlx", "pool", "pooler"] {
        let fixture = Fixture::new().await;
        for priority in [0, 7] {
            let jobs = (0..100u64).map(|n| (n, EnqueueOptions::default().priority(priority)));
            fixture.queue.enqueue_many("tasks", jobs).await.unwrap();
        }
        fall_behind(&fixture);
        let url = fixture.database.url();
        let pooler = Pooler::before(&url).unwrap();
        let options = ConnectOptions::default();
        let queue = match way {
            "own" => pm_driver_tokio_postgres::connect_with(&url, options).await.unwrap(),
            "sqlx" => pm_driver_sqlx::connect_with(&url, options).await.unwrap(),
            "pool" => {
                let pool = Pool::builder(Manager::new(url.parse().unwrap(), NoTls)).build().unwrap();
                pm_driver_tokio_postgres::from_pool(pool, options).await.unwrap()
            }
            _ => {
                let through = pooler.url_of(fixture.database.name());
                pm_driver_tokio_postgres::connect_with(&through, options.pooler(true)).await.unwrap()
            }
        };
        let newest = queue.enqueue("tasks", 1_000u64, EnqueueOptions::default().priority(7)).await.unwrap();
        let mut jobs = queue.try_stream_jobs_with::<u64>("tasks", unattended());
        for n in 0..100 {
            let (payload, ack) = next(&mut jobs).await.into_parts();
            assert_eq!(payload, n, "{way}");
            ack.commit().await.unwrap();
        }
        assert_eq!(next(&mut jobs).await.id(), newest, "{way}");
        drop(jobs);
        queue.close().await;
    }
}

/// A handle that survives a failover opens new connections, and these advance the sequence before the first job.
#[tokio::test]
async fn a_handle_that_survives_a_failover_puts_no_job_before_older_ones() {
    for sqlx in [false, true] {
        let fixture = Fixture::new().await;
        fixture.put_many(100).await;
        let queue = match sqlx {
            false => pm_driver_tokio_postgres::connect(&fixture.database.url()).await.unwrap(),
            true => pm_driver_sqlx::connect(&fixture.database.url()).await.unwrap(),
        };
        fall_behind(&fixture);
        let others = "select pg_terminate_backend(pid) from pg_stat_activity
                      where datname = current_database() and pid <> pg_backend_pid()";
        fixture.database.execute(others).unwrap();
        queue.enqueue("tasks", 1u64, EnqueueOptions::default()).await.unwrap();
        assert!(fixture.number("select max(seq) from pm.job") > 1_000, "sqlx: {sqlx}");
        queue.close().await;
    }
}

/// Many handles that connect at once advance the sequence once, and never set it back.
#[tokio::test]
async fn many_handles_that_connect_at_once_keep_positions_apart() {
    let fixture = Fixture::new().await;
    fixture.put_many(50).await;
    fall_behind(&fixture);
    let url = fixture.database.url();
    let put = async |n: u64| {
        let queue = pm_driver_tokio_postgres::connect(&url).await.unwrap();
        queue.enqueue("tasks", n, EnqueueOptions::default()).await.unwrap();
        queue.close().await;
    };
    futures_util::future::join_all((0..12).map(put)).await;
    assert_eq!(fixture.number("select count(*) - count(distinct seq) from pm.job"), 0);
    assert_eq!(fixture.number("select count(*) from pm.job where seq > 1000"), 12);
}

/// A claim raises the frontier of its line up to 1,000 beyond what it took: the sequence is not behind, and is not
/// advanced.
#[tokio::test]
async fn connecting_after_claims_does_not_change_the_sequence() {
    let fixture = Fixture::new().await;
    fixture.put_many(20).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    next(&mut jobs).await.into_parts().1.commit().await.unwrap();
    assert!(fixture.number("select max(seq) from pm.claim_frontier") > 1_000);
    let drawn = fixture.number("select last_value from pm.job_seq");
    for _ in 0..3 {
        let queue = pm_driver_tokio_postgres::connect(&fixture.database.url()).await.unwrap();
        queue.enqueue("nowhere", 1u64, EnqueueOptions::default()).await.unwrap_err();
        queue.close().await;
    }
    assert_eq!(fixture.number("select last_value from pm.job_seq"), drawn);
}
