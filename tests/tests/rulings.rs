//! Rulings that can be seen from outside and that no other room tests, each by its number.
//!
//! Many stand below the façade: an operation of the pure core is built, planned, run over tokio-postgres and read.
//! The four marked "was shown" fail on the statements as they were first written down.

use futures_util::FutureExt;
use futures_util::future::join_all;
use pm_core::op::{
    Claim, DeleteJobs, Enqueue, FetchJob, LineCursor, MoveJobs, Outcome, Precondition, Promote, Reap, Settle,
    SettleItem,
};
use pm_core::{JobOptions, Lease, NewJob, QueueName, Timestamp, Verdict};
use pm_driver_tokio_postgres::{
    BulkAction, Change, ConnectOptions, EnqueueOptions, ErrorKind, InTransaction, InitialState, RunAt, SettingsChange,
    State, StreamOptions, Uuid, connect_with,
};
use pm_tests::{Direct, Fixture, LOCK_WAITS, Proxy, TIMEOUT, eventually, next, run_in, take, unattended, within};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

async fn direct(fixture: &Fixture) -> Direct {
    Direct::to(&fixture.database.url()).await
}

fn queue_id(fixture: &Fixture, name: &str) -> i32 {
    fixture.number(&format!("select id from pm.queue where name = '{name}'")) as i32
}

/// A claim on the line of priority 0 of one queue, from its start.
fn claim(queue_id: i32, lease: i64, limit: usize) -> Claim {
    let line = LineCursor { queue_id, priority: 0, cursor: 0 };
    Claim { lines: vec![line], limit, lease, worker: "by hand".to_owned(), due_bound: None }
}

fn job(id: u128) -> NewJob {
    let queue = QueueName::new("tasks").expect("a good name");
    NewJob { id: Uuid::from_u128(id), queue, payload: "1".into(), options: JobOptions::default() }
}

/// Jobs in progress that the reaper would not find, or only by walking far.
const ASTRAY: &str = "select count(*) from pm.job j left join pm.claim_frontier f using (queue_id, priority)
                      where j.state = 1 and (j.seq is null or f.seq is null or j.seq > f.seq)";

/// How many jobs the reaper looks at.
const WITHIN_REACH: &str = "select count(*) from pm.job j join pm.claim_frontier f using (queue_id, priority)
                            where j.seq <= f.seq";

/// Ruling 1. With the attempt as the fence, a job created again by a resend would have matched its old holder's word.
#[tokio::test]
async fn a_word_about_a_job_deleted_and_created_again_is_refused() {
    let fixture = Fixture::new().await;
    let (mut direct, queue_id) = (direct(&fixture).await, queue_id(&fixture, "tasks"));
    for lease in [7, 8] {
        direct.run(DeleteJobs { ids: vec![Uuid::from_u128(1)], precondition: Precondition::default() }).await;
        assert!(direct.run(Enqueue { jobs: &[job(1)] }).await.present.is_empty());
        let claimed = direct.run(claim(queue_id, lease, 10)).await.jobs;
        assert_eq!((claimed.len(), claimed[0].attempt, claimed[0].lease.number), (1, 1, lease));
    }
    let late = Lease { job: Uuid::from_u128(1), number: 7 };
    let late = [SettleItem { lease: late, verdict: Verdict::Commit, state: State::Finished, delay: None }];
    assert_eq!(direct.run(Settle { items: &late, passes: false }).await.missed, [0], "the first item changed nothing");
    assert_eq!(direct.run(Outcome { items: &late }).await, [false], "and had not been heard before");
    assert_eq!(fixture.jobs_in(State::InProgress), 1);
}

