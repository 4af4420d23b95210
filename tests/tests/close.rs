//! Closing: no job is lost, none is left in progress, and no caller waits for ever.

use futures_util::{FutureExt, StreamExt};
use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, ErrorKind, JobFilter, SettingsChange, State};
use pm_tests::{Fixture, TIMEOUT, eventually, next, take, unattended, within};
use std::time::Duration;

#[tokio::test]
async fn closing_ends_streams_and_releases_unstarted_jobs() {
    let fixture = Fixture::new().await;
    fixture.put_many(300).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    for job in take(&mut jobs, 100).await {
        job.into_parts().1.commit().await.unwrap();
    }
    let queue = fixture.queue.clone();
    within("the end of close", queue.close()).await;
    assert!(within("the end of the stream", jobs.next()).await.is_none());
    assert!(jobs.next().now_or_never().unwrap().is_none(), "and it stays ended");
    assert_eq!((fixture.jobs_in(State::Finished), fixture.jobs_in(State::InProgress)), (100, 0));
    assert_eq!(fixture.number("select max(retry_count) from pm.job"), 0);
    assert_eq!(fixture.number("select count(*) from pm.attempt"), 0);
}

#[tokio::test]
async fn closing_wakes_a_stream_that_waits() {
    let fixture = Fixture::new().await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let waiting = tokio::spawn(async move { jobs.next().await.is_none() });
    tokio::task::yield_now().await;
    within("the end of close", fixture.queue.close()).await;
    assert!(within("the end of the stream", waiting).await.unwrap());
}

#[tokio::test]
async fn closing_waits_for_the_acks_handed_out() {
    let fixture = Fixture::new().await;
    fixture.put_many(2).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let mut acks: Vec<_> = take(&mut jobs, 2).await.into_iter().map(|job| job.into_parts().1).collect();
    let mut closing = Box::pin(fixture.queue.close());
    let not_yet = async |closing: &mut (dyn Future<Output = ()> + Unpin)| {
        tokio::time::timeout(Duration::from_millis(300), closing).await.is_err()
    };
    assert!(not_yet(&mut closing).await, "two acks are unsettled");
    acks.remove(0).commit().await.unwrap();
    assert!(not_yet(&mut closing).await, "one ack is unsettled");
    drop(acks);
    within("the end of close", closing).await;
    assert_eq!(fixture.jobs_in(State::Finished), 1);
    assert_eq!(fixture.number("select count(*) from pm.job where reason = 'dropped without ack'"), 1);
}

#[tokio::test]
async fn closing_within_a_time_waits_no_longer_for_the_acks_handed_out() {
    let fixture = Fixture::new().await;
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let ack = next(&mut jobs).await.into_parts().1;
    assert!(!within("the deadline", fixture.queue.close_within(Duration::from_millis(50))).await);
    ack.commit().await.expect("an ack is valid for as long as its lease");
    assert!(within("the end of close", fixture.queue.close_within(TIMEOUT)).await);
    assert_eq!(fixture.jobs_in(State::Finished), 1);
}

