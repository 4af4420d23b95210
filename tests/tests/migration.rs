//! The schema is created once, whatever else is in the database.

use pm_driver_tokio_postgres::{
    Advice, ConnectOptions, EnqueueOptions, ErrorKind, SCHEMA_VERSION, connect, connect_with,
};
use pm_sandbox::TestDatabase;
use pm_tests::{Direct, Fixture, next, within};
use std::process::{Command, Stdio};

const TABLES: &str = "select relname from pg_class join pg_namespace n on n.oid = relnamespace
    where nspname = 'pm' and relkind = 'r' order by 1";

fn empty() -> TestDatabase {
    TestDatabase::create().expect("a private Postgres starts")
}

fn column(database: &TestDatabase, sql: &str) -> Vec<String> {
    let rows = database.execute(sql).expect("the statement is valid");
    rows.into_iter().map(|row| row.into_iter().next().flatten().unwrap_or_default()).collect()
}

#[test]
fn eight_processes_migrating_an_empty_database_at_once_all_succeed() {
    for _ in 0..3 {
        let database = empty();
        let processes: Vec<_> = (0..8)
            .map(|n| {
                let mut command = Command::new(env!("CARGO_BIN_EXE_connect"));
                command.args([database.url(), format!("queue {n}")]).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for process in processes {
            let output = process.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let versions = column(&database, "select version from pm.migration order by 1");
        assert_eq!(versions, (1..=SCHEMA_VERSION).map(|version| version.to_string()).collect::<Vec<_>>());
        let tables = column(&database, TABLES);
        for table in ["attempt", "claim_frontier", "job", "migration", "payload", "queue"] {
            assert!(tables.iter().any(|name| name == table), "{table} is missing in {tables:?}");
        }
        assert_eq!(column(&database, "select count(*) from pm.queue"), ["8"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_handles_migrating_at_once_all_succeed() {
    let database = empty();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let url = database.url();
            tokio::spawn(async move { connect(&url).await })
        })
        .collect();
    for task in tasks {
        let queue = within("the migration", task).await.unwrap().unwrap();
        assert_eq!(queue.schema_version().await.unwrap(), SCHEMA_VERSION);
    }
}

#[tokio::test]
async fn migrating_twice_changes_nothing() {
    let fixture = Fixture::new().await;
    let applied = fixture.column("select applied_at from pm.migration order by 1");
    fixture.queue.migrate().await.unwrap();
    assert_eq!(fixture.column("select applied_at from pm.migration order by 1"), applied);
    assert_eq!(fixture.number("select count(*) from pm.queue"), 1);
}

/// Returns the URL of the same database for a new role that may only log in.
fn url_of_new_role(database: &TestDatabase, role: &str) -> String {
    database.execute(&format!("drop role if exists {role}; create role {role} login")).expect("we are superuser");
    database.url().replacen("postgres@", &format!("{role}@"), 1)
}

#[tokio::test]
async fn a_role_that_may_not_create_works_once_the_schema_is_migrated() {
    let database = empty();
    let role = format!("{}_worker", database.name());
    let url = url_of_new_role(&database, &role);
    let error = connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden, "{error}");
    assert!(error.to_string().contains("permission denied"), "{error}");

    connect(&database.url()).await.unwrap().close().await;
    let grants = format!(
        "grant usage on schema pm to {role}; grant usage on all sequences in schema pm to {role};
         grant select, insert, update, delete on all tables in schema pm to {role}"
    );
    database.execute(&grants).unwrap();
    let queue = connect(&url).await.unwrap();
    queue.create_queue("tasks", false).await.unwrap();
    queue.enqueue("tasks", 1, EnqueueOptions::default()).await.unwrap();
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    next(&mut jobs).await.into_parts().1.commit().await.unwrap();
    assert_eq!(queue.pause_queue("tasks").await.unwrap(), 0);
    assert_eq!(queue.reap().await.unwrap(), pm_driver_tokio_postgres::Reaped::default());
    assert_eq!(queue.list_queues().await.unwrap().len(), 1);
    queue.close().await;
    database.execute(&format!("drop owned by {role}; drop role {role}")).unwrap();
}

#[tokio::test]
async fn a_migration_that_was_refused_can_be_tried_again_on_the_same_handle() {
    let database = empty();
    let role = format!("{}_late", database.name());
    let url = url_of_new_role(&database, &role);
    let options = ConnectOptions::default().check_schema(false).connections(1);
    let queue = connect_with(&url, options).await.unwrap();
    assert_eq!(queue.migrate().await.unwrap_err().kind(), ErrorKind::Forbidden);
    assert_eq!(queue.schema_version().await.unwrap(), 0, "the connection still works");
    database.execute(&format!("grant create on database {} to {role}", database.name())).unwrap();
    queue.migrate().await.unwrap();
    assert_eq!(queue.schema_version().await.unwrap(), SCHEMA_VERSION);
    queue.close().await;
    database.execute(&format!("drop owned by {role}; drop role {role}")).unwrap();
}

#[tokio::test]
async fn a_missing_schema_is_reported_with_a_hint_when_it_must_not_be_created() {
    let database = empty();
    let error = connect_with(&database.url(), ConnectOptions::default().migrate(false)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema);
    assert_eq!(error.advice(), Some(&Advice::Migrate));
    let message = error.to_string();
    assert!(message.contains("\"pm\"") && message.contains("Queue::migrate"), "{message}");
    assert!(column(&database, TABLES).is_empty(), "no table was created");

    let queue = connect_with(&database.url(), ConnectOptions::default().check_schema(false)).await.unwrap();
    let error = queue.enqueue("tasks", 1, EnqueueOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
    assert_eq!(error.advice(), Some(&Advice::Migrate), "{error}");
    assert!(error.to_string().contains("Queue::migrate"), "{error}");
    assert_eq!(queue.list_queues().await.unwrap_err().kind(), ErrorKind::Schema);
}

#[tokio::test]
async fn a_stream_without_a_schema_reports_it_once_and_ends() {
    use futures_util::StreamExt;
    let database = empty();
    let queue = connect_with(&database.url(), ConnectOptions::default().check_schema(false)).await.unwrap();
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    let error = within("the error", jobs.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema, "{error}");
    assert!(within("the end", jobs.next()).await.is_none());
}

#[tokio::test]
async fn a_schema_made_by_another_text_of_the_migrations_is_refused_with_the_remedy() {
    for change in [
        "update pm.migration set fingerprint = '0123456789abcdef' where version = 1",
        "update pm.migration set fingerprint = null where version = 2",
        "alter table pm.migration drop column fingerprint",
        "update pm.migration set fingerprint = 'other'; delete from pm.migration where version > 1",
    ] {
        let fixture = Fixture::without_queue().await;
        fixture.database.execute(change).unwrap();
        let url = fixture.database.url();
        let sqlx = pm_driver_sqlx::connect(&url).await;
        let without_migrating = connect_with(&url, ConnectOptions::default().migrate(false)).await;
        let migrated = fixture.queue.migrate().await;
        let version = fixture.queue.schema_version().await.map(drop);
        for answer in [connect(&url).await, sqlx, without_migrating].map(|answer| answer.map(drop)) {
            assert_names_the_remedy(&answer.unwrap_err(), change);
        }
        assert_names_the_remedy(&migrated.unwrap_err(), change);
        assert_names_the_remedy(&version.unwrap_err(), change);
        let script = pm_core::migration_script(&pm_core::SchemaName::default());
        let refused = fixture.database.execute(&script).unwrap_err().to_string();
        assert!(refused.contains("another development version"), "{change}: {refused}");

        fixture.database.execute("rollback; alter schema pm rename to \"pm old\"").unwrap();
        connect(&url).await.unwrap().close().await;
    }
}

#[track_caller]
fn assert_names_the_remedy(error: &pm_driver_tokio_postgres::Error, change: &str) {
    assert_eq!(error.kind(), ErrorKind::Schema, "{change}: {error}");
    assert_eq!(error.advice(), Some(&Advice::Migrate), "{change}: {error}");
    let message = error.to_string();
    for part in ["rename to", "drop it", "Queue::migrate", "\"pm\""] {
        assert!(message.contains(part), "{change}: {part} is not in: {message}");
    }
}

#[tokio::test]
async fn the_owner_of_the_schema_can_install_and_upgrade() {
    let database = empty();
    let role = format!("{}_owner", database.name());
    let url = url_of_new_role(&database, &role);
    database.execute(&format!("create schema pm authorization {role}")).unwrap();
    let mut owner = Direct::to(&url).await;
    let first = &pm_core::MIGRATIONS[0];
    let version_one = format!(
        "create table pm.migration (version int4 primary key, name text not null,
                                    applied_at timestamptz default now(), fingerprint text);
         {}; insert into pm.migration (version, name, fingerprint) values (1, 'initial', '{}')",
        first.sql(&pm_core::SchemaName::default()),
        first.fingerprint()
    );
    for upgrades in [false, true] {
        if upgrades {
            owner.client.batch_execute(&version_one).await.unwrap();
        }
        let queue = connect(&url).await.unwrap();
        assert_eq!(queue.schema_version().await.unwrap(), SCHEMA_VERSION, "upgrades: {upgrades}");
        queue.create_queue("tasks", false).await.unwrap();
        queue.close().await;
        let transaction = owner.client.transaction().await.unwrap();
        let tables = "select string_agg(format('drop table pm.%I', relname), ';') || '; drop sequence pm.job_seq; ' ||
                        (select string_agg('drop function ' || oid::regprocedure, ';') from pg_proc
                         where pronamespace = 'pm'::regnamespace)
                      from pg_class where relnamespace = 'pm'::regnamespace and relkind = 'r'";
        let drops: String = transaction.query_one(tables, &[]).await.unwrap().get(0);
        transaction.batch_execute(&drops).await.unwrap();
        transaction.commit().await.unwrap();
    }
    drop(owner);
    database.execute(&format!("drop owned by {role}; drop role {role}")).unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_reported_with_both_versions() {
    let fixture = Fixture::without_queue().await;
    let newer = SCHEMA_VERSION + 41;
    fixture.database.execute(&format!("insert into pm.migration (version, name) values ({newer}, 'future')")).unwrap();
    let error = connect(&fixture.database.url()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema);
    let message = error.to_string();
    for part in [newer.to_string(), SCHEMA_VERSION.to_string(), "upgrade".to_owned()] {
        assert!(message.contains(&part), "{part} is not in: {message}");
    }
    assert_eq!(fixture.queue.migrate().await.unwrap_err().kind(), ErrorKind::Schema, "it is not migrated down either");
}

#[tokio::test]
async fn two_schemas_in_one_database_are_independent() {
    let fixture = Fixture::new().await;
    let other = fixture.another(ConnectOptions::default().schema("other jobs")).await;
    assert!(other.create_queue("tasks", false).await.unwrap(), "only the first has a queue of that name");
    let mine = fixture.put(1).await;
    let theirs = other.enqueue("tasks", 2, EnqueueOptions::default()).await.unwrap();
    assert_eq!(other.get_job(mine).await.unwrap(), None);
    assert_eq!(fixture.queue.get_job(theirs).await.unwrap(), None);

    let mut jobs = other.try_stream_jobs::<u64>("tasks");
    let (payload, ack) = next(&mut jobs).await.into_parts();
    assert_eq!((payload, ack.id()), (2, theirs));
    ack.commit().await.unwrap();
    assert_eq!(fixture.number("select count(*) from pm.job where state = 0"), 1);
    assert_eq!(fixture.number("select count(*) from \"other jobs\".job where state = 2"), 1);
}

#[tokio::test]
async fn an_invalid_schema_name_is_refused() {
    let database = empty();
    for name in ["", "a\"b", "pg_jobs", "a\0b"] {
        let error = connect_with(&database.url(), ConnectOptions::default().schema(name)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name:?}: {error}");
    }
}

#[tokio::test]
async fn tables_of_other_applications_are_left_alone() {
    let database = empty();
    database
        .execute(
            "create table public.job (id int primary key, what text); insert into public.job values (1, 'theirs');
             create table public.queue (name text); create type public.state as enum ('a');
             create table public.migration (version text); insert into public.migration values ('20250101')",
        )
        .unwrap();
    let queue = connect(&database.url()).await.unwrap();
    queue.create_queue("tasks", false).await.unwrap();
    queue.enqueue("tasks", 1, EnqueueOptions::default()).await.unwrap();
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    next(&mut jobs).await.into_parts().1.commit().await.unwrap();
    assert_eq!(column(&database, "select what from public.job"), ["theirs"]);
    assert_eq!(column(&database, "select count(*) from public.queue"), ["0"]);
    assert_eq!(column(&database, "select version from public.migration"), ["20250101"]);
    assert_eq!(column(&database, "select count(*) from pm.job"), ["1"]);
}
