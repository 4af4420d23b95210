//! A lease lasts as long as someone keeps it, and is trusted no longer than it holds.

use pm_driver_tokio_postgres::{Ending, ErrorKind, SettingsChange, State, StreamOptions};
use pm_tests::{Fixture, TIMEOUT, eventually, next, take, unattended, within};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

fn lease(lease: Duration) -> SettingsChange {
    SettingsChange::new().lease(lease).backoff(vec![Duration::ZERO])
}

#[tokio::test]
async fn a_lease_of_a_second_is_kept_alive_for_a_handler_that_works_for_four() {
    let fixture = Fixture::with(lease(SECOND)).await;
    let id = fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let ack = next(&mut jobs).await.into_parts().1;
    let mut others = fixture.another(Default::default()).await.try_stream_jobs::<u64>("tasks");
    tokio::select! {
        () = ack.lost() => panic!("the lease was lost"),
        _ = next(&mut others) => panic!("someone else got the job"),
        // The handler's work.
        () = tokio::time::sleep(SECOND * 4) => {}
    }
    let job = fixture.job(id).await;
    assert_eq!((job.state, job.attempt, job.lease), (State::InProgress, 1, Some(ack.lease().number)));
    ack.commit().await.unwrap();
    assert_eq!(fixture.state(id).await, State::Finished);
}

#[tokio::test]
async fn many_leases_are_kept_alive_together() {
    const JOBS: u64 = 700;
    let fixture = Fixture::with(lease(SECOND * 2)).await;
    fixture.put_many(JOBS).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let held = take(&mut jobs, JOBS as usize).await;
    tokio::time::sleep(SECOND * 4).await;
    for job in held {
        job.into_parts().1.commit().detach();
    }
    within("the end", fixture.queue.close()).await;
    assert_eq!(fixture.jobs_in(State::Finished), JOBS as i64);
    assert_eq!(fixture.number("select max(attempt) from pm.job"), 1);
}

#[tokio::test]
async fn keeping_alive_ends_at_its_bound() {
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
async fn without_heartbeat_someone_else_gets_the_job_and_the_first_is_told() {
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
    assert!(lost_at - start >= SECOND / 2, "trusted for most of its length");
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    theirs.into_parts().1.commit().await.unwrap();
    let attempts = fixture.queue.attempts(id).await.unwrap();
    assert_eq!((attempts.len(), attempts[0].ending), (1, Ending::Reap));
    assert_eq!(attempts[0].reason.as_deref(), Some("lease expired"));
}

#[tokio::test]
async fn a_refresh_tells_what_remains_and_never_shortens() {
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
async fn a_handler_can_keep_its_lease_by_itself() {
    let fixture = Fixture::with(lease(SECOND)).await;
    let id = fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let mut ack = next(&mut jobs).await.into_parts().1;
    for _ in 0..8 {
        tokio::time::sleep(SECOND / 3).await;
        ack.refresh_lock().await.unwrap();
        assert_eq!(fixture.queue.reap().await.unwrap().0, 0);
    }
    ack.commit().await.unwrap();
    assert_eq!((fixture.state(id).await, fixture.job(id).await.attempt), (State::Finished, 1));
}

#[tokio::test]
async fn an_expired_lease_can_be_refreshed_until_it_is_reaped() {
    let fixture = Fixture::with(lease(SECOND / 5)).await;
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let mut ack = next(&mut jobs).await.into_parts().1;
    let over = async || fixture.number("select count(*) from pm.job where lease_expires_at < now()") == 1;
    eventually("the lease is over", TIMEOUT, over).await;
    ack.refresh_lock().await.unwrap();
    eventually("it is reaped", TIMEOUT, async || fixture.queue.reap().await.unwrap().0 == 1).await;
    assert_eq!(ack.refresh_lock().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn lost_ends_when_an_operator_breaks_the_lease() {
    let fixture = Fixture::with(lease(SECOND)).await;
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", StreamOptions::default().reaper(false));
    let ack = next(&mut jobs).await.into_parts().1;
    let kept = tokio::time::timeout(SECOND * 2, ack.lost()).await;
    assert!(kept.is_err(), "it is kept alive");
    fixture.database.execute("update pm.job set state = 3, lease = null, lease_expires_at = null, seq = null").unwrap();
    within("the loss", ack.lost()).await;
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn lost_ends_when_the_word_is_said() {
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
async fn reaping_tells_how_many_and_when_the_next_lease_ends() {
    let fixture = Fixture::with(lease(SECOND * 600)).await;
    assert_eq!(fixture.queue.reap().await.unwrap(), (0, None), "nothing is in progress");
    fixture.put_many(3).await;
    assert_eq!(fixture.queue.reap().await.unwrap(), (0, None), "nor is what waits");
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let held = take(&mut jobs, 3).await;
    let (reaped, next_expiry) = fixture.queue.reap().await.unwrap();
    let next_expiry = next_expiry.unwrap();
    assert_eq!(reaped, 0);
    assert!(next_expiry <= SECOND * 600 && next_expiry > SECOND * 590, "{next_expiry:?}");

    let expire = format!("update pm.job set lease_expires_at = now() where id = '{}'", held[0].id());
    fixture.database.execute(&expire).unwrap();
    let (reaped, next_expiry) = fixture.queue.reap().await.unwrap();
    assert_eq!(reaped, 1);
    assert!(next_expiry.unwrap() > SECOND * 590, "of the other two");
    for job in held.into_iter().skip(1) {
        job.into_parts().1.commit().await.unwrap();
    }
    drop(jobs);
    let none_left = async || fixture.queue.reap().await.unwrap() == (0, None);
    eventually("nothing is in progress", TIMEOUT, none_left).await;
}

#[tokio::test]
async fn two_reapers_at_once_share_the_work() {
    const JOBS: u64 = 1_200;
    let fixture = Fixture::with(lease(SECOND * 600)).await;
    fixture.put_many(JOBS).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let held = take(&mut jobs, JOBS as usize).await;
    fixture.database.execute("update pm.job set lease_expires_at = now() where state = 1").unwrap();
    drop(jobs);
    let other = fixture.another(Default::default()).await;
    let (mine, theirs) = futures_util::future::join(fixture.queue.reap(), other.reap()).await;
    let mut reaped = mine.unwrap().0 + theirs.unwrap().0;
    reaped += fixture.queue.reap().await.unwrap().0;
    assert_eq!(reaped, JOBS);
    assert_eq!(fixture.number("select count(*) from pm.attempt where verdict = 4"), JOBS as i64);
    assert_eq!(fixture.number("select max(retry_count) from pm.job"), 1);
    drop(held);
}
