//! Connecting as libpq does, on both drivers: several hosts, silent ones, failovers.

use pm_driver_tokio_postgres::{ConnectOptions, EnqueueOptions, Error, ErrorKind, Queue};
use pm_sandbox::{Server, ServerOptions};
use pm_tests::{Fixture, TIMEOUT, eventually, next, within};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::net::TcpListener;

const SECOND: Duration = Duration::from_secs(1);
const DRIVERS: [&str; 2] = ["tokio-postgres", "sqlx"];

async fn connect(driver: &str, url: &str, options: ConnectOptions) -> Result<Queue, Error> {
    match driver {
        "sqlx" => within(driver, pm_driver_sqlx::connect_with(url, options)).await,
        _ => within(driver, pm_driver_tokio_postgres::connect_with(url, options)).await,
    }
}

fn with_timeout(timeout: Duration) -> ConnectOptions {
    ConnectOptions::default().connect_timeout(timeout)
}

/// A host that sends nothing: it accepts connections as long as its backlog has room, and then not even those.
struct Mute {
    address: SocketAddr,
    _listener: std::net::TcpListener,
    _queued: Vec<std::net::TcpStream>,
}

impl Mute {
    fn new() -> Mute {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Mute { address: listener.local_addr().unwrap(), _listener: listener, _queued: Vec::new() }
    }

    /// Returns a host whose backlog is full: packets to it are dropped.
    async fn full() -> Mute {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(0).unwrap().into_std().unwrap();
        let address = listener.local_addr().unwrap();
        let short = Duration::from_millis(200);
        let queued: Vec<_> =
            (0..64).map_while(|_| std::net::TcpStream::connect_timeout(&address, short).ok()).collect();
        assert!(queued.len() < 64, "its backlog is full");
        Mute { address, _listener: listener, _queued: queued }
    }
}

/// Returns an address at which no server listens.
async fn dead() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

/// Returns the server of this test process, which listens on TCP as well.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let options = ServerOptions::default().tcp(true);
        Server::start_with(options).expect("a private Postgres starts")
    })
}

/// Creates a database; returns the address of its server and its name.
fn database(name: &str) -> (String, String) {
    server().create_database(name).unwrap();
    (format!("127.0.0.1:{}", server().port()), name.to_owned())
}

/// Creates a queue, and enqueues and commits a job on it.
async fn works(queue: &Queue) {
    queue.create_queue("tasks", false).await.unwrap();
    let id = queue.enqueue("tasks", 1u64, EnqueueOptions::default()).await.unwrap();
    let mut jobs = queue.try_stream_jobs::<u64>("tasks");
    let job = next(&mut jobs).await;
    assert_eq!(job.id(), id);
    within("the commit", job.into_parts().1.commit()).await.unwrap();
}

#[tokio::test]
async fn a_host_that_is_silent_or_gone_is_passed_over_for_the_next() {
    let (address, database) = database("passed_over");
    let (mute, full, gone) = (Mute::new(), Mute::full().await, dead().await);
    for driver in DRIVERS {
        for first in [mute.address, full.address, gone] {
            let url = format!("postgres://postgres@{first},{address}/{database}");
            let queue = connect(driver, &url, with_timeout(SECOND)).await;
            works(&queue.unwrap_or_else(|error| panic!("{driver}, {first}: {error}"))).await;
        }
        let socket = server().socket_dir().display();
        let (port, mute) = (server().port(), mute.address.port());
        let pairs = format!("host=127.0.0.1,{socket} port={mute},{port} user=postgres dbname={database}");
        works(&connect(driver, &pairs, with_timeout(SECOND)).await.unwrap()).await;
    }
}

