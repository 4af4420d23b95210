//! What waits for a lock holds up nothing but itself: claims, settles and extensions of leases go on beside it, whatever
//! the way to the server.

use deadpool_postgres::{Manager, Pool};
use futures_util::FutureExt;
use futures_util::future::join_all;
use pm_driver_tokio_postgres::{ConnectOptions, Error, Queue, SettingsChange, Uuid};
use pm_sandbox::Pooler;
use pm_tests::{Direct, Ground, PATIENCE, eventually, next, take, within};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;

const SECOND: Duration = Duration::from_secs(1);
/// How many connections a pool of the caller's has.
const POOLED: usize = 4;

/// The ways to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    TokioPostgres,
    Sqlx,
    Deadpool,
    SqlxPool,
    TokioPostgresThroughPooler,
    SqlxThroughPooler,
}

impl Way {
    const ALL: [Way; 6] = [
        Way::TokioPostgres,
        Way::Sqlx,
        Way::Deadpool,
        Way::SqlxPool,
        Way::TokioPostgresThroughPooler,
        Way::SqlxThroughPooler,
    ];

    /// Returns a handle on a database, this way.
    async fn open(self, ground: &Ground, pooler: &Pooler, options: &ConnectOptions) -> Queue {
        let options = options.clone();
        let (url, past) = (ground.database.url(), pooler.url_of(ground.database.name()));
        let opened = match self {
            Way::TokioPostgres => pm_driver_tokio_postgres::connect_with(&url, options).await,
            Way::Sqlx => pm_driver_sqlx::connect_with(&url, options).await,
            Way::Deadpool => {
                let pool = Pool::builder(Manager::new(url.parse().unwrap(), NoTls)).max_size(POOLED).build().unwrap();
                pm_driver_tokio_postgres::from_pool(pool, options).await
            }
            Way::SqlxPool => {
                let server: PgConnectOptions = url.parse().unwrap();
                let pool = PgPoolOptions::new().max_connections(POOLED as u32).connect_with(server).await.unwrap();
                pm_driver_sqlx::from_pool(pool, options).await
            }
            Way::TokioPostgresThroughPooler => {
                pm_driver_tokio_postgres::connect_with(&past, options.pooler(true)).await
            }
            Way::SqlxThroughPooler => pm_driver_sqlx::connect_with(&past, options.pooler(true)).await,
        };
        opened.unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }
}

/// Options of a handle whose statements wait for locks for longer than a test does for anything.
fn patient() -> ConnectOptions {
    ConnectOptions::default().lock_timeout(SECOND * 300).statement_timeout(SECOND * 300)
}

async fn lock(someone: &mut Direct, ids: &[Uuid]) {
    let ids: Vec<_> = ids.iter().map(|id| format!("'{id}'")).collect();
    let sql = format!("begin; select from pm.job where id in ({}) for update", ids.join(","));
    someone.client.batch_execute(&sql).await.unwrap();
}

async fn unlock(someone: &mut Direct) {
    someone.client.batch_execute("rollback").await.unwrap();
}

