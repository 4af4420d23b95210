//! What statements read of a large table: they find rows by an index, do not sort the pending jobs, and read few pages.
//! Each runs as on pm's own connections, also with a plan made while the tables were empty, and as in the caller's
//! sessions with Postgres's default settings, also through PgBouncer. 100,000 jobs; 1,000,000 with
//! `scripts/test --large`, within the same limits.

use pm_core::op::{
    Attempts, CancelJobs, CancelRequests, Claim, DeleteEmptyQueues, DeleteJobs, EditJobs, EndJobs, Enqueue,
    EnqueueEach, EnqueueFresh, EnqueueKeyed, Extend, ExtendItem, FetchJob, Job, JobFilter, JobResult, KeyHolder,
    LineCursor, ListJobs, MoveJobs, NextJobs, NotifyIdle, Outcome, Payload, Poll, Precondition, ProgressItem, Promote,
    PruneJobs, Reap, ReleaseClaim, RestartJobs, SetProgress, Settle, SettleCommits, SettleItem,
};
use pm_core::{
    Catalog, EnqueueOptions, JsonText, Lease, NewJob, Operation, Plan, QueueName, Reason, SchemaName, State, Statement,
    Verdict,
};
use pm_driver_tokio_postgres::{ConnectOptions, Uuid};
use pm_sandbox::Pooler;
use pm_tests::{Direct, Fixture, literal, type_name};
use std::time::Duration;

/// The most rows that any node of a plan may sort: a batch, and the jobs in progress.
const SORTED: f64 = 5_000.0;
/// The most rows that any node of a plan may return or filter out: the page of a prune.
const READ: f64 = 10_000.0;
const IN_PROGRESS: i64 = 500;

/// Fills the tables: three queues of three priorities each; of ten jobs three finished, two backed off, one failed,
/// four ready, and of these the first 500 in progress, 50 of them with their leases expired. 100 of those backed off
/// are due.
fn fill(fixture: &Fixture, jobs: u64) {
    fixture.column(&format!(
        "insert into pm.job (id, seq, run_at, ended_at, failed_at, lease, lease_expires_at, queue_id, priority, attempt,
                             retry_count, state, verdict, codec, worker, key, reserved_key, payload)
         select (lpad(to_hex(1700000000000 + n), 12, '0') || '70008' || substr(md5(n::text), 1, 15))::uuid,
                case when kind > 5 then nextval('pm.job_seq') end,
                case when kind in (3, 4) then now() + case when n <= 500 then -1 else 3600 + n % 86400 end * interval '1 s' end,
                case when kind in (0, 1, 2, 5) then now() end, case when kind = 5 then now() end,
                case when flight then 77 end,
                case when flight then now() + case when n <= 125 then -1 else 1200 end * interval '1 s' end,
                queues[1 + n % 3], (n / 10) % 3, (kind <> 6)::int4, (kind in (3, 4))::int4,
                case when kind < 3 then 2 when kind = 5 then 3 when flight then 1 else 0 end, null, 0, 'worker',
                case when n % 100 = 9 then 'key ' || n end, case when n % 100 = 9 then 'key ' || n end,
                convert_to(repeat(md5(n::text), 3), 'utf8')
         from (select n, n % 10 as kind, n % 10 > 5 and n <= {IN_PROGRESS} * 10 / 4 as flight
               from generate_series(0, {jobs} - 1) n) made,
              (select array_agg(id order by id) as queues from pm.queue) named"
    ));
    fixture.column(
        "insert into pm.attempt (job_id, attempt, ended_at, verdict) select id, 1, now(), 2 from pm.job where state = 3",
    );
    fixture.column(
        "insert into pm.claim_frontier select queue_id, priority, max(seq) + 1000 from pm.job where state = 1 group by 1, 2",
    );
}

fn analyze(fixture: &Fixture) {
    for table in ["job", "attempt", "claim_frontier", "queue"] {
        fixture.database.execute(&format!("vacuum analyze pm.{table}")).unwrap();
    }
}

fn ids(fixture: &Fixture, which: &str) -> Vec<Uuid> {
    let sql = format!("select id from pm.job where {which} order by id limit 100");
    let found: Vec<_> = fixture.column(&sql).iter().map(|id| id.parse().unwrap()).collect();
    // While there are no jobs, any id will do.
    if found.is_empty() { vec![Uuid::from_u128(7)] } else { found }
}

