//! Every statement has the types it declares, according to the server's description.

use pm_core::{Catalog, SchemaName, StatementId};
use pm_tests::Fixture;
use tokio_postgres::NoTls;

#[tokio::test]
async fn every_statement_has_the_parameters_and_columns_it_declares() {
    let fixture = Fixture::new().await;
    let (client, connection) = tokio_postgres::connect(&fixture.database.url(), NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute("set search_path = ''").await.unwrap();
    let catalog = Catalog::new(&SchemaName::default());
    let mut wrong = Vec::new();
    for id in StatementId::ALL {
        let declared = catalog.statement(id);
        let described = match client.prepare(&declared.text).await {
            Ok(described) => described,
            Err(error) => {
                wrong.push(format!("{id:?} cannot be prepared: {error}: {:?}", error.as_db_error()));
                continue;
            }
        };
        let params: Vec<_> = described.params().iter().map(tokio_postgres::types::Type::oid).collect();
        if params != declared.params.iter().map(|ty| ty.oid()).collect::<Vec<_>>() {
            wrong.push(format!("{id:?}: parameters {:?}, declared {:?}", described.params(), declared.params));
        }
        // The names tell columns of the same type apart. An only column needs none.
        let is_only = declared.columns.len() == 1;
        let name = |name: &str| if is_only { String::new() } else { name.to_owned() };
        let columns = described.columns().iter().map(|column| (name(column.name()), column.type_().oid()));
        let columns: Vec<_> = columns.collect();
        if columns != declared.columns.iter().map(|it| (it.name.to_owned(), it.ty.oid())).collect::<Vec<_>>() {
            wrong.push(format!("{id:?}: columns {:?}, declared {:?}", described.columns(), declared.columns));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    drop(client);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn every_statement_can_be_prepared_in_a_schema_of_an_odd_name() {
    let fixture = Fixture::without_queue().await;
    let name = "Odd näme; --";
    fixture.another(pm_driver_tokio_postgres::ConnectOptions::default().schema(name)).await.close().await;
    let (client, connection) = tokio_postgres::connect(&fixture.database.url(), NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let catalog = Catalog::new(&SchemaName::new(name).unwrap());
    for id in StatementId::ALL {
        client.prepare(&catalog.statement(id).text).await.unwrap_or_else(|error| panic!("{id:?}: {error}"));
    }
    drop(client);
    connection.await.unwrap().unwrap();
}
