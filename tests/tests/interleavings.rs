//! Changes that commit between a statement's snapshot and its row lock. A role that waits before it reads jobs makes
//! them happen.

use pm_core::op::{
    Claim, CopyJob, DeleteJobs, EndJobs, Extend, ExtendItem, FetchJob, HoldSchedule, LineCursor, MoveJobs,
    Precondition, PruneJobs, Reap, ReplaceJobs, Settle, SettleItem,
};
use pm_core::{Lease, NewJob, OnConflict, Operation, QueueName, Reason, ScheduleName, Verdict};
use pm_driver_tokio_postgres::{EnqueueOptions, ErrorKind, Schedule, SettingsChange, State, Uuid};
use pm_tests::{Direct, Fixture, LOCK_WAITS, TIMEOUT, eventually, run_in};
use std::time::Duration;
use tokio::task::JoinHandle;

/// An operation whose statement has its snapshot, and has not read any job.
struct Halfway<T> {
    holder: Direct,
    running: JoinHandle<T>,
}

impl<T> Halfway<T> {
    /// Begins `operation` as a role that waits for an advisory lock whenever it reads jobs.
    async fn through<O>(fixture: &Fixture, operation: O) -> Halfway<T>
    where
        O: Operation<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let role = format!("{}_waiting", fixture.database.name());
        let mut waiting = Direct::to(&fixture.database.url()).await;
        let setup = format!(
            "create or replace function pm.wait() returns bool language plpgsql as
               'begin perform pg_advisory_lock_shared(1); perform pg_advisory_unlock_shared(1); return true; end';
             alter table pm.job enable row level security;
             create role {role}; grant all on schema pm to {role}; grant all on all tables in schema pm to {role};
             grant all on all sequences in schema pm to {role};
             create policy waits on pm.job to {role} using (pm.wait());
             set role {role}"
        );
        waiting.client.batch_execute(&setup).await.unwrap();
        let holder = Direct::to(&fixture.database.url()).await;
        holder.client.batch_execute("select pg_advisory_lock(1)").await.unwrap();
        let running = tokio::spawn(async move { waiting.run(operation).await });
        eventually("it waits", TIMEOUT, async || fixture.number(LOCK_WAITS) > 0).await;
        Halfway { holder, running }
    }

    /// Lets it run to its end.
    async fn finish(self) -> T {
        self.holder.client.batch_execute("select pg_advisory_unlock(1)").await.unwrap();
        self.running.await.unwrap()
    }
}

/// Returns a fixture whose queue `tasks` keeps ended jobs for a minute, with a job that ended two minutes ago.
async fn with_an_old_job() -> (Fixture, Uuid) {
    let minute = SettingsChange::new().retain(Some(Duration::from_secs(60)));
    let fixture = Fixture::with(minute).await;
    let id = fixture.put(1).await;
    fixture.queue.finish_jobs(&[id]).await.unwrap();
    fixture.database.execute("update pm.job set ended_at = ended_at - interval '2 min'").unwrap();
    (fixture, id)
}

const ALL: PruneJobs = PruneJobs { after: None, page: 100, queue_id: None };

#[tokio::test]
async fn an_old_job_is_pruned_by_a_role_that_waits_too() {
    let (fixture, id) = with_an_old_job().await;
    let prune = Halfway::through(&fixture, ALL).await;
    assert_eq!(prune.finish().await.deleted, 1);
    assert!(fixture.queue.get_job(id).await.unwrap().is_none());
}

#[tokio::test]
async fn pruning_leaves_a_job_that_was_restarted_concurrently() {
    let (fixture, id) = with_an_old_job().await;
    let prune = Halfway::through(&fixture, ALL).await;
    assert_eq!(fixture.queue.restart_jobs(&[id], false).await.unwrap(), 1);
    assert_eq!(prune.finish().await.deleted, 0);
    assert_eq!(fixture.state(id).await, State::Pending);
}