fn queue_name(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

/// A statement with its parameters, and how many pages it may touch: half as many again as measured, and up to twice as
/// many for an update: the page of a row may be full, and then every index gets a new entry.
struct Probe {
    name: &'static str,
    statement: Statement,
    literals: Vec<String>,
    pages: u64,
}

fn probe(name: &'static str, plan: &Plan<'_>, pages: u64) -> Probe {
    let statement = Catalog::new(&SchemaName::default()).statement(plan.statement).clone();
    Probe { name, statement, literals: plan.params.iter().map(literal).collect(), pages }
}

fn probes(fixture: &Fixture) -> Vec<Probe> {
    let lines = |cursor| {
        let queues = fixture.column("select id from pm.queue order by id");
        let queues = queues.iter().map(|id| id.parse::<i32>().unwrap());
        queues.flat_map(|queue_id| (0..3).map(move |priority| LineCursor { queue_id, priority, cursor })).collect()
    };
    let claim = |cursor, limit| Claim { lines: lines(cursor), limit, lease: 7, worker: "w".into(), due_bound: None };
    let leases: Vec<_> = ids(fixture, "state = 1").into_iter().map(|job| Lease { job, number: 77 }).collect();
    let settled = |verdict: Verdict, state, delay: Option<u64>| -> Vec<SettleItem> {
        let delay = delay.map(Duration::from_secs);
        leases.iter().map(|lease| SettleItem { lease: *lease, verdict: verdict.clone(), state, delay }).collect()
    };
    let commits = settled(Verdict::Commit, State::Finished, None);
    let result = JsonText::result("7".to_owned()).expect("it is short");
    let results = settled(Verdict::CommitWith(result), State::Finished, None);
    let three = JsonText::progress("3".to_owned()).expect("it is short");
    let progress = leases.iter().map(|lease| ProgressItem { lease: *lease, progress: three.clone() }).collect();
    let extensions = leases.iter().map(|lease| ExtendItem { lease: *lease, latest_end: None }).collect();
    let fails = settled(Verdict::SoftFail(Reason::new("again")), State::Pending, Some(1_500));
    let ready = ids(fixture, "state = 0 and seq is not null and retry_count = 0");
    let failed = ids(fixture, "state = 3");
    let new_job = |n: u128| NewJob {
        id: Uuid::from_u128(n),
        queue: queue_name("tasks"),
        payload: b"{}".as_slice().into(),
        options: EnqueueOptions::default().key(format!("key {n}")),
    };
    let new: Vec<_> = (1..=100).map(new_job).collect();
    let without = |job: &NewJob| NewJob { options: EnqueueOptions::default(), ..job.clone() };
    let keyless: Vec<_> = new.iter().map(without).collect();
    let fresh: Vec<_> =
        keyless.iter().map(|job| NewJob { id: Uuid::from_u128(job.id.as_u128() + 1_000), ..job.clone() }).collect();
    let one = ready[0];
    let page = |filter| ListJobs { filter };
    let all = JobFilter::default();
    let followed = ["tasks", "mail", "film"].map(queue_name).to_vec();
    let lease = Lease { job: one, number: 7 };
    vec![
        // 110, and twice that while a transaction elsewhere on the server keeps the dead rows of earlier probes.
        probe("claim of 1", &claim(0, 1).plan(), 300),
        probe("claim of 100", &claim(0, 100).plan(), 1_200),
        probe("claim of 500 from a cursor", &claim(2_000, 500).plan(), 3_500),
        probe("settle 100: commit", &Settle { items: &commits, passes: false }.plan(), 2_500),
        probe("settle 100 commits", &SettleCommits { items: &commits }.plan(), 2_500),
        probe("settle 100: results", &Settle { items: &results, passes: false }.plan(), 2_500),
        probe("settle 100: soft fail", &Settle { items: &fails, passes: true }.plan(), 2_800),
        probe("outcome of 100", &Outcome { items: &commits }.plan(), 1_200),
        probe("extend 100", &Extend { items: extensions }.plan(), 3_000),
        probe("set the progress of 100", &SetProgress { items: progress }.plan(), 3_000),
        probe("reap, 50 expired", &Reap { limit: 500, seed: 1 }.plan(), 4_500),
        probe("promote, 100 due", &Promote { limit: 1_000, bound: None }.plan(), 2_500),
        probe("release of a claim of 500", &ReleaseClaim { lease: 77 }.plan(), 12_000),
        probe("fetch", &FetchJob { lease, worker: "w".into() }.plan(), 30),
        probe("poll", &Poll { queues: followed, sleep: Some(Duration::from_secs(9)) }.plan(), 3_000),
        probe("key holders of 100", &KeyHolder { jobs: &new }.plan(), 3_200),
        probe("job", &Job { id: one }.plan(), 12),
        probe("payload", &Payload { id: one }.plan(), 12),
        probe("result", &JobResult { id: one }.plan(), 12),
        probe("attempts", &Attempts { id: failed[0] }.plan(), 12),
        probe("head of a queue", &NextJobs { queue: queue_name("tasks"), limit: 10 }.plan(), 600),
        probe("page of jobs", &page(all.clone()).plan(), 1_300),
        probe("page of failed jobs", &page(all.state(State::Failed).queue("tasks")).plan(), 1_000),
        probe("finish 100", &EndJobs::done(ready.clone()).plan(), 2_500),
        probe("fail 100", &EndJobs::failed(ready.clone(), "no").plan(), 4_000),
        probe("cancel 100", &cancel(ready.clone(), false).plan(), 4_000),
        probe("cancel requests of 100", &CancelRequests { leases: leases.clone() }.plan(), 1_200),
        probe(
            "restart 100",
            &RestartJobs { ids: failed, force: false, precondition: Precondition::default() }.plan(),
            4_000,
        ),
        probe(
            "move 100",
            &MoveJobs { ids: ready.clone(), queue: queue_name("mail"), precondition: Precondition::default() }.plan(),
            4_000,
        ),
        probe(
            "set the priority of 100",
            &EditJobs { ids: ready.clone(), priority: 3, precondition: Precondition::default() }.plan(),
            4_000,
        ),
        probe("delete 100", &DeleteJobs { ids: ready, precondition: Precondition::default() }.plan(), 2_000),
        probe("prune of a page of 5,000", &PruneJobs { after: None, page: 5_000, queue_id: None }.plan(), 15_000),
        probe("delete empty queues, none deleted", &DeleteEmptyQueues { queue_id: None }.plan(), 5),
        probe("notify idle workers", &NotifyIdle { channel: "pm_pm".to_owned() }.plan(), 5),
        // Last, because they give the empty table its first pages.
        probe("enqueue 100 for the first time", &EnqueueFresh { jobs: &fresh }.plan(), 2_500),
        probe("enqueue 100", &Enqueue { jobs: &keyless }.plan(), 2_500),
        probe("enqueue 100 with keys", &EnqueueKeyed { jobs: &new, in_transaction: false }.plan(), 3_500),
        probe("enqueue 100, one by one", &EnqueueEach { jobs: &new }.plan(), 4_500),
    ]
}

fn cancel(ids: Vec<Uuid>, force: bool) -> CancelJobs {
    CancelJobs { ids, force, reason: Reason::new("no longer wanted"), precondition: Precondition::default() }
}

/// How a statement gets its plan.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Session {
    /// On pm's own connection, prepared on the full tables.
    Own,
    /// On pm's own connection, prepared while the tables were empty and vacuumed.
    OwnSinceEmpty,
    /// With Postgres's default settings, unprepared: in the caller's transaction.
    Default,
    /// The same through PgBouncer.
    Pooler,
}

