//! What claims, promotions and reaps cost: pages read, and index entries written.

use pm_core::op::{Claim, LineCursor, Promote, Reap};
use pm_core::{Catalog, Operation, SchemaName, StatementId};
use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions};
use pm_tests::{Direct, Fixture, TIMEOUT, eventually};

/// Returns how many pages a statement touches, in a transaction that is rolled back.
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
    // The first run warms the caches of the connection.
    transaction.batch_execute("savepoint before").await.unwrap();
    transaction.batch_execute(&format!("execute probe({literals}); rollback to before")).await.unwrap();
    let explain = format!("explain (analyze, buffers, costs off, timing off) execute probe({literals})");
    let plan: Vec<String> = transaction.query(&explain, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    transaction.rollback().await.unwrap();
    direct.client.batch_execute("deallocate all; reset all").await.unwrap();
    let line = plan.iter().find(|line| line.trim_start().starts_with("Buffers:")).expect("it touches some");
    let numbers = line.split_whitespace().filter_map(|field| field.split_once('='));
    numbers.filter(|(what, _)| ["hit", "read"].contains(what)).map(|(_, pages)| pages.parse::<u64>().unwrap()).sum()
}

fn claim_of_100(queue_id: i32) -> (Claim, String) {
    let line = LineCursor { queue_id, priority: 0, cursor: 0 };
    let claim = Claim { lines: vec![line], limit: 100, lease: 7, worker: String::new(), due_bound: None };
    (claim, format!("'{{{queue_id}}}', '{{0}}', '{{0}}', 100, 7, '', null"))
}

/// Neither ready jobs, nor jobs that wait for their retry, nor ended ones make claims, promotions and reaps more
/// expensive.
#[tokio::test]
async fn claims_promotions_and_reaps_touch_as_many_pages_however_many_jobs_there_are() {
    let fixture = Fixture::new().await;
    fixture.put_many(1_000).await;
    let queue_id = fixture.number("select id from pm.queue") as i32;
    let mut direct = Direct::to(&fixture.database.url()).await;
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
    // Some jobs are in progress, so that the reaper has a line to check.
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

/// A claim updates the row in place (HOT), without new index entries.
#[tokio::test]
async fn most_claims_write_no_index_entry() {
    let fixture = Fixture::new().await;
    // A claim adds lease and worker to the row: the smaller the row, the more often its page has no room for a new
    // version.
    let jobs = (0..500).map(|_| ("x".repeat(120), EnqueueOptions::default()));
    fixture.queue.enqueue_many("tasks", jobs).await.unwrap();
    let mut direct = Direct::to(&fixture.database.url()).await;
    let (claim, _) = claim_of_100(fixture.number("select id from pm.queue") as i32);
    for lease in 1..=5 {
        assert_eq!(direct.run(Claim { lease, ..claim.clone() }).await.jobs.len(), 100);
    }
    drop(direct);
    let updates = "select n_tup_upd from pg_stat_user_tables where schemaname = 'pm' and relname = 'job'";
    eventually("the statistics are up to date", TIMEOUT, async || fixture.number(updates) == 500).await;
    let in_place = fixture.number(&updates.replace("n_tup_upd", "n_tup_hot_upd"));
    println!("{in_place} of 500 in place");
    assert!(in_place >= 425, "{in_place}");
}