#[tokio::test]
async fn pruning_leaves_a_job_that_was_restarted_and_ended_again_concurrently() {
    let (fixture, id) = with_an_old_job().await;
    let prune = Halfway::through(&fixture, ALL).await;
    assert_eq!(fixture.queue.restart_jobs(&[id], false).await.unwrap(), 1);
    assert_eq!(fixture.queue.fail_jobs(&[id], "look at me").await.unwrap(), 1);
    assert_eq!(prune.finish().await.deleted, 0);
    assert_eq!(fixture.reason(id).await, "look at me");
}

#[tokio::test]
async fn pruning_leaves_a_job_that_was_moved_to_a_queue_that_keeps_it() {
    let (fixture, id) = with_an_old_job().await;
    fixture.queue.create_queue("archive", false).await.unwrap();
    let prune = Halfway::through(&fixture, ALL).await;
    assert_eq!(fixture.queue.move_jobs(&[id], "archive").await.unwrap(), 1);
    assert_eq!(prune.finish().await.deleted, 0);
    assert_eq!(fixture.job(id).await.queue, "archive");
}

#[tokio::test]
async fn pruning_a_deleted_queue_leaves_a_job_that_was_moved_out_of_it() {
    let (fixture, id) = with_an_old_job().await;
    fixture.queue.create_queue("archive", false).await.unwrap();
    drop(fixture.queue.begin_deletion("tasks").await.unwrap());
    let queue_id = fixture.number("select id from pm.queue where name is null") as i32;
    let prune = Halfway::through(&fixture, PruneJobs { queue_id: Some(queue_id), ..ALL }).await;
    assert_eq!(fixture.queue.move_jobs(&[id], "archive").await.unwrap(), 1);
    assert_eq!(prune.finish().await.deleted, 0);
    assert_eq!(fixture.job(id).await.queue, "archive");
}

/// The source's deletion releases a payload that is younger than its snapshot, after the copy's did: neither sees the
/// other's reference.
#[tokio::test]
async fn a_copy_made_and_deleted_while_its_source_is_deleted_leaves_no_bytes() {
    let fixture = Fixture::new().await;
    let source = fixture.put(1).await;
    let halfway = Halfway::through(&fixture, DeleteJobs { ids: vec![source], precondition: Precondition::default() });
    let delete = halfway.await;
    let copy = fixture.queue.copy_job(source, "tasks", EnqueueOptions::default()).await.unwrap();
    assert_eq!(fixture.queue.delete_jobs(&[copy]).await.unwrap(), 1);
    drop(delete.finish().await);
    assert_eq!(fixture.number("select count(*) from pm.job"), 0);
    assert_eq!(fixture.number("select count(*) from pm.payload"), 0);
}

/// Replacing a holder releases its payload too, which a copy made shared while the statement waited.
#[tokio::test]
async fn a_copy_made_and_deleted_while_its_source_is_replaced_leaves_no_bytes() {
    let fixture = Fixture::new().await;
    let source = fixture.put_with(1, EnqueueOptions::default().key("k")).await;
    let options = EnqueueOptions::default().key("k").on_conflict(OnConflict::Replace);
    let queue = QueueName::new("tasks").unwrap();
    let jobs = Vec::leak(vec![NewJob { id: Uuid::from_u128(9), queue, payload: "2".into(), options }]);
    let replace = Halfway::through(&fixture, ReplaceJobs { jobs }).await;
    let copy = fixture.queue.copy_job(source, "tasks", EnqueueOptions::default()).await.unwrap();
    assert_eq!(fixture.queue.delete_jobs(&[copy]).await.unwrap(), 1);
    assert_eq!(replace.finish().await, [None], "it has to be tried again");
    let again = Direct::to(&fixture.database.url()).await.run(ReplaceJobs { jobs }).await;
    assert!(again[0].is_some_and(|holder| holder.replaced && holder.id == source));
    assert_eq!(fixture.number("select count(*) from pm.payload"), 0);
}

