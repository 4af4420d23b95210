//! Keys: how long they stay reserved, and which job replaces which.

use futures_util::StreamExt;
use pm_driver_tokio_postgres::{
    Codec, EnqueueOptions, Enqueued, KeyHold, OnConflict, RunAt, State, StreamOptions, Timestamp,
};
use pm_tests::Fixture;
use std::time::Duration;

fn keyed() -> EnqueueOptions {
    EnqueueOptions::default().key("report")
}

fn replacing() -> EnqueueOptions {
    keyed().on_conflict(OnConflict::Replace)
}

#[tokio::test]
async fn a_job_that_has_not_started_becomes_what_replaces_it() {
    let fixture = Fixture::new().await;
    let first = fixture.queue.enqueue("tasks", "old", keyed().priority(1).description("old")).await.unwrap();
    let new = replacing().priority(5).description("new").codec(Codec::MessagePack);
    let outcome = fixture.queue.enqueue_with_outcome("tasks", "new", new).await.unwrap();
    assert_eq!(outcome, Enqueued::Replaced(first));
    let job = fixture.queue.job(first).await.unwrap();
    assert_eq!((job.priority, job.description.as_deref(), job.codec), (5, Some("new"), Codec::MessagePack));
    let later = replacing().run_at(RunAt::In(Duration::from_secs(3_600)));
    assert_eq!(fixture.queue.enqueue_with_outcome("tasks", "later", later).await.unwrap(), Enqueued::Replaced(first));
    assert!(fixture.queue.job(first).await.unwrap().run_at.is_some());
    assert_eq!(
        fixture.queue.enqueue_with_outcome("tasks", "now", replacing()).await.unwrap(),
        Enqueued::Replaced(first)
    );
    let mut jobs = fixture.queue.try_stream_jobs::<String>("tasks");
    let job = jobs.next().await.unwrap().unwrap();
    assert_eq!((job.id(), job.payload().as_str()), (first, "now"));
    let (_, ack) = job.into_parts();
    let started = fixture.queue.enqueue_with_outcome("tasks", "too late", replacing()).await.unwrap();
    assert_eq!(started, Enqueued::Existing(first, State::InProgress));
    ack.commit().await.unwrap();
    assert_eq!(fixture.number("select count(*) from pm.job"), 1);
}

#[tokio::test]
async fn a_job_that_failed_before_is_not_replaced() {
    let fixture = Fixture::new().await;
    let first = fixture.queue.enqueue("tasks", 1u64, keyed()).await.unwrap();
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", StreamOptions::default().prefetch(1));
    jobs.next().await.unwrap().unwrap().into_parts().1.soft_fail("once").await.unwrap();
    drop(jobs);
    let outcome = fixture.queue.enqueue_with_outcome("tasks", 2u64, replacing()).await.unwrap();
    assert_eq!(outcome.id(), first);
    assert!(matches!(outcome, Enqueued::Existing(..)), "{outcome:?}");
}

#[tokio::test]
async fn the_last_of_a_batch_replaces_and_its_neighbours_go_in() {
    let fixture = Fixture::new().await;
    fixture.queue.pause_queue("tasks").await.unwrap();
    let holder = fixture.queue.enqueue("tasks", 0u64, keyed()).await.unwrap();
    let batch = (1..=6u64).map(|n| match n {
        1..=3 => (n, replacing()),
        4 => (n, keyed()),
        _ => (n, EnqueueOptions::default()),
    });
    let outcomes = fixture.queue.enqueue_many("tasks", batch).await.unwrap();
    assert_eq!(outcomes[..3], [Enqueued::Replaced(holder); 3]);
    assert_eq!(outcomes[3], Enqueued::Existing(holder, State::Paused));
    assert!(outcomes[4..].iter().all(|one| matches!(one, Enqueued::Inserted(_))));
    let payload = fixture.queue.payload(holder).await.unwrap().unwrap();
    assert_eq!(&payload.bytes[..], b"3");
}

#[tokio::test]
async fn replacing_a_copy_leaves_the_shared_payload_to_the_others() {
    let fixture = Fixture::new().await;
    let source = fixture.queue.enqueue("tasks", "shared", EnqueueOptions::default()).await.unwrap();
    let copy = fixture.queue.copy_job(source, "tasks", keyed()).await.unwrap();
    assert_eq!(fixture.number("select refs from pm.payload"), 2);
    assert_eq!(
        fixture.queue.enqueue_with_outcome("tasks", "own", replacing()).await.unwrap(),
        Enqueued::Replaced(copy)
    );
    assert_eq!(fixture.number("select refs from pm.payload"), 1);
    assert_eq!(&fixture.queue.payload(source).await.unwrap().unwrap().bytes[..], b"\"shared\"");
}

#[tokio::test]
async fn a_key_is_reserved_for_as_long_as_requested() {
    let fixture = Fixture::new().await;
    let far = Timestamp::from_unix_us(4_102_444_800_000_000);
    let past = Timestamp::from_unix_us(1_000_000_000_000_000);
    for (hold, frees) in [
        (KeyHold::WhileActive, true),
        (KeyHold::Until(past), true),
        (KeyHold::Until(far), false),
        (KeyHold::ForEver, false),
    ] {
        let key = format!("{hold:?}");
        let options = || EnqueueOptions::default().key(key.clone()).key_hold(hold);
        let id = fixture.queue.enqueue("tasks", 1u64, options()).await.unwrap();
        assert_eq!(fixture.queue.enqueue("tasks", 1u64, options()).await.unwrap(), id, "{key}: while it waits");
        fixture.queue.finish_jobs(&[id]).await.unwrap();
        let after = fixture.queue.enqueue_with_outcome("tasks", 1u64, options()).await.unwrap();
        assert_eq!(matches!(after, Enqueued::Inserted(_)), frees, "{key}: after its end");
    }
}

#[tokio::test]
async fn a_lapsed_key_is_released_at_the_next_enqueue() {
    let fixture = Fixture::new().await;
    let far = Timestamp::from_unix_us(4_102_444_800_000_000);
    for options in [keyed().key_hold(KeyHold::Until(far)), replacing().key_hold(KeyHold::Until(far))] {
        let id = fixture.queue.enqueue("tasks", 1u64, options.clone()).await.unwrap();
        fixture.queue.finish_jobs(&[id]).await.unwrap();
        assert_eq!(fixture.queue.enqueue("tasks", 2u64, options.clone()).await.unwrap(), id);
        fixture
            .column("update pm.job set key_until = now() - interval '1 s' where reserved_key is not null returning 1");
        let outcome = fixture.queue.enqueue_with_outcome("tasks", 3u64, options).await.unwrap();
        assert!(matches!(outcome, Enqueued::Inserted(_)), "{outcome:?}");
        fixture.queue.delete_jobs(&[outcome.id()]).await.unwrap();
    }
}
