//! No value that SQL can store in pm's tables about one queue, its jobs and schedules stops another queue.

use pm_core::op::{
    Activity, Claim, CopyJob, DueSchedules, Enqueue, Extend, ExtendItem, FireSchedules, Job, JobFilter, LineCursor,
    ListJobs, ListQueues, ListSchedules, NextJobs, Poll, Promote, PruneJobs, QueueHealths, Reap, Settle, SettleItem,
};
use pm_core::{Lease, NewJob, Operation, QueueName, State, Verdict};
use pm_driver_tokio_postgres::driver::Executor;
use pm_driver_tokio_postgres::{EnqueueOptions, InTransaction, RunAt, Schedule, SettingsChange, Uuid};
use pm_tests::{Direct, Fixture, catalog};
use std::time::Duration;
use tokio_postgres::Transaction;

/// The lease of the job in progress whose lease has not expired.
const LEASE: i64 = 41;

/// Returns extreme values for a column of this type.
fn extremes(ty: &str) -> &'static [&'static str] {
    match ty {
        "smallint" => &["-32768", "-1", "0", "1", "32767"],
        "integer" => &["-2147483648", "-1", "0", "1", "2147483647"],
        "bigint" => &["-9223372036854775808", "-1", "0", "1", "9223372036854775807"],
        "boolean" => &["true", "false"],
        "timestamp with time zone" => &[
            "'-infinity'",
            "'infinity'",
            "'4714-11-24 00:00:00+00 BC'",
            "'1970-01-01 00:00:00+00'",
            "'294276-12-31 23:59:59.999999+00'",
        ],
        "text" => &["''", "repeat('x', 10000)", "E' \\n\\u202e'", "'* * * * *'", "'UTC'"],
        "bytea" => &["''", "'\\xff'"],
        "uuid" => &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"],
        "ARRAY" => &[
            "'{}'",
            "'{NULL}'",
            "'{-1}'",
            "'{-9223372036854775808}'",
            "'{9223372036854775807}'",
            "'{{1,2},{3,4}}'",
            "'[5:6]={1,2}'",
            "array_fill(1::int8, array[100])",
        ],
        other => panic!("a column of type {other}"),
    }
}

/// Returns a condition for the rows of a table that belong to the queue `odd`.
fn odd_rows(table: &str) -> &'static str {
    match table {
        "queue" => "name = 'odd'",
        "schedule" => "name = 'odd'",
        "job" | "claim_frontier" => "queue_id = (select id from pm.queue where name = 'odd')",
        "attempt" | "replacement" => {
            "job_id in (select job.id from pm.job join pm.queue on queue.id = queue_id where name = 'odd')"
        }
        "payload" => "true",
        other => panic!("a new table, {other}: add which of its rows belong to one queue"),
    }
}

/// Enqueues a job of every kind on a queue, and sets a schedule that is due.
async fn fill(fixture: &Fixture, direct: &mut Direct, name: &str) {
    fixture.queue.create_queue(name, false).await.unwrap();
    let settings = SettingsChange::new().backoff(vec![Duration::ZERO, Duration::from_secs(60)]).jitter_percent(0);
    fixture.queue.set_queue_settings(name, settings).await.unwrap();
    let put = async |options| fixture.queue.enqueue(name, 1u64, options).await.unwrap();
    let plain = EnqueueOptions::default;
    let [leased, expired] = [put(plain().key("leased")).await, put(plain().priority(3)).await];
    for (id, number) in [(leased, LEASE), (expired, LEASE + 1)] {
        let fetch = pm_core::op::FetchJob { lease: Lease { job: id, number }, worker: "worker".to_owned() };
        assert!(direct.run(fetch).await.is_some());
    }
    put(plain().key("pending")).await;
    put(plain().key("pending").on_conflict(pm_core::OnConflict::Replace)).await;
    put(plain().run_at(RunAt::In(Duration::from_secs(3_600)))).await;
    let due = put(plain().run_at(RunAt::In(Duration::from_secs(3_600)))).await;
    let [finished, failed] = [put(plain()).await, put(plain().max_retries(0)).await];
    fixture.queue.finish_jobs(&[finished]).await.unwrap();
    fixture.queue.fail_jobs(&[failed], "no").await.unwrap();
    let copied = put(plain()).await;
    fixture.queue.copy_job(copied, name, plain()).await.unwrap();
    fixture.queue.set_schedule(name, Schedule::new(name, "* * * * *"), 1u64).await.unwrap();
    let sql = format!(
        "update pm.job set lease_expires_at = now() - interval '1 min' where id = '{expired}';
         update pm.job set run_at = now() - interval '1 min' where id = '{due}';
         insert into pm.attempt (job_id, attempt, ended_at, verdict) values ('{failed}', 7, now(), 2);
         update pm.schedule set next_tick = date_trunc('minute', now()) - interval '1 min' where name = '{name}'"
    );
    fixture.database.execute(&sql).unwrap();
}

