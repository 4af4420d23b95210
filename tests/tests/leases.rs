//! A lease lasts as long as it is extended, and is trusted no longer than it lasts.

use pm_driver_tokio_postgres::{Ending, ErrorKind, Reaped, SettingsChange, State, StreamOptions};
use pm_tests::{Fixture, TIMEOUT, eventually, next, take, unattended, within};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

fn lease(lease: Duration) -> SettingsChange {
    SettingsChange::new().lease(lease).backoff(vec![Duration::ZERO])
}

#[tokio::test]
async fn a_lease_of_one_second_is_extended_for_a_handler_that_takes_four() {
    let fixture = Fixture::with(lease(SECOND)).await;
    let id = fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let ack = next(&mut jobs).await.into_parts().1;
    let mut others = fixture.another(Default::default()).await.try_stream_jobs::<u64>("tasks");
    tokio::select! {
        () = ack.lost() => panic!("the lease was lost"),
        _ = next(&mut others) => panic!("another worker got the job"),
        // The handler's work.
        () = tokio::time::sleep(SECOND * 4) => {}
    }
    let job = fixture.job(id).await;
    assert_eq!((job.state, job.attempt, job.lease), (State::InProgress, 1, Some(ack.lease().number)));
    ack.commit().await.unwrap();
    assert_eq!(fixture.state(id).await, State::Finished);
}

#[tokio::test]
async fn many_leases_are_extended_together() {
    const JOBS: u64 = 700;
    let fixture = Fixture::with(lease(SECOND * 2)).await;
    fixture.put_many(JOBS).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let taken = take(&mut jobs, JOBS as usize).await;
    tokio::time::sleep(SECOND * 4).await;
    for job in taken {
        job.into_parts().1.commit().detach();
    }
    within("the end", fixture.queue.close()).await;
    assert_eq!(fixture.jobs_in(State::Finished), JOBS as i64);
    assert_eq!(fixture.number("select max(attempt) from pm.job"), 1);
}

