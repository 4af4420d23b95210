//! The doctor finds tables that are of the wrong kind or in the wrong schema, and its remedies fix them.

use pm_driver_tokio_postgres::{ConnectOptions, Finding, Remedy};
use pm_tests::Fixture;
use std::time::Duration;

/// Returns the findings of one check.
async fn found(fixture: &Fixture, check: &str) -> Vec<Finding> {
    let findings = fixture.queue.doctor(Duration::from_secs(300)).await.unwrap();
    findings.into_iter().filter(|finding| finding.check.name() == check).collect()
}

/// Asserts that there is one finding with this text, and that its SQL fixes it.
async fn fix(fixture: &Fixture, check: &str, text: &str) {
    let found_now = found(fixture, check).await;
    let [finding] = &found_now[..] else { panic!("{check}: {found_now:#?}") };
    assert!(finding.what.contains(text), "{}", finding.what);
    let [sql] = finding.remedy.sql() else { panic!("{finding:?}") };
    fixture.database.execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!(found(fixture, check).await, [], "{sql}");
}

#[tokio::test]
async fn unlogged_tables_are_found() {
    let fixture = Fixture::new().await;
    for table in ["attempt", "payload"] {
        fixture.database.execute(&format!("alter table pm.{table} set unlogged")).unwrap();
        let tables = found(&fixture, "odd_table").await;
        assert!(tables.iter().any(|it| it.what == format!("{table} is unlogged")), "{tables:?}");
        let remedy = tables.iter().find(|it| it.what.starts_with(&format!("{table} "))).unwrap();
        fixture.database.execute(&remedy.remedy.sql()[0]).unwrap();
        assert_eq!(found(&fixture, "odd_table").await, []);
    }
}

#[tokio::test]
async fn triggers_and_rules_are_named() {
    let fixture = Fixture::new().await;
    let function = "create function public.noted() returns trigger language plpgsql as $$ begin return new; end $$";
    fixture.database.execute(function).unwrap();
    fixture
        .database
        .execute("create trigger \"to audit\" before insert on pm.job for each row execute function public.noted()")
        .unwrap();
    fix(&fixture, "trigger", "table job has a trigger that is not pm's: to audit").await;
    fixture.database.execute("create rule keep as on delete to pm.attempt do instead nothing").unwrap();
    fix(&fixture, "trigger", "table attempt has a rule that is not pm's: keep").await;
}

#[tokio::test]
async fn distributed_tables_are_found() {
    let fixture = Fixture::new().await;
    // Citus creates this trigger on a table that it distributes.
    let function = "create function public.citus_truncate_trigger() returns trigger language plpgsql as $$ begin return null; end $$";
    fixture.database.execute(function).unwrap();
    fixture.database.execute("create trigger truncate_trigger_1 after truncate on pm.job execute function public.citus_truncate_trigger()").unwrap();
    let tables = found(&fixture, "odd_table").await;
    assert_eq!(tables.len(), 1, "{tables:?}");
    assert!(tables[0].what.contains("job is distributed"), "{tables:?}");
    assert_eq!(tables[0].remedy.sql(), ["select undistribute_table('\"pm\".job')"]);
}

#[tokio::test]
async fn views_partitioned_and_foreign_tables_are_found() {
    let fixture = Fixture::new().await;
    let swap = |with: &str| {
        fixture.database.execute(&format!("alter table pm.attempt rename to attempt_before; {with}")).unwrap();
    };
    for (with, kind, undo) in [
        ("create view pm.attempt as select * from pm.attempt_before", "is a view, not a table", "drop view pm.attempt"),
        (
            "create table pm.attempt (like pm.attempt_before) partition by range (ended_at)",
            "is partitioned",
            "drop table pm.attempt",
        ),
        (
            "create foreign data wrapper afar; create server there foreign data wrapper afar;
             create foreign table pm.attempt (job_id uuid) server there",
            "is a table of another server",
            "drop foreign data wrapper afar cascade",
        ),
    ] {
        swap(with);
        let tables = found(&fixture, "odd_table").await;
        assert!(tables.iter().any(|it| it.what == format!("attempt {kind}")), "{kind}: {tables:?}");
        fixture.database.execute(&format!("{undo}; alter table pm.attempt_before rename to attempt")).unwrap();
    }
    assert_eq!(found(&fixture, "odd_table").await, []);
}

/// A schema without queues, and another schema with tables of pm: perhaps the other one was meant.
#[tokio::test]
async fn another_schema_that_may_be_meant_is_named() {
    let fixture = Fixture::without_queue().await;
    assert_eq!(found(&fixture, "other_schema").await, []);
    fixture.another(ConnectOptions::default().schema("my jobs")).await.close().await;
    let schemas = found(&fixture, "other_schema").await;
    assert_eq!(schemas.len(), 1, "{schemas:?}");
    assert_eq!(schemas[0].remedy, Remedy::UseSchema("my jobs".to_owned()));
    fixture.queue.create_queue("tasks", false).await.unwrap();
    assert_eq!(found(&fixture, "other_schema").await, []);
}

/// If the configured schema has no tables, the error names a schema that has.
#[tokio::test]
async fn connecting_to_the_wrong_schema_names_the_right_one() {
    let fixture = Fixture::new().await;
    let options = ConnectOptions::default().schema("other").migrate(false);
    let refused = pm_driver_tokio_postgres::connect_with(&fixture.database.url(), options).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "there are no tables of pm in schema \"other\", but there are in schema \"pm\": use that one"
    );
    assert_eq!(refused.advice(), None, "to migrate would make a second set of tables");
}
