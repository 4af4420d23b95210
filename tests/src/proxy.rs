//! A proxy between a queue and its server that can cut connections at a chosen moment.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::config::Host;

/// What is lost of a statement's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The connection is cut as soon as the statement is forwarded: it may run before, during or after the cut.
    AtOnce,
    /// The reply is withheld, and the connection cut when it is complete: the statement has certainly run.
    Reply,
}

/// At most this many bytes of replies are in flight in a throttled proxy; the rest stays with the server.
const WINDOW: usize = 64 << 10;

/// Forwards to a server, and cuts connections on request.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Where new connections lead to.
    socket: Mutex<PathBuf>,
    /// Statements whose next execution cuts their connection: a part of their text, and how.
    traps: Mutex<Vec<(String, Loss)>>,
    cuts: AtomicUsize,
    /// How often each statement was executed, by its text.
    executions: Mutex<HashMap<String, usize>>,
    largest: AtomicUsize,
    most_in_flight: AtomicUsize,
    /// How long replies are delayed one after another, in microseconds.
    delay_us: AtomicU64,
    /// How long each reply is in flight, in microseconds, in parallel with the others.
    latency_us: AtomicU64,
    /// How many bytes a second pass in each direction; unlimited when zero.
    bytes_a_second: AtomicU64,
    /// Whether nothing passes any more, in either direction.
    is_black_hole: watch::Sender<bool>,
}

impl Proxy {
    /// Returns a proxy in front of the server of this URL, which names a Unix socket.
    pub async fn before(url: &str) -> Proxy {
        let (socket, database) = socket_of(url);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared::default());
        *shared.socket() = socket;
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        // The proxy reads the messages, so they must not be encrypted.
        let url = format!("postgres://postgres@127.0.0.1:{port}/{database}?sslmode=disable");
        Proxy { url, shared, accepting }
    }

    /// Directs new connections to the server of this URL, like an address that moves to a standby.
    pub fn lead_to(&self, url: &str) {
        *self.shared.socket() = socket_of(url).0;
    }

    /// Returns the URL of the database through this proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Cuts the connection on which a statement that contains `text` is executed next; once.
    pub fn trap(&self, text: &str, loss: Loss) {
        self.shared.traps().push((text.to_owned(), loss));
    }

    /// Delays every reply by `delay`, one after another.
    pub fn delay_replies(&self, delay: Duration) {
        self.shared.delay_us.store(delay.as_micros() as u64, Ordering::SeqCst);
    }

    /// Delays every reply by `latency`, as a link of this latency does: replies are in flight in parallel.
    pub fn late_replies(&self, latency: Duration) {
        self.shared.latency_us.store(latency.as_micros() as u64, Ordering::SeqCst);
    }

    /// Limits each direction of a connection to this many bytes a second from now on; zero removes the limit.
    pub fn throttle(&self, bytes_a_second: u64) {
        self.shared.bytes_a_second.store(bytes_a_second, Ordering::SeqCst);
    }

    /// Drops everything that is sent, in either direction, without closing connections, until `black_hole(false)`.
    ///
    /// Connections that are open then, or opened until then, stay silent for ever, as behind a firewall that has lost
    /// its state.
    pub fn black_hole(&self, is_black_hole: bool) {
        self.shared.is_black_hole.send_replace(is_black_hole);
    }

    /// Returns how many statements that contain `text` have been executed so far.
    pub fn executions(&self, text: &str) -> usize {
        let executions = self.shared.executions.lock().unwrap_or_else(PoisonError::into_inner);
        executions.iter().filter(|(statement, _)| statement.contains(text)).map(|(_, times)| times).sum()
    }

    /// Returns the size in bytes of the largest message of a client.
    pub fn largest_request(&self) -> usize {
        self.shared.largest.load(Ordering::SeqCst)
    }

    /// Returns how many requests have been in flight on one connection at the same time.
    pub fn most_in_flight(&self) -> usize {
        self.shared.most_in_flight.load(Ordering::SeqCst)
    }

    /// Returns how many connections have been cut.
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn socket(&self) -> MutexGuard<'_, PathBuf> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn traps(&self) -> MutexGuard<'_, Vec<(String, Loss)>> {
        self.traps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the execution of a statement; returns how its reply is to be lost if a trap matches.
    fn execute(&self, text: &str) -> Option<Loss> {
        let mut executions = self.executions.lock().unwrap_or_else(PoisonError::into_inner);
        match executions.get_mut(text) {
            Some(times) => *times += 1,
            None => {
                executions.insert(text.to_owned(), 1);
            }
        }
        drop(executions);
        self.spring(text)
    }

    /// Returns how long this many bytes take through the throttle.
    fn transfer(&self, bytes: usize) -> Duration {
        match self.bytes_a_second.load(Ordering::SeqCst) {
            0 => Duration::ZERO,
            rate => Duration::from_micros(bytes as u64 * 1_000_000 / rate),
        }
    }

    fn spring(&self, text: &str) -> Option<Loss> {
        let mut traps = self.traps();
        let index = traps.iter().position(|(part, _)| text.contains(part.as_str()))?;
        Some(traps.remove(index).1)
    }
}