/// Settles or replaces a job while its deletion waits for it, and checks that the deletion leaves no rows.
async fn assert_nothing_left<T: Send + 'static>(fixture: &Fixture, id: Uuid, lease: Option<Lease>, delete: Halfway<T>) {
    let mut direct = Direct::to(&fixture.database.url()).await;
    match lease {
        Some(lease) => {
            let verdict = Verdict::SoftFail(Reason::new("no"));
            let items = [SettleItem { lease, verdict, state: State::Pending, delay: None }];
            direct.run(Settle { items: &items, passes: false }).await;
            assert_eq!(fixture.number("select count(*) from pm.attempt"), 1);
        }
        None => {
            let replace = EnqueueOptions::default().key("k").on_conflict(OnConflict::Replace);
            assert_eq!(fixture.put_with(2, replace).await, id);
        }
    }
    delete.finish().await;
    let left = "select (select count(*) from pm.job) + (select count(*) from pm.attempt)
                  + (select count(*) from pm.replacement)";
    assert_eq!(fixture.number(left), 0, "settled: {}", lease.is_some());
}

/// Rows that a settlement or a replacement commits while a deletion waits for the job are younger than the deletion's
/// snapshot, and are deleted nevertheless.
#[tokio::test]
async fn rows_added_while_a_job_is_deleted_are_deleted_with_it() {
    for settles in [false, true] {
        let fixture = Fixture::new().await;
        let id = fixture.put_with(1, EnqueueOptions::default().key("k")).await;
        let lease = if settles { Some(leased(&fixture, id).await) } else { None };
        let delete =
            Halfway::through(&fixture, DeleteJobs { ids: vec![id], precondition: Precondition::default() }).await;
        assert_nothing_left(&fixture, id, lease, delete).await;
    }
}

#[tokio::test]
async fn rows_added_while_the_jobs_of_a_deleted_queue_are_pruned_are_deleted_with_them() {
    for settles in [false, true] {
        let fixture = Fixture::new().await;
        let id = fixture.put_with(1, EnqueueOptions::default().key("k")).await;
        let lease = if settles { Some(leased(&fixture, id).await) } else { None };
        drop(fixture.queue.begin_deletion("tasks").await.unwrap());
        let prune = Halfway::through(&fixture, ALL).await;
        // The prune has its snapshot; the enqueue below needs the queue's name.
        fixture.database.execute("update pm.queue set name = 'tasks'").unwrap();
        assert_nothing_left(&fixture, id, lease, prune).await;
    }
}

#[tokio::test]
async fn two_first_copies_at_once_share_one_payload() {
    let fixture = Fixture::new().await;
    let source = fixture.put(1).await;
    let (id, queue) = (Uuid::from_u128(1), QueueName::new("tasks").unwrap());
    let job = NewJob { id, queue, payload: "".into(), options: EnqueueOptions::default() };
    let late = Halfway::through(&fixture, CopyJob { source, job }).await;
    let early = fixture.queue.copy_job(source, "tasks", EnqueueOptions::default()).await.unwrap();
    late.finish().await;
    assert_eq!(fixture.column("select refs from pm.payload"), ["3"]);
    for id in [source, id, early] {
        assert_eq!(fixture.queue.payload(id).await.unwrap().unwrap().bytes.as_ref(), b"1");
    }
    fixture.queue.delete_jobs(&[source, id, early]).await.unwrap();
    assert_eq!(fixture.number("select count(*) from pm.payload"), 0);
}

#[tokio::test]
async fn a_copy_whose_source_is_deleted_concurrently_finds_no_job_and_leaves_nothing() {
    let fixture = Fixture::new().await;
    let source = fixture.put(1).await;
    fixture.queue.copy_job(source, "tasks", EnqueueOptions::default()).await.unwrap();
    let mut direct = Direct::to(&fixture.database.url()).await;
    let transaction = direct.client.transaction().await.unwrap();
    run_in(&transaction, DeleteJobs { ids: vec![source], precondition: Precondition::default() }).await;
    let queue = fixture.queue.clone();
    let copying = tokio::spawn(async move { queue.copy_job(source, "tasks", EnqueueOptions::default()).await });
    eventually("it waits", TIMEOUT, async || fixture.number(LOCK_WAITS) > 0).await;
    transaction.commit().await.unwrap();
    assert_eq!(copying.await.unwrap().unwrap_err().kind(), ErrorKind::JobNotFound);
    assert_eq!(fixture.column("select refs from pm.payload"), ["1"]);
}