#[tokio::test]
async fn the_heartbeat_ends_at_its_limit() {
    let fixture = Fixture::with(lease(SECOND)).await;
    fixture.put(1).await;
    let options = StreamOptions::default().heartbeat(Some(SECOND * 2));
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", options);
    let start = Instant::now();
    let ack = next(&mut jobs).await.into_parts().1;
    within("the loss", ack.lost()).await;
    assert!(start.elapsed() > SECOND * 2, "{:?}", start.elapsed());
    assert_eq!(next(&mut jobs).await.metadata().attempt, 2, "it was reaped, and handed out again");
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn without_heartbeat_another_worker_gets_the_job_and_the_first_is_notified() {
    let fixture = Fixture::with(lease(SECOND)).await;
    let id = fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let start = Instant::now();
    let ack = next(&mut jobs).await.into_parts().1;
    drop(jobs);
    let mut others = fixture.another(Default::default()).await.try_stream_jobs::<u64>("tasks");
    let lost = ack.lost();
    let lost_at = tokio::spawn(async move {
        lost.await;
        Instant::now()
    });
    let theirs = next(&mut others).await;
    let theirs_at = Instant::now();
    assert_eq!((theirs.id(), theirs.metadata().attempt, theirs.metadata().retry_count), (id, 2, 1));
    let lost_at = within("the loss", lost_at).await.unwrap();
    assert!(lost_at <= theirs_at, "never two trusted leases");
    assert!(lost_at - start >= SECOND / 2, "trusted for most of its duration");
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    theirs.into_parts().1.commit().await.unwrap();
    let attempts = fixture.queue.attempts(id).await.unwrap();
    assert_eq!((attempts.len(), attempts[0].ending), (1, Ending::Reap));
    assert_eq!(attempts[0].reason.as_deref(), Some("lease expired"));
}

#[tokio::test]
async fn an_extension_returns_the_remaining_time_and_never_shortens_the_lease() {
    let fixture = Fixture::with(lease(SECOND * 600)).await;
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let mut ack = next(&mut jobs).await.into_parts().1;
    let remaining = ack.refresh_lock().await.unwrap();
    assert!(remaining <= SECOND * 600 && remaining > SECOND * 590, "{remaining:?}");
    fixture.queue.set_queue_settings("tasks", SettingsChange::new().lease(SECOND * 5)).await.unwrap();
    let remaining = ack.refresh_lock().await.unwrap();
    assert!(remaining > SECOND * 580, "{remaining:?}");
    ack.commit().await.unwrap();
}

#[tokio::test]
async fn a_handler_can_extend_its_lease_by_hand() {
    let fixture = Fixture::with(lease(SECOND)).await;
    let id = fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let mut ack = next(&mut jobs).await.into_parts().1;
    for _ in 0..8 {
        tokio::time::sleep(SECOND / 3).await;
        ack.refresh_lock().await.unwrap();
        assert_eq!(fixture.queue.reap().await.unwrap().reaped, 0);
    }
    ack.commit().await.unwrap();
    assert_eq!((fixture.state(id).await, fixture.job(id).await.attempt), (State::Finished, 1));
}

#[tokio::test]
async fn an_expired_lease_can_be_extended_until_it_is_reaped() {
    let fixture = Fixture::with(lease(SECOND / 5)).await;
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let mut ack = next(&mut jobs).await.into_parts().1;
    let expired = async || fixture.number("select count(*) from pm.job where lease_expires_at < now()") == 1;
    eventually("the lease has expired", TIMEOUT, expired).await;
    ack.refresh_lock().await.unwrap();
    eventually("it is reaped", TIMEOUT, async || fixture.queue.reap().await.unwrap().reaped == 1).await;
    assert_eq!(ack.refresh_lock().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn lost_ends_when_an_operator_breaks_the_lease() {
    let fixture = Fixture::with(lease(SECOND)).await;
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", StreamOptions::default().reaper(false));
    let ack = next(&mut jobs).await.into_parts().1;
    let timed_out = tokio::time::timeout(SECOND * 2, ack.lost()).await;
    assert!(timed_out.is_err(), "the heartbeat extends it");
    fixture.database.execute("update pm.job set state = 3, lease = null, lease_expires_at = null, seq = null").unwrap();
    within("the loss", ack.lost()).await;
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn lost_ends_when_the_job_is_settled() {
    let fixture = Fixture::new().await;
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let ack = next(&mut jobs).await.into_parts().1;
    let lost = tokio::spawn(ack.lost());
    tokio::task::yield_now().await;
    ack.commit().await.unwrap();
    within("the end", lost).await.unwrap();
}

#[tokio::test]
async fn reaping_reports_how_many_and_when_the_next_lease_ends() {
    let fixture = Fixture::with(lease(SECOND * 600)).await;
    assert_eq!(fixture.queue.reap().await.unwrap(), Reaped::default(), "nothing is in progress");
    fixture.put_many(3).await;
    assert_eq!(fixture.queue.reap().await.unwrap(), Reaped::default(), "pending jobs do not count");
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let taken = take(&mut jobs, 3).await;
    let Reaped { reaped, next_expiry, .. } = fixture.queue.reap().await.unwrap();
    let next_expiry = next_expiry.unwrap();
    assert_eq!(reaped, 0);
    assert!(next_expiry <= SECOND * 600 && next_expiry > SECOND * 590, "{next_expiry:?}");

    let expire = format!("update pm.job set lease_expires_at = now() where id = '{}'", taken[0].id());
    fixture.database.execute(&expire).unwrap();
    let Reaped { reaped, next_expiry, .. } = fixture.queue.reap().await.unwrap();
    assert_eq!(reaped, 1);
    assert!(next_expiry.unwrap() > SECOND * 590, "of the other two");
    for job in taken.into_iter().skip(1) {
        job.into_parts().1.commit().await.unwrap();
    }
    drop(jobs);
    let none_left = async || fixture.queue.reap().await.unwrap() == Reaped::default();
    eventually("nothing is in progress", TIMEOUT, none_left).await;
}

#[tokio::test]
async fn two_reapers_at_once_share_the_work() {
    const JOBS: u64 = 1_200;
    let fixture = Fixture::with(lease(SECOND * 600)).await;
    fixture.put_many(JOBS).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let taken = take(&mut jobs, JOBS as usize).await;
    fixture.database.execute("update pm.job set lease_expires_at = now() where state = 1").unwrap();
    drop(jobs);
    let other = fixture.another(Default::default()).await;
    let (mine, theirs) = futures_util::future::join(fixture.queue.reap(), other.reap()).await;
    let mut reaped = mine.unwrap().reaped + theirs.unwrap().reaped;
    reaped += fixture.queue.reap().await.unwrap().reaped;
    assert_eq!(reaped, JOBS);
    assert_eq!(fixture.number("select count(*) from pm.attempt where verdict = 4"), JOBS as i64);
    assert_eq!(fixture.number("select max(retry_count) from pm.job"), 1);
    drop(taken);
}

#[tokio::test]
async fn a_stream_recovers_expired_leases_of_other_queues_without_a_reaper() {
    let fixture = Fixture::with(lease(SECOND / 5)).await;
    fixture.queue.create_queue("other", false).await.unwrap();
    let id = fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let _job = next(&mut jobs).await;
    drop(jobs);
    let mut others = fixture.queue.try_stream_jobs::<u64>("other");
    assert!(futures_util::FutureExt::now_or_never(futures_util::StreamExt::next(&mut others)).is_none());
    let recovered = async || fixture.job(id).await.retry_count == 1;
    eventually("it is reaped by a stream of another queue", TIMEOUT, recovered).await;
}

#[tokio::test]
async fn a_lease_has_the_length_set_when_it_was_claimed_whichever_process_reaps() {
    let fixture = Fixture::with(lease(SECOND * 600)).await;
    let id = fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let job = next(&mut jobs).await;
    fixture.queue.set_queue_settings("tasks", SettingsChange::new().lease(SECOND)).await.unwrap();
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(fixture.another(Default::default()).await.reap().await.unwrap().reaped, 0);
    assert_eq!(fixture.state(id).await, State::InProgress);
    within("the commit", job.into_parts().1.commit()).await.unwrap();
}