#[tokio::test]
async fn the_timeout_of_the_url_applies_to_each_host_and_the_error_names_them_all() {
    let (first, second, gone) = (Mute::new(), Mute::new(), dead().await);
    for driver in DRIVERS {
        let hosts = format!("{},{},{gone}", first.address, second.address);
        let url = format!("postgres://ada:hunter2@{hosts}/app?connect_timeout=1");
        let error = connect(driver, &url, with_timeout(SECOND * 600)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{driver}: {error}");
        let text = error.to_string();
        for address in [first.address, second.address, gone] {
            assert!(text.contains(&address.to_string()), "{driver}: {text}");
        }
        assert!(text.contains("no answer within 1s") && !text.contains("hunter2"), "{driver}: {text}");
    }
}

#[tokio::test]
async fn a_socket_whose_server_is_silent_is_passed_over_too() {
    let (address, database) = database("silent_socket");
    let directory = tempdir("silent-socket");
    let _listener = UnixListener::bind(directory.join(".s.PGSQL.5432")).unwrap();
    for driver in DRIVERS {
        let host = directory.display().to_string().replace('/', "%2F");
        let url = format!("postgres://postgres@{host}:5432,{address}/{database}");
        works(&connect(driver, &url, with_timeout(SECOND)).await.unwrap()).await;
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn a_login_that_is_refused_is_final() {
    let (address, _) = database("refused_login");
    let mute = Mute::new();
    for driver in DRIVERS {
        let url = format!("postgres://postgres@{address},{}/no_such_database", mute.address);
        let error = connect(driver, &url, with_timeout(SECOND * 600)).await.unwrap_err();
        assert!(error.to_string().contains("no_such_database"), "{driver}: {error}");
    }
}

/// Creates a directory for this test process.
fn tempdir(name: &str) -> std::path::PathBuf {
    let directory = std::env::temp_dir().join(format!("pm-{name}-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    directory
}

/// A primary and a standby that follows it, each on a TCP port.
struct Pair {
    primary: Server,
    standby: Server,
    standby_dir: std::path::PathBuf,
}

impl Pair {
    fn start(name: &str) -> Pair {
        let options =
            || ServerOptions::default().tcp(true).setting("max_wal_senders", "4").setting("wal_level", "replica");
        let primary = Server::start_with(options()).expect("a private Postgres starts");
        primary.create_database("app").unwrap();
        let standby_dir = std::env::temp_dir().join(format!("pm-{name}-{}", std::process::id()));
        primary.copy_as_standby(&standby_dir).expect("copying succeeds");
        let standby = Server::start_with(options().data_dir(&standby_dir)).expect("the copy starts");
        Pair { primary, standby, standby_dir }
    }

    fn url(&self, parameters: &str) -> String {
        let (first, second) = (self.primary.port(), self.standby.port());
        format!("postgres://postgres@127.0.0.1:{first},127.0.0.1:{second}/app?{parameters}")
    }

    /// Returns the same hosts, the standby first.
    fn url_backwards(&self, parameters: &str) -> String {
        let (first, second) = (self.standby.port(), self.primary.port());
        format!("postgres://postgres@127.0.0.1:{first},127.0.0.1:{second}/app?{parameters}")
    }

    /// Waits until the standby has what the primary has.
    async fn catch_up(&self) {
        // Commits are asynchronous here: a checkpoint writes what only the primary's memory has.
        self.primary.execute("postgres", "checkpoint").unwrap();
        let at = self.primary.execute("postgres", "select pg_current_wal_lsn()").unwrap()[0][0].clone().unwrap();
        let sql = format!("select pg_last_wal_replay_lsn() >= '{at}'");
        let caught_up = async || self.standby.execute("postgres", &sql).unwrap()[0][0].as_deref() == Some("t");
        eventually("the standby has caught up", TIMEOUT, caught_up).await;
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // The servers end with the process. Files that the standby has open stay readable to it.
        std::fs::remove_dir_all(&self.standby_dir).ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn target_session_attrs_choose_the_server_and_a_failover_is_followed() {
    let pair = Pair::start("attrs");
    let migrated = connect("tokio-postgres", &pair.url(""), with_timeout(SECOND)).await.unwrap();
    migrated.create_queue("tasks", false).await.unwrap();
    migrated.close().await;
    pair.catch_up().await;
    let writes = |outcome: Result<u64, Error>| match outcome {
        Ok(_) => true,
        Err(error) if error.to_string().contains("takes no writes") => false,
        Err(error) => panic!("{error}"),
    };
    for driver in DRIVERS {
        for (attrs, is_primary) in [
            ("", true),
            ("target_session_attrs=any", false),
            ("target_session_attrs=read-write", true),
            ("target_session_attrs=primary", true),
            ("target_session_attrs=read-only", false),
            ("target_session_attrs=standby", false),
            ("target_session_attrs=prefer-standby", false),
        ] {
            let options = with_timeout(SECOND * 10).migrate(false);
            let queue = connect(driver, &pair.url_backwards(attrs), options).await;
            let queue = queue.unwrap_or_else(|error| panic!("{driver}, {attrs}: {error}"));
            let paused = queue.pause_queue("tasks").await;
            assert_eq!(writes(paused), is_primary, "{driver}, {attrs}");
            queue.close().await;
        }
        let port = pair.standby.port();
        let only = format!("postgres://postgres@127.0.0.1:{port}/app?target_session_attrs=read-write");
        let error = connect(driver, &only, with_timeout(SECOND * 10)).await.unwrap_err();
        assert!(error.to_string().contains("it takes no writes"), "{driver}: {error}");
    }
    follow_a_failover(pair).await;
}

/// The primary stops responding without closing a connection; the standby becomes the primary.
async fn follow_a_failover(pair: Pair) {
    let mut queues = Vec::new();
    for driver in DRIVERS {
        // Short, so that a statement to the silent server is given up soon: after this second and the façade's five.
        let options = with_timeout(SECOND).statement_timeout(SECOND);
        let queue = connect(driver, &pair.url("target_session_attrs=read-write"), options).await.unwrap();
        queue.create_queue(driver, false).await.unwrap();
        let jobs = Box::pin(queue.try_stream_jobs::<u64>(driver));
        queues.push((driver, queue, jobs));
    }
    for (driver, queue, jobs) in &mut queues {
        queue.enqueue(driver, 1u64, EnqueueOptions::default()).await.unwrap();
        within("the commit", next(jobs).await.into_parts().1.commit()).await.unwrap();
    }
    pair.catch_up().await;
    let _stopped = Stopped::all_of(&pair.primary);
    pair.standby.execute("postgres", "select pg_promote()").unwrap();
    for (driver, queue, jobs) in &mut queues {
        let goes_in = async || match queue.enqueue(driver, 2u64, EnqueueOptions::default()).await {
            Ok(_) => true,
            Err(error) => {
                // Printed when the test fails.
                println!("{driver}: {error}");
                false
            }
        };
        eventually("an enqueue finds the new primary", TIMEOUT * 3, goes_in).await;
        let job = tokio::time::timeout(TIMEOUT * 3, futures_util::StreamExt::next(jobs)).await;
        let job = job.unwrap_or_else(|_| panic!("{driver}: the stream finds the new primary")).unwrap().unwrap();
        within("the commit", job.into_parts().1.commit()).await.unwrap();
    }
    let listening = "select count(*) from pg_stat_activity where query ilike '%listen \"%'";
    let all_listen = async || pair.standby.execute("app", listening).unwrap()[0][0].as_deref() == Some("2");
    eventually("both listen on the new primary", TIMEOUT * 3, all_listen).await;
}

/// The processes of a server, stopped as on a machine that hangs: their sockets stay open. Dropping this resumes them.
struct Stopped(Vec<String>);

impl Stopped {
    fn all_of(server: &Server) -> Stopped {
        let backends = "select pid from pg_stat_activity where pid <> pg_backend_pid()";
        let rows = server.execute("postgres", backends).unwrap();
        let backends = rows.into_iter().filter_map(|row| row.into_iter().next().flatten());
        let stopped = Stopped(std::iter::once(server.pid().to_string()).chain(backends).collect());
        stopped.signal("-STOP");
        stopped
    }

    fn signal(&self, signal: &str) {
        // One of them may have ended, which is an error of the command.
        Command::new("kill").arg(signal).args(&self.0).stderr(Stdio::null()).status().expect("the command exists");
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

#[tokio::test]
async fn connections_are_balanced_over_both_hosts() {
    let fixture = Fixture::new().await;
    let socket = fixture.database.url();
    let target = pm_driver_tokio_postgres::connecting::Target::read(&socket, &ConnectOptions::default()).unwrap();
    let pm_driver_tokio_postgres::connecting::Host::Socket(directory) = &target.places[0].host else { panic!() };
    let (directory, name, port) = (directory.display(), fixture.database.name(), target.places[0].port);
    let (one, two) = (tempdir("balanced-1"), tempdir("balanced-2"));
    for link in [&one, &two] {
        let socket = format!("{directory}/.s.PGSQL.{port}");
        std::os::unix::fs::symlink(socket, link.join(format!(".s.PGSQL.{port}"))).unwrap();
    }
    let hosts = format!("host={},{} port={port}", one.display(), two.display());
    let text = format!("{hosts} user=postgres dbname={name} load_balance_hosts=random");
    let target = pm_driver_tokio_postgres::connecting::Target::read(&text, &ConnectOptions::default()).unwrap();
    let route = pm_driver_tokio_postgres::connecting::Route::new(target);
    let runtime = pm_driver_tokio_postgres::runtime::Tokio::current();
    let mut firsts = [0, 0];
    for _ in 0..64 {
        let open =
            |attempt: pm_driver_tokio_postgres::connecting::Attempt| -> pm_driver_tokio_postgres::driver::BoxFuture<'_, _> {
                Box::pin(async move { Ok((attempt.place, Some(WRITER))) })
            };
        firsts[route.connect(&runtime, &open).await.unwrap()] += 1;
    }
    assert!(firsts.iter().all(|count| *count > 0), "{firsts:?}");
    for driver in DRIVERS {
        connect(driver, &text, with_timeout(SECOND)).await.unwrap();
    }
    std::fs::remove_dir_all(one).and_then(|()| std::fs::remove_dir_all(two)).unwrap();
}

const WRITER: pm_driver_tokio_postgres::connecting::Role =
    pm_driver_tokio_postgres::connecting::Role { is_standby: false, is_read_only: false };
