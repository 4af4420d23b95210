//! What statements read of a large table: rows found by an index, no sort over what waits, few pages. Each runs as on a
//! connection of our own. 100,000 jobs; 1,000,000 with `scripts/test --large`, within the same bounds.

use pm_core::op::{
    Attempts, Claim, DeleteJobs, DropQueues, EndJobs, Enqueue, FetchJob, GetJob, JobFilter, KeyHolder, LineCursor,
    ListJobs, MoveJobs, NextJobs, Outcome, Payload, Poll, Promote, Reap, Refresh, ReleaseClaim, RestartJobs, Settle,
    SettleItem, StillIs, Sweep, WakeSleepers,
};
use pm_core::{
    Catalog, JobOptions, Lease, NewJob, Operation, Plan, QueueName, Reason, SchemaName, State, Statement, Verdict,
};
use pm_driver_tokio_postgres::{ConnectOptions, Uuid};
use pm_tests::{Direct, Ground, literal, type_name};
use std::time::Duration;

/// The most rows that any node of a plan puts in order: a batch, and what is in progress.
const SORTED: f64 = 5_000.0;
const IN_PROGRESS: i64 = 500;

/// Fills the tables: three queues of three priorities each; of ten jobs three finished, two backed off, one failed, four
/// ready, and of these the first 500 in progress, 50 of them with their leases expired. 100 of those backed off are due.
fn fill(ground: &Ground, jobs: u64) {
    ground.column(&format!(
        "insert into pm.job (id, seq, run_at, ended_at, failed_at, lease, lease_expires_at, queue_id, priority, attempt,
                             retry_count, state, verdict, codec, worker, key, key_held, payload)
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
    ground.column(
        "insert into pm.attempt (job_id, attempt, ended_at, verdict) select id, 1, now(), 2 from pm.job where state = 3",
    );
    ground.column(
        "insert into pm.claim_frontier select queue_id, priority, max(seq) + 1000 from pm.job where state = 1 group by 1, 2",
    );
    for table in ["job", "attempt", "claim_frontier", "queue"] {
        ground.database.execute(&format!("vacuum analyze pm.{table}")).unwrap();
    }
}

fn ids(ground: &Ground, which: &str) -> Vec<Uuid> {
    let sql = format!("select id from pm.job where {which} order by id limit 100");
    ground.column(&sql).iter().map(|id| id.parse().unwrap()).collect()
}

fn queue_name(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

/// A statement with its parameters, and how many pages it may touch: about half as many again as it was seen to.
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

fn probes(ground: &Ground) -> Vec<Probe> {
    let lines = |cursor| {
        let queues = ground.column("select id from pm.queue order by id");
        let queues = queues.iter().map(|id| id.parse::<i32>().unwrap());
        queues.flat_map(|queue_id| (0..3).map(move |priority| LineCursor { queue_id, priority, cursor })).collect()
    };
    let claim = |cursor, limit| Claim { lines: lines(cursor), limit, lease: 7, worker: "w".into(), due_bound: None };
    let leases: Vec<_> = ids(ground, "state = 1").into_iter().map(|job| Lease { job, number: 77 }).collect();
    let settled = |verdict: Verdict, state, delay: Option<u64>| -> Vec<SettleItem> {
        let delay = delay.map(Duration::from_secs);
        leases.iter().map(|lease| SettleItem { lease: *lease, verdict: verdict.clone(), state, delay }).collect()
    };
    let commits = settled(Verdict::Commit, State::Finished, None);
    let fails = settled(Verdict::SoftFail(Reason::new("again")), State::Pending, Some(1_500));
    let ready = ids(ground, "state = 0 and seq is not null and retry_count = 0");
    let failed = ids(ground, "state = 3");
    let new_job = |n: u128| NewJob {
        id: Uuid::from_u128(n),
        queue: queue_name("tasks"),
        payload: b"{}".as_slice().into(),
        options: JobOptions { key: Some(format!("key {n}")), ..JobOptions::default() },
    };
    let new: Vec<_> = (1..=100).map(new_job).collect();
    let one = ready[0];
    let page = |state, queue: Option<&str>| ListJobs {
        filter: JobFilter { state, queue: queue.map(queue_name), ..JobFilter::default() },
    };
    let followed = ["tasks", "mail", "film"].map(queue_name).to_vec();
    let lease = Lease { job: one, number: 7 };
    vec![
        probe("claim of 1", &claim(0, 1).plan(), 200),
        probe("claim of 100", &claim(0, 100).plan(), 1_000),
        probe("claim of 500 from a cursor", &claim(2_000, 500).plan(), 3_500),
        probe("settle 100: commit", &Settle { items: &commits, passes: false }.plan(), 1_700),
        probe("settle 100: soft fail", &Settle { items: &fails, passes: true }.plan(), 2_800),
        probe("outcome of 100", &Outcome { items: &commits }.plan(), 1_200),
        probe("refresh 100", &Refresh { leases: leases.clone() }.plan(), 3_000),
        probe("reap, 50 expired", &Reap { limit: 500, seed: 1 }.plan(), 3_500),
        probe("promote, 100 due", &Promote { limit: 1_000, bound: None }.plan(), 2_500),
        probe("release of a claim of 500", &ReleaseClaim { lease: 77 }.plan(), 6_000),
        probe("fetch", &FetchJob { lease, worker: "w".into() }.plan(), 30),
        probe("poll", &Poll { queues: followed, due_bound: None, sleep: Some(Duration::from_secs(9)) }.plan(), 2_000),
        probe("enqueue 100 with keys", &Enqueue { jobs: &new }.plan(), 3_500),
        probe("key holders of 100", &KeyHolder { jobs: &new }.plan(), 2_000),
        probe("job", &GetJob { id: one }.plan(), 12),
        probe("payload", &Payload { id: one }.plan(), 12),
        probe("attempts", &Attempts { id: failed[0] }.plan(), 12),
        probe("head of a queue", &NextJobs { queue: queue_name("tasks"), limit: 10 }.plan(), 600),
        probe("page of jobs", &page(None, None).plan(), 800),
        probe("page of failed jobs", &page(Some(State::Failed), Some("tasks")).plan(), 1_000),
        probe("finish 100", &EndJobs::done(ready.clone()).plan(), 2_500),
        probe("fail 100", &EndJobs::failed(ready.clone(), "no").plan(), 3_000),
        probe("restart 100", &RestartJobs { ids: failed, force: false, still_is: StillIs::default() }.plan(), 3_000),
        probe(
            "move 100",
            &MoveJobs { ids: ready.clone(), queue: queue_name("mail"), still_is: StillIs::default() }.plan(),
            2_800,
        ),
        probe("delete 100", &DeleteJobs { ids: ready, still_is: StillIs::default() }.plan(), 2_000),
        probe("sweep of a page of 5,000", &Sweep { after: None, page: 5_000, queue_id: None }.plan(), 600),
        probe("drop of queues, none nameless", &DropQueues { queue_id: None }.plan(), 5),
        probe("wake-up of sleepers", &WakeSleepers { channel: "pm_pm".to_owned() }.plan(), 5),
    ]
}

#[tokio::test]
async fn statements_read_what_they_need_by_index_whatever_waits_or_has_ended() {
    let large = std::env::var_os("PM_LARGE").is_some();
    let ground = Ground::new().await;
    for name in ["mail", "film"] {
        ground.queue.create_queue(name, false).await.unwrap();
    }
    fill(&ground, if large { 1_000_000 } else { 100_000 });
    assert_eq!(ground.number("select count(*) from pm.job where state = 1"), IN_PROGRESS);
    let mut direct = Direct::to(&ground.database.url()).await;
    direct.client.batch_execute(&ConnectOptions::default().session_script()).await.unwrap();
    let mut wrong = Vec::new();
    for probe in probes(&ground) {
        let plan = explained(&mut direct, &probe).await;
        let pages = pages(&plan);
        println!("{:>32}: {pages:>6} pages, at most {}", probe.name, probe.pages);
        let faults = faults(&plan);
        if pages > probe.pages || !faults.is_empty() {
            wrong.push(format!("{}: {pages} pages, {faults:?}\n{}", probe.name, plan.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Runs a statement as a prepared one, the second time with its plan explained, and undoes it.
async fn explained(direct: &mut Direct, probe: &Probe) -> Vec<String> {
    let Probe { statement, literals, .. } = probe;
    let types: Vec<_> = statement.params.iter().map(|ty| type_name(*ty)).collect();
    let (types, literals) = match literals[..] {
        [] => (String::new(), String::new()),
        _ => (format!("({})", types.join(", ")), format!("({})", literals.join(", "))),
    };
    let transaction = direct.client.transaction().await.unwrap();
    let prepare = format!("prepare probe{types} as {}", statement.text);
    transaction.batch_execute(&prepare).await.unwrap_or_else(|error| panic!("{}: {error:?}", probe.name));
    // The first run warms what is read once for each connection.
    let warm = format!("savepoint cold; execute probe{literals}; rollback to cold");
    transaction.batch_execute(&warm).await.unwrap_or_else(|error| panic!("{}: {error:?}", probe.name));
    let explain = format!("explain (analyze, buffers, costs off, timing off, summary off) execute probe{literals}");
    let rows = transaction.simple_query(&explain).await.unwrap();
    transaction.rollback().await.unwrap();
    direct.client.batch_execute("deallocate all").await.unwrap();
    let lines = rows.iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    lines.map(str::to_owned).collect()
}

/// Returns how many pages the whole of a plan touched.
fn pages(plan: &[String]) -> u64 {
    let line = plan.iter().find(|line| line.trim_start().starts_with("Buffers: shared"));
    let words = line.into_iter().flat_map(|line| line.split_whitespace()).filter_map(|word| word.split_once('='));
    words.filter(|(what, _)| ["hit", "read"].contains(what)).map(|(_, pages)| pages.parse::<u64>().unwrap()).sum()
}

/// Returns what a plan must not do: read a large table from end to end, order what waits, spill to disk.
fn faults(plan: &[String]) -> Vec<String> {
    let large = ["job", "attempt", "payload"].map(|table| format!("Seq Scan on {table}"));
    let is_fault = |line: &&String| {
        let scans = large.iter().any(|scan| line.contains(scan.as_str()) && !line.contains("never executed"));
        let sorts = line.contains("Sort ") && rows(line) > SORTED;
        scans || sorts || line.contains("temp ") || line.contains("Disk:")
    };
    plan.iter().filter(is_fault).cloned().collect()
}

/// Returns how many rows a node gave in all: "… (actual rows=34.00 loops=3)".
fn rows(line: &str) -> f64 {
    let number = |what: &str| {
        let rest = line.split_once(what).map_or("0", |(_, rest)| rest);
        rest.split([' ', ')']).next().and_then(|digits| digits.parse::<f64>().ok()).unwrap_or(0.0)
    };
    number("rows=") * number("loops=")
}
