//! The server goes away and comes back: streams go on, no job is lost, and reconnects are rate-limited.

use futures_util::StreamExt;
use futures_util::future::join_all;
use pm_driver_tokio_postgres::driver::{BoxFuture, Executor, Statement};
use pm_driver_tokio_postgres::runtime::Runtime;
use pm_driver_tokio_postgres::runtime::Tokio;
use pm_driver_tokio_postgres::{
    ConnectOptions, Dial, DialError, EnqueueOptions, ErrorKind, JobAck, Messages, Queue, SettingsChange, Sockets,
    StreamOptions, TokioPostgres, Uuid, connect_with,
};
use pm_sandbox::{Server, ServerOptions};
use pm_tests::{Direct, Fixture, Seed, TIMEOUT, eventually, next, take, within};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

const SECOND: Duration = Duration::from_secs(1);

/// What 4 producers and 8 streams of one process recorded.
#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    confirmed: Mutex<Vec<Uuid>>,
    unavailable: AtomicUsize,
    commits: Mutex<BTreeMap<Uuid, u32>>,
}

async fn produce(queue: Queue, tally: Arc<Tally>, producer: u64) {
    let mut n = producer << 32;
    while !tally.stop.load(Ordering::Relaxed) {
        n += 1;
        match queue.enqueue("tasks", n, EnqueueOptions::default()).await {
            Ok(id) => tally.confirmed.lock().unwrap().push(id),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                tally.unavailable.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

async fn work(queue: Queue, tally: Arc<Tally>) {
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    while let Some(job) = jobs.next().await {
        let ack = job.expect("a stream reports no connection failure").into_parts().1;
        let id = ack.id();
        ack.commit().await.expect("a lease of 20 min does not expire during the test");
        *tally.commits.lock().unwrap().entry(id).or_default() += 1;
    }
}

/// Starts 4 producers and 8 streams on one handle.
fn load(queue: &Queue, tally: &Arc<Tally>) -> (Vec<tokio::task::JoinHandle<()>>, Vec<tokio::task::JoinHandle<()>>) {
    let producers = (0..4).map(|n| tokio::spawn(produce(queue.clone(), tally.clone(), n))).collect();
    let workers = (0..8).map(|_| tokio::spawn(work(queue.clone(), tally.clone()))).collect();
    (producers, workers)
}

/// Ends the load, waits until all jobs have finished, and checks the tally against the tables.
async fn audit(
    queue: &Queue,
    tally: &Tally,
    (producers, workers): (Vec<tokio::task::JoinHandle<()>>, Vec<tokio::task::JoinHandle<()>>),
    number: impl Fn(&str) -> i64,
) {
    tally.stop.store(true, Ordering::Relaxed);
    for producer in producers {
        within("the end of a producer", producer).await.expect("it saw no other error");
    }
    eventually("all jobs have finished", TIMEOUT * 2, async || {
        number("select count(*) from pm.job where state < 2") == 0
    })
    .await;
    assert!(workers.iter().all(|worker| !worker.is_finished()), "no stream has ended");
    within("the end", queue.close()).await;
    for worker in workers {
        within("the end of a worker", worker).await.expect("it saw no error");
    }
    let confirmed = tally.confirmed.lock().unwrap();
    let (jobs, commits) = (number("select count(*) from pm.job where state = 2"), tally.commits.lock().unwrap());
    let unavailable = tally.unavailable.load(Ordering::Relaxed);
    println!("{} confirmed, {unavailable} unavailable, {jobs} finished", confirmed.len());
    assert_eq!(number("select count(distinct payload) from pm.job"), jobs, "no enqueue went in twice");
    let ids: Vec<_> = confirmed.iter().map(|id| format!("'{id}'")).collect();
    let stored = format!("select count(*) from pm.job where id in ({})", ids.join(","));
    assert_eq!(number(&stored) as usize, confirmed.len(), "every confirmed job exists once");
    assert!(jobs as usize <= confirmed.len() + unavailable);
    assert_eq!(commits.len() as i64, jobs, "all were committed here");
    assert!(commits.values().all(|times| *times == 1), "once");
    assert_eq!(number("select max(attempt - retry_count) from pm.job where attempt > 3"), 0, "no storm of claims");
    assert_eq!(number("select max(retry_count) from pm.job"), 0, "the server's outage costs no job a retry");
}

/// Closing releases a claim whose reply was lost for as long as a statement may run; here that is short.
fn short_statements() -> ConnectOptions {
    ConnectOptions::default().statement_timeout(SECOND * 3)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_restarted_costs_no_job_and_ends_no_stream() {
    // Confirmed enqueues must survive the crash of the server; not that of the machine.
    let options = ServerOptions::default().setting("synchronous_commit", "on");
    let mut server = Server::start_with(options).expect("a private Postgres starts");
    let url = server.create_database("healing").unwrap();
    let queue = connect_with(&url, short_statements()).await.unwrap();
    queue.create_queue("tasks", false).await.unwrap();
    let tally = Arc::new(Tally::default());
    let under_way = load(&queue, &tally);
    for outage in [SECOND / 5, SECOND * 7] {
        tokio::time::sleep(SECOND).await;
        server = tokio::task::spawn_blocking(move || {
            server.kill();
            std::thread::sleep(outage);
            server.restart().expect("it recovers");
            server
        })
        .await
        .unwrap();
        let before = tally.commits.lock().unwrap().len();
        let goes_on = async || tally.commits.lock().unwrap().len() > before + 10;
        eventually("work goes on", TIMEOUT, goes_on).await;
    }
    audit(&queue, &tally, under_way, |sql| {
        let rows = server.execute("healing", sql).expect("the statement is valid");
        rows[0][0].as_ref().map_or(0, |cell| cell.parse().expect("a number"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminating_every_backend_again_and_again_costs_no_job_and_ends_no_stream() {
    let mut seed = Seed::from_environment();
    let fixture = Fixture::new().await;
    let queue = fixture.another(short_statements()).await;
    let tally = Arc::new(Tally::default());
    let under_way = load(&queue, &tally);
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(100 + seed.below(500))).await;
        let all = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                   where datname = current_database() and pid <> pg_backend_pid()";
        assert!(fixture.number(all) > 0);
    }
    audit(&queue, &tally, under_way, |sql| {
        let column = fixture.column(sql);
        column[0].parse().unwrap_or(0)
    })
    .await;
    assert_eq!(tally.unavailable.load(Ordering::Relaxed), 0, "an enqueue is sent again for 5 s at least");
}

/// A proxy in front of a server's Unix socket that counts connection attempts, and can be closed.
struct Gate {
    url: String,
    attempts: Arc<AtomicUsize>,
    closed: watch::Sender<bool>,
}

impl Gate {
    async fn before(url: &str) -> Gate {
        let config: tokio_postgres::Config = url.parse().unwrap();
        let [tokio_postgres::config::Host::Unix(dir)] = config.get_hosts() else { panic!("no Unix socket in {url}") };
        let socket = dir.join(format!(".s.PGSQL.{}", config.get_ports()[0]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, database) = (listener.local_addr().unwrap(), config.get_dbname().unwrap());
        let url = format!("postgres://postgres@{address}/{database}");
        let attempts = Arc::new(AtomicUsize::new(0));
        let (closed, is_closed) = watch::channel(false);
        let counted = attempts.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let (mut is_closed, socket) = (is_closed.clone(), socket.clone());
                tokio::spawn(async move {
                    let pass = async |client: &mut TcpStream| {
                        let mut server = UnixStream::connect(socket).await?;
                        tokio::io::copy_bidirectional(client, &mut server).await
                    };
                    tokio::select! {
                        biased;
                        _ = is_closed.wait_for(|closed| *closed) => {}
                        // Either end may close at any time.
                        _ = pass(&mut client) => {}
                    }
                });
            }
        });
        Gate { url, attempts, closed }
    }

    fn attempts(&self) -> usize {
        self.attempts.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_down_a_process_of_32_streams_connects_seldom_and_recovers() {
    let fixture = Fixture::new().await;
    let gate = Gate::before(&fixture.database.url()).await;
    let queue = connect_with(&gate.url, ConnectOptions::default()).await.unwrap();
    let tally = Arc::new(Tally::default());
    let workers: Vec<_> = (0..32).map(|_| tokio::spawn(work(queue.clone(), tally.clone()))).collect();
    fixture.put_many(100).await;
    let done = async || tally.commits.lock().unwrap().len() == 100;
    eventually("all streams work", TIMEOUT, done).await;

    gate.closed.send_replace(true);
    let mut attempts = Vec::new();
    let mut last = gate.attempts();
    for _ in 0..12 {
        tokio::time::sleep(SECOND).await;
        let now = gate.attempts();
        attempts.push(now - last);
        last = now;
    }
    println!("connection attempts in each second: {attempts:?}");
    assert!(attempts.iter().sum::<usize>() > 0, "it tries");
    assert!(attempts.iter().all(|attempts| *attempts <= 12), "no thundering herd: {attempts:?}");
    assert!(attempts[4..].iter().sum::<usize>() <= 8 * 2, "2 a second at most after some seconds: {attempts:?}");

    fixture.put_many(100).await;
    gate.closed.send_replace(false);
    let done = async || tally.commits.lock().unwrap().len() == 200;
    eventually("all streams work again", TIMEOUT, done).await;
    within("the end", queue.close()).await;
    for worker in workers {
        worker.await.expect("no stream yields an error");
    }
}

/// Returns the acks of all jobs.
async fn acks(queue: &Queue, jobs: usize) -> Vec<JobAck> {
    let mut stream = queue.try_stream_jobs_with::<u64>("tasks", StreamOptions::default().reaper(false));
    take(&mut stream, jobs).await.into_iter().map(|job| job.into_parts().1).collect()
}

async fn a_locked_row_delays_no_other(options: ConnectOptions) {
    const JOBS: usize = 200;
    let fixture = Fixture::new().await;
    let queue = fixture.another(options).await;
    fixture.put_many(JOBS as u64).await;
    let acks = acks(&queue, JOBS).await;
    let locked = acks[JOBS / 3].id();

    let mut session = Direct::to(&fixture.database.url()).await;
    let transaction = session.client.transaction().await.unwrap();
    transaction.batch_execute(&format!("select from pm.job where id = '{locked}' for update")).await.unwrap();

    let start = Instant::now();
    let mut settlements: Vec<_> = acks.into_iter().map(|ack| (ack.id(), ack.commit())).collect();
    let (_, mut locked_one) = settlements.remove(JOBS / 3);
    for outcome in within("the others", join_all(settlements.into_iter().map(|(_, settlement)| settlement))).await {
        outcome.expect("a locked neighbour does not affect them");
    }
    println!("the others were settled after {:?}", start.elapsed());
    assert_eq!(fixture.number("select count(*) from pm.job where state = 1"), 1);
    assert!(futures_util::FutureExt::now_or_never(&mut locked_one).is_none(), "it waits for the lock");

    // While it waits, later settlements are applied.
    let late = fixture.put(1_000).await;
    let job = queue.fetch_job::<u64>(late).await.unwrap().expect("it is ready");
    within("a later settlement", job.into_parts().1.commit()).await.unwrap();

    transaction.rollback().await.unwrap();
    within("the locked one", locked_one).await.expect("it is settled when the lock is released");
    assert_eq!(fixture.number("select count(*) from pm.job where state <> 2"), 0);
    assert_eq!(fixture.number("select count(*) from pm.attempt"), 0);
}

#[tokio::test]
async fn a_row_locked_by_an_open_transaction_does_not_delay_its_neighbours() {
    let options = ConnectOptions::default().lock_timeout(Duration::from_millis(200));
    a_locked_row_delays_no_other(options).await;
}

#[tokio::test]
async fn a_statement_timeout_on_a_locked_row_does_not_delay_its_neighbours_either() {
    let options = ConnectOptions::default().lock_timeout(SECOND * 60).statement_timeout(Duration::from_millis(300));
    a_locked_row_delays_no_other(options).await;
}

#[tokio::test]
async fn a_row_locked_by_an_open_transaction_does_not_cost_its_neighbours_their_leases() {
    const JOBS: usize = 20;
    let fixture = Fixture::with(SettingsChange::new().lease(SECOND * 2)).await;
    fixture.put_many(JOBS as u64).await;
    let mut jobs = fixture.queue.try_stream_jobs::<u64>("tasks");
    let acks: Vec<_> = take(&mut jobs, JOBS).await.into_iter().map(|job| job.into_parts().1).collect();

    let mut session = Direct::to(&fixture.database.url()).await;
    let transaction = session.client.transaction().await.unwrap();
    let locked = acks[JOBS / 3].id();
    transaction.batch_execute(&format!("select from pm.job where id = '{locked}' for update")).await.unwrap();
    tokio::time::sleep(SECOND * 6).await;
    for ack in acks.iter().filter(|ack| ack.id() != locked) {
        assert!(futures_util::FutureExt::now_or_never(ack.lost()).is_none(), "its lease is extended");
    }
    transaction.rollback().await.unwrap();
    for ack in acks {
        let (id, outcome) = (ack.id(), within("the commit", ack.commit()).await);
        assert!(outcome.is_ok() || id == locked, "{outcome:?}");
    }
    assert_eq!(fixture.number(&format!("select max(attempt) from pm.job where id <> '{locked}'")), 1);
}

#[tokio::test]
async fn a_rename_during_an_open_enqueue_is_given_up_with_a_clear_error_and_harms_nothing() {
    let fixture = Fixture::new().await;
    let lock_timeout = Duration::from_millis(300);
    let queue = fixture.another(ConnectOptions::default().lock_timeout(lock_timeout)).await;
    let mut session = Direct::to(&fixture.database.url()).await;
    let transaction = session.client.transaction().await.unwrap();
    let inside = pm_driver_tokio_postgres::InTransaction(&transaction);
    let theirs = queue.enqueue_in(&inside, "tasks", 1u64, EnqueueOptions::default()).await.unwrap();

    let renamer = queue.clone();
    let rename = tokio::spawn(async move { renamer.rename_queue("tasks", "chores").await });
    // Until then, other calls on the queue succeed.
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    let id = within("an enqueue", fixture.queue.enqueue("tasks", 2, EnqueueOptions::default())).await.unwrap();
    let job = next(&mut jobs).await;
    assert_eq!(job.id(), id);
    job.into_parts().1.commit().await.unwrap();

    let error = within("the rename", rename).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database, "{error}");
    assert!(error.to_string().contains("lock timeout") && error.to_string().contains("55P03"), "{error}");
    let delete = within("a delete", queue.delete_queue("tasks")).await.unwrap_err();
    assert_eq!(delete.kind(), ErrorKind::Database, "{delete}");
    transaction.commit().await.unwrap();
    let job = next(&mut jobs).await;
    assert_eq!(job.id(), theirs);
    job.into_parts().1.commit().await.unwrap();
    queue.rename_queue("tasks", "chores").await.expect("the rename succeeds");
    assert_eq!(fixture.job(theirs).await.queue, "chores");
}

/// A connection to a primary that became a standby would refuse writes for ever, like one opened before this setting
/// changed.
#[tokio::test]
async fn an_enqueue_refused_by_a_read_only_server_goes_in_over_a_new_connection() {
    let fixture = Fixture::new().await;
    let set = |on: &str| {
        let name = fixture.database.name();
        let sql =
            format!("begin read write; alter database \"{name}\" set default_transaction_read_only = {on}; commit");
        fixture.database.execute(&sql).unwrap();
    };
    for driver in ["tokio-postgres", "sqlx"] {
        set("on");
        let (url, options) = (fixture.database.url(), ConnectOptions::default().connections(1));
        let queue = match driver {
            "sqlx" => pm_driver_sqlx::connect_with(&url, options).await.unwrap(),
            _ => connect_with(&url, options).await.unwrap(),
        };
        let refused = queue.pause_queue("tasks").await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Database, "{driver}: {refused}");
        assert!(refused.to_string().starts_with("the server takes no writes"), "{driver}: {refused}");
        let until_it_was_refused = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            set("off");
        };
        let enqueue = queue.enqueue("tasks", 1u64, EnqueueOptions::default());
        let (enqueued, ()) = futures_util::join!(enqueue, until_it_was_refused);
        enqueued.unwrap_or_else(|error| panic!("{driver}: {error}"));
    }
}

/// A network that lets one connection through, and no other.
struct OneWay {
    tokio: Tokio,
    dials: AtomicUsize,
}

impl Runtime for OneWay {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.tokio.spawn(task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.tokio.sleep(duration)
    }
}

impl Sockets for OneWay {
    fn dial<'a>(&'a self, dial: &'a Dial) -> BoxFuture<'a, Result<(tokio_postgres::Client, Messages), DialError>> {
        match self.dials.fetch_add(1, Ordering::SeqCst) {
            0 => self.tokio.dial(dial),
            _ => Box::pin(std::future::pending()),
        }
    }
}

#[tokio::test]
async fn a_statement_does_not_wait_for_a_connection_that_it_can_do_without() {
    let fixture = Fixture::new().await;
    let network = Arc::new(OneWay { tokio: Tokio::current(), dials: AtomicUsize::new(0) });
    let options = ConnectOptions::default().connections(2).connect_timeout(SECOND * 600);
    let driver = TokioPostgres::on(&fixture.database.url(), &options, network.clone()).unwrap();
    let statement = |text: &str| Statement {
        id: pm_core::StatementId::SchemaVersion,
        text: text.to_owned(),
        params: vec![],
        columns: <i32 as pm_core::wire::Columns>::COLUMNS,
    };
    let (first, second) = (statement("select 1 from pg_sleep(0.5)"), statement("select 1 from pg_sleep(0.5)"));
    driver.run(&first, &[]).await.unwrap();
    let both = futures_util::future::join(driver.run(&first, &[]), driver.run(&second, &[]));
    let (first, second) = within("both", both).await;
    first.and(second).unwrap();
    let dials = async || network.dials.load(Ordering::SeqCst) == 2;
    eventually("a second connection is tried", TIMEOUT, dials).await;
}