/// Ruling 3, was shown: a fetch that leaves `seq` as it is makes the reaper miss a job that was due and not yet in its
/// line, and walk the backlog up to one at its end.
#[tokio::test]
async fn a_fetched_job_is_found_by_the_reaper_which_does_not_walk_the_backlog() {
    const BACKLOG: u64 = 20_000;
    let fixture = Fixture::new().await;
    let due = fixture.put_with(0, EnqueueOptions::default().run_at(RunAt::In(SECOND / 20))).await;
    let last = *fixture.put_many(BACKLOG).await.last().unwrap();
    let is_due = async || fixture.number("select count(*) from pm.job where run_at < now()") == 1;
    eventually("it is due, and nobody has promoted it", TIMEOUT, is_due).await;

    let mut direct = direct(&fixture).await;
    for id in [due, last] {
        let fetched = direct.run(FetchJob { lease: Lease { job: id, number: 5 }, worker: "by hand".to_owned() }).await;
        assert_eq!(fetched.expect("it is ready").job.lease.job, id);
    }
    assert_eq!(fixture.number(ASTRAY), 0);
    let looked_at = fixture.number(WITHIN_REACH);
    assert!((2..=3).contains(&looked_at), "the reaper looks at these two and the first of the line: {looked_at}");
    fixture.database.execute("update pm.job set lease_expires_at = now() where state = 1").unwrap();
    assert_eq!(direct.run(Reap { limit: 500, seed: 1 }).await.reaped, 2);
}

/// Ruling 3, was shown: the same for a job in progress that is moved into a queue with a backlog of its own.
#[tokio::test]
async fn a_job_moved_in_progress_is_found_by_the_reaper_which_does_not_walk_the_backlog() {
    const BACKLOG: u64 = 20_000;
    let fixture = Fixture::new().await;
    fixture.queue.create_queue("here", false).await.unwrap();
    fixture.put_many(BACKLOG).await;
    let late = fixture.queue.enqueue("here", 1u64, EnqueueOptions::default()).await.unwrap();
    let mut direct = direct(&fixture).await;
    assert_eq!(direct.run(claim(queue_id(&fixture, "here"), 5, 1)).await.jobs.len(), 1);
    let moved = direct
        .run(MoveJobs {
            ids: vec![late],
            queue: QueueName::new("tasks").unwrap(),
            precondition: Precondition::default(),
        })
        .await;
    assert_eq!(moved.changes, [Change::Changed]);
    assert_eq!(fixture.number(ASTRAY), 0);
    let looked_at = fixture.number(WITHIN_REACH);
    assert!((1..=2).contains(&looked_at), "the reaper looks at it and the first of the line: {looked_at}");
    fixture.database.execute("update pm.job set lease_expires_at = now() where state = 1").unwrap();
    assert_eq!(direct.run(Reap { limit: 500, seed: 1 }).await.reaped, 1);
    assert_eq!(fixture.job(late).await.state, State::Pending);
}

/// Ruling 3: a fetched job that is given back stands near the head.
#[tokio::test]
async fn a_fetched_job_given_back_stands_near_the_head_of_its_line() {
    let fixture = Fixture::new().await;
    let ids = fixture.put_many(50).await;
    let job = fixture.queue.fetch_job::<u64>(ids[49]).await.unwrap().expect("it is ready");
    job.into_parts().1.release().await.unwrap();
    let before = format!("select count(*) from pm.job where seq < (select seq from pm.job where id = '{}')", ids[49]);
    assert_eq!(fixture.number(&before), 0);
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let seen = take(&mut jobs, 50).await;
    assert!(seen.iter().any(|job| job.id() == ids[49] && job.metadata().attempt == 2));
}

