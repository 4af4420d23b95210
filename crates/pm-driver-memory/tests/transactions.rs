//! Transactions of the memory driver beside other sessions.

use pm_driver_memory::{Database, EnqueueOptions, queue_on, runtime::Tokio};
use std::sync::Arc;

#[tokio::test]
async fn a_queue_that_is_deleted_while_a_transaction_enqueues_makes_it_fail() {
    let database = Database::new();
    let queue = queue_on(database.clone(), Arc::new(Tokio::current()));
    queue.create_queue("mails", false).await.unwrap();
    let transaction = database.begin();
    let id = queue.enqueue_in(&transaction, "mails", "hello", EnqueueOptions::default()).await.unwrap();
    queue.delete_queue("mails").await.unwrap();
    assert!(transaction.commit().is_err(), "its job would belong to no queue");
    assert!(queue.get_job(id).await.unwrap().is_none());
    assert!(database.look(|tables| tables.job.is_empty()));
}
