//! The memory driver knows every statement of the catalogue.

use pm_core::{Catalog, Rows, SchemaName, StatementId, Type, Value};
use pm_driver_memory::Database;

#[test]
fn every_statement_of_the_catalogue_has_a_reply() {
    let catalog = Catalog::new(&SchemaName::default());
    for id in StatementId::ALL {
        let statement = catalog.statement(id);
        let nulls: Vec<Value<'_>> = statement.params.iter().copied().map(Value::Null).collect();
        let reply = Database::new().answer(statement, &nulls);
        assert!(reply.is_ok(), "{id:?}: {reply:?}");
    }
}

#[test]
fn a_queue_is_created_and_listed() {
    let catalog = Catalog::new(&SchemaName::default());
    let database = Database::new();
    let name = [Value::Text("tasks"), Value::Bool(true)];
    let created = |rows: Rows| rows.len();
    assert_eq!(created(database.answer(catalog.statement(StatementId::CreateQueue), &name).unwrap()), 1);
    assert_eq!(created(database.answer(catalog.statement(StatementId::CreateQueue), &name).unwrap()), 0, "it exists");
    let all = [Value::Null(Type::Text)];
    let listed = database.answer(catalog.statement(StatementId::ListQueues), &all).unwrap();
    let mut row = listed.only(StatementId::ListQueues).unwrap();
    assert_eq!((row.read::<String>().unwrap(), row.read::<bool>().unwrap()), ("tasks".to_owned(), true));
}
