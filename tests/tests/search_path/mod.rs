//! pm's statements never run what another role puts into a schema of the search path, no matter who opened the session.

use pm_core::{Catalog, SchemaName, Statement, StatementId, Type, migration_script};
use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, Error, ErrorKind, OnConflict, Queue};
use pm_sandbox::TestDatabase;
use pm_tests::{Direct, next, type_name};
use std::collections::BTreeSet;

const HOSTILE: &str = include_str!("hostile.sql");

/// Returns the texts of all statements and of the migrations.
fn texts() -> Vec<String> {
    let schema = SchemaName::default();
    let catalog = Catalog::new(&schema);
    let statements = StatementId::ALL.iter().map(|id| catalog.statement(*id).text.clone());
    statements.chain([migration_script(&schema)]).collect()
}

/// Makes the schema `public` hostile, for every operator and function whose name is in the texts.
async fn make_hostile(direct: &Direct) {
    let texts = texts().concat();
    let mut names = Vec::new();
    for table in ["select distinct oprname from pg_operator where oprleft <> 0", "select distinct proname from pg_proc"]
    {
        let rows = direct.client.simple_query(table).await.unwrap();
        let row = |message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        names.push(rows.into_iter().filter_map(row).collect::<Vec<String>>());
    }
    let array = |names: Vec<String>| format!("array['{}']", names.join("', '"));
    let functions = names.pop().unwrap();
    let functions = functions.into_iter().filter(|name| texts.contains(&format!("{name}("))).collect();
    let operators = names.pop().unwrap();
    let operators = operators.into_iter().filter(|name| texts.contains(&format!(" {name} "))).collect();
    let script = HOSTILE.replace("$operators", &array(operators)).replace("$functions", &array(functions));
    direct.client.batch_execute(&script).await.unwrap_or_else(|error| panic!("{error:?}"));
}

/// Returns the objects of the schema `public` on which an object of the catalogue `class` depends.
async fn depends_on_public(direct: &Direct, class: &str, objects: &str) -> BTreeSet<String> {
    let sql = format!(
        "set search_path = pg_catalog;
         select pg_describe_object(refclassid, refobjid, 0) from pg_depend
         where {class} and objid in ({objects}) and (pg_identify_object(refclassid, refobjid, 0)).schema = 'public';
         reset search_path"
    );
    let rows = direct.client.simple_query(&sql).await.unwrap();
    let row = |message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    };
    rows.into_iter().filter_map(row).collect()
}

/// Returns what of `public` a statement would run: the server parses it as the body of a function, and records the
/// function's dependencies.
async fn traps_of(direct: &Direct, statement: &Statement) -> Result<BTreeSet<String>, tokio_postgres::Error> {
    let types: Vec<_> = statement.params.iter().map(|ty| format!("pg_catalog.{}", type_name(*ty))).collect();
    let function = format!(
        "create or replace function probe.body({}) returns setof record language sql begin atomic {}; end",
        types.join(", "),
        statement.text
    );
    direct.client.batch_execute(&format!("create schema probe; {function}")).await?;
    let body = "select oid from pg_proc where proname = 'body'";
    let found = depends_on_public(direct, "classid = 'pg_proc'::regclass", body).await;
    direct.client.batch_execute("drop schema probe cascade").await?;
    Ok(found)
}