/// Returns the Unix socket and the database name of a URL of the sandbox.
fn socket_of(url: &str) -> (PathBuf, String) {
    let config: tokio_postgres::Config = url.parse().expect("the sandbox makes valid URLs");
    let (host, port) = (config.get_hosts().first(), config.get_ports().first());
    let (Some(Host::Unix(dir)), Some(port)) = (host, port) else { panic!("no Unix socket in {url}") };
    (dir.join(format!(".s.PGSQL.{port}")), config.get_dbname().unwrap_or("postgres").to_owned())
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let (socket, shared) = (shared.socket().clone(), shared.clone());
        tokio::spawn(async move {
            let Ok(server) = UnixStream::connect(socket).await else { return };
            client.set_nodelay(true).expect("the option can be set");
            let mut is_black_hole = shared.is_black_hole.subscribe();
            let mut wire = Wire::new(client, server, &shared);
            tokio::select! {
                biased;
                _ = is_black_hole.wait_for(|is_black_hole| *is_black_hole) => {}
                // Either end may close at any time; then both are closed.
                outcome = wire.run() => {
                    if matches!(outcome, Ok(true)) {
                        shared.cuts.fetch_add(1, Ordering::SeqCst);
                    }
                    return;
                }
            }
            // Both ends stay open and receive nothing.
            std::future::pending::<()>().await;
            drop(wire);
        });
    }
}

/// One connection through the proxy.
struct Wire<'a> {
    client: TcpStream,
    server: UnixStream,
    shared: &'a Shared,
    /// The texts of prepared statements, by name.
    prepared: HashMap<String, String>,
    requests: Half,
    replies: Half,
    /// How many replies the client may still receive, once a trap has matched.
    last: Option<usize>,
}

/// One direction: bytes not yet forwarded, and how many requests or replies have passed.
#[derive(Default)]
struct Half {
    /// Bytes in flight, and when they arrive.
    in_flight: VecDeque<(Instant, Vec<u8>)>,
    in_flight_bytes: usize,
    buffer: Vec<u8>,
    count: usize,
}

impl Half {
    /// Sends bytes, read now, over a link with this latency, which they occupy for the time `transfer`.
    fn send(&mut self, bytes: &[u8], latency: Duration, transfer: Duration) {
        if latency.is_zero() && transfer.is_zero() && self.in_flight.is_empty() {
            self.buffer.extend_from_slice(bytes);
            return;
        }
        let at = Instant::now() + latency;
        // The bytes before these arrive first, and occupy the link until then.
        let arrives_at = self.in_flight.back().map_or(at, |(last, _)| at.max(*last)) + transfer;
        self.in_flight_bytes += bytes.len();
        self.in_flight.push_back((arrives_at, bytes.to_vec()));
    }

    /// Waits until the next bytes arrive; for ever when none are in flight. Cancel-safe.
    async fn arrival(&self) {
        match self.in_flight.front() {
            Some((at, _)) => tokio::time::sleep_until(*at).await,
            None => std::future::pending().await,
        }
    }

    /// Takes the bytes that have arrived.
    fn arrive(&mut self) {
        if let Some((_, bytes)) = self.in_flight.pop_front() {
            self.in_flight_bytes -= bytes.len();
            self.buffer.extend_from_slice(&bytes);
        }
    }

    /// Returns the next whole message with its type byte, or the start-up message.
    fn message(&mut self, is_startup: bool) -> Option<Vec<u8>> {
        let start = usize::from(!is_startup);
        let length = self.buffer.get(start..start + 4)?.try_into().expect("the slice has four bytes");
        let end = start + u32::from_be_bytes(length) as usize;
        (self.buffer.len() >= end).then(|| self.buffer.drain(..end).collect())
    }
}

