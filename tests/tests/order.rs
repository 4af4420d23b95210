//! Higher priority first, then the order in which jobs became ready.

use pm_driver_tokio_postgres::{EnqueueOptions, InTransaction, SettingsChange, StreamOptions};
use pm_tests::{Direct, Fixture, next, take};
use std::time::Duration;

fn priority(priority: i32) -> EnqueueOptions {
    EnqueueOptions::default().priority(priority)
}

fn one_at_a_time() -> StreamOptions {
    StreamOptions::default().prefetch(1)
}

/// Commits the next `count` jobs one after another; returns their payloads.
async fn work(fixture: &Fixture, options: StreamOptions, count: usize) -> Vec<u64> {
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", options);
    let mut seen = Vec::new();
    for _ in 0..count {
        let (n, ack) = next(&mut jobs).await.into_parts();
        ack.commit().await.expect("the lease is valid");
        seen.push(n);
    }
    seen
}

#[tokio::test]
async fn jobs_of_one_priority_come_in_the_order_they_were_enqueued() {
    let fixture = Fixture::new().await;
    fixture.put_many(500).await;
    for n in 500..520 {
        fixture.put(n).await;
    }
    let seen = work(&fixture, StreamOptions::default(), 520).await;
    assert_eq!(seen, (0..520).collect::<Vec<_>>());
}

#[tokio::test]
async fn jobs_restarted_moved_or_given_a_priority_together_come_in_the_order_of_their_ids_whatever_their_keys() {
    for action in ["restart", "move", "set priority"] {
        let fixture = Fixture::new().await;
        let keys = [Some("z"), None, Some("a"), Some("m"), None];
        let mut ids = Vec::new();
        for (n, key) in keys.into_iter().enumerate() {
            let options = key.map_or(EnqueueOptions::default(), |key| EnqueueOptions::default().key(key));
            ids.push(fixture.put_with(n as u64, options).await);
        }
        // Ids of one millisecond are in no order.
        let mut expected: Vec<_> = ids.iter().copied().zip(0u64..).collect();
        expected.sort();
        let expected: Vec<_> = expected.into_iter().map(|(_, n)| n).collect();
        if action == "move" {
            fixture.queue.create_queue("other", false).await.unwrap();
            fixture.queue.move_jobs(&ids, "other").await.unwrap();
            fixture.queue.move_jobs(&ids, "tasks").await.unwrap();
        } else if action == "set priority" {
            ids.reverse();
            fixture.queue.set_priority(&ids, 3).await.unwrap();
        } else {
            fixture.queue.fail_jobs(&ids, "enough").await.unwrap();
            ids.reverse();
            fixture.queue.restart_jobs(&ids, false).await.unwrap();
        }
        assert_eq!(work(&fixture, StreamOptions::default(), 5).await, expected, "{action}");
    }
}