#[tokio::test]
async fn a_schedule_changed_while_its_queue_is_deleted_goes_with_it() {
    let fixture = Fixture::new().await;
    let mut direct = Direct::to(&fixture.database.url()).await;
    for round in 0..20 {
        fixture.queue.create_queue("tasks", false).await.unwrap();
        fixture.queue.set_schedule("hourly", Schedule::new("tasks", "0 * * * *"), round).await.unwrap();
        if round == 10 {
            fixture.database.execute("analyze").unwrap();
        }
        let transaction = direct.client.transaction().await.unwrap();
        run_in(&transaction, HoldSchedule::pause(ScheduleName::new("hourly").unwrap())).await;
        let queue = fixture.queue.clone();
        let deleting = tokio::spawn(async move { queue.delete_queue("tasks").await });
        eventually("it waits", TIMEOUT, async || fixture.number(LOCK_WAITS) > 0).await;
        transaction.commit().await.unwrap();
        assert_eq!(deleting.await.unwrap().unwrap(), 0);
        assert_eq!(fixture.number("select count(*) from pm.schedule"), 0);
    }
}

#[tokio::test]
async fn a_job_named_twice_is_restarted_once_and_keeps_its_key() {
    let fixture = Fixture::new().await;
    let id = fixture.put_with(1, EnqueueOptions::default().key("k")).await;
    fixture.queue.finish_jobs(&[id]).await.unwrap();
    fixture.queue.restart_jobs(&[id, id, id], false).await.unwrap();
    assert_eq!(fixture.column("select reserved_key from pm.job"), ["k"]);
}

/// Fetches a job as a worker does; returns the lease.
async fn leased(fixture: &Fixture, id: Uuid) -> Lease {
    let lease = Lease { job: id, number: 7 };
    let fetch = FetchJob { lease, worker: "holder".to_owned() };
    Direct::to(&fixture.database.url()).await.run(fetch).await.expect("it is ready");
    lease
}

fn commit(lease: Lease) -> SettleItem {
    SettleItem { lease, verdict: Verdict::Commit, state: State::Finished, delay: None }
}

#[tokio::test]
async fn a_commit_of_a_job_that_is_moved_concurrently_is_applied_once() {
    for passes in [false, true] {
        let fixture = Fixture::new().await;
        fixture.queue.create_queue("other", false).await.unwrap();
        let id = fixture.put(1).await;
        let items = Vec::leak(vec![commit(leased(&fixture, id).await)]);
        let settle = Halfway::through(&fixture, Settle { items, passes }).await;
        assert_eq!(fixture.queue.move_jobs(&[id], "other").await.unwrap(), 1);
        let unsettled = settle.finish().await;
        assert!(unsettled.missed.is_empty() && unsettled.locked.is_empty(), "{passes}: {unsettled:?}");
        let job = fixture.job(id).await;
        assert_eq!((job.state, job.queue.as_str()), (State::Finished, "other"));
    }
}

#[tokio::test]
async fn a_commit_of_a_job_that_is_deleted_or_restarted_concurrently_is_never_applied() {
    for (passes, deletes) in [(false, false), (false, true), (true, false), (true, true)] {
        let fixture = Fixture::new().await;
        let id = fixture.put(1).await;
        let items = Vec::leak(vec![commit(leased(&fixture, id).await)]);
        let settle = Halfway::through(&fixture, Settle { items, passes }).await;
        match deletes {
            true => assert_eq!(fixture.queue.delete_jobs(&[id]).await.unwrap(), 1),
            false => assert_eq!(fixture.queue.restart_jobs(&[id], true).await.unwrap(), 1),
        }
        let unsettled = settle.finish().await;
        assert_eq!(unsettled.missed.len() + unsettled.locked.len(), 1, "{unsettled:?}");
        assert_eq!(fixture.queue.get_job(id).await.unwrap().map(|job| job.state), (!deletes).then_some(State::Pending));
    }
}

#[tokio::test]
async fn a_reaper_leaves_a_lease_that_was_extended_concurrently() {
    let fixture = Fixture::new().await;
    let id = fixture.put(1).await;
    let lease = leased(&fixture, id).await;
    fixture.database.execute("update pm.job set lease_expires_at = now() - interval '1 s'").unwrap();
    let reap = Halfway::through(&fixture, Reap { limit: 10, seed: 1 }).await;
    let extend = Extend { items: vec![ExtendItem { lease, latest_end: None }] };
    Direct::to(&fixture.database.url()).await.run(extend).await;
    assert_eq!(reap.finish().await.reaped, 0);
    assert_eq!(fixture.state(id).await, State::InProgress);
}

