//! What another queue on Postgres was seen to do badly, and what happens here instead. Most of its faults have their
//! tests in the rooms of their subjects; here stand those that have none there.

use futures_util::StreamExt;
use pm_core::op::{Claim, LineCursor, Promote, Reap};
use pm_core::{Catalog, Operation, SchemaName, StatementId};
use pm_driver_tokio_postgres::{
    ConnectOptions, EnqueueOptions, ErrorKind, InTransaction, InitialState, JobFilter, RunAt, SettingsChange, State,
    StreamOptions, connect_with,
};
use pm_tests::{Direct, Fixture, Proxy, TIMEOUT, eventually, next, unattended, within};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

async fn direct(fixture: &Fixture) -> Direct {
    Direct::to(&fixture.database.url()).await
}

/// There: the source was finished and had no successor, five times of five.
#[tokio::test]
async fn a_chain_into_a_missing_queue_does_not_finish_its_source() {
    let fixture = Fixture::new().await;
    let id = fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let mut ack = next(&mut jobs).await.into_parts().1;
    let mut mine = direct(&fixture).await;

    let transaction = mine.client.transaction().await.unwrap();
    let inside = InTransaction(&transaction);
    let settlement = ack.commit_in(&inside).await.unwrap();
    let missing = fixture.queue.enqueue_in(&inside, "next harness", 2u64, EnqueueOptions::default()).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::QueueNotFound);
    transaction.rollback().await.unwrap();
    drop(settlement);
    assert_eq!(fixture.state(id).await, State::InProgress, "nothing has happened");

    fixture.queue.create_queue("next harness", false).await.unwrap();
    let transaction = mine.client.transaction().await.unwrap();
    let inside = InTransaction(&transaction);
    let settlement = ack.commit_in(&inside).await.unwrap();
    let successor = fixture.queue.enqueue_in(&inside, "next harness", 2u64, EnqueueOptions::default()).await.unwrap();
    transaction.commit().await.unwrap();
    settlement.committed();
    assert_eq!((fixture.state(id).await, fixture.state(successor).await), (State::Finished, State::Pending));
}

/// There: 3,334 transactions in 6.2 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reaper_on_an_idle_database_looks_once_and_sleeps() {
    let fixture = Fixture::new().await;
    let proxy = Proxy::before(&fixture.database.url()).await;
    let queue = connect_with(proxy.url(), ConnectOptions::default()).await.unwrap();
    assert_eq!(queue.reap().await.unwrap(), (0, None));
    let before = proxy.executions("");
    let run = queue.clone();
    let run = tokio::spawn(async move { run.run_reaper().await });
    tokio::time::sleep(SECOND * 3).await;
    let statements = proxy.executions("") - before;
    run.abort();
    assert_eq!(statements, 2, "no lease and no schedule: it sleeps for a minute");
}

/// Ruling 21: the poll of an idle stream is one statement, and nothing else is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_stream_sends_one_statement_a_poll() {
    let fixture = Fixture::new().await;
    let proxy = Proxy::before(&fixture.database.url()).await;
    let queue = connect_with(proxy.url(), ConnectOptions::default()).await.unwrap();
    let options = StreamOptions::default().poll(SECOND, SECOND).idle_poll(SECOND * 30);
    let mut jobs = queue.try_stream_jobs_with::<u64>("tasks", options);
    let mut count = async |during: Duration| {
        let before = proxy.executions("");
        assert!(tokio::time::timeout(during, jobs.next()).await.is_err());
        proxy.executions("") - before
    };
    while !queue.is_listening() {
        count(SECOND / 10).await;
    }
    count(SECOND * 3).await;
    let listening = count(SECOND * 5).await;
    assert!(listening <= 1, "it sleeps for up to 30 s: {listening}");
    let deaf = connect_with(proxy.url(), ConnectOptions::default()).await.unwrap();
    let mut jobs =
        deaf.try_stream_jobs_with::<u64>("tasks", StreamOptions::default().poll(SECOND, SECOND).listen(false));
    let before = proxy.executions("");
    assert!(tokio::time::timeout(SECOND * 5, jobs.next()).await.is_err());
    let polling = proxy.executions("") - before;
    assert!((3..=9).contains(&polling), "one a second, a claim and what was prepared: {polling}");
}