/// Ruling 4, was shown: the reply of an empty claim had no row, and so told nothing.
#[tokio::test]
async fn an_empty_claim_still_tells_what_is_due_and_who_is_paused() {
    let fixture = Fixture::with(SettingsChange::new().lease(SECOND * 77)).await;
    fixture.queue.create_queue("held", true).await.unwrap();
    fixture.queue.enqueue("held", 1u64, EnqueueOptions::default()).await.unwrap();
    fixture.put_with(1, EnqueueOptions::default().run_at(RunAt::In(SECOND * 600))).await;
    let ids = [queue_id(&fixture, "tasks"), queue_id(&fixture, "held"), 4_711];
    let lines = ids.map(|queue_id| LineCursor { queue_id, priority: 0, cursor: 0 });
    let empty = Claim { lines: lines.to_vec(), ..claim(0, 5, 10) };
    let reply = direct(&fixture).await.run(empty).await;
    assert!(reply.jobs.is_empty());
    let due = reply.next_due.expect("something is");
    assert!(due > SECOND * 590 && due <= SECOND * 600, "{due:?}");
    let mut queues: Vec<_> = reply.queues.iter().map(|queue| (queue.queue_id, queue.paused)).collect();
    queues.sort_unstable();
    assert_eq!(queues, [(ids[0], false), (ids[1], true)], "and one that does not exist is missing");
    assert_eq!(reply.queues.iter().find(|queue| queue.queue_id == ids[0]).unwrap().lease, SECOND * 77);
}

/// Ruling 7, was shown: the statement's time until the next expiry is negative while the expired job is locked by
/// someone; the reading of its reply cuts that, and whoever reaps waits 100 ms all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reap_beside_a_locked_job_tells_zero_and_nobody_spins_on_that() {
    let fixture = Fixture::new().await;
    let proxy = Proxy::before(&fixture.database.url()).await;
    let reaper = connect_with(proxy.url(), ConnectOptions::default()).await.unwrap();
    fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let held = next(&mut jobs).await;
    drop(jobs);
    fixture.database.execute("update pm.job set lease_expires_at = now() - interval '5 s'").unwrap();
    let mut someone = direct(&fixture).await;
    let transaction = someone.client.transaction().await.unwrap();
    transaction.batch_execute("select from pm.job for update").await.unwrap();

    let reaped = direct(&fixture).await.run(Reap { limit: 500, seed: 1 }).await;
    assert_eq!((reaped.reaped, reaped.next_expiry), (0, Some(Duration::ZERO)));
    let before = proxy.executions("'lease expired'");
    let run = reaper.clone();
    let run = tokio::spawn(async move { run.run_reaper().await });
    let mut others = reaper.try_stream_jobs::<u64>("tasks");
    assert!(tokio::time::timeout(SECOND * 3, next(&mut others)).await.is_err());
    let reaps = proxy.executions("'lease expired'") - before;
    println!("{reaps} reaps in 3 s by a reaper and a stream");
    assert!((2..=70).contains(&reaps), "10 a second each at most: {reaps}");

    transaction.rollback().await.unwrap();
    assert_eq!(next(&mut others).await.metadata().attempt, 2, "it is reaped when the lock goes");
    run.abort();
    drop(held);
}

/// Ruling 7, was shown: with `run_at > bound`, jobs with the very run_at at which a batch ended were skipped.
#[tokio::test]
async fn promoting_skips_no_job_whose_time_ties_with_the_end_of_a_batch() {
    const JOBS: u64 = 2_500;
    let fixture = Fixture::new().await;
    let moment =
        Timestamp::from_unix_us(fixture.number("select (extract(epoch from now()) * 1000000)::int8") + 1_000_000);
    let at = EnqueueOptions::default().run_at(RunAt::At(moment));
    fixture.queue.enqueue_many("tasks", (0..JOBS).map(|n| (n, at.clone()))).await.unwrap();
    assert_eq!(fixture.number("select count(distinct run_at) from pm.job"), 1);
    let due = async || fixture.number("select count(*) from pm.job where run_at > now()") == 0;
    eventually("all are due", TIMEOUT, due).await;

    let mut someone = direct(&fixture).await;
    let transaction = someone.client.transaction().await.unwrap();
    transaction
        .batch_execute("select from (select id from pm.job limit 10) j join pm.job using (id) for update")
        .await
        .unwrap();
    let (mut direct, mut bound, mut promoted) = (direct(&fixture).await, None, Vec::new());
    for _ in 0..4 {
        let reply = direct.run(Promote { limit: 1_000, bound }).await;
        promoted.push(reply.promoted);
        bound = reply.upto.or(bound);
    }
    assert_eq!(promoted, [1_000, 1_000, 490, 0], "all but the ten that are locked");
    transaction.rollback().await.unwrap();
    assert_eq!(direct.run(Promote { limit: 1_000, bound }).await.promoted, 10, "they have not been stepped over");
}

