//! A late word changes nothing and is told so, alone and in a batch beside good ones.

use futures_util::future::join_all;
use pm_driver_tokio_postgres::{ErrorKind, JobAck, SettingsChange, State, Uuid};
use pm_tests::{Fixture, TIMEOUT, eventually, next, take, unattended, within};
use std::time::Duration;

/// A lease that is over soon, and retries at once.
fn short() -> SettingsChange {
    SettingsChange::new().lease(Duration::from_millis(400)).backoff(vec![Duration::ZERO])
}

/// Takes a job whose lease nobody keeps alive.
async fn stale_ack(fixture: &Fixture) -> JobAck {
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    next(&mut jobs).await.into_parts().1
}

async fn reap_one(fixture: &Fixture) {
    let reaped = async || fixture.queue.reap().await.expect("it can be reaped").0 == 1;
    eventually("the lease is reaped", TIMEOUT, reaped).await;
}

fn restart_by_force(fixture: &Fixture, ids: &[Uuid]) {
    let ids: Vec<_> = ids.iter().map(|id| format!("'{id}'")).collect();
    let sql = "update pm.job set state = 0, lease = null, lease_expires_at = null, worker = null,
        seq = nextval('pm.job_seq') where state = 1 and id in";
    fixture.database.execute(&format!("{sql} ({})", ids.join(","))).expect("an operator may");
}

#[tokio::test]
async fn a_commit_after_the_reap_is_refused() {
    let fixture = Fixture::with(short()).await;
    let ack = stale_ack(&fixture).await;
    let id = ack.id();
    reap_one(&fixture).await;
    let error = ack.commit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
    let job = fixture.job(id).await;
    assert_eq!((job.state, job.retry_count, job.reason.as_deref()), (State::Pending, 1, Some("lease expired")));
}

#[tokio::test]
async fn a_commit_after_the_lease_but_before_the_reap_counts() {
    let fixture = Fixture::with(short()).await;
    let ack = stale_ack(&fixture).await;
    let id = ack.id();
    within("the end of trust", ack.lost()).await;
    ack.commit().await.unwrap();
    assert_eq!(fixture.state(id).await, State::Finished);
}

#[tokio::test]
async fn every_word_after_a_forced_restart_is_refused() {
    let fixture = Fixture::new().await;
    fixture.put_many(4).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let mut acks: Vec<_> = take(&mut jobs, 4).await.into_iter().map(|job| job.into_parts().1).collect();
    drop(jobs);
    let ids: Vec<_> = acks.iter().map(JobAck::id).collect();
    restart_by_force(&fixture, &ids);

    let error = acks[0].refresh_lock().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
    let mut acks = acks.into_iter();
    let mut ack = || acks.next().unwrap();
    let words = [ack().commit(), ack().soft_fail("late"), ack().hard_fail("late"), ack().release()];
    for outcome in join_all(words).await {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::LeaseLost);
    }
    for id in ids {
        let job = fixture.job(id).await;
        assert_eq!((job.state, job.retry_count, job.reason), (State::Pending, 0, None));
    }
    assert_eq!(fixture.number("select count(*) from pm.attempt"), 0);
}

#[tokio::test]
async fn a_word_about_a_deleted_job_is_refused() {
    let fixture = Fixture::new().await;
    let ack = stale_ack(&fixture).await;
    fixture.database.execute("delete from pm.job").unwrap();
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn a_word_about_a_job_that_someone_else_has_leaves_it_to_them() {
    let fixture = Fixture::with(short()).await;
    let late = stale_ack(&fixture).await;
    reap_one(&fixture).await;
    let mut others = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended().worker_name("other"));
    let theirs = next(&mut others).await.into_parts().1;
    assert_eq!((theirs.id(), theirs.attempt()), (late.id(), 2));
    assert_ne!(theirs.lease(), late.lease());

    assert_eq!(late.hard_fail("mine!").await.unwrap_err().kind(), ErrorKind::LeaseLost);
    let id = theirs.id();
    assert_eq!(fixture.state(id).await, State::InProgress);
    theirs.commit().await.unwrap();
    assert_eq!(fixture.state(id).await, State::Finished);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_words_in_a_batch_do_not_harm_the_good_ones_beside_them() {
    const JOBS: u64 = 300;
    let fixture = Fixture::new().await;
    fixture.put_many(JOBS).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let taken: Vec<_> = take(&mut jobs, JOBS as usize).await.into_iter().map(|job| job.into_parts()).collect();
    drop(jobs);
    let of_kind = |rest| taken.iter().filter(move |(n, _)| n % 3 == rest).map(|(_, ack)| ack.id()).collect::<Vec<_>>();
    restart_by_force(&fixture, &of_kind(1));
    let gone: Vec<_> = of_kind(2).iter().map(|id| format!("'{id}'")).collect();
    fixture.database.execute(&format!("delete from pm.job where id in ({})", gone.join(","))).unwrap();

    // All words are said before the first answer is awaited: they travel together.
    let words: Vec<_> = taken.into_iter().map(|(n, ack)| (n, ack.id(), ack.commit())).collect();
    let statements_at_most = 20;
    for (n, id, word) in words {
        let outcome = within("an answer", word).await;
        if n % 3 == 0 {
            outcome.unwrap();
            assert_eq!(fixture.number(&format!("select state from pm.job where id = '{id}'")), 2, "durable when told");
        } else {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::LeaseLost, "job {n}");
        }
    }
    let versions = fixture.number("select count(distinct xmin::text) from pm.job where state = 2");
    assert!(versions <= statements_at_most, "{versions} statements for 300 words: no batch");
    assert_eq!((fixture.jobs_in(State::Finished), fixture.jobs_in(State::Pending)), (100, 100));
}
