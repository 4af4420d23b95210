//! A durable server, producers, and worker processes on it.

use crate::ledger::{Figures, Ledger, audit, now_us};
use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, ErrorKind, Queue, SettingsChange};
use pm_sandbox::{Server, ServerOptions};
use pm_tests::{eventually, within};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// How long a test waits for recovery.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
pub(crate) const DATABASE: &str = "faults";
/// How many commits show that work goes on.
const GOES_ON: usize = 20;

/// The server, producers and workers of a fault test.
pub(crate) struct Scenario {
    pub(crate) server: Server,
    /// The producers' handle, on tokio-postgres.
    pub(crate) queue: Queue,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) workers: Vec<WorkerProcess>,
    producers: Vec<tokio::task::JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    started: usize,
}

/// A worker process, and a thread that records its output.
pub(crate) struct WorkerProcess {
    child: Child,
    number: usize,
    reading: Option<JoinHandle<()>>,
    ledger: Arc<Ledger>,
}

impl WorkerProcess {
    fn start(number: usize, url: &str, settings: &[&str], ledger: &Arc<Ledger>) -> WorkerProcess {
        let mut child = Command::new(env!("CARGO_BIN_EXE_worker"))
            .arg(url)
            .arg(format!("name=worker-{number}"))
            .args(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a worker can be started");
        let lines = BufReader::new(child.stdout.take().expect("it was piped")).lines();
        let recording = ledger.clone();
        let reading = std::thread::spawn(move || {
            // A killed process may leave half a line, without its end.
            for line in lines.map_while(Result::ok) {
                recording.note(number, &line);
            }
        });
        WorkerProcess { child, number, reading: Some(reading), ledger: ledger.clone() }
    }

    /// Kills it with SIGKILL; returns the jobs that its handlers had.
    pub(crate) fn kill(mut self) -> Vec<u64> {
        self.end()
    }

    fn end(&mut self) -> Vec<u64> {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it is a child of this process");
        self.reading.take().expect("it ends once").join().expect("reading does not panic");
        self.ledger.note_death(self.number)
    }

    /// Ends its standard input, so that it closes its queue, and waits until it is gone.
    async fn close(mut self) {
        drop(self.child.stdin.take());
        let gone = async || self.child.try_wait().expect("it is a child of this process").is_some();
        eventually("a worker closes", TIMEOUT, gone).await;
        assert!(self.child.wait().expect("it is a child of this process").success(), "it exits with success");
        self.reading.take().expect("it ends once").join().expect("reading does not panic");
        assert!(self.ledger.note_death(self.number).is_empty(), "no handler was left");
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        if self.reading.is_some() {
            self.end();
        }
    }
}

/// Returns the options of a server as in production: every commit is synced to disk.
pub(crate) fn durable() -> ServerOptions {
    ServerOptions::default().durable(true)
}

/// Returns the producers' options, with short timeouts.
pub(crate) fn short_timeouts() -> ConnectOptions {
    ConnectOptions::default().statement_timeout(SECOND * 3).connect_timeout(SECOND)
}

impl Scenario {
    /// Starts a durable server with a queue `tasks` that has this lease.
    pub(crate) async fn with_leases_of(lease: Duration) -> Scenario {
        Scenario::on(Server::start_with(durable()).expect("a private Postgres starts"), lease).await
    }

    /// Creates a database with a queue `tasks` that has this lease, on a server.
    pub(crate) async fn on(server: Server, lease: Duration) -> Scenario {
        server.create_database(DATABASE).expect("it is a new server");
        let on = |name: &str| server.execute(DATABASE, &format!("show {name}")).expect("it is a setting")[0][0].clone();
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            assert_eq!(on(setting).as_deref(), Some("on"), "{setting}");
        }
        let url = server.url_of(DATABASE);
        Scenario::at(server, &url, lease).await
    }

    /// Creates a queue `tasks` in the database at `url`, which producers use too.
    pub(crate) async fn at(server: Server, url: &str, lease: Duration) -> Scenario {
        let queue = pm_driver_tokio_postgres::connect_with(url, short_timeouts()).await.expect("connecting succeeds");
        queue.create_queue("tasks", false).await.expect("it is a new database");
        let settings =
            SettingsChange::new().lease(lease).backoff(vec![Duration::ZERO]).jitter_percent(0).max_retries(1_000);
        queue.set_queue_settings("tasks", settings).await.expect("the settings are valid");
        let (ledger, stop) = (Arc::new(Ledger::default()), Arc::default());
        Scenario { server, queue, ledger, workers: Vec::new(), producers: Vec::new(), stop, started: 0 }
    }

    /// Returns the URL of the database, over the server's Unix socket.
    pub(crate) fn url(&self) -> String {
        self.server.url_of(DATABASE)
    }