/// Runs one operation; returns errors of the database and of reading the reply.
async fn run<O: Operation>(transaction: &Transaction<'_>, operation: O) -> Result<O::Output, String> {
    let plan = operation.plan();
    let statement = plan.statement;
    let rows = InTransaction(transaction).run(catalog().statement(statement), &plan.params).await;
    drop(plan);
    let rows = rows.map_err(|failure| format!("{statement:?}: {failure}"))?;
    operation.interpret(&rows).map_err(|error| format!("the reply to {statement:?} cannot be read: {error}"))
}

/// Runs the operations of workers, reapers and operators; returns what went wrong for the queue `good`.
async fn run_all(transaction: &Transaction<'_>, leased: Uuid) -> Result<(), String> {
    let good = QueueName::new("good").unwrap();
    let named = |name: &str| QueueName::new(name).unwrap();
    let wrong = |what: &str| Err(what.to_owned());
    let poll = run(transaction, Poll { queues: vec![named("good"), named("odd")], sleep: None }).await?;
    if run(transaction, Promote { limit: 100, bound: None }).await?.promoted == 0 {
        return wrong("nothing is promoted");
    }
    run(transaction, Reap { limit: 100, seed: 1 }).await?;
    let due = run(transaction, DueSchedules::default()).await?;
    let mut drawn = 0;
    let fire = FireSchedules::of(&due, || {
        drawn += 1;
        drawn
    });
    run(transaction, fire).await?;
    let queue_id = poll.queues.iter().find(|queue| queue.name == "good").ok_or("the poll misses the queue")?.id;
    let lines = poll.queues.iter().flat_map(|queue| {
        queue.priorities.iter().map(|priority| LineCursor { queue_id: queue.id, priority: *priority, cursor: 0 })
    });
    let claim = Claim { lines: lines.collect(), limit: 100, lease: 50, worker: "w".to_owned(), due_bound: None };
    let claimed = run(transaction, claim).await?;
    // One enqueued, one reaped, one due, one with its copy, and one of the schedule.
    let ours = claimed.jobs.iter().filter(|job| job.queue_id == queue_id).count();
    if ours != 6 {
        return Err(format!("{ours} jobs of the queue are claimed"));
    }
    let mut items = vec![SettleItem {
        lease: Lease { job: leased, number: LEASE },
        verdict: Verdict::Commit,
        state: State::Finished,
        delay: None,
    }];
    let soft = |lease| SettleItem {
        lease,
        verdict: Verdict::SoftFail(pm_core::Reason::new("no")),
        state: State::Pending,
        delay: None,
    };
    items.extend(claimed.jobs.iter().map(|job| soft(job.lease)));
    items.sort_by_key(|item| item.lease.job);
    let extensions = items.iter().map(|item| ExtendItem { lease: item.lease, latest_end: None }).collect();
    run(transaction, Extend { items: extensions }).await?;
    run(transaction, Settle { items: &items, passes: false }).await?;
    run(transaction, PruneJobs { after: None, page: 1_000, queue_id: None }).await?;
    run(transaction, ListQueues::default()).await?;
    run(transaction, Activity { window: Duration::from_secs(600) }).await?;
    run(transaction, QueueHealths { threshold: Duration::from_secs(60) }).await?;
    run(transaction, ListSchedules::default()).await?;
    run(transaction, NextJobs { queue: named("good"), limit: 10 }).await?;
    run(transaction, ListJobs { filter: JobFilter::default() }).await?;
    if run(transaction, Job { id: leased }).await?.is_none_or(|job| job.state != State::Finished) {
        return wrong("a commit is not applied");
    }
    let job = NewJob { id: Uuid::from_u128(1), queue: good, payload: "1".into(), options: EnqueueOptions::default() };
    run(transaction, Enqueue { jobs: std::slice::from_ref(&job) }).await?;
    run(transaction, CopyJob { source: leased, job: NewJob { id: Uuid::from_u128(2), ..job } }).await?;
    Ok(())
}

