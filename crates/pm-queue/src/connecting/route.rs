//! Trying the hosts of a target in turn, until a server is acceptable.

use super::target::{Host, Place, SessionAttrs, Target};
use super::tls::SslMode;
use crate::driver::BoxFuture;
use crate::runtime::{Randomness, Runtime, SystemRandomness};
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use pm_core::{Class, Failure, Instant};
use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// For how long an address that did not answer in time is tried after the others.
const DEFER_FOR: Duration = Duration::from_secs(60);
/// The maximum number of addresses of one host that are tried.
const MAX_ADDRESSES: usize = 32;

/// Connects to a target, and remembers which addresses did not answer.
#[derive(Debug)]
pub struct Route {
    target: Target,
    /// Whether the driver resolves host names.
    by_name: bool,
    /// The addresses that did not answer in time, with the time of the last attempt.
    unresponsive: Mutex<HashMap<Address, Instant>>,
}

/// One attempt to connect.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The index of the host in [`Target::places`].
    pub place: usize,
    /// The address to connect to.
    pub address: Address,
    /// How to encrypt. Never [`SslMode::Allow`], which leads to two attempts.
    pub mode: SslMode,
}

/// The address of a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A Unix socket: its directory, and the port in its name.
    Socket(PathBuf, u16),
    /// An IP address and a port.
    Ip(IpAddr, u16),
    /// A host name that the driver resolves, and a port.
    Name(String, u16),
}

impl Place {
    /// Returns the address of the host, without resolving its name.
    pub fn address(&self) -> Address {
        match &self.host {
            Host::Socket(directory) => Address::Socket(directory.clone(), self.port),
            Host::Name(name) => Address::Name(name.clone(), self.port),
            Host::Address(address, _) => Address::Ip(*address, self.port),
        }
    }
}

/// The current role of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// Whether it is a standby.
    pub is_standby: bool,
    /// Whether its sessions do not accept writes.
    pub is_read_only: bool,
}

impl Role {
    /// The statement that reads the role: it returns one row of two texts. Send it as a simple query.
    pub const STATEMENT: &str =
        "select pg_catalog.pg_is_in_recovery()::pg_catalog.text, pg_catalog.current_setting('transaction_read_only')";

    /// Returns the role from the row of [`Role::STATEMENT`].
    pub fn of_row(in_recovery: Option<&str>, read_only: Option<&str>) -> Role {
        Role { is_standby: in_recovery == Some("true"), is_read_only: read_only == Some("on") }
    }
}

/// Why one attempt failed.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The error that the server reported, if it did.
    pub reported: Option<Failure>,
    /// The reason as text, without a password.
    pub why: String,
    /// Whether TLS failed. Then an unencrypted connection is tried, if the mode allows that.
    pub is_tls: bool,
}

impl Refusal {
    /// Returns advice on a TLS error, as a space and a text in parentheses; empty for other errors.
    pub fn advice(why: &str) -> &'static str {
        let known = [
            (
                "UnknownIssuer",
                " (no trusted root has signed the certificate: set sslrootcert to the file of its issuer)",
            ),
            ("NotValidForName", " (the certificate is for another name: use that host name, or sslmode=verify-ca)"),
            ("not valid for name", " (the certificate is for another name: use that host name, or sslmode=verify-ca)"),
            ("server does not support TLS", " (enable ssl on the server, or use sslmode=prefer)"),
        ];
        known.iter().find(|(sign, _)| why.contains(sign)).map_or("", |(_, advice)| advice)
    }

    /// Returns a refusal that neither the server reported nor TLS caused.
    pub fn of(why: impl Into<String>) -> Self {
        Refusal { reported: None, why: why.into(), is_tls: false }
    }

    /// Returns whether other hosts would refuse as well, because the login is wrong.
    fn is_final(&self) -> bool {
        let clear = |failure: &Failure| failure.is_pooler() || failure.class() == Class::Permanent;
        self.reported.as_ref().is_some_and(clear)
    }

    /// Returns whether the server may accept a connection with or without TLS instead.
    fn concerns_encryption(&self) -> bool {
        // invalid_authorization_specification: no entry in pg_hba.conf
        self.is_tls || self.reported.as_ref().is_some_and(|failure| failure.sqlstate() == Some("28000"))
    }
}