impl<'a> Wire<'a> {
    fn new(client: TcpStream, server: UnixStream, shared: &'a Shared) -> Self {
        let (requests, replies) = (Half::default(), Half::default());
        Wire { client, server, shared, prepared: HashMap::new(), requests, replies, last: None }
    }

    /// Forwards until an end closes or a trap matches; returns whether it was a trap.
    async fn run(&mut self) -> io::Result<bool> {
        let (mut from_client, mut from_server) = ([0; 8192], [0; 8192]);
        loop {
            let is_full = self.replies.in_flight_bytes >= WINDOW && self.shared.transfer(1) > Duration::ZERO;
            tokio::select! {
                () = self.requests.arrival() => {
                    self.requests.arrive();
                    if self.forward_requests().await? {
                        return Ok(true);
                    }
                }
                () = self.replies.arrival() => {
                    self.replies.arrive();
                    if self.forward_replies().await? {
                        return Ok(true);
                    }
                }
                // What the client sends is read without limit: TCP reopens a full window in steps of 200 ms and more.
                read = self.client.read(&mut from_client) => {
                    let Some(bytes) = received(&from_client, read?) else { return Ok(false) };
                    self.requests.send(bytes, Duration::ZERO, self.shared.transfer(bytes.len()));
                    if self.forward_requests().await? {
                        return Ok(true);
                    }
                }
                read = self.server.read(&mut from_server), if !is_full => {
                    let Some(bytes) = received(&from_server, read?) else { return Ok(false) };
                    let latency = Duration::from_micros(self.shared.latency_us.load(Ordering::SeqCst));
                    let delay_us = self.shared.delay_us.load(Ordering::SeqCst);
                    if delay_us > 0 {
                        tokio::time::sleep(Duration::from_micros(delay_us)).await;
                    }
                    self.replies.send(bytes, latency, self.shared.transfer(bytes.len()));
                    if self.forward_replies().await? {
                        return Ok(true);
                    }
                }
            }
        }
    }

    /// Forwards whole messages; returns whether to cut now.
    async fn forward_requests(&mut self) -> io::Result<bool> {
        while let Some(message) = self.requests.message(self.requests.count == 0) {
            let is_startup = self.requests.count == 0;
            self.shared.largest.fetch_max(message.len(), Ordering::SeqCst);
            let kind = if is_startup { b'S' } else { message[0] };
            let loss = if is_startup { None } else { self.record(&message) };
            self.server.write_all(&message).await?;
            if let Some(loss) = loss {
                // The replies before this statement's still pass.
                self.last = Some(self.requests.count);
                if loss == Loss::AtOnce {
                    self.forward_rest(kind).await?;
                    return Ok(true);
                }
            }
            self.requests.count += usize::from(matches!(kind, b'S' | b'Q'));
            let in_flight = self.requests.count - self.replies.count;
            self.shared.most_in_flight.fetch_max(in_flight, Ordering::SeqCst);
        }
        Ok(false)
    }

    /// Forwards the rest of the statement; without it the server would not run it.
    async fn forward_rest(&mut self, mut kind: u8) -> io::Result<()> {
        let mut bytes = [0; 8192];
        while !matches!(kind, b'S' | b'Q') {
            match self.requests.message(false) {
                Some(message) => {
                    kind = message[0];
                    self.server.write_all(&message).await?;
                }
                None => {
                    let read = self.client.read(&mut bytes).await?;
                    self.requests.buffer.extend_from_slice(&bytes[..read]);
                }
            }
        }
        self.server.flush().await
    }

    /// Records prepared statements; returns how the reply is to be lost if a trap matches.
    fn record(&mut self, message: &[u8]) -> Option<Loss> {
        let mut texts = message[5..].split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
        let (first, second) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
        match message[0] {
            b'P' => {
                self.prepared.insert(first, second);
                None
            }
            b'B' => self.prepared.get(&second).and_then(|text| self.shared.execute(text)),
            b'Q' => self.shared.execute(&first),
            _ => None,
        }
    }

    /// Forwards whole messages; returns whether to cut now, because the reply to be lost is complete.
    async fn forward_replies(&mut self) -> io::Result<bool> {
        while let Some(message) = self.replies.message(false) {
            if self.last.is_none_or(|last| self.replies.count < last) {
                self.client.write_all(&message).await?;
            }
            self.replies.count += usize::from(message[0] == b'Z');
            if self.last.is_some_and(|last| self.replies.count > last) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Returns the bytes read, or none at the end.
fn received(buffer: &[u8], read: usize) -> Option<&[u8]> {
    (read > 0).then(|| &buffer[..read])
}