/// Returns how many sessions wait for a lock.
fn waiting(ground: &Ground) -> i64 {
    ground
        .number("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
}

/// Starts deleting a job so many times at once.
fn delete(queue: &Queue, id: Uuid, times: usize) -> Vec<JoinHandle<Result<u64, Error>>> {
    let deleting = |queue: Queue| tokio::spawn(async move { queue.delete_jobs(&[id]).await });
    (0..times).map(|_| deleting(queue.clone())).collect()
}

/// Runs a test on every way at once, each with a database of its own.
async fn each_way(settings: SettingsChange, options: ConnectOptions, test: impl AsyncFn(Way, &Ground, &Queue)) {
    let on = async |way: Way| {
        let ground = Ground::with(settings.clone()).await;
        let pooler = Pooler::before(&ground.database.url()).unwrap();
        let queue = way.open(&ground, &pooler, &options).await;
        test(way, &ground, &queue).await;
        within(&format!("{way:?}: the end"), queue.close()).await;
    };
    join_all(Way::ALL.map(on)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_put_in_and_done_while_operators_wait_for_a_locked_job() {
    each_way(SettingsChange::new(), patient(), async |way, ground, queue| {
        let locked = ground.put(0).await;
        let mut jobs = queue.try_stream_jobs::<u64>("tasks");
        next(&mut jobs).await.into_parts().1.leave();
        let mut someone = Direct::to(&ground.database.url()).await;
        lock(&mut someone, &[locked]).await;
        let deleting = delete(queue, locked, 30);
        eventually("one waits", PATIENCE, async || waiting(ground) > 0).await;
        for n in 1..20u64 {
            within(&format!("{way:?}: an enqueue"), queue.enqueue("tasks", n, Default::default())).await.unwrap();
            let job = next(&mut jobs).await;
            within(&format!("{way:?}: a commit"), job.into_parts().1.commit()).await.unwrap();
        }
        assert!(deleting.iter().all(|one| !one.is_finished()), "{way:?}: they still wait");
        unlock(&mut someone).await;
        for deleted in within(&format!("{way:?}: the deletions"), join_all(deleting)).await {
            deleted.unwrap().unwrap_or_else(|error| panic!("{way:?}: {error}"));
        }
    })
    .await;
}

/// Lets a job be kept alive for some leases while others wait for locks, and commits it.
async fn keep_alive(way: Way, ground: &Ground, queue: &Queue, hold_up: impl AsyncFnOnce(&mut Direct)) {
    let kept = ground.put(0).await;
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    let ack = next(&mut jobs).await.into_parts().1;
    assert_eq!(ack.id(), kept);
    let mut someone = Direct::to(&ground.database.url()).await;
    hold_up(&mut someone).await;
    let ends = format!("select (extract(epoch from lease_expires_at) * 1000)::int8 from pm.job where id = '{kept}'");
    let first = ground.number(&ends);
    let is_extended = async || ground.number(&ends) > first + 6_000;
    eventually(&format!("{way:?}: the lease of 3 s is extended, more than once"), PATIENCE, is_extended).await;
    assert!(ack.lost().now_or_never().is_none(), "{way:?}");
    unlock(&mut someone).await;
    within(&format!("{way:?}: the commit"), ack.commit()).await.unwrap_or_else(|error| panic!("{way:?}: {error}"));
    assert_eq!(ground.job(kept).await.attempt, 1, "{way:?}: no other worker began it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_extended_while_operators_wait_for_a_locked_job() {
    each_way(SettingsChange::new().lease(SECOND * 3), patient(), async |way, ground, queue| {
        let other = ground.put(1).await;
        ground.queue.fail_jobs(&[other], "not to be claimed").await.unwrap();
        keep_alive(way, ground, queue, async |someone| {
            lock(someone, &[other]).await;
            drop(delete(queue, other, 4));
            eventually("one waits", PATIENCE, async || waiting(ground) > 0).await;
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_extended_while_many_settles_wait_for_locked_jobs() {
    const LOCKED: usize = 8;
    each_way(SettingsChange::new().lease(SECOND * 3), patient(), async |way, ground, queue| {
        ground.queue.create_queue("others", false).await.unwrap();
        let others = (0..LOCKED as u64).map(|n| (n, Default::default()));
        ground.queue.enqueue_many("others", others).await.unwrap();
        let mut acks = Vec::new();
        for _ in 0..LOCKED {
            // A stream each: the settles of one share a statement.
            let mut jobs = queue.try_stream_jobs_with::<u64>("others", pm_tests::unattended().prefetch(1));
            acks.push(take(&mut jobs, 1).await.remove(0).into_parts().1);
        }
        keep_alive(way, ground, queue, async |someone| {
            lock(someone, &acks.iter().map(|ack| ack.id()).collect::<Vec<_>>()).await;
            acks.into_iter().for_each(|ack| ack.commit().detach());
            eventually(&format!("{way:?}: a settle waits"), PATIENCE, async || waiting(ground) > 0).await;
        })
        .await;
    })
    .await;
}
