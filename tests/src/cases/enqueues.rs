//! Enqueueing.

use super::Harness;
use pm_queue::{Codec, EnqueueOptions, Enqueued, ErrorKind, OnConflict, RunAt, State};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
    price: Option<f64>,
    tags: Vec<String>,
}

pub(super) async fn a_job_comes_out_as_it_went_in(harness: Harness) {
    let order =
        Order { item: "tea".to_owned(), count: 3, price: Some(2.5), tags: vec![String::new(), "hot".to_owned()] };
    let mut jobs = harness.queue.try_stream_jobs::<Order>("tasks");
    for codec in [Codec::Json, Codec::MessagePack] {
        let options = EnqueueOptions::default().codec(codec).priority(-7).description("for Ada").key("order 1");
        let id = harness.queue.enqueue("tasks", &order, options).await.unwrap();
        let job = harness.next(&mut jobs).await;
        assert_eq!((job.id(), job.payload()), (id, &order));
        assert_eq!((job.metadata().priority, job.metadata().attempt, job.metadata().retry_count), (-7, 1, 0));
        assert_eq!(job.metadata().description.as_deref(), Some("for Ada"));
        assert_eq!((job.metadata().codec, job.metadata().key.as_deref()), (codec, Some("order 1")));
        assert_eq!(harness.state(id).await, State::InProgress);
        job.into_parts().1.commit().await.unwrap();
        let job = harness.job(id).await;
        assert_eq!(job.state, State::Finished);
        assert!(job.ended_at.unwrap() >= job.created_at);
    }
}

pub(super) async fn many_jobs_come_out_in_order_and_once(harness: Harness) {
    const JOBS: u64 = 2_500;
    let ids = harness.put_many(JOBS).await;
    let mut jobs = harness.queue.try_stream_jobs::<u64>("tasks");
    for n in 0..JOBS {
        let job = harness.next(&mut jobs).await;
        assert_eq!((*job.payload(), job.id()), (n, ids[n as usize]));
        job.into_parts().1.commit().detach();
    }
    harness.within("the end", harness.queue.close()).await;
    assert_eq!(harness.finished_at_once().await, JOBS);
}

pub(super) async fn a_reserved_key_keeps_a_second_job_out(harness: Harness) {
    let keyed = || EnqueueOptions::default().key("once");
    let first = harness.put_with(1, keyed()).await;
    let outcome = harness.queue.enqueue_with_outcome("tasks", 2u64, keyed()).await.unwrap();
    assert_eq!(outcome, Enqueued::Existing(first, State::Pending));
    let refused = harness.queue.enqueue("tasks", 3u64, keyed().on_conflict(OnConflict::Refuse)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::KeyConflict);
    assert_eq!(harness.queue.finish_jobs(&[first]).await.unwrap(), 1);
    let outcome = harness.queue.enqueue_with_outcome("tasks", 5u64, keyed()).await.unwrap();
    assert!(matches!(outcome, Enqueued::Inserted(id) if id != first), "{outcome:?}");
}

pub(super) async fn a_job_waits_for_its_time(harness: Harness) {
    const WAIT: Duration = Duration::from_millis(600);
    let mut jobs = harness.queue.try_stream_jobs::<u64>("tasks");
    let start = Instant::now();
    let later = harness.put_with(1, EnqueueOptions::default().run_at(RunAt::In(WAIT))).await;
    let never = harness.put_with(2, EnqueueOptions::default().run_at(RunAt::In(Duration::from_secs(3_600)))).await;
    let at_once = harness.put(3).await;
    let (_, ack) = harness.take(&mut jobs).await;
    assert_eq!(ack.id(), at_once);
    ack.commit().await.unwrap();
    let (_, ack) = harness.take(&mut jobs).await;
    assert_eq!(ack.id(), later);
    assert!(start.elapsed() >= WAIT, "{:?}", start.elapsed());
    ack.commit().await.unwrap();
    assert!(harness.job(never).await.run_at.is_some());
}

pub(super) async fn unicode_survives_everywhere(harness: Harness) {
    let text = "Zoë 🐘 \"quoted\" 'single' \\ \u{7f}\u{200d} 日本語 $1 -- ; \n\t ümläut".to_owned();
    let name = "schlange 🐍 日本";
    harness.queue.create_queue(name, false).await.unwrap();
    let options = EnqueueOptions::default().description(text.clone()).key(text.clone());
    let id = harness.queue.enqueue(name, text.clone() + "\0", options).await.unwrap();
    let mut jobs = harness.queue.try_stream_jobs::<String>(name);
    let job = harness.next(&mut jobs).await;
    assert_eq!(*job.payload(), text.clone() + "\0");
    assert_eq!(job.metadata().description.as_ref(), Some(&text));
    job.into_parts().1.hard_fail(text.clone() + "\0").await.unwrap();
    let job = harness.job(id).await;
    assert_eq!((job.queue.as_str(), job.key.as_ref()), (name, Some(&text)));
    assert_eq!(job.reason, Some(text + "\u{fffd}"));
}

pub(super) async fn a_payload_of_100_mb_goes_through(harness: Harness) {
    let large = "abcdefghijklmnopqrstuvw
"
    .repeat((100 << 20) / 24);
    let options = EnqueueOptions::default().codec(Codec::Raw);
    let id = harness.queue.enqueue("tasks", &large, options).await.unwrap();
    let small = harness.put(1).await;
    let mut jobs = harness.queue.try_stream_jobs_with::<String>("tasks", crate::unattended());
    let (payload, ack) = harness.take(&mut jobs).await;
    assert!(payload == large, "{} bytes instead of {}", payload.len(), large.len());
    ack.commit().await.unwrap();
    drop(jobs);
    assert_eq!(harness.job(id).await.payload_bytes, large.len() as u64);
    assert_eq!(harness.state(id).await, State::Finished);
    assert_ne!(harness.state(small).await, State::Finished);
}

pub(super) async fn bad_input_is_refused_and_the_next_job_goes_in(harness: Harness) {
    let default = EnqueueOptions::default;
    let kind = async |queue: &str, options| harness.queue.enqueue(queue, 1u64, options).await.unwrap_err().kind();
    assert_eq!(kind("nowhere", default()).await, ErrorKind::QueueNotFound);
    assert_eq!(kind("", default()).await, ErrorKind::Invalid);
    assert_eq!(kind("tasks", default().key("")).await, ErrorKind::Invalid);
    assert_eq!(kind("tasks", default().key("with\0NUL")).await, ErrorKind::Invalid);
    assert_eq!(kind("tasks", default().description("x".repeat(9_000))).await, ErrorKind::Invalid);
    assert_eq!(harness.queue.job(pm_queue::Uuid::nil()).await.unwrap_err().kind(), ErrorKind::JobNotFound);
    let id = harness.put(1).await;
    assert_eq!(harness.state(id).await, State::Pending);
}
