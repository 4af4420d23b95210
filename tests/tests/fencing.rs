//! A late settlement changes nothing and is refused, alone and in a batch with valid ones.

use futures_util::future::join_all;
use pm_core::op::{Claim, DeleteJobs, Enqueue, LineCursor, Outcome, Precondition, Settle, SettleItem};
use pm_core::{EnqueueOptions, Lease, NewJob, QueueName, Verdict};
use pm_driver_tokio_postgres::{ErrorKind, JobAck, SettingsChange, State, Uuid};
use pm_tests::{Direct, Fixture, TIMEOUT, eventually, next, take, unattended, within};
use std::time::Duration;

/// Settings with a short lease and immediate retries.
fn short() -> SettingsChange {
    SettingsChange::new().lease(Duration::from_millis(400)).backoff(vec![Duration::ZERO])
}

/// Claims a job whose lease is not extended.
async fn stale_ack(fixture: &Fixture) -> JobAck {
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    next(&mut jobs).await.into_parts().1
}

async fn reap_one(fixture: &Fixture) {
    let reaped = async || fixture.queue.reap().await.expect("the reap succeeds").reaped == 1;
    eventually("the lease is reaped", TIMEOUT, reaped).await;
}

fn restart_by_force(fixture: &Fixture, ids: &[Uuid]) {
    let ids: Vec<_> = ids.iter().map(|id| format!("'{id}'")).collect();
    let sql = "update pm.job set state = 0, lease = null, lease_expires_at = null, worker = null,
        seq = nextval('pm.job_seq') where state = 1 and id in";
    fixture.database.execute(&format!("{sql} ({})", ids.join(","))).expect("the statement is valid");
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
async fn a_commit_after_the_lease_but_before_the_reap_is_applied() {
    let fixture = Fixture::with(short()).await;
    let ack = stale_ack(&fixture).await;
    let id = ack.id();
    within("the loss", ack.lost()).await;
    ack.commit().await.unwrap();
    assert_eq!(fixture.state(id).await, State::Finished);
}

#[tokio::test]
async fn every_settlement_after_a_forced_restart_is_refused() {
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
    let settlements = [ack().commit(), ack().soft_fail("late"), ack().hard_fail("late"), ack().release()];
    for outcome in join_all(settlements).await {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::LeaseLost);
    }
    for id in ids {
        let job = fixture.job(id).await;
        assert_eq!((job.state, job.retry_count, job.reason), (State::Pending, 0, None));
    }
    assert_eq!(fixture.number("select count(*) from pm.attempt"), 0);
}

#[tokio::test]
async fn a_settlement_of_a_deleted_job_is_refused() {
    let fixture = Fixture::new().await;
    let ack = stale_ack(&fixture).await;
    fixture.database.execute("delete from pm.job").unwrap();
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn a_late_settlement_leaves_the_job_to_its_new_holder() {
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
async fn stale_settlements_in_a_batch_do_not_affect_the_valid_ones() {
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

    // All settlements are started before the first result is awaited, so they are sent in batches.
    let settlements: Vec<_> = taken.into_iter().map(|(n, ack)| (n, ack.id(), ack.commit())).collect();
    let statements_at_most = 20;
    for (n, id, settlement) in settlements {
        let outcome = within("an answer", settlement).await;
        if n % 3 == 0 {
            outcome.unwrap();
            assert_eq!(
                fixture.number(&format!("select state from pm.job where id = '{id}'")),
                2,
                "durable when confirmed"
            );
        } else {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::LeaseLost, "job {n}");
        }
    }
    let versions = fixture.number("select count(distinct xmin::text) from pm.job where state = 2");
    assert!(versions <= statements_at_most, "{versions} statements for 300 settlements: not batched");
    assert_eq!((fixture.jobs_in(State::Finished), fixture.jobs_in(State::Pending)), (100, 100));
}

/// Enqueues the job with this id and claims it under this lease number, by hand.
async fn enqueue_and_claim(fixture: &Fixture, direct: &mut Direct, id: Uuid, lease: i64) {
    let queue = QueueName::new("tasks").expect("the name is valid");
    let job = NewJob { id, queue, payload: "1".into(), options: EnqueueOptions::default() };
    assert!(direct.run(Enqueue { jobs: &[job] }).await.present.is_empty());
    let queue_id = fixture.number("select id from pm.queue") as i32;
    let lines = vec![LineCursor { queue_id, priority: 0, cursor: 0 }];
    let claim = Claim { lines, limit: 10, lease, worker: "by hand".to_owned(), due_bound: None };
    let claimed = direct.run(claim).await.jobs;
    assert_eq!((claimed.len(), claimed[0].columns.attempt, claimed[0].lease.number), (1, 1, lease));
}

/// A resent enqueue may create a deleted job again under its id: the lease number, unlike the attempt, distinguishes
/// the two.
#[tokio::test]
async fn a_settlement_of_a_job_deleted_and_created_again_is_refused() {
    let fixture = Fixture::new().await;
    let (mut direct, id) = (Direct::to(&fixture.database.url()).await, Uuid::from_u128(1));
    for lease in [7, 8] {
        direct.run(DeleteJobs { ids: vec![id], precondition: Precondition::default() }).await;
        enqueue_and_claim(&fixture, &mut direct, id, lease).await;
    }
    let late = Lease { job: id, number: 7 };
    let late = [SettleItem { lease: late, verdict: Verdict::Commit, state: State::Finished, delay: None }];
    assert_eq!(direct.run(Settle { items: &late, passes: false }).await.missed, [0], "the first item changed nothing");
    assert_eq!(direct.run(Outcome { items: &late }).await, [false], "and had not been applied before");
    assert_eq!(fixture.jobs_in(State::InProgress), 1);
}