/// Ruling 7: a running stream meets again, within seconds, what was locked while it promoted.
#[tokio::test]
async fn a_stream_promotes_jobs_that_were_locked_when_their_time_came() {
    let fixture = Fixture::new().await;
    let soon = EnqueueOptions::default().run_at(RunAt::In(SECOND / 2));
    fixture.queue.enqueue_many("tasks", (0..1_500u64).map(|n| (n, soon.clone()))).await.unwrap();
    let mut someone = direct(&fixture).await;
    let transaction = someone.client.transaction().await.unwrap();
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

/// Ruling 8: what has not started for 5 s is given back, untried.
#[tokio::test]
async fn jobs_claimed_ahead_by_a_stream_that_nobody_polls_go_to_others_within_seconds() {
    let fixture = Fixture::new().await;
    fixture.put_many(100).await;
    let mut idle = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended().prefetch(60));
    for job in take(&mut idle, 30).await {
        job.into_parts().1.commit().await.unwrap();
    }
    let ahead = async || fixture.jobs_in(State::InProgress) > 0;
    eventually("some are claimed ahead", TIMEOUT, ahead).await;
    let mut others = fixture.another(Default::default()).await.try_stream_jobs::<u64>("tasks");
    for job in take(&mut others, 70).await {
        job.into_parts().1.commit().await.unwrap();
    }
    drop(idle);
    assert_eq!(fixture.number("select max(retry_count) from pm.job"), 0, "it was nobody's fault");
    assert_eq!(fixture.number("select count(*) from pm.attempt"), 0);
}

/// Ruling 9: a job that was committed late stands behind the cursors, and is found all the same.
#[tokio::test]
async fn a_job_committed_long_after_later_ones_were_worked_on_is_found() {
    const LATER: u64 = 3_000;
    let fixture = Fixture::new().await;
    let mut someone = direct(&fixture).await;
    let transaction = someone.client.transaction().await.unwrap();
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

/// Ruling 9: a claim names 64 lines at most; more lines than that are all served.
#[tokio::test]
async fn a_queue_of_two_hundred_priorities_is_served_to_its_end() {
    let fixture = Fixture::new().await;
    let jobs = (0..200u64).map(|n| (n, EnqueueOptions::default().priority(n as i32 - 100)));
    fixture.queue.enqueue_many("tasks", jobs).await.unwrap();
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let mut seen: Vec<_> = take(&mut jobs, 200).await.into_iter().map(|job| job.into_parts().0).collect();
    assert_eq!(seen[0], 199, "the highest first");
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..200));
}

/// Ruling 11, was shown: a delete in one statement does not see the job of an enqueue that commits meanwhile.
#[tokio::test]
async fn a_queue_deleted_beside_an_open_enqueue_leaves_no_orphan() {
    let fixture = Fixture::new().await;
    fixture.put_many(10).await;
    let mut someone = direct(&fixture).await;
    let transaction = someone.client.transaction().await.unwrap();
    assert!(run_in(&transaction, Enqueue { jobs: &[job(1)] }).await.unknown_queue.is_empty());
    let queue = fixture.queue.clone();
    let mut delete = tokio::spawn(async move { queue.delete_queue("tasks").await });
    let waits = async || fixture.number(LOCK_WAITS) > 0;
    eventually("the delete waits for the transaction", TIMEOUT, waits).await;
    assert!((&mut delete).now_or_never().is_none());
    transaction.commit().await.unwrap();
    assert_eq!(within("the delete", delete).await.unwrap().unwrap(), 11, "that job is deleted with the others");
    assert_eq!(fixture.number("select count(*) from pm.job"), 0, "no orphan");
    let reply = direct(&fixture).await.run(Enqueue { jobs: &[job(2)] }).await;
    assert_eq!(reply.unknown_queue, [0], "and none comes in afterwards");
}