/// There: raw foreign-key errors on both sides, in 31 of 40 rounds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_rounds_of_deletes_against_enqueuers_show_no_raw_error_and_leave_no_orphan() {
    let fixture = Fixture::without_queue().await;
    let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let enqueuers: Vec<_> = (0..8)
        .map(|n| {
            let (queue, stop, told) = (fixture.queue.clone(), stop.clone(), told.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let states = [InitialState::Auto, InitialState::Pending, InitialState::Paused];
                    let options = EnqueueOptions::default().initial_state(states[n % 3]);
                    match queue.enqueue("doomed", n as u64, options).await {
                        Ok(_) => drop(told.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::QueueNotFound, "{error}"),
                    }
                }
            })
        })
        .collect();
    let mut deleted = 0;
    for _ in 0..40 {
        assert!(fixture.queue.create_queue("doomed", false).await.unwrap());
        tokio::time::sleep(SECOND / 50).await;
        deleted += fixture.queue.delete_queue("doomed").await.expect("no raw error here either");
    }
    stop.store(true, Ordering::Relaxed);
    for enqueuer in enqueuers {
        enqueuer.await.expect("it saw no other error");
    }
    assert_eq!(deleted, told.load(Ordering::Relaxed), "each was deleted and counted");
    assert_eq!(fixture.number("select count(*) from pm.job"), 0, "no orphan");
    assert_eq!(fixture.number("select count(*) from pm.queue"), 0);
    assert!(deleted > 0);
}

/// There: `Pending` and `Paused` on a queue that does not exist were a raw database error.
#[tokio::test]
async fn an_unknown_queue_is_told_whatever_the_initial_state() {
    let fixture = Fixture::new().await;
    for state in [InitialState::Auto, InitialState::Pending, InitialState::Paused] {
        let options = EnqueueOptions::default().initial_state(state);
        let error = fixture.queue.enqueue("nowhere", 1u64, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QueueNotFound, "{state:?}");
    }
}

/// There: `Pending` was handed out from a paused queue, and so was what an operator restarted.
#[tokio::test]
async fn neither_an_initial_state_nor_a_restart_overrules_a_paused_queue() {
    let fixture = Fixture::new().await;
    let ended = fixture.put(1).await;
    fixture.queue.finish_jobs(&[ended]).await.unwrap();
    fixture.queue.pause_queue("tasks").await.unwrap();
    let pending = fixture.put_with(2, EnqueueOptions::default().initial_state(InitialState::Pending)).await;
    assert_eq!(fixture.queue.restart_jobs(&[ended], true).await.unwrap(), 1);
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended().poll(SECOND / 100, SECOND / 10));
    assert!(tokio::time::timeout(SECOND, jobs.next()).await.is_err());
    for id in [ended, pending] {
        assert_eq!(fixture.state(id).await, State::Paused);
        assert!(fixture.queue.fetch_job::<u64>(id).await.unwrap().is_none(), "not by its id either");
    }
    assert_eq!(fixture.queue.resume_queue("tasks").await.unwrap(), 2);
    for job in pm_tests::take(&mut jobs, 2).await {
        job.into_parts().1.commit().await.unwrap();
    }
}

/// There: a rename wrote every job's row (14.7 s with a million), and a pause every pending one's.
#[tokio::test]
async fn renaming_and_pausing_write_no_jobs_row() {
    let fixture = Fixture::new().await;
    fixture.put_many(1_000).await;
    let rows = "select md5(string_agg(xmin::text || ctid::text || id::text, ',' order by id)) from pm.job";
    let before = fixture.column(rows);
    fixture.queue.pause_queue("tasks").await.unwrap();
    fixture.queue.rename_queue("tasks", "chores").await.unwrap();
    assert_eq!(fixture.queue.resume_queue("chores").await.unwrap(), 1_000);
    assert_eq!(fixture.column(rows), before);
}