#[tokio::test]
async fn no_statement_runs_what_another_schema_of_the_search_path_holds() {
    let database = TestDatabase::create().unwrap();
    let direct = Direct::to(&database.url()).await;
    make_hostile(&direct).await;
    direct.client.batch_execute(&migration_script(&SchemaName::default())).await.unwrap();
    let ours = "select oid from pg_class union select oid from pg_attrdef union select oid from pg_constraint";
    let ours = format!("{ours} union select oid from pg_proc where pronamespace <> 'public'::regnamespace");
    let ours = format!(
        "select objid from pg_depend where refclassid = 'pg_namespace'::regclass and refobjid = 'pm'::regnamespace
         union select oid from pg_attrdef where adrelid in (select oid from pg_class where relnamespace = 'pm'::regnamespace)
         intersect ({ours})"
    );
    assert_eq!(depends_on_public(&direct, "true", &ours).await, BTreeSet::new(), "the tables");
    let catalog = Catalog::new(&SchemaName::default());
    let mut wrong = Vec::new();
    for id in StatementId::ALL {
        for statement in [catalog.statement(id), catalog.statement_in_transaction(id)] {
            match traps_of(&direct, statement).await {
                Ok(found) if found.is_empty() => {}
                Ok(found) => wrong.push(format!("{id:?} would run {found:?}")),
                Err(error) => {
                    wrong.push(format!("{id:?} cannot be parsed: {error:?}"));
                    direct.client.batch_execute("drop schema if exists probe cascade").await.unwrap();
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns the URL with a `search_path` for every session.
fn with_search_path(url: &str, path: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options=-c%20search_path%3D{}", path.replace(',', "%2C").replace('"', "%22"))
}

/// Creates operators that count their calls, in a schema before pg_catalog, for types and names that all statements
/// use.
const TRAPS_BEFORE: &str = "
    create schema before; grant usage on schema before to public;
    do $do$ declare found record; begin
      for found in
        select oprname, oprleft::regtype as l, oprright::regtype as r, oprresult::regtype as result, 'trap_' || row_number() over () as trap
        from pg_operator
        where oprname = any($operators)           and oprleft in (select oid from pg_type where typname in ('int2', 'int4', 'int8', 'float8', 'text', 'name', 'uuid', 'bool', 'oid', 'timestamptz', 'interval', 'numeric'))
          and oprright in (select oid from pg_type where typname in ('int2', 'int4', 'int8', 'float8', 'text', 'name', 'uuid', 'bool', 'oid', 'timestamptz', 'interval', 'numeric'))
      loop
        execute format('create function before.%I(%s, %s) returns %s language plpgsql immutable as $$ begin perform public.spring(); return null; end $$',
                       found.trap, found.l, found.r, found.result);
        execute format('create operator before.%s (leftarg = %s, rightarg = %s, function = before.%I)', found.oprname, found.l, found.r, found.trap);
      end loop;
    end $do$";

async fn add_traps_before(direct: &Direct) {
    let operators = "array['=', '<>', '<', '>', '<=', '>=', '+', '-', '*', '/', '||']";
    let script = format!("set search_path = pg_catalog; {}; reset search_path", TRAPS_BEFORE);
    direct.client.batch_execute(&script.replace("$operators", operators)).await.unwrap();
}

fn sprung(database: &TestDatabase) -> bool {
    let rows = database.execute("select is_called from public.sprung").unwrap();
    rows[0][0].as_deref() == Some("t")
}

/// Enqueues, claims and settles jobs, and runs operators' actions.
async fn use_everything(queue: &Queue) {
    queue.create_queue("tasks", false).await.unwrap();
    let keyed = |conflict| EnqueueOptions::default().key("key").on_conflict(conflict);
    queue.enqueue("tasks", 1u64, keyed(OnConflict::Keep)).await.unwrap();
    queue.enqueue("tasks", 2u64, keyed(OnConflict::Keep)).await.unwrap();
    queue.enqueue("tasks", 3u64, keyed(OnConflict::Replace)).await.unwrap();
    queue.enqueue("tasks", 4u64, EnqueueOptions::default()).await.unwrap();
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    next(&mut jobs).await.into_parts().1.commit().await.unwrap();
    let failed = next(&mut jobs).await.into_parts().1;
    let id = failed.id();
    failed.soft_fail("again").await.unwrap();
    drop(jobs);
    queue.promote().await.unwrap();
    queue.reap().await.unwrap();
    queue.list_queues().await.unwrap();
    queue.job(id).await.unwrap();
    queue.doctor(std::time::Duration::from_secs(300)).await.unwrap();
    queue.pause_queue("tasks").await.unwrap();
    queue.resume_queue("tasks").await.unwrap();
    queue.close().await;
}

fn deadpool(url: &str) -> deadpool_postgres::Pool {
    let manager = deadpool_postgres::Manager::new(url.parse().unwrap(), tokio_postgres::NoTls);
    deadpool_postgres::Pool::builder(manager).max_size(4).build().unwrap()
}

/// pm's own sessions set their path, and so does each statement on a pool, whatever the path of its sessions. The role
/// owns nothing.
#[tokio::test]
async fn no_trap_is_sprung_by_a_worker_on_its_own_connections_or_on_a_pool() {
    let database = TestDatabase::create().unwrap();
    let direct = Direct::to(&database.url()).await;
    make_hostile(&direct).await;
    add_traps_before(&direct).await;
    let role = format!("{}_worker", database.name());
    pm_driver_tokio_postgres::connect(&database.url()).await.unwrap().close().await;
    let grants = format!(
        "create role {role} login; grant usage on schema pm to {role};
         grant usage on all sequences in schema pm to {role};
         grant select, insert, update, delete on all tables in schema pm to {role}"
    );
    database.execute(&grants).unwrap();
    let url = database.url().replacen("postgres@", &format!("{role}@"), 1);
    let last = with_search_path(&url, "before,public,pg_catalog");
    use_everything(&pm_driver_tokio_postgres::connect(&last).await.unwrap()).await;
    use_everything(&pm_driver_sqlx::connect(&last).await.unwrap()).await;
    let options = ConnectOptions::default;
    for url in [&url, &last] {
        use_everything(&pm_driver_tokio_postgres::from_pool(deadpool(url), options()).await.unwrap()).await;
        let pool = sqlx::PgPool::connect(url).await.unwrap();
        use_everything(&pm_driver_sqlx::from_pool(pool.clone(), options()).await.unwrap()).await;
        pool.close().await;
    }
    assert!(!sprung(&database));
    drop(direct);
    database.execute(&format!("drop owned by {role}; drop role {role}")).unwrap();
}

#[track_caller]
fn assert_refused(what: &str, error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}");
    assert!(error.to_string().contains("before pg_catalog in the search_path"), "{what}: {error}");
}

#[tokio::test]
async fn a_session_with_another_schema_before_pg_catalog_is_refused_before_anything_of_it_runs() {
    let database = TestDatabase::create().unwrap();
    let mut direct = Direct::to(&database.url()).await;
    make_hostile(&direct).await;
    add_traps_before(&direct).await;
    let queue = pm_driver_tokio_postgres::connect(&database.url()).await.unwrap();
    queue.create_queue("tasks", false).await.unwrap();
    queue.enqueue("tasks", 1u64, EnqueueOptions::default()).await.unwrap();
    let mut ack = next(&mut queue.try_stream_jobs::<u64>("tasks")).await.into_parts().1;

    let last = with_search_path(&database.url(), "before,public,pg_catalog");
    let pool = sqlx::PgPool::connect(&last).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    let inside = pm_driver_sqlx::InTransaction::new(&mut transaction);
    assert_refused("enqueue_in, sqlx", &queue.enqueue_in(&inside, "tasks", 2u64, keyed()).await.unwrap_err());
    drop(transaction);

    for (path, is_refused) in [
        ("before, pg_catalog", true),
        ("public, pg_catalog", true),
        ("pg_temp, before, pg_catalog", true),
        ("before, public", false),
        ("pg_catalog, before", false),
        ("pg_temp, pg_catalog, before", false),
        ("no_such_schema, pg_catalog", false),
        ("", false),
    ] {
        let client = &mut direct.client;
        let script = format!(
            "create temporary table if not exists job (trap int);
             select pg_catalog.set_config('search_path', '{path}', false)"
        );
        client.batch_execute(&script).await.unwrap();
        for what in ["enqueue_in", "commit_in"] {
            let transaction = client.transaction().await.unwrap();
            let inside = pm_driver_tokio_postgres::InTransaction(&transaction);
            let answer = match what {
                "enqueue_in" => queue.enqueue_in(&inside, "tasks", 2u64, keyed()).await.map(drop),
                _ => ack.commit_in(&inside).await.map(drop),
            };
            match answer {
                Err(error) if is_refused => assert_refused(&format!("{what} with {path}"), &error),
                answer => assert!(answer.is_ok() && !is_refused, "{what} with {path}: {answer:?}"),
            }
            transaction.rollback().await.unwrap();
        }
    }
    assert!(!sprung(&database));
    drop(ack);
    queue.close().await;
}

fn keyed() -> EnqueueOptions {
    EnqueueOptions::default().key("key")
}

#[tokio::test]
async fn the_probe_sees_an_operator_without_an_exact_match_and_an_unqualified_function() {
    let database = TestDatabase::create().unwrap();
    let direct = Direct::to(&database.url()).await;
    make_hostile(&direct).await;
    let bad = [
        "select $1::int8 * interval '1 ms'",
        "select count($1::int8)",
        "select 1 where $1::int8 in (select 1::numeric)",
        "select nullif($1::int8, 1.5)",
        "select $1::int8 between 1.5 and 2",
        "select case $1::int8 when 1.5 then 1 end",
        "select $1::int8 is distinct from 1.5",
        "select $1::int8 || 'x'::text",
        "select $1::int8 not in (1.5, 2.5)",
    ];
    for text in bad {
        let statement =
            Statement { id: StatementId::Claim, text: text.to_owned(), params: vec![Type::Int8], columns: &[] };
        let found = traps_of(&direct, &statement).await;
        assert!(found.as_ref().is_ok_and(|found| !found.is_empty()), "{text}: {found:?}");
    }
}