/// Asks when there is something to do next, while no other row has a time for it.
async fn look_ahead(transaction: &mut Transaction<'_>) -> Result<(), String> {
    let savepoint = transaction.transaction().await.unwrap();
    let sql = "update pm.job set lease_expires_at = 'infinity' where lease_expires_at is not null;
               update pm.job set run_at = 'infinity' where run_at is not null and queue_id = (select id from pm.queue where name = 'good')";
    savepoint.batch_execute(sql).await.unwrap();
    let queues = ["good", "odd"].map(|name| QueueName::new(name).unwrap()).into();
    let polled = run(&savepoint, Poll { queues, sleep: None }).await.map(drop);
    let reaped = match polled {
        Ok(()) => run(&savepoint, Reap { limit: 100, seed: 1 }).await.map(drop),
        Err(problem) => Err(problem),
    };
    savepoint.rollback().await.unwrap();
    reaped
}

/// One bad row stops neither polling, claiming, reaping, promoting and firing for other queues, nor a listing.
#[tokio::test]
async fn no_value_of_any_column_stops_another_queue() {
    let fixture = Fixture::without_queue().await;
    let mut direct = Direct::to(&fixture.database.url()).await;
    // As on pm's own connections: otherwise each of thousands of statements is JIT-compiled.
    direct.client.batch_execute("set jit = off").await.unwrap();
    for name in ["odd", "good"] {
        fill(&fixture, &mut direct, name).await;
    }
    let leased =
        "select job.id from pm.job join pm.queue on queue.id = queue_id where key = 'leased' and name = 'good'";
    let leased: Uuid = fixture.column(leased)[0].parse().unwrap();
    let columns = fixture.column(
        "select concat_ws('|', table_name, column_name, data_type, is_nullable) from information_schema.columns
         where table_schema = 'pm' and table_name <> 'migration' and is_identity = 'NO' order by 1",
    );
    let (mut tried, mut wrong) = (0, Vec::new());
    for column in &columns {
        let [table, column, ty, nullable] = column.split('|').collect::<Vec<_>>()[..] else { panic!("{column}") };
        let null: &[&str] = if nullable == "YES" { &["null"] } else { &[] };
        for value in extremes(ty).iter().chain(null) {
            let mut transaction = direct.client.transaction().await.unwrap();
            let sql = format!("update pm.{table} set {column} = {value} where {}", odd_rows(table));
            if transaction.batch_execute(&sql).await.is_err() {
                continue;
            }
            tried += 1;
            let mut note = |result: Result<(), String>| {
                if let Err(problem) = result {
                    wrong.push(format!("{table}.{column} = {value}: {problem}"));
                }
            };
            note(look_ahead(&mut transaction).await);
            note(run_all(&transaction, leased).await);
            transaction.rollback().await.unwrap();
        }
    }
    assert!(tried > 200, "only {tried} values were tried");
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
}