#[tokio::test]
async fn statements_find_rows_by_index_however_many_jobs_wait_or_have_ended() {
    let large = std::env::var_os("PM_LARGE").is_some();
    let fixture = Fixture::new().await;
    for name in ["mail", "film"] {
        fixture.queue.create_queue(name, false).await.unwrap();
    }
    let url = fixture.database.url();
    let mut since_empty = own(&url).await;
    for table in ["job", "attempt", "payload", "claim_frontier"] {
        fixture.database.execute(&format!("alter table pm.{table} set (autovacuum_enabled = off)")).unwrap();
        fixture.database.execute(&format!("vacuum analyze pm.{table}")).unwrap();
    }
    for (index, probe) in probes(&fixture).iter().enumerate() {
        prepare(&mut since_empty, index, probe).await;
    }
    // The session that keeps the plans still sees empty tables: they have not been analyzed since.
    fill(&fixture, if large { 1_000_000 } else { 100_000 });
    assert_eq!(fixture.number("select count(*) from pm.job where state = 1"), IN_PROGRESS);
    let mut wrong = try_all(&fixture, Session::OwnSinceEmpty, &mut since_empty).await;
    analyze(&fixture);
    wrong.extend(try_all(&fixture, Session::Own, &mut own(&url).await).await);
    wrong.extend(try_all(&fixture, Session::Default, &mut Direct::to(&url).await).await);
    let pooler = Pooler::before(&url).unwrap();
    let mut pooled = Direct::to(&pooler.url_of(fixture.database.name())).await;
    wrong.extend(try_all(&fixture, Session::Pooler, &mut pooled).await);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

async fn own(url: &str) -> Direct {
    let direct = Direct::to(url).await;
    direct.client.batch_execute(&ConnectOptions::default().session_script()).await.unwrap();
    direct
}

/// Explains every statement and returns what is wrong.
async fn try_all(fixture: &Fixture, session: Session, direct: &mut Direct) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, probe) in probes(fixture).into_iter().enumerate() {
        let plan = explained(direct, session, index, &probe).await;
        let pages = pages(&plan);
        println!("{session:>14?} {:>32}: {pages:>6} pages, at most {}", probe.name, probe.pages);
        let faults = faults(&plan);
        if pages > probe.pages || !faults.is_empty() {
            wrong.push(format!("{session:?}, {}: {pages} pages, {faults:?}\n{}", probe.name, plan.join("\n")));
        }
    }
    wrong
}