/// Ruling 11: under a stricter isolation than READ COMMITTED a conflict surfaces, and is the caller's to try again.
#[tokio::test]
async fn a_key_conflict_in_a_repeatable_read_transaction_surfaces_as_40001() {
    let fixture = Fixture::new().await;
    let mut someone = direct(&fixture).await;
    let transaction = someone.client.transaction().await.unwrap();
    transaction
        .batch_execute("set transaction isolation level repeatable read; select count(*) from pm.job")
        .await
        .unwrap();
    let key = || EnqueueOptions::default().key("one");
    let first = fixture.put_with(1, key()).await;
    let refused = fixture.queue.enqueue_in(&InTransaction(&transaction), "tasks", 2u64, key()).await.unwrap_err();
    assert!(refused.kind() == ErrorKind::Database && refused.to_string().contains("40001"), "{refused}");
    transaction.rollback().await.unwrap();
    let transaction = someone.client.transaction().await.unwrap();
    let again = fixture.queue.enqueue_in(&InTransaction(&transaction), "tasks", 2u64, key()).await.unwrap();
    assert_eq!(again, first, "under READ COMMITTED the answer is exact");
}

/// Ruling 12: pausing and setting leave the key of the queue's row alone, so they do not wait for open enqueues.
#[tokio::test]
async fn pausing_and_setting_do_not_wait_for_an_open_enqueue() {
    let fixture = Fixture::new().await;
    let mut someone = direct(&fixture).await;
    let transaction = someone.client.transaction().await.unwrap();
    run_in(&transaction, Enqueue { jobs: &[job(1)] }).await;
    let change = SettingsChange::new().max_retries(3);
    fixture.queue.set_queue_settings("tasks", change).await.expect("it does not wait");
    assert_eq!(fixture.queue.pause_queue("tasks").await.expect("nor does this"), 0);
    transaction.commit().await.unwrap();
    assert_eq!(fixture.state(Uuid::from_u128(1)).await, State::Paused, "nothing leaks");
    assert_eq!(fixture.queue.resume_queue("tasks").await.unwrap(), 1);
}

/// Ruling 12: a deadlock with someone who locks in another order is tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_with_someone_who_locks_in_another_order_is_tried_again() {
    let fixture = Fixture::new().await;
    let held = || EnqueueOptions::default().initial_state(InitialState::Paused);
    let ids = [fixture.put_with(0, held()).await, fixture.put_with(1, held()).await];
    let mut someone = direct(&fixture).await;
    // Whoever waits for a second looks for deadlocks: not they.
    someone.client.batch_execute("set deadlock_timeout = '1 min'").await.unwrap();
    let transaction = someone.client.transaction().await.unwrap();
    let lock = |id: Uuid| format!("select from pm.job where id = '{id}' for update");
    transaction.batch_execute(&lock(ids[1])).await.unwrap();
    let queue = fixture.queue.clone();
    let resume = tokio::spawn(async move { queue.resume_queue("tasks").await });
    let waits = async || fixture.number(LOCK_WAITS) > 0;
    eventually("the resume has one and waits for the other", TIMEOUT, waits).await;
    transaction.batch_execute(&lock(ids[0])).await.expect("the resume gives way");
    transaction.commit().await.unwrap();
    assert_eq!(within("the resume", resume).await.unwrap().expect("it was tried again"), 2);
}

