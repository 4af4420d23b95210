//! Bugs that a review found, one test each.

use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, ErrorKind, InTransaction, Queue, StreamOptions};
use pm_tests::{Fixture, LOCK_WAITS, TIMEOUT, eventually, next, unattended, within};
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

async fn client(fixture: &Fixture) -> Client {
    let (client, connection) = tokio_postgres::connect(&fixture.database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn copies_that_meet_at_their_source_are_all_counted_as_sharers() {
    let fixture = Fixture::new().await;
    let source = fixture.put(7).await;
    let copy = |queue: Queue| {
        tokio::spawn(async move { queue.copy_job(source, "tasks", EnqueueOptions::default()).await.unwrap() })
    };
    let mut client = client(&fixture).await;
    // Both copies wait for the row, each with a snapshot in which the payload is not shared yet.
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute("select from pm.job for update").await.unwrap();
    let under_way = [copy(fixture.queue.clone()), copy(fixture.another(ConnectOptions::default()).await)];
    eventually("both wait", TIMEOUT, async || fixture.number(LOCK_WAITS) >= 2).await;
    transaction.commit().await.unwrap();
    let mut sharers = vec![source];
    for copy in under_way {
        sharers.push(copy.await.unwrap());
    }
    assert_eq!(fixture.number("select refs from pm.payload"), 3);
    let last = sharers.pop().unwrap();
    assert_eq!(fixture.queue.delete_jobs(&sharers).await.unwrap(), 2);
    assert_eq!(&fixture.queue.payload(last).await.unwrap().unwrap().bytes[..], b"7");
}

#[tokio::test]
async fn a_copy_whose_key_is_held_is_refused_by_its_own_kind() {
    let fixture = Fixture::new().await;
    let keyed = || EnqueueOptions::default().key("one");
    let source = fixture.put_with(1, keyed()).await;
    let refused = fixture.queue.copy_job(source, "tasks", keyed()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::KeyConflict);
}

#[tokio::test]
async fn all_lines_that_a_transaction_fills_are_told_to_sleepers() {
    let fixture = Fixture::new().await;
    let other = fixture.another(ConnectOptions::default()).await;
    let hour = Duration::from_secs(3_600);
    let notified_only = StreamOptions::default().poll(hour, hour).idle_poll(hour);
    let mut jobs = other.try_stream_jobs_with::<u64>("tasks", notified_only);
    assert!(futures_util::FutureExt::now_or_never(futures_util::StreamExt::next(&mut jobs)).is_none());
    eventually("its listener hears", TIMEOUT, async || other.is_listening()).await;
    let asleep = "select count(*) from pm.queue where idle_until > now()";
    eventually("it sleeps", TIMEOUT, async || fixture.number(asleep) == 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;

    let mut client = client(&fixture).await;
    let transaction = client.transaction().await.unwrap();
    let batch = [3i32, 2, 1].map(|n| (u64::from(n.unsigned_abs()), EnqueueOptions::default().priority(n)));
    fixture.queue.enqueue_many_in(&InTransaction(&transaction), "tasks", batch).await.unwrap();
    transaction.commit().await.unwrap();
    for expected in [3, 2, 1] {
        let (payload, ack) = next(&mut jobs).await.into_parts();
        assert_eq!(payload, expected);
        ack.commit().await.unwrap();
    }
}

#[tokio::test]
async fn lost_ends_when_the_transaction_that_settled_the_job_has_committed() {
    let fixture = Fixture::new().await;
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let (_, mut ack) = next(&mut jobs).await.into_parts();
    let lost = tokio::spawn(ack.lost());
    tokio::task::yield_now().await;
    let mut client = client(&fixture).await;
    let transaction = client.transaction().await.unwrap();
    let settlement = ack.commit_in(&InTransaction(&transaction)).await.unwrap();
    transaction.commit().await.unwrap();
    settlement.committed();
    within("the end of lost()", lost).await.unwrap();
}