/// Returns the types of a statement's parameters and their values, each in brackets.
fn arguments(probe: &Probe) -> (String, String) {
    let types: Vec<_> = probe.statement.params.iter().map(|ty| type_name(*ty)).collect();
    match probe.literals[..] {
        [] => (String::new(), String::new()),
        _ => (format!("({})", types.join(", ")), format!("({})", probe.literals.join(", "))),
    }
}

/// Prepares a statement and runs it once, which makes its plan, and rolls it back.
async fn prepare(direct: &mut Direct, index: usize, probe: &Probe) {
    let (types, literals) = arguments(probe);
    let text = &probe.statement.text;
    let script = format!("prepare probe_{index}{types} as {text}; begin; execute probe_{index}{literals}; rollback");
    direct.client.batch_execute(&script).await.unwrap_or_else(|error| panic!("{}: {error:?}", probe.name));
}

/// Runs a statement twice, the second time with its plan explained, and rolls it back.
async fn explained(direct: &mut Direct, session: Session, index: usize, probe: &Probe) -> Vec<String> {
    let (types, literals) = arguments(probe);
    let transaction = direct.client.transaction().await.unwrap();
    let setting = match session {
        Session::Own | Session::OwnSinceEmpty => "force_generic_plan",
        Session::Default | Session::Pooler => "force_custom_plan",
    };
    let mut script = format!("set local plan_cache_mode = {setting}; ");
    if session != Session::OwnSinceEmpty {
        script += &format!("prepare probe_{index}{types} as {}; ", probe.statement.text);
    }
    // The first run warms the caches of the connection.
    script += &format!("savepoint cold; execute probe_{index}{literals}; rollback to cold");
    transaction.batch_execute(&script).await.unwrap_or_else(|error| panic!("{}: {error:?}", probe.name));
    let explain = format!("explain (analyze, buffers, timing off, summary off) execute probe_{index}{literals}");
    let rows = transaction.simple_query(&explain).await.unwrap();
    if session != Session::OwnSinceEmpty {
        transaction.batch_execute(&format!("deallocate probe_{index}")).await.unwrap();
    }
    transaction.rollback().await.unwrap();
    let lines = rows.iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    lines.map(str::to_owned).collect()
}

/// Returns how many pages the whole of a plan touched.
fn pages(plan: &[String]) -> u64 {
    let line = plan.iter().find(|line| line.trim_start().starts_with("Buffers: shared"));
    let fields = line.into_iter().flat_map(|line| line.split_whitespace()).filter_map(|field| field.split_once('='));
    fields.filter(|(what, _)| ["hit", "read"].contains(what)).map(|(_, pages)| pages.parse::<u64>().unwrap()).sum()
}

/// Returns the lines of a plan that it must not have: a scan of a whole large table, by an index either, a large sort,
/// a spill to disk, or JIT compilation.
fn faults(plan: &[String]) -> Vec<String> {
    let large = ["job", "attempt", "payload"].map(|table| format!("Seq Scan on {table}"));
    let is_fault = |line: &&String| {
        let scans = large.iter().any(|scan| line.contains(scan.as_str()) && rows(line) > 0.0);
        let sorts = line.contains("Sort ") && rows(line) > SORTED;
        scans
            || rows(line) > READ
            || sorts
            || line.contains("temp ")
            || line.contains("Disk:")
            || line.starts_with("JIT:")
    };
    plan.iter().filter(is_fault).cloned().collect()
}

/// Returns how many rows a node returned in all, "… (actual rows=34.00 loops=3)", or removed:
/// "Rows Removed by Filter: 34".
fn rows(line: &str) -> f64 {
    if let Some((_, removed)) = line.split_once("Rows Removed by ") {
        return removed.split_once(": ").and_then(|(_, number)| number.trim().parse().ok()).unwrap_or(0.0);
    }
    let line = line.split_once("(actual").map_or("", |(_, actual)| actual);
    let number = |what: &str| {
        let rest = line.split_once(what).map_or("0", |(_, rest)| rest);
        rest.split([' ', ')']).next().and_then(|digits| digits.parse::<f64>().ok()).unwrap_or(0.0)
    };
    number("rows=") * number("loops=")
}
