//! The example of the documentation, executed.

use futures_util::StreamExt;
use pm_driver_tokio_postgres::{EnqueueOptions, ErrorKind, State};
use pm_tests::{Fixture, within};
use serde::{Deserialize, Serialize};
use std::pin::pin;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct MyPayload {
    to: String,
    lines: Vec<u32>,
}

fn payload() -> MyPayload {
    MyPayload { to: "ada@example.org".to_owned(), lines: vec![1, 2, 3] }
}

#[tokio::test]
async fn the_example_of_the_documentation_works() {
    let fixture = Fixture::without_queue().await;
    let url = fixture.database.url();

    let queue = pm_driver_tokio_postgres::connect(&url).await.unwrap();
    assert!(queue.create_queue("tasks", false).await.unwrap(), "it was created");
    let id: uuid::Uuid = queue.enqueue("tasks", payload(), EnqueueOptions::default()).await.unwrap();

    let mut jobs = pin!(queue.try_stream_jobs::<MyPayload>("tasks"));
    let mut handled = 0;
    while let Some(job) = within("a job, or the end", jobs.next()).await {
        let (payload, ack) = match job {
            Ok(job) => job.into_parts(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!((ack.id(), payload), (id, self::payload()));
        ack.commit().await.unwrap();
        handled += 1;
        let queue = queue.clone();
        tokio::spawn(async move { queue.close().await });
    }
    assert_eq!(handled, 1);
    assert_eq!(fixture.state(id).await, State::Finished);
}

#[tokio::test]
async fn creating_a_queue_twice_creates_it_once_and_leaves_its_pause() {
    let fixture = Fixture::without_queue().await;
    assert!(fixture.queue.create_queue("tasks", true).await.unwrap());
    assert!(!fixture.queue.create_queue("tasks", false).await.unwrap());
    assert!(fixture.queue.list_queues().await.unwrap()[0].paused);
}

#[tokio::test]
async fn a_bad_payload_does_not_end_a_worker() {
    let fixture = Fixture::new().await;
    let bad = fixture.queue.enqueue("tasks", "no such thing", EnqueueOptions::default()).await.unwrap();
    let good = fixture.queue.enqueue("tasks", payload(), EnqueueOptions::default()).await.unwrap();

    let mut jobs = pin!(fixture.queue.try_stream_jobs::<MyPayload>("tasks"));
    let mut errors = Vec::new();
    let ack = loop {
        match within("a job or an error", jobs.next()).await.unwrap() {
            Ok(job) => break job.into_parts().1,
            Err(error) => errors.push(error),
        }
    };
    assert_eq!(ack.id(), good);
    ack.commit().await.unwrap();
    assert_eq!(errors[0].kind(), ErrorKind::Payload);
    assert!(errors[0].to_string().contains(&bad.to_string()), "{}", errors[0]);
}