#[tokio::test]
async fn a_job_that_is_moved_while_it_is_fetched_stays_within_the_reapers_reach() {
    let fixture = Fixture::new().await;
    fixture.queue.create_queue("other", false).await.unwrap();
    let id = fixture.put(1).await;
    let (ids, queue) = (vec![id], QueueName::new("other").unwrap());
    let halfway = Halfway::through(&fixture, MoveJobs { ids, queue, precondition: Precondition::default() }).await;
    leased(&fixture, id).await;
    assert_eq!(halfway.finish().await.changes.len(), 1);
    let job = fixture.job(id).await;
    assert_eq!((job.state, job.queue.as_str()), (State::InProgress, "other"));
    fixture.database.execute("update pm.job set lease_expires_at = now() - interval '1 s'").unwrap();
    assert_eq!(fixture.queue.reap().await.unwrap().reaped, 1);
}

#[tokio::test]
async fn a_job_that_ends_before_an_operator_fails_it_keeps_its_outcome() {
    let fixture = Fixture::new().await;
    let id = fixture.put(1).await;
    let lease = leased(&fixture, id).await;
    let fail = Halfway::through(&fixture, EndJobs::failed(vec![id], "late")).await;
    let items = Vec::leak(vec![commit(lease)]);
    Direct::to(&fixture.database.url()).await.run(Settle { items, passes: false }).await;
    assert_eq!(fail.finish().await.changes.len(), 1);
    assert_eq!(fixture.state(id).await, State::Finished);
    assert_eq!(fixture.number("select count(*) from pm.attempt"), 0);
}

/// Jobs in progress that the reaper would not find.
const OUT_OF_REACH: &str = "select count(*) from pm.job left join pm.claim_frontier using (queue_id, priority)
    where state = 1 and coalesce(job.seq > claim_frontier.seq, true)";

/// Makes a line unused: its frontier is far behind another's, and it has no jobs.
async fn with_an_unused_line(fixture: &Fixture) {
    let id = fixture.put_with(1, EnqueueOptions::default().priority(5)).await;
    leased(fixture, id).await;
    fixture.queue.delete_jobs(&[id]).await.unwrap();
    fixture
        .database
        .execute("insert into pm.claim_frontier (queue_id, priority, seq) select id, 9, 100000 from pm.queue")
        .unwrap();
}

async fn retire(fixture: &Fixture) {
    fixture.queue.reap().await.unwrap();
    let retired = "select count(*) from pm.claim_frontier where retired_at is not null";
    assert_eq!(fixture.number(retired), 1, "the line is empty and its frontier far behind");
}

async fn delete_retired(fixture: &Fixture) {
    fixture.database.execute("update pm.claim_frontier set retired_at = retired_at - interval '2 h'").unwrap();
    fixture.queue.reap().await.unwrap();
}

#[tokio::test]
async fn the_frontier_of_an_unused_line_is_retired_and_an_hour_later_deleted() {
    let fixture = Fixture::new().await;
    with_an_unused_line(&fixture).await;
    retire(&fixture).await;
    fixture.queue.reap().await.unwrap();
    assert_eq!(fixture.number("select count(*) from pm.claim_frontier"), 2);
    delete_retired(&fixture).await;
    assert_eq!(fixture.column("select priority from pm.claim_frontier"), ["9"]);
}

#[tokio::test]
async fn a_frontier_is_kept_while_its_line_is_used() {
    let fixture = Fixture::new().await;
    with_an_unused_line(&fixture).await;
    retire(&fixture).await;
    let id = fixture.put_with(1, EnqueueOptions::default().priority(5)).await;
    delete_retired(&fixture).await;
    assert_eq!(fixture.number("select count(*) from pm.claim_frontier"), 2, "the line has a job");
    leased(&fixture, id).await;
    assert_eq!(fixture.number("select count(*) from pm.claim_frontier where retired_at is not null"), 0);
    assert_eq!(fixture.number(OUT_OF_REACH), 0);
}

