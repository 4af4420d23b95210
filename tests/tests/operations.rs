//! Operators' actions on queues and jobs.

use futures_util::StreamExt;
use pm_driver_tokio_postgres::{
    BulkAction, Change, EnqueueOptions, ErrorKind, JobFilter, Precondition, Queue, QueueName, RunAt, SettingsChange,
    State, StreamOptions, Uuid,
};
use pm_tests::{Direct, Fixture, TIMEOUT, eventually, next, within};
use std::collections::BTreeSet;
use std::time::Duration;

async fn enqueue(queue: &Queue, n: u64) -> Uuid {
    queue.enqueue("tasks", n, EnqueueOptions::default()).await.unwrap()
}

/// Returns options of a stream without heartbeat and without reaper.
fn plain() -> StreamOptions {
    StreamOptions::default().heartbeat(None).reaper(false)
}

#[tokio::test]
async fn a_restarted_job_has_a_clean_slate_and_runs_again() {
    let fixture = Fixture::new().await;
    let id = enqueue(&fixture.queue, 1).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    jobs.next().await.unwrap().unwrap().into_parts().1.hard_fail("broken").await.unwrap();
    // Otherwise the stream would claim the restarted job ahead.
    drop(jobs);
    assert_eq!(fixture.queue.restart_jobs(&[id], false).await.unwrap(), 1);
    let job = fixture.queue.job(id).await.unwrap();
    assert_eq!((job.state, job.retry_count, job.reason, job.ended_at), (State::Pending, 0, None, None));
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    jobs.next().await.unwrap().unwrap().into_parts().1.commit().await.unwrap();
    assert_eq!(fixture.queue.job(id).await.unwrap().state, State::Finished);
    assert_eq!(fixture.queue.attempts(id).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_job_in_progress_is_restarted_only_by_force_and_its_holder_is_refused() {
    let fixture = Fixture::new().await;
    let id = enqueue(&fixture.queue, 1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", plain());
    let (_, ack) = jobs.next().await.unwrap().unwrap().into_parts();
    let refused = fixture
        .queue
        .change_jobs(&BulkAction::Restart { force: false }, &[id, Uuid::nil()], &Precondition::default())
        .await
        .unwrap()
        .changes()
        .to_vec();
    assert_eq!(refused, [Change::Refused(State::InProgress), Change::NotFound]);
    assert_eq!(fixture.queue.restart_jobs(&[id], true).await.unwrap(), 1);
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    let (_, ack) = jobs.next().await.unwrap().unwrap().into_parts();
    assert_eq!((ack.id(), ack.attempt()), (id, 2));
    ack.commit().await.unwrap();
    assert_eq!(fixture.queue.attempts(id).await.unwrap()[0].ending.name(), "restart");
}

/// A list of finished jobs may be outdated when the deletion runs: a job that was restarted since must not be deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_changes_while_it_is_locked_is_judged_by_its_new_state() {
    let fixture = Fixture::new().await;
    fixture.queue.create_queue("other", false).await.unwrap();
    let ids = fixture.put_many(3).await;
    fixture.queue.finish_jobs(&ids).await.unwrap();
    let mut session = Direct::to(&fixture.database.url()).await;
    let transaction = session.client.transaction().await.unwrap();
    let restart = format!("update pm.job set state = 0, ended_at = null, seq = 1 where id = '{}'", ids[0]);
    let other = "(select id from pm.queue where name = 'other')";
    let another = format!("update pm.job set queue_id = {other} where id = '{}'", ids[1]);
    transaction.batch_execute(&format!("{restart}; {another}")).await.unwrap();
    let (queue, listed) = (fixture.queue.clone(), ids.clone());
    let precondition =
        Precondition { state: Some(State::Finished), queue: Some(QueueName::new("tasks").unwrap()), lease: None };
    let delete = tokio::spawn(async move { queue.change_jobs(&BulkAction::Delete, &listed, &precondition).await });
    let remaining = format!("select count(*) from pm.job where id = '{}'", ids[2]);
    eventually("the delete has skipped the locked jobs", TIMEOUT, async || fixture.number(&remaining) == 0).await;
    transaction.commit().await.unwrap();
    let report = within("the delete", delete).await.unwrap().unwrap();
    assert_eq!(report.changes(), [Change::Refused(State::Pending), Change::InOtherQueue, Change::Changed]);
    assert_eq!(fixture.state(ids[0]).await, State::Pending);
    assert_eq!(fixture.job(ids[1]).await.queue, "other");
}

#[tokio::test]
async fn a_commit_sent_again_after_a_restart_reports_that_it_was_applied() {
    let fixture = Fixture::new().await;
    let id = enqueue(&fixture.queue, 1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", plain());
    let (_, ack) = jobs.next().await.unwrap().unwrap().into_parts();
    let lease = ack.lease().number;
    ack.commit().await.unwrap();
    fixture.queue.restart_jobs(&[id], false).await.unwrap();
    let job = jobs.next().await.unwrap().unwrap();
    let recorded = format!("select count(*) from pm.attempt where job_id = '{id}' and lease = {lease} and verdict = 0");
    assert_eq!(fixture.number(&recorded), 1);
    job.into_parts().1.commit().await.unwrap();
}

#[tokio::test]
async fn an_operator_ends_jobs_in_any_state_but_an_ended_one() {
    let fixture = Fixture::new().await;
    let [leased, pending] = [enqueue(&fixture.queue, 1).await, enqueue(&fixture.queue, 2).await];
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", plain());
    let (_, ack) = jobs.next().await.unwrap().unwrap().into_parts();
    assert_eq!(ack.id(), leased);
    assert_eq!(fixture.queue.finish_jobs(&[leased, pending]).await.unwrap(), 2);
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(
        fixture
            .queue
            .change_jobs(
                &BulkAction::Fail { reason: "no".to_owned() },
                &[leased, Uuid::nil()],
                &Precondition::default()
            )
            .await
            .unwrap()
            .changes()
            .to_vec(),
        [Change::Refused(State::Finished), Change::NotFound]
    );
    let third = enqueue(&fixture.queue, 3).await;
    assert_eq!(fixture.queue.fail_jobs(&[third], "with\0NUL").await.unwrap(), 1);
    let job = fixture.queue.job(third).await.unwrap();
    assert_eq!((job.state, job.reason.as_deref()), (State::Failed, Some("with\u{fffd}NUL")));
    assert_eq!(fixture.number("select count(*) from pm.job where seq is not null"), 0);
}

#[tokio::test]
async fn a_deleted_job_is_gone_for_its_holder_too() {
    let fixture = Fixture::new().await;
    let id = enqueue(&fixture.queue, 1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", plain());
    let (_, ack) = jobs.next().await.unwrap().unwrap().into_parts();
    assert_eq!(fixture.queue.delete_jobs(&[id, id, Uuid::nil()]).await.unwrap(), 2, "reported twice, deleted once");
    assert_eq!(ack.soft_fail("late").await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(fixture.queue.get_job(id).await.unwrap(), None);
    assert_eq!(fixture.number("select count(*) from pm.job") + fixture.number("select count(*) from pm.attempt"), 0);
}

#[tokio::test]
async fn a_moved_job_keeps_everything_and_obeys_the_targets_pause() {
    let fixture = Fixture::new().await;
    fixture.queue.create_queue("other", true).await.unwrap();
    let options = EnqueueOptions::default().priority(7).description("keep me");
    let id = fixture.queue.enqueue("tasks", 1u64, options).await.unwrap();
    assert_eq!(fixture.queue.move_jobs(&[id], "nowhere").await.unwrap_err().kind(), ErrorKind::QueueNotFound);
    assert_eq!(fixture.queue.move_jobs(&[], "nowhere").await.unwrap_err().kind(), ErrorKind::QueueNotFound);
    assert_eq!(fixture.queue.move_jobs(&[id, Uuid::nil()], "other").await.unwrap(), 1);
    let job = fixture.queue.job(id).await.unwrap();
    assert_eq!((job.queue.as_str(), job.state, job.priority), ("other", State::Paused, 7));
    assert_eq!(job.description.as_deref(), Some("keep me"));
    assert_eq!(fixture.queue.resume_queue("other").await.unwrap(), 1);
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("other");
    jobs.next().await.unwrap().unwrap().into_parts().1.commit().await.unwrap();
}

#[tokio::test]
async fn a_job_moved_in_progress_stays_leased_and_is_still_reaped() {
    let fixture = Fixture::new().await;
    fixture.queue.create_queue("other", false).await.unwrap();
    fixture.queue.set_queue_settings("tasks", SettingsChange::new().lease(Duration::from_millis(300))).await.unwrap();
    let [committed, reaped] = [enqueue(&fixture.queue, 1).await, enqueue(&fixture.queue, 2).await];
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", plain());
    let (_, first) = jobs.next().await.unwrap().unwrap().into_parts();
    let (_, second) = jobs.next().await.unwrap().unwrap().into_parts();
    assert_eq!(fixture.queue.move_jobs(&[committed, reaped], "other").await.unwrap(), 2);
    first.commit().await.unwrap();
    pm_tests::eventually("the moved job is reaped", Duration::from_secs(10), async || {
        fixture.queue.reap().await.unwrap();
        fixture.queue.job(reaped).await.unwrap().state != State::InProgress
    })
    .await;
    assert_eq!(second.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    let job = fixture.queue.job(reaped).await.unwrap();
    assert_eq!((job.queue.as_str(), job.retry_count, job.reason.as_deref()), ("other", 1, Some("lease expired")));
}

#[tokio::test]
async fn a_copy_shares_the_payload_and_the_last_delete_frees_it() {
    let fixture = Fixture::new().await;
    let options = EnqueueOptions::default().priority(3).description("large");
    let source = fixture.queue.enqueue("tasks", "x".repeat(1 << 20), options).await.unwrap();
    let mut copies = Vec::new();
    for _ in 0..3 {
        copies.push(fixture.queue.copy_job(source, "tasks", EnqueueOptions::default()).await.unwrap());
    }
    let stored = "select count(*) from pm.payload";
    assert_eq!((fixture.number(stored), fixture.number("select refs from pm.payload")), (1, 4));
    let copy = fixture.queue.job(copies[0]).await.unwrap();
    assert_eq!((copy.priority, copy.description.as_deref()), (3, Some("large")));
    assert_eq!(fixture.queue.payload(copies[2]).await.unwrap(), fixture.queue.payload(source).await.unwrap());
    let mut jobs = fixture.queue.try_stream_jobs::<String>("tasks");
    for _ in 0..4 {
        let (payload, ack) = jobs.next().await.unwrap().unwrap().into_parts();
        assert_eq!(payload.len(), 1 << 20);
        ack.commit().await.unwrap();
    }
    fixture.queue.delete_jobs(&[source, copies[0]]).await.unwrap();
    assert_eq!((fixture.number(stored), fixture.number("select refs from pm.payload")), (1, 2));
    fixture.queue.delete_jobs(&copies[1..]).await.unwrap();
    assert_eq!(fixture.number(stored), 0);
    let missing = fixture.queue.copy_job(source, "tasks", EnqueueOptions::default()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::JobNotFound);
    let id = enqueue(&fixture.queue, 1).await;
    let nowhere = fixture.queue.copy_job(id, "nowhere", EnqueueOptions::default()).await.unwrap_err();
    assert_eq!(nowhere.kind(), ErrorKind::QueueNotFound);
}

#[tokio::test]
async fn a_fetched_job_is_the_one_asked_for() {
    let fixture = Fixture::new().await;
    let ids = [enqueue(&fixture.queue, 1).await, enqueue(&fixture.queue, 2).await];
    let job = fixture.queue.fetch_job::<u64>(ids[1]).await.unwrap().expect("it is ready");
    assert_eq!((job.id(), *job.payload()), (ids[1], 2));
    assert!(fixture.queue.fetch_job::<u64>(ids[1]).await.unwrap().is_none(), "it is in progress");
    job.into_parts().1.commit().await.unwrap();
    fixture.queue.pause_queue("tasks").await.unwrap();
    assert!(fixture.queue.fetch_job::<u64>(ids[0]).await.unwrap().is_none(), "its queue is paused");
    fixture.queue.resume_queue("tasks").await.unwrap();
    let wrong = fixture.queue.fetch_job::<String>(ids[0]).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Payload);
    pm_tests::eventually("it is released", Duration::from_secs(10), async || {
        fixture.queue.job(ids[0]).await.unwrap().state == State::Pending
    })
    .await;
    let later = EnqueueOptions::default().run_at(RunAt::In(Duration::from_secs(3_600)));
    let waiting = fixture.queue.enqueue("tasks", 3u64, later).await.unwrap();
    assert!(fixture.queue.fetch_job::<u64>(waiting).await.unwrap().is_none(), "it is not due");
    drop(fixture.queue.fetch_job::<u64>(ids[0]).await.unwrap().expect("it is ready again"));
    pm_tests::eventually("the drop is applied", Duration::from_secs(10), async || {
        fixture.queue.job(ids[0]).await.unwrap().retry_count == 1
    })
    .await;
}

#[tokio::test]
async fn a_fetched_job_is_reaped_like_any_other() {
    let fixture = Fixture::new().await;
    fixture.queue.set_queue_settings("tasks", SettingsChange::new().lease(Duration::from_millis(200))).await.unwrap();
    let id = enqueue(&fixture.queue, 1).await;
    let job = fixture.queue.fetch_job::<u64>(id).await.unwrap().expect("it is ready");
    // A killed process would stop the heartbeat; here the lease is set to have expired.
    fixture
        .column(&format!("update pm.job set lease_expires_at = now() - interval '1 s' where id = '{id}' returning 1"));
    assert_eq!(fixture.queue.reap().await.unwrap().reaped, 1);
    assert_eq!(job.into_parts().1.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn a_renamed_queue_keeps_its_jobs() {
    let fixture = Fixture::new().await;
    fixture.queue.create_queue("taken", false).await.unwrap();
    let id = enqueue(&fixture.queue, 1).await;
    let taken = fixture.queue.rename_queue("tasks", "taken").await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::QueueExists);
    assert_eq!(fixture.queue.rename_queue("nowhere", "x").await.unwrap_err().kind(), ErrorKind::QueueNotFound);
    fixture.queue.rename_queue("tasks", "chores").await.unwrap();
    assert_eq!(fixture.queue.job(id).await.unwrap().queue, "chores");
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("chores");
    jobs.next().await.unwrap().unwrap().into_parts().1.commit().await.unwrap();
    let mut old = fixture.queue.try_stream_jobs::<u64>("tasks");
    assert_eq!(old.next().await.unwrap().unwrap_err().kind(), ErrorKind::QueueNotFound);
    assert!(old.next().await.is_none());
}

#[tokio::test]
async fn a_deleted_queue_goes_with_all_its_jobs_and_no_others() {
    let fixture = Fixture::new().await;
    fixture.queue.create_queue("other", false).await.unwrap();
    let many = (0..12_000u64).map(|n| (n, EnqueueOptions::default()));
    fixture.queue.enqueue_many("tasks", many).await.unwrap();
    let kept = fixture.queue.enqueue("other", 1u64, EnqueueOptions::default()).await.unwrap();
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", plain());
    let (_, ack) = jobs.next().await.unwrap().unwrap().into_parts();
    assert_eq!(fixture.queue.delete_queue("tasks").await.unwrap(), 12_000);
    assert_eq!(ack.commit().await.unwrap_err().kind(), ErrorKind::LeaseLost);
    assert_eq!(fixture.queue.delete_queue("tasks").await.unwrap_err().kind(), ErrorKind::QueueNotFound);
    assert_eq!(fixture.number("select count(*) from pm.job"), 1);
    assert_eq!(fixture.number("select count(*) from pm.queue"), 1);
    assert!(fixture.queue.get_job(kept).await.unwrap().is_some());
    assert!(fixture.queue.create_queue("tasks", false).await.unwrap(), "the name is free again");
}

#[tokio::test]
async fn a_deletion_dropped_between_two_steps_is_finished_by_a_prune() {
    let fixture = Fixture::new().await;
    fixture.put_many(5_001).await;
    let mut deletion = fixture.queue.begin_deletion("tasks").await.unwrap();
    assert_eq!(
        fixture.number("select count(*) from pm.queue where name is not null"),
        0,
        "the queue is not found any more"
    );
    assert!(deletion.step().await.unwrap(), "there is more to do");
    assert_eq!((deletion.seen(), deletion.deleted()), (5_000, 5_000));
    drop(deletion);
    let mut prune = fixture.queue.begin_prune();
    assert!(!prune.step().await.unwrap());
    assert_eq!((prune.seen(), prune.deleted()), (1, 1));
    assert!(!prune.step().await.unwrap(), "there is no further step");
    assert_eq!(fixture.number("select count(*) from pm.queue"), 0);
}

#[tokio::test]
async fn pruning_follows_each_queues_retention_and_finishes_interrupted_deletes() {
    let fixture = Fixture::new().await;
    fixture.queue.create_queue("kept", false).await.unwrap();
    fixture.queue.create_queue("going", false).await.unwrap();
    let minute = SettingsChange::new().retain(Some(Duration::from_secs(60)));
    fixture.queue.set_queue_settings("tasks", minute).await.unwrap();
    let mut ids = Vec::new();
    for name in ["tasks", "tasks", "tasks", "kept", "going"] {
        ids.push(fixture.queue.enqueue(name, 1u64, EnqueueOptions::default()).await.unwrap());
    }
    fixture.queue.finish_jobs(&ids[..1]).await.unwrap();
    fixture.queue.fail_jobs(&ids[1..2], "old").await.unwrap();
    fixture.queue.finish_jobs(&ids[3..4]).await.unwrap();
    assert_eq!(fixture.queue.prune().await.unwrap(), 0, "nothing is old enough");
    fixture.column("update pm.job set ended_at = ended_at - interval '2 min' where ended_at is not null returning 1");
    fixture.column("update pm.queue set name = null where name = 'going' returning 1");
    assert_eq!(fixture.queue.prune().await.unwrap(), 3, "two ended ones and the deleted queue's");
    let left = fixture.queue.list_jobs(JobFilter::default()).await.unwrap();
    // Ids made in one millisecond come in any order.
    let left: BTreeSet<_> = left.iter().map(|job| job.id).collect();
    assert_eq!(left, BTreeSet::from([ids[3], ids[2]]));
    assert_eq!(fixture.number("select count(*) from pm.queue"), 2);
    assert_eq!(fixture.number("select count(*) from pm.attempt"), 0);
}

/// When another queue takes the name, the stream serves that one.
#[tokio::test]
async fn a_stream_follows_its_queue_by_name() {
    let fixture = Fixture::new().await;
    fixture.queue.create_queue("spare", false).await.unwrap();
    let options = StreamOptions::default().poll(Duration::from_millis(20), Duration::from_millis(100)).listen(false);
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>(&["tasks", "spare"], options);
    fixture.put(1).await;
    next(&mut jobs).await.into_parts().1.commit().await.unwrap();
    let other = fixture.another(Default::default()).await;
    other.rename_queue("tasks", "old").await.unwrap();
    let missed = within("the error", jobs.next()).await.expect("the stream goes on");
    assert_eq!(
        missed.unwrap_err().kind(),
        ErrorKind::QueueNotFound,
        "reported once, because there is another queue to serve"
    );
    other.create_queue("tasks", false).await.unwrap();
    let old = other.enqueue("old", 2u64, EnqueueOptions::default()).await.unwrap();
    let new = other.enqueue("tasks", 3u64, EnqueueOptions::default()).await.unwrap();
    assert_eq!(next(&mut jobs).await.id(), new);
    assert_eq!(fixture.state(old).await, State::Pending);
}
