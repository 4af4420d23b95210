//! What another role puts into a schema of the search path is never run by pm's statements, whoever owns the session.

use pm_core::{Catalog, SchemaName, Statement, StatementId, Type, migration_script};
use pm_sandbox::TestDatabase;
use pm_tests::{Direct, type_name};
use std::collections::BTreeSet;

const HOSTILE: &str = include_str!("hostile.sql");

/// Returns the texts of all statements and of the migrations.
fn texts() -> Vec<String> {
    let schema = SchemaName::default();
    let catalog = Catalog::new(&schema);
    let statements = StatementId::ALL.iter().map(|id| catalog.statement(*id).text.clone());
    statements.chain([migration_script(&schema)]).collect()
}

/// Makes a hostile schema `public`, for every operator and function whose name is in the texts.
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

/// Returns what of the schema `public` an object of the catalogue `class` depends on.
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

/// Returns what of `public` a statement would run: the server parses it as the body of a function, which keeps a record.
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
        match traps_of(&direct, catalog.statement(id)).await {
            Ok(found) if found.is_empty() => {}
            Ok(found) => wrong.push(format!("{id:?} would run {found:?}")),
            Err(error) => {
                wrong.push(format!("{id:?} cannot be parsed: {error:?}"));
                direct.client.batch_execute("drop schema if exists probe cascade").await.unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
            Statement { id: StatementId::Claim, text: text.to_owned(), params: &[Type::Int8], columns: &[] };
        let found = traps_of(&direct, &statement).await;
        assert!(found.as_ref().is_ok_and(|found| !found.is_empty()), "{text}: {found:?}");
    }
}