/// Opens a connection and prepares it for use. Returns the server's role too, if [`Route::asks_role`]. The [`Route`]
/// limits its time.
pub type Open<'a, C> = dyn Fn(Attempt) -> BoxFuture<'a, Result<(C, Option<Role>), Refusal>> + Sync + 'a;

impl Route {
    /// Returns a route to a target, with no address marked as unresponsive.
    pub fn new(target: Target) -> Self {
        Route { target, by_name: false, unresponsive: Mutex::default() }
    }

    /// Sets whether the driver resolves host names. For drivers that cannot take an address together with a name.
    pub fn by_name(mut self, by_name: bool) -> Self {
        self.by_name = by_name;
        self
    }

    /// Returns the target.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Returns whether the next connection may go to a different server.
    pub fn has_choice(&self) -> bool {
        let is_name = |place: &Place| matches!(place.host, Host::Name(_));
        self.asks_role() || self.target.places.len() > 1 || self.target.places.iter().any(is_name)
    }

    /// Returns whether [`Open`] must return the server's [`Role`].
    pub fn asks_role(&self) -> bool {
        match self.target.session {
            SessionAttrs::Any => false,
            SessionAttrs::Unsaid => self.target.places.len() > 1,
            _ => true,
        }
    }

    /// Returns the host with this index as text for messages.
    pub fn place(&self, place: usize) -> String {
        self.target.places.get(place).map_or_else(String::new, |place| match &place.host {
            Host::Socket(directory) => format!("{}:{}", directory.display(), place.port),
            Host::Name(name) => format!("{name}:{}", place.port),
            Host::Address(address, name) if *name != address.to_string() => {
                format!("{name} ({address}):{}", place.port)
            }
            Host::Address(address, _) => format!("{address}:{}", place.port),
        })
    }

    /// Connects to the first acceptable server. Each address has the target's connect timeout.
    ///
    /// Like libpq, it stops at a server that refuses the login. Unlike libpq, an address that did not answer within
    /// the last minute is tried after the others. Otherwise a statement's timeout might always end the search at that
    /// address.
    ///
    /// # Errors
    ///
    /// The error of the only server, or a list of all hosts with the error of each.
    pub async fn connect<C>(&self, runtime: &dyn Runtime, open: &Open<'_, C>) -> Result<C, Failure> {
        let (mut refusals, mut second_best, mut unresponsive) = (Vec::new(), None, Vec::new());
        let places = self.order(self.target.places.len());
        for (place, again) in places.into_iter().map(|place| (place, false)).chain([(0, true)]) {
            let addresses = match again {
                true => std::mem::take(&mut unresponsive),
                false => match self.addresses(place, runtime).await {
                    Ok(addresses) => addresses.into_iter().map(|address| (place, address)).collect(),
                    Err(refusal) => {
                        refusals.push((place, refusal));
                        continue;
                    }
                },
            };
            for (place, address) in addresses {
                if !again && self.is_unresponsive(&address, runtime.now()) {
                    unresponsive.push((place, address));
                    continue;
                }
                match self.try_address(place, address, runtime, open).await {
                    Ok((connection, role)) => match self.rate(role) {
                        Rating::Good => return Ok(connection),
                        Rating::Fair => second_best = second_best.or(Some(connection)),
                        Rating::Bad(why) => refusals.push((place, Refusal::of(why))),
                    },
                    Err(refusal) if refusal.is_final() && second_best.is_none() => {
                        return Err(self.failure(vec![(place, refusal)]));
                    }
                    Err(refusal) => refusals.push((place, refusal)),
                }
            }
        }
        second_best.ok_or_else(|| self.failure(refusals))
    }

