//! The doctor finds problems on a real Postgres, and its remedies fix them.

use pm_driver_tokio_postgres::runtime::{self, Runtime};
use pm_driver_tokio_postgres::{Check, ConnectOptions, EnqueueOptions, Finding, Queue, Remedy, TokioPostgres};
use pm_sandbox::{Server, ServerOptions};
use pm_tests::{Fixture, TIMEOUT, eventually, next, unattended};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::NoTls;

const MINUTE: Duration = Duration::from_secs(60);

async fn findings(fixture: &Fixture) -> Vec<Finding> {
    fixture.queue.doctor(MINUTE).await.expect("the doctor runs")
}

async fn found(fixture: &Fixture) -> Vec<Check> {
    findings(fixture).await.into_iter().map(|finding| finding.check).collect()
}

/// Returns the only finding.
async fn only(fixture: &Fixture, check: Check) -> Finding {
    let mut findings = findings(fixture).await;
    assert_eq!(findings.iter().map(|finding| finding.check).collect::<Vec<_>>(), [check], "{findings:#?}");
    findings.remove(0)
}

/// Runs the SQL of a finding's remedy.
fn remedy(fixture: &Fixture, finding: &Finding) {
    let Remedy::Sql(statements) = &finding.remedy else { panic!("{:?} is not SQL", finding.remedy) };
    for statement in statements {
        fixture.database.execute(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

/// Fills the table with this many ended jobs.
fn fill(fixture: &Fixture, jobs: u32) {
    let fill = format!(
        "insert into pm.job (id, queue_id, priority, codec, payload, state, ended_at)
         select gen_random_uuid(), 1, 0, 0, '1', 2, now() from generate_series(1, {jobs}) n"
    );
    fixture.database.execute(&fill).unwrap();
}

#[tokio::test]
async fn a_fresh_database_and_one_at_work_are_healthy() {
    let fixture = Fixture::new().await;
    assert_eq!(findings(&fixture).await, []);
    fixture.put_many(20).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let job = next(&mut jobs).await;
    assert_eq!(findings(&fixture).await, []);
    job.into_parts().1.commit().await.unwrap();
}

#[tokio::test]
async fn an_open_transaction_is_named_with_its_process_and_application() {
    let fixture = Fixture::new().await;
    let mut config: tokio_postgres::Config = fixture.database.url().parse().unwrap();
    let (client, connection) = config.application_name("late report").connect(NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    client.batch_execute("begin isolation level repeatable read; select 1").await.unwrap();
    assert_eq!(findings(&fixture).await, [], "a transaction may last a minute");
    let findings = fixture.queue.doctor(Duration::ZERO).await.unwrap();
    let finding = findings.iter().find(|finding| finding.check == Check::HeldRows).expect("it is found");
    assert!(finding.what.contains(&format!("process {pid} of application late report")), "{}", finding.what);
    assert!(finding.what.contains("idle in transaction"), "{}", finding.what);
    remedy(&fixture, finding);
    // The server has terminated the connection.
    drop(connection.await);
    let healthy = async || fixture.queue.doctor(Duration::ZERO).await.unwrap().is_empty();
    eventually("the transaction is gone", TIMEOUT, healthy).await;
}

#[tokio::test]
async fn prepared_transactions_and_a_server_without_autovacuum_are_found() {
    let options = ServerOptions::default().setting("max_prepared_transactions", "2").setting("autovacuum", "off");
    let server = Server::start_with(options).unwrap();
    let url = server.create_database("clinic").unwrap();
    let queue = pm_driver_tokio_postgres::connect(&url).await.unwrap();
    server.execute("clinic", "begin; create table t (); prepare transaction 'it''s late'").unwrap();
    let findings = queue.doctor(Duration::ZERO).await.unwrap();
    let checks: Vec<_> = findings.iter().map(|finding| finding.check).collect();
    assert_eq!(checks, [Check::HeldRows, Check::NoAutovacuum]);
    for finding in &findings {
        let Remedy::Sql(statements) = &finding.remedy else { panic!("{finding:?}") };
        statements.iter().for_each(|sql| assert!(server.execute("clinic", sql).is_ok(), "{sql}"));
    }
    let has_held_rows =
        async || queue.doctor(Duration::ZERO).await.unwrap().iter().any(|it| it.check == Check::HeldRows);
    assert!(!has_held_rows().await);
    queue.close().await;
}

#[tokio::test]
async fn dead_rows_are_found_and_vacuumed() {
    let fixture = Fixture::new().await;
    fixture.database.execute("alter table pm.job set (autovacuum_enabled = false)").unwrap();
    fill(&fixture, 12_000);
    fixture.database.execute("update pm.job set description = 'x'").unwrap();
    // Statistics lag behind.
    let is_found = async || found(&fixture).await == [Check::DeadRows, Check::NoAutovacuum];
    eventually("dead rows are found", TIMEOUT, is_found).await;
    findings(&fixture).await.iter().for_each(|finding| remedy(&fixture, finding));
    eventually("they are gone", TIMEOUT, async || findings(&fixture).await.is_empty()).await;
}

#[tokio::test]
async fn each_missing_index_is_found_and_recreated() {
    let fixture = Fixture::new().await;
    let indexes = "select indexname from pg_indexes where schemaname = 'pm' and tablename <> 'migration'";
    let names = fixture.column(indexes);
    assert!(names.len() >= 10, "{names:?}");
    for name in &names {
        let is_constraint = fixture.number(&format!("select count(*) from pg_constraint where conname = '{name}'")) > 0;
        let table = fixture.column(&format!("select tablename from pg_indexes where indexname = '{name}'"))[0].clone();
        let drop = match is_constraint {
            true => format!("alter table pm.{table} drop constraint {name}"),
            false => format!("drop index pm.{name}"),
        };
        fixture.database.execute(&drop).unwrap();
        let finding = only(&fixture, Check::MissingIndex).await;
        assert!(finding.what.contains(&format!("index {name} ")), "{}", finding.what);
        remedy(&fixture, &finding);
        assert_eq!(findings(&fixture).await, [], "{name} is recreated");
    }
    let mut again = fixture.column(indexes);
    again.sort();
    let mut names = names;
    names.sort();
    assert_eq!(again, names);
}

#[tokio::test]
async fn an_index_whose_build_failed_is_invalid() {
    let fixture = Fixture::new().await;
    let definition = fixture.column("select indexdef from pg_indexes where indexname = 'job_key'")[0].clone();
    fixture.database.execute("drop index pm.job_key").unwrap();
    let ids = fixture.put_many(2).await;
    fixture.database.execute("update pm.job set key = 'k', reserved_key = 'k'").unwrap();
    let concurrently = definition.replace("INDEX ", "INDEX CONCURRENTLY ");
    fixture.database.execute(&concurrently).expect_err("two jobs have the same key");
    let finding = only(&fixture, Check::InvalidIndex).await;
    fixture.queue.delete_jobs(&ids[..1]).await.unwrap();
    remedy(&fixture, &finding);
    assert_eq!(findings(&fixture).await, []);
}

#[tokio::test]
async fn frequent_reads_of_the_whole_table_are_found() {
    let fixture = Fixture::new().await;
    fill(&fixture, 10_500);
    let read = "set enable_indexscan = off; set enable_indexonlyscan = off; set enable_bitmapscan = off; ".to_owned()
        + &"select count(payload) from pm.job; ".repeat(25);
    fixture.database.execute(&read).unwrap();
    eventually("scans are found", TIMEOUT, async || found(&fixture).await == [Check::Scans]).await;
    let finding = only(&fixture, Check::Scans).await;
    assert!(finding.what.contains("table job was read from end to end "), "{}", finding.what);
    remedy(&fixture, &finding);
    eventually("the count is reset", TIMEOUT, async || findings(&fixture).await.is_empty()).await;
}

#[tokio::test]
async fn leases_that_are_not_reaped_are_found() {
    let fixture = Fixture::new().await;
    fixture.put_many(3).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    for _ in 0..2 {
        // Simulates that their worker died.
        std::mem::forget(next(&mut jobs).await);
    }
    let expire = |ago: &str| {
        let sql = format!("update pm.job set lease_expires_at = now() - interval '{ago}' where state = 1");
        fixture.database.execute(&sql).unwrap();
    };
    expire("50 s");
    assert_eq!(findings(&fixture).await, [], "a reaper may still come");
    expire("70 s");
    let finding = only(&fixture, Check::StaleLeases).await;
    assert_eq!(finding.remedy, Remedy::Reap);
    assert!(finding.what.contains("of queue \"tasks\" ran out up to 1m 10s ago"), "{}", finding.what);
    fixture.queue.reap().await.unwrap();
    assert_eq!(findings(&fixture).await, []);
}

#[tokio::test]
async fn a_queue_without_workers_is_found() {
    let fixture = Fixture::new().await;
    fixture.put_with(1, EnqueueOptions::default().priority(3)).await;
    assert_eq!(findings(&fixture).await, [], "it was enqueued just now");
    fixture.database.execute("update pm.job set created_at = now() - interval '2 h'").unwrap();
    let finding = only(&fixture, Check::UnservedQueue).await;
    assert_eq!(finding.remedy, Remedy::Work("tasks".to_owned()));
    fixture.queue.pause_queue("tasks").await.unwrap();
    assert_eq!(findings(&fixture).await, [], "the pause is deliberate");
    fixture.queue.resume_queue("tasks").await.unwrap();
    only(&fixture, Check::UnservedQueue).await;
    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", unattended());
    let job = next(&mut jobs).await;
    assert_eq!(findings(&fixture).await, []);
    drop(job);
}

/// A runtime on a machine whose clock is wrong.
struct Late(runtime::Tokio);

impl Runtime for Late {
    fn spawn(&self, task: pm_driver_tokio_postgres::driver::BoxFuture<'static, ()>) {
        self.0.spawn(task);
    }

    fn sleep(&self, duration: Duration) -> pm_driver_tokio_postgres::driver::BoxFuture<'static, ()> {
        self.0.sleep(duration)
    }

    fn unix_ms(&self) -> u64 {
        self.0.unix_ms() - 600_000
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_found() {
    let fixture = Fixture::new().await;
    let options = ConnectOptions::default();
    let driver = Arc::new(TokioPostgres::new(&fixture.database.url(), &options).unwrap());
    let late = Queue::open(driver, Arc::new(Late(runtime::Tokio::current())), &options).await.unwrap();
    let findings = late.doctor(MINUTE).await.unwrap();
    assert_eq!(findings.iter().map(|finding| finding.check).collect::<Vec<_>>(), [Check::ClockOffset]);
    assert!(["10m 0s", "9m 59s"].iter().any(|off| findings[0].what.ends_with(off)), "{}", findings[0].what);
}

#[tokio::test]
async fn a_queue_left_half_deleted_is_found() {
    let fixture = Fixture::new().await;
    fixture.put(1).await;
    fixture.database.execute("update pm.queue set name = null").unwrap();
    let finding = only(&fixture, Check::DeletedQueue).await;
    assert_eq!(finding.remedy, Remedy::Prune);
    assert_eq!(fixture.queue.prune().await.unwrap(), 1);
    assert_eq!(findings(&fixture).await, []);
}

#[tokio::test]
async fn a_table_that_is_not_frozen_in_time_is_found() {
    let fixture = Fixture::new().await;
    fixture.database.execute("alter table pm.payload set (autovacuum_freeze_max_age = 100000)").unwrap();
    // Each block that locks a row and fails uses up a transaction number.
    let burn = "do $$ begin
        for n in 1..200100 loop
          begin perform 1 from pm.queue for no key update; raise exception 'no'; exception when raise_exception then end;
        end loop;
      end $$";
    fixture.database.execute(burn).unwrap();
    let finding = only(&fixture, Check::Wraparound).await;
    assert!(finding.what.starts_with("table payload was last frozen "), "{}", finding.what);
    remedy(&fixture, &finding);
    assert_eq!(findings(&fixture).await, []);
}

#[tokio::test]
async fn rows_left_behind_by_deleted_jobs_are_found_with_their_cause() {
    let fixture = Fixture::new().await;
    let id = fixture.put_with(1, EnqueueOptions::default().max_retries(0)).await;
    fixture.queue.fail_jobs(&[id], "no").await.unwrap();
    fixture
        .database
        .execute("insert into pm.attempt (job_id, attempt, ended_at, verdict) select id, 1, now(), 2 from pm.job")
        .unwrap();
    assert_eq!(findings(&fixture).await, []);
    for off in ["alter table pm.job disable trigger delete_with_job", "drop trigger delete_with_job on pm.job"] {
        fixture.database.execute(off).unwrap();
        remedy(&fixture, &only(&fixture, Check::MissingTrigger).await);
        assert_eq!(findings(&fixture).await, []);
    }
    fixture.database.execute("set session_replication_role = replica; delete from pm.job").unwrap();
    let finding = only(&fixture, Check::Orphans).await;
    assert!(finding.what.starts_with("1 of the newest rows of table attempt"), "{finding:?}");
    remedy(&fixture, &finding);
    assert_eq!(findings(&fixture).await, []);
    assert_eq!(fixture.number("select count(*) from pm.attempt"), 0);
}

#[tokio::test]
async fn a_search_path_that_puts_a_schema_before_the_servers_own_is_found_wherever_it_is_set() {
    let fixture = Fixture::new().await;
    let database = fixture.database.name();
    let role = format!("{database}_odd \"role\"");
    let quoted = role.replace('"', "\"\"");
    fixture.database.execute(&format!("create role \"{quoted}\"")).unwrap();
    let settings = [
        (format!("alter role \"{quoted}\" in database \"{database}\""), format!("role {role:?} in database")),
        (format!("alter role \"{quoted}\""), format!("role {role:?} start")),
        (format!("alter database \"{database}\""), format!("database {database:?}")),
    ];
    for (alter, whose) in &settings {
        for fine in ["public", "pg_catalog, public", "\"$user\", public"] {
            fixture.database.execute(&format!("{alter} set search_path = {fine}")).unwrap();
            assert_eq!(findings(&fixture).await, [], "{fine}");
        }
        fixture.database.execute(&format!("{alter} set search_path = \"$user\", public, pg_catalog")).unwrap();
        let finding = only(&fixture, Check::SearchPath).await;
        assert!(finding.what.contains(whose.as_str()), "{finding:?}");
        remedy(&fixture, &finding);
        assert_eq!(findings(&fixture).await, []);
    }
    fixture.database.execute(&format!("drop owned by \"{quoted}\"; drop role \"{quoted}\"")).unwrap();
}