/// Retires or deletes the frontier of the line while an operation that has read it takes a job.
async fn retire_during<T: Send + 'static>(fixture: &Fixture, deletes: bool, halfway: Halfway<T>) -> T {
    let line = "priority = 5 and queue_id = (select id from pm.queue where name = 'tasks')";
    let sql = if deletes {
        format!("delete from pm.claim_frontier where {line}")
    } else {
        format!("update pm.claim_frontier set retired_at = now() where {line}")
    };
    fixture.database.execute(&sql).unwrap();
    halfway.finish().await
}

/// An operation takes a job after it has read a frontier that is then retired or deleted: the reaper still finds the
/// job.
#[tokio::test]
async fn a_job_taken_while_its_frontier_is_retired_or_deleted_stays_within_the_reapers_reach() {
    for takes in ["claim", "fetch", "move"] {
        for deletes in [false, true] {
            let fixture = Fixture::new().await;
            with_an_unused_line(&fixture).await;
            fixture.queue.create_queue("other", false).await.unwrap();
            if deletes {
                retire(&fixture).await;
            }
            let from = if takes == "move" { "other" } else { "tasks" };
            let id = fixture.queue.enqueue(from, 2u64, EnqueueOptions::default().priority(5)).await.unwrap();
            let (worker, precondition, queue) =
                ("worker".to_owned(), Precondition::default(), QueueName::new("tasks").unwrap());
            match takes {
                "claim" => {
                    let queue_id = fixture.number("select id from pm.queue where name = 'tasks'") as i32;
                    let lines = vec![LineCursor { queue_id, priority: 5, cursor: 0 }];
                    let claim = Claim { lines, limit: 1, lease: 8, worker, due_bound: None };
                    let halfway = Halfway::through(&fixture, claim).await;
                    assert_eq!(retire_during(&fixture, deletes, halfway).await.jobs.len(), 1);
                }
                "fetch" => {
                    let fetch = FetchJob { lease: Lease { job: id, number: 8 }, worker };
                    let halfway = Halfway::through(&fixture, fetch).await;
                    assert!(retire_during(&fixture, deletes, halfway).await.is_some());
                }
                _ => {
                    leased(&fixture, id).await;
                    let halfway = Halfway::through(&fixture, MoveJobs { ids: vec![id], queue, precondition }).await;
                    retire_during(&fixture, deletes, halfway).await;
                }
            }
            assert_eq!(fixture.number("select count(*) from pm.job where state = 1"), 1);
            assert_eq!(fixture.number(OUT_OF_REACH), 0, "{takes}, deletes: {deletes}");
        }
    }
}

/// Leases that another session has locked do not count towards the limit: those behind them are reaped.
#[tokio::test]
async fn locked_leases_do_not_hide_the_others_from_the_reaper() {
    let fixture = Fixture::new().await;
    let ids = fixture.put_many(30).await;
    let queue_id = fixture.number("select id from pm.queue") as i32;
    let lines = vec![LineCursor { queue_id, priority: 0, cursor: 0 }];
    let claim = Claim { lines, limit: 30, lease: 8, worker: "worker".to_owned(), due_bound: None };
    let mut direct = Direct::to(&fixture.database.url()).await;
    assert_eq!(direct.run(claim).await.jobs.len(), 30);
    fixture
        .database
        .execute("update pm.job set lease_expires_at = now() - interval '1 s' - seq * interval '1 ms'")
        .unwrap();
    let locking = direct.client.transaction().await.unwrap();
    locking.execute("select from pm.job order by lease_expires_at limit 20 for update", &[]).await.unwrap();
    let mut reaper = Direct::to(&fixture.database.url()).await;
    assert_eq!(reaper.run(Reap { limit: 10, seed: 1 }).await.reaped, 10);
    assert_eq!(reaper.run(Reap { limit: 10, seed: 1 }).await.reaped, 0, "the others are locked");
    locking.rollback().await.unwrap();
    assert_eq!(reaper.run(Reap { limit: 30, seed: 1 }).await.reaped, 20);
    assert_eq!(fixture.number("select count(*) from pm.job where state = 1"), 0, "of {ids:?}");
}