    async fn try_address<C>(
        &self,
        place: usize,
        address: Address,
        runtime: &dyn Runtime,
        open: &Open<'_, C>,
    ) -> Result<(C, Option<Role>), Refusal> {
        let (first, second) = match (self.target.tls.mode, &address) {
            (_, Address::Socket(..)) => (SslMode::Disable, None),
            (SslMode::Allow, _) => (SslMode::Disable, Some(SslMode::Require)),
            (SslMode::Prefer, _) => (SslMode::Prefer, Some(SslMode::Disable)),
            (mode, _) => (mode, None),
        };
        let attempt = |mode| self.attempt(Attempt { place, address: address.clone(), mode }, runtime, open);
        match (attempt(first).await, second) {
            (Err(refusal), Some(second)) if refusal.concerns_encryption() => {
                // If TLS fails too, the first error is usually the cause.
                attempt(second).await.map_err(|other| if other.is_tls { refusal } else { other })
            }
            (opened, _) => opened,
        }
    }

    /// Makes one attempt, limited by the connect timeout.
    async fn attempt<C>(
        &self,
        attempt: Attempt,
        runtime: &dyn Runtime,
        open: &Open<'_, C>,
    ) -> Result<(C, Option<Role>), Refusal> {
        let address = attempt.address.clone();
        let guard = AttemptGuard { route: self, address, runtime, since: runtime.now(), is_answered: false };
        let Some(limit) = self.target.connect_timeout else { return guard.answered(open(attempt).await) };
        match select(open(attempt), runtime.sleep(limit)).await {
            Either::Left((opened, _)) => guard.answered(opened),
            Either::Right(_) => Err(Refusal::of(format!("no answer within {limit:?}"))),
        }
    }

    /// Returns the addresses of a host.
    async fn addresses(&self, place: usize, runtime: &dyn Runtime) -> Result<Vec<Address>, Refusal> {
        let Some(host) = self.target.places.get(place) else { return Ok(Vec::new()) };
        let (name, port) = match host.address() {
            Address::Name(name, port) if !self.by_name => (name, port),
            address => return Ok(vec![address]),
        };
        let found = resolve(name, port);
        let found = match self.target.connect_timeout {
            None => found.await,
            Some(limit) => match select(Box::pin(found), runtime.sleep(limit)).await {
                Either::Left((found, _)) => found,
                Either::Right(_) => Err(Refusal::of(format!("its name could not be resolved within {limit:?}"))),
            },
        }?;
        let order = self.order(found.len());
        Ok(order.into_iter().filter_map(|at| found.get(at)).map(|ip| Address::Ip(*ip, port)).collect())
    }

    /// Returns the numbers below `count`, shuffled for load balancing if the target asks for that.
    fn order(&self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        if self.target.balances {
            for last in (1..count).rev() {
                // The bias of the remainder is negligible with 64 bits.
                let other = SystemRandomness.next_u64() % (last as u64 + 1);
                order.swap(last, usize::try_from(other).unwrap_or_default());
            }
        }
        order
    }

    fn unresponsive(&self) -> MutexGuard<'_, HashMap<Address, Instant>> {
        self.unresponsive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_unresponsive(&self, address: &Address, now: Instant) -> bool {
        let mut unresponsive = self.unresponsive();
        unresponsive.retain(|_, since| now < *since + DEFER_FOR);
        unresponsive.contains_key(address)
    }

