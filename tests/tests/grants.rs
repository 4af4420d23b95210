//! What `pm db grants` prints is enough for each kind of role, and nothing in it is unnecessary.

use futures_util::StreamExt;
use pm_core::grants::{Grant, RoleKind, grant_script};
use pm_core::{Catalog, SchemaName, StatementId};
use pm_driver_tokio_postgres::{
    Advice, ConnectOptions, EnqueueOptions, Error, ErrorKind, InTransaction, JobFilter, OnConflict, Queue,
    StreamOptions,
};
use pm_tests::{Fixture, next, type_name, within};
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

const KINDS: [RoleKind; 4] = [RoleKind::Reader, RoleKind::Enqueuer, RoleKind::Worker, RoleKind::Operator];

/// A role for one test, dropped with its privileges.
struct Role<'a> {
    fixture: &'a Fixture,
    name: String,
}

impl<'a> Role<'a> {
    /// Returns a new role with the privileges of a kind.
    fn of(fixture: &'a Fixture, kind: RoleKind) -> Role<'a> {
        let role = Role::without(fixture, kind.name());
        // As in hardened databases.
        role.sql("revoke execute on all functions in schema pm from public");
        role.sql(&grant_script(kind, &role.name, &SchemaName::default(), None));
        role
    }

    /// Returns a new role with no privileges.
    fn without(fixture: &'a Fixture, name: &str) -> Role<'a> {
        let name = format!("{} \"{name}\"", fixture.database.name());
        let role = Role { fixture, name };
        role.sql(&format!("create role {} login", role.quoted()));
        role
    }

    fn quoted(&self) -> String {
        format!("\"{}\"", self.name.replace('"', "\"\""))
    }

    fn sql(&self, sql: &str) {
        self.fixture.database.execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// Revokes a privilege, or grants it again.
    fn change(&self, verb: &str, grant: &Grant) {
        let column = grant.column.map(|column| format!(" ({column})")).unwrap_or_default();
        let object = match grant.object {
            None => "schema pm".to_owned(),
            Some(name) if grant.is_function() => format!("function pm.{name}"),
            Some(name) => format!("{} pm.{name}", if grant.is_sequence { "sequence" } else { "table" }),
        };
        let to = if verb == "grant" { "to" } else { "from" };
        self.sql(&format!("{verb} {}{column} on {object} {to} {}", grant.privilege, self.quoted()));
    }

    /// Returns the URL with which this role connects.
    fn url(&self) -> String {
        let encoded: String = self.name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let url = self.fixture.database.url();
        let (before, after) = url.split_once("://").expect("the URL is valid");
        let host = after.split_once('@').map_or(after, |(_, host)| host);
        format!("{before}://{encoded}@{host}")
    }

    async fn connect(&self, driver: Driver) -> Result<Queue, Error> {
        let options = ConnectOptions::default().migrate(false);
        match driver {
            Driver::TokioPostgres => pm_driver_tokio_postgres::connect_with(&self.url(), options).await,
            Driver::Sqlx => pm_driver_sqlx::connect_with(&self.url(), options).await,
        }
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        let role = self.quoted();
        self.fixture.database.execute(&format!("drop owned by {role}; drop role {role}")).expect("it owns nothing");
    }
}

#[derive(Debug, Clone, Copy)]
enum Driver {
    TokioPostgres,
    Sqlx,
}

/// A session of a role, for statements that are planned but not run: planning checks privileges too.
struct Session(Client);

impl Session {
    async fn of(role: &Role<'_>) -> Session {
        let (client, connection) = tokio_postgres::connect(&role.fixture.database.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&format!("set role {}", role.quoted())).await.unwrap();
        Session(client)
    }

    /// Returns whether the role may run a statement.
    async fn may(&self, catalog: &Catalog, id: StatementId) -> bool {
        let statement = catalog.statement(id);
        let types: Vec<_> = statement.params.iter().map(|ty| type_name(*ty)).collect();
        let (types, nulls) = match types.len() {
            0 => (String::new(), String::new()),
            count => (format!("({})", types.join(", ")), format!("({})", vec!["null"; count].join(", "))),
        };
        let sql = format!("prepare it {types} as {}; explain execute it {nulls}; deallocate it", statement.text);
        match self.0.batch_execute(&sql).await {
            Ok(()) => true,
            Err(error) if error.code().is_some_and(|code| code.code() == "42501") => {
                self.0.batch_execute("deallocate all").await.unwrap();
                false
            }
            Err(error) => panic!("{id:?}: {error}: {:?}", error.as_db_error()),
        }
    }

    /// Returns whether the role may delete jobs: `explain` does not cover the deletion's trigger.
    async fn may_delete(&self) -> bool {
        self.0.batch_execute("delete from pm.job where false").await.is_ok()
    }
}

/// Each kind may run its statements; without any one of its privileges it may not run all of them. Privileges on
/// sequences are only checked when a statement runs; the tests below cover them.
#[tokio::test]
async fn the_grants_of_each_kind_are_enough_and_none_is_too_much() {
    let fixture = Fixture::new().await;
    let catalog = Catalog::new(&SchemaName::default());
    let mut wrong = Vec::new();
    for kind in KINDS {
        let role = Role::of(&fixture, kind);
        let session = Session::of(&role).await;
        let statements: Vec<_> = StatementId::ALL.into_iter().filter(|id| kind.runs(*id)).collect();
        for id in &statements {
            if !session.may(&catalog, *id).await {
                wrong.push(format!("{} may not run {id:?}", kind.article()));
            }
        }
        for grant in kind.grants().iter().filter(|grant| !grant.is_sequence) {
            role.change("revoke", grant);
            let mut refused = kind.runs(StatementId::DeleteJobs) && !session.may_delete().await;
            for id in &statements {
                refused |= !session.may(&catalog, *id).await;
            }
            if !refused {
                wrong.push(format!("{} does not need {grant}", kind.article()));
            }
            role.change("grant", grant);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The grants of a worker are enough for everything a worker does.
#[tokio::test]
async fn a_worker_works_with_its_grants() {
    for driver in [Driver::TokioPostgres, Driver::Sqlx] {
        let fixture = Fixture::new().await;
        let role = Role::of(&fixture, RoleKind::Worker);
        let queue = role.connect(driver).await.unwrap();
        let options = EnqueueOptions::default().backoff(vec![Duration::ZERO]);
        for n in 0..4u64 {
            queue.enqueue("tasks", n, options.clone()).await.unwrap();
        }
        let mut jobs = queue.try_stream_jobs_with::<u64>("tasks", StreamOptions::default());
        next(&mut jobs).await.into_parts().1.commit().await.unwrap();
        next(&mut jobs).await.into_parts().1.soft_fail("later").await.unwrap();
        next(&mut jobs).await.into_parts().1.hard_fail("never").await.unwrap();
        let (_, mut ack) = next(&mut jobs).await.into_parts();
        ack.refresh_lock().await.unwrap();
        ack.release().await.unwrap();
        next(&mut jobs).await.into_parts().1.commit().await.unwrap();
        queue.reap().await.unwrap();
        queue.promote().await.unwrap();
        queue.fire_schedules().await.unwrap();
        assert_eq!(queue.doctor(Duration::from_secs(300)).await.unwrap(), []);
        queue.close().await;
    }
}

/// The grants of an enqueuer are enough for every kind of enqueue, and for nothing else.
#[tokio::test]
async fn an_enqueuer_enqueues_with_its_grants() {
    for driver in [Driver::TokioPostgres, Driver::Sqlx] {
        let fixture = Fixture::new().await;
        let role = Role::of(&fixture, RoleKind::Enqueuer);
        let queue = role.connect(driver).await.unwrap();
        let keyed = |on_conflict| EnqueueOptions::default().key("k").on_conflict(on_conflict);
        let id = queue.enqueue("tasks", 1u64, keyed(OnConflict::Keep)).await.unwrap();
        assert_eq!(queue.enqueue("tasks", 2u64, keyed(OnConflict::Keep)).await.unwrap(), id);
        assert_eq!(queue.enqueue("tasks", 3u64, keyed(OnConflict::Replace)).await.unwrap(), id);
        queue.enqueue("tasks", 4u64, keyed(OnConflict::Refuse)).await.unwrap_err();
        let refused = queue.delete_jobs(&[id]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Forbidden, "{refused}");
        queue.close().await;
    }
}

/// The grants of a reader are enough to read everything and to change nothing.
#[tokio::test]
async fn a_reader_reads_with_its_grants() {
    for driver in [Driver::TokioPostgres, Driver::Sqlx] {
        let fixture = Fixture::new().await;
        let id = fixture.put(7).await;
        let role = Role::of(&fixture, RoleKind::Reader);
        let queue = role.connect(driver).await.unwrap();
        assert_eq!(queue.list_queues().await.unwrap().len(), 1);
        assert_eq!(queue.list_jobs(JobFilter::default()).await.unwrap().len(), 1);
        assert_eq!(queue.job(id).await.unwrap().id, id);
        queue.stats().await.unwrap();
        queue.list_schedules().await.unwrap();
        assert_eq!(queue.doctor(Duration::from_secs(300)).await.unwrap(), []);
        let refused = queue.enqueue("tasks", 1u64, EnqueueOptions::default()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Forbidden, "{refused}");
        queue.close().await;
    }
}

/// Without usage of the sequence, a ready job cannot be enqueued.
#[tokio::test]
async fn drawing_positions_needs_the_sequence() {
    let fixture = Fixture::new().await;
    for kind in [RoleKind::Enqueuer, RoleKind::Worker, RoleKind::Operator] {
        let role = Role::of(&fixture, kind);
        let queue = role.connect(Driver::TokioPostgres).await.unwrap();
        for grant in kind.grants().iter().filter(|grant| grant.object == Some("job_seq")) {
            role.change("revoke", grant);
        }
        let refused = queue.enqueue("tasks", 1u64, EnqueueOptions::default()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Forbidden, "{refused}");
        assert!(refused.to_string().contains("usage on sequence job_seq"), "{refused}");
        queue.close().await;
    }
}

/// A missing privilege is reported by the call that needs it: the error names privilege, table, role and remedy.
#[tokio::test]
async fn a_missing_privilege_is_named_with_its_remedy() {
    for driver in [Driver::TokioPostgres, Driver::Sqlx] {
        let fixture = Fixture::new().await;
        let role = Role::of(&fixture, RoleKind::Worker);
        role.sql(&format!("revoke insert on pm.attempt from {}", role.quoted()));
        let queue = role.connect(driver).await.unwrap();
        queue.enqueue("tasks", 1u64, EnqueueOptions::default()).await.unwrap();
        let mut jobs = queue.try_stream_jobs::<u64>("tasks");
        let refused = next(&mut jobs).await.into_parts().1.hard_fail("never").await.unwrap_err();
        let message = refused.to_string();
        assert_eq!(refused.kind(), ErrorKind::Forbidden, "{message}");
        for part in ["insert on table attempt", &format!("{:?}", role.name), "the privileges of a worker"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        let advice = Advice::Grant { role: role.name.clone(), kind: RoleKind::Worker };
        assert_eq!(refused.advice(), Some(&advice), "{message}");
        let findings = queue.doctor(Duration::from_secs(300)).await.unwrap();
        let found = findings.iter().find(|finding| finding.check.name() == "missing_grant").expect("it is found");
        assert!(found.what.contains("insert on table attempt"), "{}", found.what);
        drop(jobs);
    }
}

/// A worker without the privilege to claim reports that instead of idling.
#[tokio::test]
async fn a_stream_without_the_privilege_to_claim_reports_it() {
    let fixture = Fixture::new().await;
    let role = Role::of(&fixture, RoleKind::Worker);
    role.sql(&format!("revoke update on pm.job from {}", role.quoted()));
    fixture.put(1).await;
    let queue = role.connect(Driver::TokioPostgres).await.unwrap();
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    let refused = within("the error", jobs.next()).await.unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Forbidden, "{refused}");
    drop(jobs);
}

/// Missing access is reported when connecting; a role that may not read the schema is not advised to migrate.
#[tokio::test]
async fn a_role_without_access_is_refused_when_connecting() {
    for driver in [Driver::TokioPostgres, Driver::Sqlx] {
        let fixture = Fixture::new().await;
        let role = Role::without(&fixture, "stranger");
        for grant in [None, Some("grant usage on schema pm to")] {
            if let Some(grant) = grant {
                role.sql(&format!("{grant} {}", role.quoted()));
            }
            let refused = role.connect(driver).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Forbidden, "{refused}");
            let message = refused.to_string();
            assert!(message.contains("select on table migration"), "{message}");
            assert!(matches!(refused.advice(), Some(Advice::Grant { .. })), "{message}");
            assert!(!message.contains("migrate"), "{message}");
        }
    }
}

/// Row-level security on any table is reported when connecting: hidden rows cause no error later.
#[tokio::test]
async fn row_level_security_is_named_when_connecting() {
    for driver in [Driver::TokioPostgres, Driver::Sqlx] {
        let fixture = Fixture::new().await;
        let role = Role::of(&fixture, RoleKind::Worker);
        for table in ["queue", "job", "claim_frontier", "attempt", "payload", "schedule", "migration"] {
            role.sql(&format!("alter table pm.{table} enable row level security"));
            let refused = role.connect(driver).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Forbidden, "{refused}");
            let message = refused.to_string();
            assert!(message.contains(&format!("table {table}")) && message.contains("row-level security"), "{message}");
            let findings = fixture.queue.doctor(Duration::from_secs(300)).await.unwrap();
            let found = findings.iter().find(|finding| finding.check.name() == "row_security").expect("it is found");
            let [sql] = found.remedy.sql() else { panic!("{found:?}") };
            fixture.database.execute(sql).unwrap();
            assert_eq!(fixture.queue.doctor(Duration::from_secs(300)).await.unwrap(), []);
        }
        role.connect(driver).await.unwrap().close().await;
    }
}

/// The grants of a migrator are enough to create the tables; it needs no privilege on the database.
#[tokio::test]
async fn a_migrator_migrates_with_its_grants() {
    let fixture = Fixture::new().await;
    let schema = SchemaName::new("my jobs").unwrap();
    let role = Role::without(&fixture, "migrator");
    role.sql(&grant_script(RoleKind::Migrator, &role.name, &schema, None));
    let options = ConnectOptions::default().schema("my jobs");
    let queue = pm_driver_tokio_postgres::connect_with(&role.url(), options).await.unwrap();
    assert!(queue.create_queue("tasks", false).await.unwrap());
    queue.close().await;
}

/// Default privileges cover the tables of later migrations.
#[tokio::test]
async fn later_tables_of_the_migrator_are_granted_too() {
    let fixture = Fixture::new().await;
    let migrator = Role::without(&fixture, "migrator");
    migrator.sql(&grant_script(RoleKind::Migrator, &migrator.name, &SchemaName::default(), None));
    let reader = Role::without(&fixture, "reader");
    reader.sql(&grant_script(RoleKind::Reader, &reader.name, &SchemaName::default(), Some(&migrator.name)));
    let client = Session::of(&migrator).await.0;
    client.batch_execute("create table pm.later (id int4)").await.unwrap();
    let session = Session::of(&reader).await;
    session.0.batch_execute("select id from pm.later").await.unwrap();
    drop((reader, migrator));
}

#[tokio::test]
async fn a_refused_call_in_a_transaction_needs_more_privileges_only_to_remove_its_jobs() {
    let fixture = Fixture::new().await;
    fixture.put_with(0, EnqueueOptions::default().key("once")).await;
    let refuse = || EnqueueOptions::default().key("once").on_conflict(OnConflict::Refuse);
    for kind in [RoleKind::Enqueuer, RoleKind::Worker] {
        let role = Role::of(&fixture, kind);
        let queue = role.connect(Driver::TokioPostgres).await.unwrap();
        let (mut client, connection) = tokio_postgres::connect(&role.url(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let transaction = client.transaction().await.unwrap();
        let inside = InTransaction(&transaction);
        let refused = queue.enqueue_in(&inside, "tasks", 1u64, refuse()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::KeyConflict, "{kind:?}: {refused}");
        let nowhere = queue.enqueue_in(&inside, "nowhere", 1u64, EnqueueOptions::default()).await.unwrap_err();
        assert_eq!(nowhere.kind(), ErrorKind::QueueNotFound, "{kind:?}: {nowhere}");
        transaction.batch_execute("select 1").await.expect("the transaction is usable");
        let call = [(1u64, EnqueueOptions::default()), (2, refuse())];
        let forbidden = queue.enqueue_many_in(&inside, "tasks", call).await.unwrap_err();
        assert_eq!(forbidden.kind(), ErrorKind::Forbidden, "{kind:?}: {forbidden}");
        assert!(forbidden.to_string().contains("roll the transaction back"), "{forbidden}");
        transaction.rollback().await.unwrap();
        queue.close().await;
        assert_eq!(fixture.number("select count(*) from pm.job"), 1);
    }
}