#[tokio::test]
async fn closing_waits_for_an_ack_no_longer_than_its_lease() {
    let fixture = Fixture::with(SettingsChange::new().lease(Duration::from_secs(1))).await;
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let ack = next(&mut jobs).await.into_parts().1;
    within("the end of close", fixture.queue.close()).await;
    assert_eq!(fixture.jobs_in(State::InProgress), 1, "it is left to a reaper");
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn after_closing_every_call_is_refused() {
    let fixture = Fixture::new().await;
    let id = fixture.put(1).await;
    let queue = fixture.queue.clone();
    within("the end of close", fixture.queue.close()).await;
    within("the end of a second close", queue.close()).await;
    let options = EnqueueOptions::default;
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    let errors = [
        queue.enqueue("tasks", 1, options()).await.unwrap_err(),
        queue.enqueue_many("tasks", [(1, options())]).await.unwrap_err(),
        queue.create_queue("other", false).await.unwrap_err(),
        queue.pause_queue("tasks").await.unwrap_err(),
        queue.resume_queue("tasks").await.unwrap_err(),
        queue.list_queues().await.unwrap_err(),
        queue.list_jobs(JobFilter::default()).await.unwrap_err(),
        queue.queue_settings("tasks").await.unwrap_err(),
        queue.get_job(id).await.unwrap_err(),
        queue.payload(id).await.unwrap_err(),
        queue.attempts(id).await.unwrap_err(),
        queue.resolve_ids("1").await.unwrap_err(),
        queue.reap().await.unwrap_err(),
        queue.migrate().await.unwrap_err(),
        queue.schema_version().await.unwrap_err(),
        jobs.next().await.unwrap().unwrap_err(),
    ];
    for (n, error) in errors.iter().enumerate() {
        assert_eq!(error.kind(), ErrorKind::Closed, "call {n}: {error}");
    }
    assert!(jobs.next().await.is_none());
    let connections =
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'pm'";
    eventually("its connections are closed", TIMEOUT, async || fixture.number(connections) == 0).await;
}

#[tokio::test]
async fn other_handles_are_not_closed_with_it() {
    let fixture = Fixture::new().await;
    let other = fixture.another(ConnectOptions::default()).await;
    other.close().await;
    fixture.put(1).await;
}

#[tokio::test]
async fn dropping_a_stream_releases_unstarted_jobs_and_keeps_the_acks_valid() {
    let fixture = Fixture::new().await;
    fixture.put_many(200).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let mut taken = take(&mut jobs, 100).await;
    let rest = taken.split_off(10);
    for job in rest {
        job.into_parts().1.commit().await.unwrap();
    }
    drop(jobs);
    let released = async || fixture.jobs_in(State::InProgress) == 10;
    eventually("only those handed out are in progress", TIMEOUT, released).await;
    for job in taken {
        job.into_parts().1.commit().await.unwrap();
    }
    assert_eq!(fixture.jobs_in(State::Finished), 100);
    assert_eq!(fixture.number("select max(retry_count) from pm.job"), 0);
}

#[tokio::test]
async fn dropping_every_handle_leaves_streams_and_acks_working() {
    let fixture = Fixture::new().await;
    let other = fixture.another(ConnectOptions::default()).await;
    fixture.put_many(2).await;
    let mut jobs = other.try_stream_jobs::<u64>("tasks");
    let first = next(&mut jobs).await.into_parts().1;
    drop(other);
    first.commit().await.unwrap();
    let second = next(&mut jobs).await.into_parts().1;
    drop(jobs);
    second.commit().await.unwrap();
    assert_eq!(fixture.jobs_in(State::Finished), 2);
}

#[tokio::test]
async fn an_enqueue_cancelled_after_it_was_polled_goes_in_even_when_every_handle_is_dropped() {
    let fixture = Fixture::new().await;
    let other = fixture.another(ConnectOptions::default()).await;
    for n in 0..20 {
        let answer = other.enqueue("tasks", n, EnqueueOptions::default()).now_or_never();
        assert!(answer.is_none(), "it takes a round trip");
    }
    drop(other.enqueue("tasks", 99, EnqueueOptions::default()));
    drop(other);
    eventually("all are enqueued", TIMEOUT, async || fixture.number("select count(*) from pm.job") == 20).await;
    let never_polled = "select count(*) from pm.job where convert_from(payload, 'utf8') = '99'";
    assert_eq!(fixture.number(never_polled), 0);
}

#[tokio::test]
async fn closing_completes_the_enqueues_in_flight() {
    let fixture = Fixture::new().await;
    let other = fixture.another(ConnectOptions::default()).await;
    for n in 0..2_500 {
        assert!(other.enqueue("tasks", n, EnqueueOptions::default()).now_or_never().is_none());
    }
    within("the end of close", other.close()).await;
    assert_eq!(fixture.number("select count(*) from pm.job"), 2_500);
}

#[tokio::test]
async fn next_can_be_cancelled_at_any_time_without_losing_a_job() {
    const JOBS: u64 = 300;
    let fixture = Fixture::new().await;
    fixture.put_many(JOBS).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let mut seen = 0;
    let mut tries = 0u64;
    while seen < JOBS {
        tries += 1;
        let timeout = Duration::from_micros(tries * 37 % 3_000);
        if let Ok(job) = tokio::time::timeout(timeout, jobs.next()).await {
            job.unwrap().unwrap().into_parts().1.commit().detach();
            seen += 1;
        }
        assert!(tries < 100_000, "{seen} of {JOBS} came");
    }
    within("the end of close", fixture.queue.close()).await;
    assert_eq!(fixture.jobs_in(State::Finished), JOBS as i64);
    assert_eq!(fixture.number("select max(retry_count) from pm.job"), 0);
}

#[tokio::test]
async fn a_stream_dropped_in_the_middle_of_a_claim_strands_nothing() {
    let fixture = Fixture::new().await;
    fixture.put_many(50).await;
    for n in 0..60u64 {
        let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
        if let Ok(Some(job)) = tokio::time::timeout(Duration::from_micros(n * 100), jobs.next()).await {
            job.unwrap().into_parts().1.release().detach();
        }
    }
    let released = async || fixture.jobs_in(State::InProgress) == 0;
    eventually("nothing is in progress", TIMEOUT, released).await;
    assert_eq!(fixture.number("select count(*) from pm.job where state = 0 and retry_count = 0"), 50);
}