    /// Runs SQL in the database.
    pub(crate) fn sql(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.server.execute(DATABASE, sql).expect("the statement is valid")
    }

    /// Returns the number that a query returns.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.sql(sql)[0][0].as_ref().and_then(|cell| cell.parse().ok()).expect("it returns a number")
    }

    /// Returns when a job finished, in microseconds since 1970, if it has.
    pub(crate) fn ended_at_us(&self, n: u64) -> Option<u64> {
        let rows = self.sql(&format!(
            "select (extract(epoch from ended_at) * 1000000)::int8 from pm.job
             where state = 2 and payload = convert_to('{n}', 'UTF8')"
        ));
        rows.first()?[0].as_ref()?.parse().ok()
    }

    /// Starts producers, each of which enqueues jobs on `tasks` with a pause after each.
    pub(crate) fn produce(&mut self, producers: u64, pause: Duration) {
        for producer in 0..producers {
            let (queue, ledger, stop) = (self.queue.clone(), self.ledger.clone(), self.stop.clone());
            let first = (self.producers.len() as u64 + producer + 1) << 32;
            self.producers.push(tokio::spawn(async move {
                for n in first.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    match queue.enqueue("tasks", n, EnqueueOptions::default()).await {
                        Ok(id) => assert!(ledger.lock().confirmed.insert(n, id).is_none()),
                        Err(error) => {
                            assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Database), "{error}");
                            let message = format!("{:?} {error}", error.kind());
                            *ledger.lock().refusals.entry(message).or_default() += 1;
                        }
                    }
                    tokio::time::sleep(pause).await;
                }
            }));
        }
    }

    /// Enqueues `count` jobs on `tasks`.
    pub(crate) async fn put(&self, count: u64) {
        let first = self.ledger.lock().confirmed.range(..1 << 32).count() as u64;
        let jobs = (first..first + count).map(|n| (n, EnqueueOptions::default()));
        let enqueued = self.queue.enqueue_many("tasks", jobs).await.expect("the jobs are enqueued");
        let confirmed = (first..).zip(enqueued).map(|(n, job)| (n, job.id()));
        self.ledger.lock().confirmed.extend(confirmed);
    }

    /// Starts a worker process on the database, every second one on sqlx.
    pub(crate) fn work(&mut self, settings: &[&str]) {
        let driver = if self.started.is_multiple_of(2) { "driver=tokio-postgres" } else { "driver=sqlx" };
        self.work_at(&self.url(), &[&[driver], settings].concat());
    }

    /// Starts a worker process with the database at `url`.
    pub(crate) fn work_at(&mut self, url: &str, settings: &[&str]) {
        self.workers.push(WorkerProcess::start(self.started, url, settings, &self.ledger));
        self.started += 1;
    }

    /// Waits until `count` commits have succeeded after `from_us`.
    pub(crate) async fn endings(&self, from_us: u64, count: usize) {
        eventually("work goes on", TIMEOUT, async || self.ledger.endings_since(from_us) >= count).await;
    }

    /// Waits until work is in full progress.
    pub(crate) async fn under_way(&self) {
        self.endings(now_us(), 100).await;
    }

    /// Waits until work goes on after `from_us` and returns how long that took.
    pub(crate) async fn recovered(&self, from_us: u64) -> Duration {
        self.endings(from_us, GOES_ON).await;
        self.ledger.ending_after(from_us, GOES_ON).expect("there are that many")
    }

    /// Lets work go on for a while.
    pub(crate) async fn go_on(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Stops the producers, waits until every job has ended, closes the workers, audits, and prints the table row.
    pub(crate) async fn finish(mut self, fault: &str, recovery: &str) -> Figures {
        self.stop.store(true, Ordering::Relaxed);
        for producer in self.producers.drain(..) {
            within("the end of a producer", producer).await.expect("it saw no other error");
        }
        let left = || self.server.execute(DATABASE, "select count(*) from pm.job where state < 2");
        eventually("all jobs have ended", TIMEOUT, async || {
            left().is_ok_and(|rows| rows[0][0].as_deref() == Some("0"))
        })
        .await;
        for worker in self.workers.drain(..) {
            worker.close().await;
        }
        within("the producers' handle closes", self.queue.close()).await;
        let figures = audit(&self.ledger, |sql| self.sql(sql));
        let entries = self.ledger.lock();
        for (message, times) in &entries.refusals {
            println!("{times} enqueues failed: {message}");
        }
        if !entries.failed_commits.is_empty() {
            println!("failed commits: {:?}", entries.failed_commits);
        }
        let (jobs, finished, duplicates) = (figures.jobs, figures.finished, figures.duplicates);
        println!("| {fault} | {jobs} | {finished} | {duplicates} | {recovery} |");
        figures
    }
}
