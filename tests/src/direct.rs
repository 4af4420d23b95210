//! Below the façade: a private connection on which tests plan, run and interpret operations by hand.

use pm_core::{Catalog, Operation, SchemaName};
use pm_driver_tokio_postgres::InTransaction;
use pm_driver_tokio_postgres::driver::Executor;
use std::sync::OnceLock;
use tokio_postgres::{Client, NoTls, Transaction};

/// A private connection.
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
    /// When the connection fails.
    pub async fn to(url: &str) -> Direct {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("connecting succeeds");
        tokio::spawn(connection);
        Direct { client }
    }

    /// Runs one operation in its own transaction.
    pub async fn run<O: Operation>(&mut self, operation: O) -> O::Output {
        let transaction = self.client.transaction().await.expect("the transaction begins");
        let output = run_in(&transaction, operation).await;
        transaction.commit().await.expect("the transaction commits");
        output
    }
}

/// Returns the statements for the default schema.
pub fn catalog() -> &'static Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    CATALOG.get_or_init(|| Catalog::new(&SchemaName::default()))
}

/// Runs one operation in a transaction: everything that a driver and its caller do with the pure core.
///
/// # Panics
///
/// When the database or the core returns an error.
pub async fn run_in<O: Operation>(transaction: &Transaction<'_>, operation: O) -> O::Output {
    let plan = operation.plan();
    let rows = InTransaction(transaction).run(catalog().statement(plan.statement), &plan.params).await;
    drop(plan);
    operation.interpret(&rows.expect("the statement runs")).expect("the reply is valid")
}