/// There: a limit of 0 listed one job.
#[tokio::test]
async fn a_list_is_as_long_as_its_limit_says() {
    let fixture = Fixture::new().await;
    fixture.put_many(5).await;
    for (limit, listed) in [(0, 0), (1, 1), (5, 5), (6, 5)] {
        assert_eq!(fixture.queue.list_jobs(JobFilter::default().limit(limit)).await.unwrap().len(), listed);
    }
    assert_eq!(fixture.queue.list_jobs(JobFilter::default()).await.unwrap().len(), 5);
}

/// There: recovery needed a reaper that someone remembered to run.
#[tokio::test]
async fn a_stream_recovers_expired_leases_of_other_queues_without_a_reaper() {
    let fixture = Fixture::with(SettingsChange::new().lease(SECOND / 5).backoff(vec![Duration::ZERO])).await;
    fixture.queue.create_queue("other", false).await.unwrap();
    let id = fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let _held = next(&mut jobs).await;
    drop(jobs);
    let mut others = fixture.queue.try_stream_jobs::<u64>("other");
    assert!(futures_util::FutureExt::now_or_never(others.next()).is_none());
    let recovered = async || fixture.job(id).await.retry_count == 1;
    eventually("it is reaped by a stream of another queue", TIMEOUT, recovered).await;
}

/// There: a lease was as long as the binary of the reaper said.
#[tokio::test]
async fn a_lease_is_as_long_as_its_queue_said_when_it_was_claimed_whoever_reaps() {
    let fixture = Fixture::with(SettingsChange::new().lease(SECOND * 600)).await;
    let id = fixture.put(1).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let held = next(&mut jobs).await;
    fixture.queue.set_queue_settings("tasks", SettingsChange::new().lease(SECOND)).await.unwrap();
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(fixture.another(ConnectOptions::default()).await.reap().await.unwrap().0, 0);
    assert_eq!(fixture.state(id).await, State::InProgress);
    within("the commit", held.into_parts().1.commit()).await.unwrap();
}