/// Ruling 12: lists are locked in the order of ids, whatever order they are given in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_with_lists_in_opposite_orders_do_not_deadlock() {
    let fixture = Fixture::new().await;
    let ids = fixture.put_many(200).await;
    let backwards: Vec<_> = ids.iter().rev().copied().collect();
    let other = fixture.another(ConnectOptions::default()).await;
    fixture.queue.create_queue("other", false).await.unwrap();
    for _ in 0..10 {
        let (moved, restarted) =
            tokio::join!(fixture.queue.move_jobs(&ids, "other"), other.restart_jobs(&backwards, true));
        assert_eq!((moved.unwrap(), restarted.unwrap()), (200, 200));
        let (back, again) = tokio::join!(other.move_jobs(&backwards, "tasks"), fixture.queue.restart_jobs(&ids, true));
        assert_eq!((back.unwrap(), again.unwrap()), (200, 200));
    }
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(fixture.number(deadlocks), 0);
}

/// Ruling 13: an item that the database refuses for good fails alone, of enqueues and of words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_item_does_not_fail_its_neighbours() {
    const JOBS: usize = 200;
    let fixture = Fixture::new().await;
    fixture
        .database
        .execute(
            "create function refuse() returns trigger language plpgsql as
             $$ begin raise exception 'poison is refused here'; end $$;
             create trigger bad before insert on pm.job for each row when (new.description = 'poison') execute function refuse();
             create trigger worse before update on pm.job for each row when (new.reason = 'poison') execute function refuse();",
        )
        .unwrap();
    let description = |n| if n == JOBS / 2 { "poison" } else { "food" };
    let put = |n| fixture.put_with_outcome(n as u64, EnqueueOptions::default().description(description(n)));
    for (n, outcome) in within("all enqueues", join_all((0..JOBS).map(put))).await.into_iter().enumerate() {
        match outcome {
            Ok(_) => assert_ne!(n, JOBS / 2),
            Err(error) => {
                assert_eq!(n, JOBS / 2, "{error}");
                assert!(
                    error.kind() == ErrorKind::Database && error.to_string().contains("poison is refused"),
                    "{error}"
                );
            }
        }
    }
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let taken = take(&mut jobs, JOBS - 1).await;
    let poisoned = taken[70].id();
    let word = |ack: pm_driver_tokio_postgres::JobAck| {
        if ack.id() == poisoned { ack.hard_fail("poison") } else { ack.hard_fail("food") }
    };
    let words: Vec<_> = taken.into_iter().map(|job| job.into_parts().1).map(|ack| (ack.id(), word(ack))).collect();
    for (id, word) in words {
        assert_eq!(within("the answer", word).await.is_ok(), id != poisoned);
    }
    assert_eq!((fixture.jobs_in(State::Failed), fixture.jobs_in(State::InProgress)), (JOBS as i64 - 2, 1));
}

/// An ended job that is started again takes its key again. While another job holds it, it is not started again: two
/// active jobs would have one key.
#[tokio::test]
async fn a_job_whose_key_another_holds_by_now_is_not_restarted() {
    let fixture = Fixture::new().await;
    let key = || EnqueueOptions::default().key("one");
    let first = fixture.put_with(1, key()).await;
    fixture.queue.finish_jobs(&[first]).await.unwrap();
    let second = fixture.put_with(2, key()).await;
    assert_ne!(first, second, "the key was free");
    assert_eq!(fixture.queue.restart_jobs(&[first], false).await.unwrap(), 0);
    assert_eq!(fixture.state(first).await, State::Finished);
    assert_eq!(fixture.put_with(3, key()).await, second, "it is the second's still");
    fixture.queue.finish_jobs(&[second]).await.unwrap();
    let third = fixture.put_with(4, key()).await;
    assert!(third != first && third != second);
    fixture.queue.finish_jobs(&[third]).await.unwrap();
    assert_eq!(fixture.queue.restart_jobs(&[third], false).await.unwrap(), 1);
    assert_eq!(fixture.put_with(5, key()).await, third, "it took its key again");
}

