//! Due times: a job that is not due waits, and one that is due does not.

use pm_core::op::Promote;
use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, JobMetadata, RunAt, State, StreamOptions, Timestamp};
use pm_tests::{Direct, Fixture, next, take};
use std::time::Duration;

fn at(run_at: RunAt) -> EnqueueOptions {
    EnqueueOptions::default().run_at(run_at)
}

fn shifted(job: &JobMetadata, seconds: i64) -> Timestamp {
    Timestamp::from_unix_us(job.read_at.unix_us() + seconds * 1_000_000)
}

/// Returns a job that shows the database's time.
async fn clock(fixture: &Fixture) -> JobMetadata {
    let id = fixture.put(0).await;
    let job = fixture.job(id).await;
    fixture.database.execute(&format!("delete from pm.job where id = '{id}'")).expect("the statement is valid");
    job
}

#[tokio::test]
async fn a_due_time_in_the_past_means_at_once() {
    let fixture = Fixture::new().await;
    let past = shifted(&clock(&fixture).await, -3_600);
    let id = fixture.put_with(1, at(RunAt::At(past))).await;
    let zero = fixture.put_with(2, at(RunAt::In(Duration::ZERO))).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    for expected in [id, zero] {
        assert_eq!(fixture.job(expected).await.run_at, None);
        let job = next(&mut jobs).await;
        assert_eq!(job.id(), expected);
        job.into_parts().1.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_due_time_is_shown_to_the_microsecond() {
    let fixture = Fixture::new().await;
    let later = Timestamp::from_unix_us(shifted(&clock(&fixture).await, 86_400).unix_us() + 123_457);
    let id = fixture.put_with(1, at(RunAt::At(later))).await;
    let job = fixture.job(id).await;
    assert_eq!((job.state, job.run_at), (State::Pending, Some(later)));
    let id = fixture.put_with(1, at(RunAt::In(Duration::from_secs(60)))).await;
    let job = fixture.job(id).await;
    assert_eq!(job.run_at.unwrap().unix_us(), job.created_at.unix_us() + 60_000_000, "by the database's clock");
}

#[tokio::test]
async fn a_running_stream_takes_jobs_when_they_are_due_in_the_order_of_their_times() {
    let fixture = Fixture::new().await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    fixture.put_with(3, at(RunAt::In(Duration::from_millis(900)))).await;
    fixture.put_with(1, at(RunAt::In(Duration::from_millis(300)))).await;
    let half = Timestamp::from_unix_us(clock(&fixture).await.read_at.unix_us() + 600_000);
    fixture.put_with(2, at(RunAt::At(half))).await;
    for expected in 1..=3 {
        let job = next(&mut jobs).await;
        assert_eq!(*job.payload(), expected);
        let early =
            format!("select now() < created_at + {expected} * interval '300 ms' - interval '100 ms' from pm.job");
        let sql = format!("{early} where id = '{}'", job.id());
        assert_eq!(fixture.column(&sql), ["f"], "not before its time");
        job.into_parts().1.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_job_due_in_the_distant_future_is_skipped() {
    let fixture = Fixture::new().await;
    let far = fixture.put_with(1, at(RunAt::In(Duration::from_secs(30 * 86_400))).priority(9)).await;
    let near = fixture.put(2).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let job = next(&mut jobs).await;
    assert_eq!(job.id(), near);
    job.into_parts().1.commit().await.unwrap();
    let soon = fixture.put_with(3, at(RunAt::In(Duration::from_millis(200)))).await;
    let job = next(&mut jobs).await;
    assert_eq!(job.id(), soon, "the distant job does not hide one that is due before it");
    job.into_parts().1.commit().await.unwrap();
    assert_eq!(fixture.job(far).await.attempt, 0);
}

#[tokio::test]
async fn many_jobs_due_at_one_moment_all_come() {
    const JOBS: u64 = 2_500;
    let fixture = Fixture::new().await;
    let moment = shifted(&clock(&fixture).await, 1);
    let jobs = (0..JOBS).map(|n| (n, at(RunAt::At(moment))));
    fixture.queue.enqueue_many("tasks", jobs).await.unwrap();
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let mut seen = vec![false; JOBS as usize];
    for _ in 0..JOBS {
        let (n, ack) = next(&mut jobs).await.into_parts();
        assert!(!std::mem::replace(&mut seen[n as usize], true), "job {n} came twice");
        ack.commit().detach();
    }
    pm_tests::within("the end", fixture.queue.close()).await;
    assert_eq!(fixture.jobs_in(State::Finished), JOBS as i64);
}

#[tokio::test]
async fn a_job_that_becomes_due_goes_behind_those_ready_before_it_and_by_priority() {
    let fixture = Fixture::new().await;
    let soon = at(RunAt::In(Duration::from_millis(200)));
    fixture.put_with(1, soon.clone()).await;
    fixture.put_with(2, soon.priority(5)).await;
    fixture.put(3).await;
    // A stream of any queue promotes due jobs of all queues.
    fixture.queue.create_queue("other", false).await.unwrap();
    let mut others = fixture.queue.try_stream_jobs::<u64>("other");
    assert!(futures_util::FutureExt::now_or_never(futures_util::StreamExt::next(&mut others)).is_none());
    let promoted = async || fixture.number("select count(*) from pm.job where run_at is not null") == 0;
    pm_tests::eventually("all are promoted", pm_tests::TIMEOUT, promoted).await;
    let one = StreamOptions::default().prefetch(1);
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", one);
    for expected in [2, 3, 1] {
        let (n, ack) = next(&mut jobs).await.into_parts();
        assert_eq!(n, expected);
        ack.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_in_another_process_takes_a_job_when_it_is_due() {
    let fixture = Fixture::new().await;
    let other = fixture.another(ConnectOptions::default()).await;
    let mut jobs = other.try_stream_jobs::<u64>("tasks");
    let id = fixture.put_with(1, at(RunAt::In(Duration::from_millis(500)))).await;
    let job = next(&mut jobs).await;
    assert_eq!(job.id(), id);
    job.into_parts().1.commit().await.unwrap();
}

#[tokio::test]
async fn a_due_job_does_not_wait_for_the_next_poll() {
    let fixture = Fixture::new().await;
    let (half_a_second, hour) = (Duration::from_millis(500), Duration::from_secs(3_600));
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", StreamOptions::default().poll(hour, hour));
    assert!(tokio::time::timeout(half_a_second, next(&mut jobs)).await.is_err());
    fixture.put_with(1, at(RunAt::In(half_a_second))).await;
    next(&mut jobs).await.into_parts().1.commit().await.unwrap();
}

/// Jobs with exactly the due time at which a batch of promotions ended are promoted too.
#[tokio::test]
async fn promoting_skips_no_job_whose_due_time_equals_the_end_of_a_batch() {
    const JOBS: u64 = 2_500;
    let fixture = Fixture::new().await;
    let moment =
        Timestamp::from_unix_us(fixture.number("select (extract(epoch from now()) * 1000000)::int8") + 1_000_000);
    let due_at = at(RunAt::At(moment));
    fixture.queue.enqueue_many("tasks", (0..JOBS).map(|n| (n, due_at.clone()))).await.unwrap();
    assert_eq!(fixture.number("select count(distinct run_at) from pm.job"), 1);
    let due = async || fixture.number("select count(*) from pm.job where run_at > now()") == 0;
    pm_tests::eventually("all are due", pm_tests::TIMEOUT, due).await;

    let mut session = Direct::to(&fixture.database.url()).await;
    let transaction = session.client.transaction().await.unwrap();
    transaction
        .batch_execute("select from (select id from pm.job limit 10) j join pm.job using (id) for update")
        .await
        .unwrap();
    let (mut direct, mut bound, mut promoted) = (Direct::to(&fixture.database.url()).await, None, Vec::new());
    for _ in 0..4 {
        let reply = direct.run(Promote { limit: 1_000, bound }).await;
        promoted.push(reply.promoted);
        bound = reply.upto.or(bound);
    }
    assert_eq!(promoted, [1_000, 1_000, 490, 0], "all but the ten that are locked");
    transaction.rollback().await.unwrap();
    assert_eq!(direct.run(Promote { limit: 1_000, bound }).await.promoted, 10, "they have not been skipped");
}

/// A running stream promotes within seconds what was locked when it promoted the others.
#[tokio::test]
async fn a_stream_promotes_jobs_that_were_locked_when_they_became_due() {
    let fixture = Fixture::new().await;
    let soon = at(RunAt::In(Duration::from_millis(500)));
    fixture.queue.enqueue_many("tasks", (0..1_500u64).map(|n| (n, soon.clone()))).await.unwrap();
    let mut session = Direct::to(&fixture.database.url()).await;
    let transaction = session.client.transaction().await.unwrap();
    let lock = "select from (select id from pm.job order by run_at limit 10) j join pm.job using (id) for update";
    transaction.batch_execute(lock).await.unwrap();
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    for job in take(&mut jobs, 1_490).await {
        job.into_parts().1.commit().detach();
    }
    transaction.rollback().await.unwrap();
    for job in take(&mut jobs, 10).await {
        job.into_parts().1.commit().detach();
    }
}