/// Counts the pages a statement touches, in a transaction that is rolled back.
async fn pages<O: Operation>(direct: &mut Direct, operation: O, literals: &str) -> u64 {
    let statement: StatementId = operation.plan().statement;
    let catalog = Catalog::new(&SchemaName::default());
    let text = &catalog.statement(statement).text;
    let transaction = direct.client.transaction().await.unwrap();
    transaction.batch_execute(&ConnectOptions::default().session_script()).await.unwrap();
    let types: Vec<_> = catalog.statement(statement).params.iter().map(|ty| ty.oid().to_string()).collect();
    let names = format!("select format_type(t, null) from unnest(array[{}]::oid[]) t", types.join(","));
    let names = transaction.query(&names, &[]).await.unwrap();
    let names: Vec<String> = names.iter().map(|row| row.get(0)).collect();
    transaction.batch_execute(&format!("prepare probe({}) as {text}", names.join(","))).await.unwrap();
    // The first run warms what is read once for each connection.
    transaction.batch_execute("savepoint before").await.unwrap();
    transaction.batch_execute(&format!("execute probe({literals}); rollback to before")).await.unwrap();
    let explain = format!("explain (analyze, buffers, costs off, timing off) execute probe({literals})");
    let plan: Vec<String> = transaction.query(&explain, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    transaction.rollback().await.unwrap();
    direct.client.batch_execute("deallocate all; reset all").await.unwrap();
    let line = plan.iter().find(|line| line.trim_start().starts_with("Buffers:")).expect("it touches some");
    let numbers = line.split_whitespace().filter_map(|word| word.split_once('='));
    numbers.filter(|(what, _)| ["hit", "read"].contains(what)).map(|(_, pages)| pages.parse::<u64>().unwrap()).sum()
}

fn claim_of_100(queue_id: i32) -> (Claim, String) {
    let line = LineCursor { queue_id, priority: 0, cursor: 0 };
    let claim = Claim { lines: vec![line], limit: 100, lease: 7, worker: String::new(), due_bound: None };
    (claim, format!("'{{{queue_id}}}', '{{0}}', '{{0}}', 100, 7, '', null"))
}

/// There: a claim sorted all ready rows (79 ms at 100,000), backed-off jobs stood at the head of its index (32 ms
/// against 0.8), and the reaper read the whole table (171 ms at a million).
#[tokio::test]
async fn claims_promotions_and_reaps_touch_as_many_pages_whatever_waits_is_ready_or_has_ended() {
    let fixture = Fixture::new().await;
    fixture.put_many(1_000).await;
    let queue_id = fixture.number("select id from pm.queue") as i32;
    let mut direct = direct(&fixture).await;
    let reap = Reap { limit: 500, seed: 1 };
    let promote = Promote { limit: 1_000, bound: None };
    let measure = async |direct: &mut Direct| {
        direct.client.batch_execute("vacuum analyze pm.job").await.unwrap();
        let (claim, literals) = claim_of_100(queue_id);
        [
            pages(direct, claim, &literals).await,
            pages(direct, promote, "1000, null").await,
            pages(direct, reap, "500, 1").await,
        ]
    };
    // Something is in progress, so that the reaper has a line to look at.
    assert_eq!(direct.run(claim_of_100(queue_id).0).await.jobs.len(), 100);
    let small = measure(&mut direct).await;
    // 50,000 of each kind, half of the waiting ones older than anything that is ready.
    let fill = "insert into pm.job (id, queue_id, priority, codec, payload, state, seq, run_at, ended_at)
        select gen_random_uuid(), {id}, 0, 0, '1', case kind when 2 then 2 else 0 end,
               case kind when 1 then nextval('pm.job_seq') end,
               case kind when 0 then now() + n * interval '1 min' end, case kind when 2 then now() end
        from generate_series(1, 50000) n, generate_series(0, 2) kind";
    fixture.database.execute(&fill.replace("{id}", &queue_id.to_string())).unwrap();
    let large = measure(&mut direct).await;
    println!("pages touched by claim, promote and reap: {small:?}, with 150,000 more jobs {large:?}");
    for (small, large) in small.into_iter().zip(large) {
        assert!(large <= small + small / 2 + 30, "{small} pages, and {large} with 150,000 more jobs");
    }
}

/// There: every update of a job wrote all its index entries anew.
#[tokio::test]
async fn most_claims_write_no_index_entry() {
    let fixture = Fixture::new().await;
    // A claim adds lease and worker to the row: the smaller it is, the less surely both versions fit in one page.
    let jobs = (0..500).map(|_| ("x".repeat(120), EnqueueOptions::default()));
    fixture.queue.enqueue_many("tasks", jobs).await.unwrap();
    let mut direct = direct(&fixture).await;
    let (claim, _) = claim_of_100(fixture.number("select id from pm.queue") as i32);
    for lease in 1..=5 {
        assert_eq!(direct.run(Claim { lease, ..claim.clone() }).await.jobs.len(), 100);
    }
    drop(direct);
    let told = "select n_tup_upd from pg_stat_user_tables where schemaname = 'pm' and relname = 'job'";
    eventually("the statistics have come in", TIMEOUT, async || fixture.number(told) == 500).await;
    let in_place = fixture.number(&told.replace("n_tup_upd", "n_tup_hot_upd"));
    println!("{in_place} of 500 in place");
    assert!(in_place >= 425, "{in_place}");
}

/// There: an enqueue had no delay, and what was due was found by luck of the poll.
#[tokio::test]
async fn a_due_job_does_not_wait_for_the_next_poll() {
    let fixture = Fixture::new().await;
    let hour = SECOND * 3_600;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", StreamOptions::default().poll(hour, hour));
    assert!(tokio::time::timeout(SECOND / 2, jobs.next()).await.is_err());
    fixture.put_with(1, EnqueueOptions::default().run_at(RunAt::In(SECOND / 2))).await;
    next(&mut jobs).await.into_parts().1.commit().await.unwrap();
}