    fn rate(&self, role: Option<Role>) -> Rating {
        let Some(role) = role else { return Rating::Good };
        let writes = !role.is_read_only && !role.is_standby;
        let (fits, what) = match self.target.session {
            SessionAttrs::Any => return Rating::Good,
            SessionAttrs::Unsaid => return if writes { Rating::Good } else { Rating::Fair },
            SessionAttrs::PreferStandby => return if role.is_standby { Rating::Good } else { Rating::Fair },
            SessionAttrs::ReadWrite => (writes, "it takes no writes (target_session_attrs=read-write)"),
            SessionAttrs::ReadOnly => (!writes, "it takes writes (target_session_attrs=read-only)"),
            SessionAttrs::Primary => (!role.is_standby, "it is a standby (target_session_attrs=primary)"),
            SessionAttrs::Standby => (role.is_standby, "it is not a standby (target_session_attrs=standby)"),
        };
        if fits { Rating::Good } else { Rating::Bad(what) }
    }

    /// Combines the refusals into one failure.
    fn failure(&self, mut refusals: Vec<(usize, Refusal)>) -> Failure {
        let hints = self.target.warnings.iter().map(|warning| format!(" ({warning})")).collect::<String>();
        if refusals.len() == 1
            && let Some((place, refusal)) = refusals.pop()
        {
            let reported = refusal.reported.map(|failure| match failure.sqlstate() {
                // invalid_password, invalid_authorization_specification
                Some(code @ ("28P01" | "28000")) if !hints.is_empty() => {
                    Failure::reported(code, None, format!("{}{hints}", failure.message()))
                }
                _ => failure,
            });
            return Failure::unreachable(&self.place(place), reported, format!("{}{hints}", refusal.why));
        }
        let mut parts: Vec<String> = Vec::new();
        for (place, refusal) in refusals {
            let part = format!("{}: {}", self.place(place), refusal.why);
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        Failure::not_sent(format!("cannot connect to {}{hints}", parts.join("; ")))
    }
}

enum Rating {
    Good,
    /// Used if there is no better server.
    Fair,
    Bad(&'static str),
}

/// One attempt in progress. If it is dropped without an answer, its address is marked as unresponsive.
struct AttemptGuard<'a> {
    route: &'a Route,
    address: Address,
    runtime: &'a dyn Runtime,
    since: Instant,
    is_answered: bool,
}

impl AttemptGuard<'_> {
    fn answered<T>(mut self, answer: T) -> T {
        self.is_answered = true;
        self.route.unresponsive().remove(&self.address);
        answer
    }
}

impl Drop for AttemptGuard<'_> {
    fn drop(&mut self) {
        // An attempt that the program abandoned at once does not count against the server.
        let now = self.runtime.now();
        if !self.is_answered && now >= self.since + Duration::from_secs(1) {
            self.route.unresponsive().insert(self.address.clone(), now);
        }
    }
}

/// Resolves a host name. The system's resolver blocks, so it runs on its own thread.
async fn resolve(name: String, port: u16) -> Result<Vec<IpAddr>, Refusal> {
    if name.contains('%') {
        return Err(Refusal::of("an IPv6 address with a zone, like fe80::1%eth0, is not supported: use one without"));
    }
    let (sender, receiver) = oneshot::channel();
    let look_up = move || {
        let found = (name.as_str(), port).to_socket_addrs();
        let unique = |mut all: Vec<IpAddr>, one: std::net::SocketAddr| {
            if !all.contains(&one.ip()) {
                all.push(one.ip());
            }
            all
        };
        // The receiver may have given up.
        drop(sender.send(found.map(|found| found.take(MAX_ADDRESSES).fold(Vec::new(), unique))));
    };
    let thread = std::thread::Builder::new().name("pm-resolve".into()).spawn(look_up);
    let unresolved = |why: String| Refusal::of(format!("its name cannot be resolved: {why}"));
    thread.map_err(|error| unresolved(error.to_string()))?;
    match receiver.await {
        Ok(Ok(found)) if found.is_empty() => Err(unresolved("it has no address".into())),
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(unresolved(error.to_string())),
        Err(_) => Err(unresolved("the resolver's thread has ended".into())),
    }
}
