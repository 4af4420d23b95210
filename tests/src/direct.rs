//! Below the façade: a connection of one's own, on which operations are planned, run and read by hand.

use pm_core::{Catalog, Operation, SchemaName};
use pm_driver_tokio_postgres::{Executor, InTransaction};
use tokio_postgres::{Client, NoTls, Transaction};

/// A connection of one's own.
#[derive(Debug)]
pub struct Direct {
    /// The connection, to open transactions on.
    pub client: Client,
}

impl Direct {
    /// Returns a connection to the database at `url`.
    ///
    /// # Panics
    ///
    /// When there is none to be had.
    pub async fn to(url: &str) -> Direct {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("it can be connected to");
        tokio::spawn(connection);
        Direct { client }
    }

    /// Does one operation in a transaction of its own.
    pub async fn run<O: Operation>(&mut self, operation: O) -> O::Output {
        let transaction = self.client.transaction().await.expect("the connection is good");
        let output = run_in(&transaction, operation).await;
        transaction.commit().await.expect("what ran can be committed");
        output
    }
}

/// Does one operation in a transaction: the whole of what a driver and its caller do with the pure core.
///
/// # Panics
///
/// When the database or the core refuses.
pub async fn run_in<O: Operation>(transaction: &Transaction<'_>, operation: O) -> O::Output {
    let catalog = Catalog::new(&SchemaName::default());
    let plan = operation.plan();
    let rows = InTransaction(transaction).run(catalog.statement(plan.statement), &plan.params).await;
    drop(plan);
    operation.interpret(&rows.expect("the statement runs")).expect("the reply is good")
}