/// Ruling 17: two jobs of one key do not meet in one queue by a move.
#[tokio::test]
async fn a_job_whose_key_is_held_in_the_target_queue_is_not_moved_there() {
    let fixture = Fixture::new().await;
    fixture.queue.create_queue("other", false).await.unwrap();
    let key = || EnqueueOptions::default().key("one");
    let here = fixture.put_with(1, key()).await;
    let there = fixture.queue.enqueue("other", 2u64, key()).await.unwrap();
    let told = fixture
        .queue
        .change_jobs(&BulkAction::Move { to: QueueName::new("other").unwrap() }, &[here], &Precondition::default())
        .await
        .unwrap()
        .changes()
        .to_vec();
    assert_eq!(told, [Change::KeyTaken]);
    assert_eq!(fixture.job(here).await.queue, "tasks");
    fixture.queue.finish_jobs(&[there]).await.unwrap();
    assert_eq!(
        fixture
            .queue
            .change_jobs(&BulkAction::Move { to: QueueName::new("other").unwrap() }, &[here], &Precondition::default())
            .await
            .unwrap()
            .changes()
            .to_vec(),
        [Change::Changed]
    );
    let holder = fixture.queue.enqueue("other", 3u64, key()).await.unwrap();
    assert_eq!(holder, here, "it holds its key there");
}

/// Ruling 21: a line is notified at most once in 5 ms, and the last enqueue is not forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_are_coalesced_and_the_last_enqueue_is_heard_of() {
    const JOBS: u64 = 2_000;
    let fixture = Fixture::new().await;
    let proxy = Proxy::before(&fixture.database.url()).await;
    let producer = connect_with(proxy.url(), ConnectOptions::default()).await.unwrap();
    let hour = SECOND * 3_600;
    let deaf = StreamOptions::default().poll(hour, hour).idle_poll(hour);
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", deaf);
    assert!(futures_util::StreamExt::next(&mut jobs).now_or_never().is_none());
    let sleeps = "select count(*) from pm.queue where idle_until > now()";
    eventually("the worker sleeps", TIMEOUT, async || fixture.number(sleeps) == 1).await;

    let start = Instant::now();
    let produce = async {
        for lane in join_all((0..16).map(|lane| {
            let producer = producer.clone();
            async move {
                for n in 0..JOBS / 16 {
                    producer.enqueue("tasks", lane * JOBS + n, EnqueueOptions::default()).await?;
                }
                Ok::<_, pm_driver_tokio_postgres::Error>(())
            }
        }))
        .await
        {
            lane.unwrap();
        }
        start.elapsed()
    };
    let (took, taken) = tokio::join!(produce, take(&mut jobs, JOBS as usize));
    assert_eq!(taken.len(), JOBS as usize, "all are found, the last included");
    let notifications = proxy.executions("pg_notify") as u128;
    println!("{notifications} notifications in {took:?}");
    assert!((1..=took.as_millis() / 5 + 2).contains(&notifications), "{notifications} in {took:?}");
}

/// Ruling 24: a stream follows a name: when another queue takes it, the stream serves that one.
#[tokio::test]
async fn a_stream_follows_its_queue_by_name() {
    let fixture = Fixture::new().await;
    fixture.queue.create_queue("spare", false).await.unwrap();
    let options = StreamOptions::default().poll(SECOND / 50, SECOND / 10).listen(false);
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>(&["tasks", "spare"], options);
    fixture.put(1).await;
    next(&mut jobs).await.into_parts().1.commit().await.unwrap();
    let other = fixture.another(ConnectOptions::default()).await;
    other.rename_queue("tasks", "old").await.unwrap();
    let missed = within("a look", futures_util::StreamExt::next(&mut jobs)).await.expect("the stream goes on");
    assert_eq!(missed.unwrap_err().kind(), ErrorKind::QueueNotFound, "told once, for there is another queue to serve");
    other.create_queue("tasks", false).await.unwrap();
    let old = other.enqueue("old", 2u64, EnqueueOptions::default()).await.unwrap();
    let new = other.enqueue("tasks", 3u64, EnqueueOptions::default()).await.unwrap();
    assert_eq!(next(&mut jobs).await.id(), new);
    assert_eq!(fixture.state(old).await, State::Pending);
}
