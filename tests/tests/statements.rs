//! How many statements the steps of a job's life take.

use pm_core::{Catalog, SchemaName, StatementId};
use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, JobStream, Queue, StreamOptions, connect_with};
use pm_tests::{Fixture, Proxy, TIMEOUT, eventually, next};
use std::collections::BTreeMap;
use std::time::Duration;

/// The statements that went through a proxy.
struct Statements {
    proxy: Proxy,
    catalog: Catalog,
}

impl Statements {
    async fn of(fixture: &Fixture) -> (Statements, Queue) {
        let proxy = Proxy::before(&fixture.database.url()).await;
        let queue = connect_with(proxy.url(), ConnectOptions::default()).await.unwrap();
        (Statements { proxy, catalog: Catalog::new(&SchemaName::default()) }, queue)
    }

    /// Returns how often each statement has been executed so far. Those that are not pm's are `None`.
    fn executed(&self) -> BTreeMap<Option<StatementId>, usize> {
        let of = |id: StatementId| (Some(id), self.proxy.executions(&self.catalog.statement(id).text));
        let mut executed: BTreeMap<_, _> = StatementId::ALL.iter().map(|id| of(*id)).collect();
        let others = self.proxy.executions("") - executed.values().sum::<usize>();
        executed.insert(None, others);
        executed
    }

    /// Returns how often each statement has been executed since then; only those that were.
    fn since(&self, before: &BTreeMap<Option<StatementId>, usize>) -> BTreeMap<Option<StatementId>, usize> {
        let since = self.executed().into_iter().map(|(id, times)| (id, times - before[&id]));
        since.filter(|(_, times)| *times > 0).collect()
    }
}

/// Polls so rarely that a job is found through a notification.
fn notified_only() -> StreamOptions {
    let hour = Duration::from_secs(3_600);
    StreamOptions::default().poll(hour, hour).idle_poll(hour)
}

async fn until_idle(fixture: &Fixture, worker: &Queue, jobs: &mut JobStream<u64>) {
    assert!(futures_util::FutureExt::now_or_never(futures_util::StreamExt::next(jobs)).is_none());
    eventually("its listener is connected", TIMEOUT, async || worker.is_listening()).await;
    let idle = "select count(*) from pm.queue where idle_until > now()";
    eventually("the worker is idle", TIMEOUT, async || fixture.number(idle) == 1).await;
}

#[tokio::test]
async fn an_enqueue_is_one_statement_and_a_notification_only_if_workers_are_idle() {
    let fixture = Fixture::new().await;
    let (statements, producer) = Statements::of(&fixture).await;
    let put = async |payload: u64| producer.enqueue("tasks", payload, EnqueueOptions::default()).await.unwrap();
    // The first one also opens the connection.
    put(0).await;
    let before = statements.executed();
    for payload in 1..=5 {
        put(payload).await;
    }
    let many = (0..2_500).map(|payload: u64| (payload, EnqueueOptions::default()));
    producer.enqueue_many("tasks", many).await.unwrap();
    assert_eq!(statements.since(&before), [(Some(StatementId::EnqueueFresh), 5 + 3)].into());
    fixture.database.execute("delete from pm.job").unwrap();

    let mut jobs = fixture.queue.try_stream_jobs_with::<u64>("tasks", notified_only());
    until_idle(&fixture, &fixture.queue, &mut jobs).await;
    let before = statements.executed();
    put(6).await;
    next(&mut jobs).await.into_parts().1.commit().await.unwrap();
    let expected = [(Some(StatementId::EnqueueFresh), 1), (Some(StatementId::Notify), 1)];
    assert_eq!(statements.since(&before), expected.into());
}

/// A worker that waits for each commit sends a settlement for each job, as few claims as it can, polls, and nothing
/// else.
#[tokio::test]
async fn a_drained_job_takes_a_share_of_a_claim_and_one_settlement() {
    let fixture = Fixture::new().await;
    let (statements, worker) = Statements::of(&fixture).await;
    let mut jobs = worker.try_stream_jobs_with::<u64>("tasks", notified_only());
    until_idle(&fixture, &worker, &mut jobs).await;
    // The first ones also open the connections.
    for payload in 0..3 {
        fixture.put(payload).await;
        next(&mut jobs).await.into_parts().1.commit().await.unwrap();
    }

    let before = statements.executed();
    for payload in 1..=10 {
        fixture.put(payload).await;
        next(&mut jobs).await.into_parts().1.commit().await.unwrap();
    }
    let one_by_one = statements.since(&before);
    let before = statements.executed();
    fixture.put_many(100).await;
    for _ in 0..100 {
        next(&mut jobs).await.into_parts().1.commit().await.unwrap();
    }
    let backlog = statements.since(&before);
    println!("10 jobs one by one: {one_by_one:?}; a backlog of 100: {backlog:?}");
    for (mut executed, jobs, most_claims) in [(one_by_one, 10, 20), (backlog, 100, 30)] {
        assert_eq!(executed.remove(&Some(StatementId::SettleCommits)), Some(jobs));
        let claims = executed.remove(&Some(StatementId::Claim)).unwrap();
        assert!(claims <= most_claims, "{claims} claims of {jobs} jobs");
        let polls = executed.remove(&Some(StatementId::Poll)).unwrap_or(0);
        assert!(polls <= 2, "{polls} polls");
        assert_eq!(executed, BTreeMap::new());
    }
}
