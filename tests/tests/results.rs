//! Results on a real Postgres: whose is stored, and where.

use pm_driver_tokio_postgres::{ConnectOptions, ErrorKind, SettingsChange, State};
use pm_tests::{Direct, Fixture, next, unattended, within};
use std::time::Duration;

/// Two workers have had the job; the second one's commit is applied, before or after the first tries.
#[tokio::test]
async fn a_result_is_that_of_the_commit_that_was_applied() {
    for late_first in [true, false] {
        let fixture = Fixture::new().await;
        let settings =
            SettingsChange::new().lease(Duration::from_secs(1)).backoff(vec![Duration::ZERO]).jitter_percent(0);
        fixture.queue.set_queue_settings("tasks", settings).await.unwrap();
        let id = fixture.put(1).await;
        let other = fixture.another(ConnectOptions::default()).await;
        let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
        let late = next(&mut jobs).await.into_parts().1;
        drop(jobs);
        let mut jobs = other.try_stream_jobs::<u64>("tasks");
        let ack = next(&mut jobs).await.into_parts().1;
        let (late, ack) = match late_first {
            true => (late.commit_with("late").await, ack.commit_with("in time").await),
            false => {
                let in_time = ack.commit_with("in time").await;
                (late.commit_with("late").await, in_time)
            }
        };
        assert_eq!(late.unwrap_err().kind(), ErrorKind::LeaseLost);
        ack.unwrap();
        assert_eq!(fixture.state(id).await, State::Finished);
        assert_eq!(fixture.queue.result::<String>(id).await.unwrap().as_deref(), Some("in time"));
    }
}

/// A large result is stored out of line: reading the job's row stays as cheap as before.
#[tokio::test]
async fn a_large_result_is_stored_out_of_line() {
    let fixture = Fixture::new().await;
    let id = fixture.put(1).await;
    let ack = next(&mut fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended())).await.into_parts().1;
    // It does not compress.
    let mut n = 1u64;
    let numbers: Vec<u64> = std::iter::repeat_with(|| {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        n
    })
    .take(40_000)
    .collect();
    ack.commit_with(&numbers).await.unwrap();
    assert_eq!(fixture.queue.result::<Vec<u64>>(id).await.unwrap(), Some(numbers));
    let rows = fixture.database.execute("select pg_relation_size('pm.job') < 100000").unwrap();
    assert_eq!(rows[0][0].as_deref(), Some("t"));
    assert!(fixture.job(id).await.result_bytes.unwrap() > 700_000);
}

/// A busy server may cancel a look; that is no reason to stop waiting.
#[tokio::test]
async fn waiting_goes_on_after_a_look_that_the_server_has_cancelled() {
    let fixture = Fixture::new().await;
    let id = fixture.put(1).await;
    let impatient = ConnectOptions::default().statement_timeout(Duration::from_millis(200));
    let waiting = fixture.another(impatient).await;
    let mut direct = Direct::to(&fixture.database.url()).await;
    let transaction = direct.client.transaction().await.unwrap();
    transaction.batch_execute("lock table pm.job in access exclusive mode").await.unwrap();
    assert_eq!(waiting.get_job(id).await.unwrap_err().kind(), ErrorKind::Database, "as each look does");
    let end = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        transaction.rollback().await.unwrap();
        fixture.queue.finish_jobs(&[id]).await.unwrap();
    };
    let (job, ()) = futures_util::future::join(within("the end of the job", waiting.wait(id)), end).await;
    assert_eq!(job.unwrap().state, State::Finished);
}