#[tokio::test]
async fn prefetch_of_one_keeps_the_order_too() {
    let fixture = Fixture::new().await;
    fixture.put_many(50).await;
    assert_eq!(work(&fixture, one_at_a_time(), 50).await, (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn prefetch_of_one_never_claims_more_than_one_ahead() {
    let fixture = Fixture::new().await;
    fixture.put_many(30).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", one_at_a_time());
    for _ in 0..20 {
        let job = next(&mut jobs).await;
        let claimed = fixture.number("select count(*) from pm.job where state = 1");
        assert!((1..=2).contains(&claimed), "{claimed} in progress: this one, and at most one ahead");
        job.into_parts().1.commit().await.unwrap();
    }
}

#[tokio::test]
async fn higher_priorities_come_first_whatever_the_order_of_enqueueing() {
    let fixture = Fixture::new().await;
    let priorities = [0, 5, i32::MIN, i32::MAX, -1, 5, 0];
    for (n, of) in priorities.into_iter().enumerate() {
        fixture.put_with(n as u64, priority(of)).await;
    }
    assert_eq!(work(&fixture, one_at_a_time(), 7).await, [3, 1, 5, 0, 6, 4, 2]);
}

#[tokio::test]
async fn a_batch_of_many_priorities_is_handed_out_highest_first() {
    let fixture = Fixture::new().await;
    let jobs = (0..200).map(|n| (n, priority(n % 100)));
    fixture.queue.enqueue_many("tasks", jobs).await.unwrap();
    let seen = work(&fixture, one_at_a_time(), 200).await;
    let expected: Vec<u64> = (0..100).rev().flat_map(|n| [n, n + 100]).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn an_urgent_job_overtakes_those_that_wait() {
    let fixture = Fixture::new().await;
    fixture.put_many(20).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", one_at_a_time());
    let first = next(&mut jobs).await;
    let urgent = fixture.put_with(99, priority(1)).await;
    first.into_parts().1.commit().await.unwrap();
    let soon: Vec<_> = take(&mut jobs, 2).await.iter().map(|job| job.id()).collect();
    assert!(soon.contains(&urgent), "at most the one claimed ahead comes before it");
}

#[tokio::test]
async fn a_job_tried_again_goes_behind_those_that_wait() {
    let fixture = Fixture::with(SettingsChange::new().backoff(vec![Duration::ZERO])).await;
    fixture.put_many(5).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", one_at_a_time());
    let (first, ack) = next(&mut jobs).await.into_parts();
    ack.soft_fail("again").await.unwrap();
    let mut seen = vec![first];
    for _ in 0..5 {
        let (n, ack) = next(&mut jobs).await.into_parts();
        ack.commit().await.unwrap();
        seen.push(n);
    }
    assert_eq!(seen, [0, 1, 2, 3, 4, 0]);
}

#[tokio::test]
async fn a_job_that_keeps_failing_does_not_block_those_behind_it() {
    let fixture = Fixture::with(SettingsChange::new().backoff(vec![Duration::ZERO]).max_retries(1_000)).await;
    fixture.put_many(10).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let mut done = Vec::new();
    let mut failures = 0;
    while done.len() < 9 {
        match next(&mut jobs).await.into_parts() {
            (0, ack) => {
                ack.soft_fail("always").await.unwrap();
                failures += 1;
            }
            (n, ack) => {
                ack.commit().await.unwrap();
                done.push(n);
            }
        }
    }
    assert_eq!(done, (1..10).collect::<Vec<_>>());
    assert!(failures <= 10, "it was tried {failures} times");
}

#[tokio::test]
async fn a_released_job_keeps_its_position() {
    let fixture = Fixture::new().await;
    fixture.put_many(3).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", one_at_a_time());
    let (first, ack) = next(&mut jobs).await.into_parts();
    assert_eq!(first, 0);
    ack.release().await.unwrap();
    drop(jobs);
    pm_tests::eventually("all are released", pm_tests::TIMEOUT, async || {
        fixture.number("select count(*) from pm.job where state = 1") == 0
    })
    .await;
    assert_eq!(work(&fixture, one_at_a_time(), 3).await, [0, 1, 2]);
}

#[tokio::test]
async fn one_stream_serves_several_queues_the_highest_priority_of_any_first() {
    let fixture = Fixture::without_queue().await;
    for name in ["a", "b", "c"] {
        fixture.queue.create_queue(name, false).await.unwrap();
    }
    let put = async |name, n: u64, of| fixture.queue.enqueue(name, n, priority(of)).await.unwrap();
    put("a", 1, 0).await;
    put("b", 2, 9).await;
    put("c", 3, 5).await;
    put("a", 4, 7).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>(["a", "b", "a"], one_at_a_time());
    let mut seen = Vec::new();
    for _ in 0..3 {
        let job = next(&mut jobs).await;
        seen.push((job.metadata().queue.to_string(), *job.payload()));
        job.into_parts().1.commit().await.unwrap();
    }
    assert_eq!(seen, [("b".to_owned(), 2), ("a".to_owned(), 4), ("a".to_owned(), 1)]);
    assert_eq!(fixture.number("select count(*) from pm.job where state = 0"), 1, "the stream does not read c");
}

#[tokio::test]
async fn queues_of_equal_priority_take_turns() {
    let fixture = Fixture::without_queue().await;
    for name in ["a", "b"] {
        fixture.queue.create_queue(name, false).await.unwrap();
        let jobs = (0..40u64).map(|n| (n, EnqueueOptions::default()));
        fixture.queue.enqueue_many(name, jobs).await.unwrap();
    }
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>(["a", "b"], one_at_a_time());
    let mut of_a = 0;
    for _ in 0..20 {
        let job = next(&mut jobs).await;
        of_a += usize::from(&*job.metadata().queue == "a");
        job.into_parts().1.commit().await.unwrap();
    }
    assert!((5..=15).contains(&of_a), "{of_a} of 20 from one of two queues");
}

#[tokio::test]
async fn a_fetched_job_that_is_released_is_near_the_front_of_its_line() {
    let fixture = Fixture::new().await;
    let ids = fixture.put_many(50).await;
    let job = fixture.queue.fetch_job::<u64>(ids[49]).await.unwrap().expect("it is ready");
    job.into_parts().1.release().await.unwrap();
    let before = format!("select count(*) from pm.job where seq < (select seq from pm.job where id = '{}')", ids[49]);
    assert_eq!(fixture.number(&before), 0);
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let seen = take(&mut jobs, 50).await;
    assert!(seen.iter().any(|job| job.id() == ids[49] && job.metadata().attempt == 1));
}

/// A job whose enqueue commits late has a position behind the streams' cursors.
#[tokio::test]
async fn a_job_committed_long_after_later_ones_were_handled_is_found() {
    const LATER: u64 = 3_000;
    let fixture = Fixture::new().await;
    let mut session = Direct::to(&fixture.database.url()).await;
    let transaction = session.client.transaction().await.unwrap();
    let inside = InTransaction(&transaction);
    let late = fixture.queue.enqueue_in(&inside, "tasks", 0u64, EnqueueOptions::default()).await.unwrap();
    fixture.put_many(LATER).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    for job in take(&mut jobs, LATER as usize).await {
        job.into_parts().1.commit().detach();
    }
    transaction.commit().await.unwrap();
    assert_eq!(next(&mut jobs).await.id(), late);
}

/// A claim names at most 64 lines; a queue with more lines is served nevertheless.
#[tokio::test]
async fn a_queue_of_two_hundred_priorities_is_served_completely() {
    let fixture = Fixture::new().await;
    let jobs = (0..200u64).map(|n| (n, EnqueueOptions::default().priority(n as i32 - 100)));
    fixture.queue.enqueue_many("tasks", jobs).await.unwrap();
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let mut seen: Vec<_> = take(&mut jobs, 200).await.into_iter().map(|job| job.into_parts().0).collect();
    assert_eq!(seen[0], 199, "the highest first");
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..200));
}
