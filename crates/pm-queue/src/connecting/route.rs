//! Trying the places of a target in turn, until one will do.

use super::target::{Host, Place, SessionAttrs, Target};
use super::tls::SslMode;
use crate::{BoxFuture, Randomness, Runtime, SystemRandomness};
use futures_channel::oneshot;
use futures_util::future::{Either, select};
use pm_core::{Class, Failure, Instant};
use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// For how long a place that did not answer in time is tried after the others.
const SILENCE: Duration = Duration::from_secs(60);
/// The most addresses of one host that are tried.
const MOST_ADDRESSES: usize = 32;

/// The way to a target: what was tried, and what came of it.
#[derive(Debug)]
pub struct Route {
    target: Target,
    /// Whether names are left for the driver to resolve.
    by_name: bool,
    /// When an address last did not answer in time.
    silent: Mutex<HashMap<Address, Instant>>,
}

/// One address of a target to connect to.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Which of the target's places it is.
    pub place: usize,
    /// Where it is.
    pub address: Address,
    /// How to encrypt: never [`SslMode::Allow`], which is two attempts.
    pub mode: SslMode,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A Unix socket, by the directory and the number in its name.
    Socket(PathBuf, u16),
    /// An IP address and a port.
    Ip(IpAddr, u16),
    /// A name that the driver resolves, and a port.
    Name(String, u16),
}

/// What a server is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// Whether it is a standby.
    pub is_standby: bool,
    /// Whether its sessions take no writes.
    pub is_read_only: bool,
}

impl Role {
    /// The statement that shows it: one row of two texts. Send it as a simple query.
    pub const STATEMENT: &str =
        "select pg_catalog.pg_is_in_recovery()::pg_catalog.text, pg_catalog.current_setting('transaction_read_only')";

    /// Reads the row of [`Role::STATEMENT`].
    pub fn of_row(in_recovery: Option<&str>, read_only: Option<&str>) -> Role {
        Role { is_standby: in_recovery == Some("true"), is_read_only: read_only == Some("on") }
    }
}

/// Why one attempt came to nothing.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// What the server reported, if it did.
    pub reported: Option<Failure>,
    /// The reason in words, without a password.
    pub why: String,
    /// Whether it was about encryption: then one without may be tried, if the mode lets it.
    pub is_tls: bool,
}

impl Refusal {
    /// Returns what to do about an error of TLS, in brackets after a blank; nothing for others.
    pub fn advice(why: &str) -> &'static str {
        let known = [
            (
                "UnknownIssuer",
                " (none that is trusted has signed the certificate: name its issuer's file in sslrootcert)",
            ),
            ("NotValidForName", " (the certificate bears another name: use that host name, or sslmode=verify-ca)"),
            ("not valid for name", " (the certificate bears another name: use that host name, or sslmode=verify-ca)"),
            ("server does not support TLS", " (enable ssl on the server, or use sslmode=prefer)"),
        ];
        known.iter().find(|(sign, _)| why.contains(sign)).map_or("", |(_, advice)| advice)
    }

    fn of(why: impl Into<String>) -> Self {
        Refusal { reported: None, why: why.into(), is_tls: false }
    }

    /// Returns whether another place would refuse as well: the login is wrong, not the server.
    fn is_final(&self) -> bool {
        let clear = |failure: &Failure| failure.is_pooler() || failure.class() == Class::Permanent;
        self.reported.as_ref().is_some_and(clear)
    }

    /// Returns whether the server may let in who comes with TLS, or without.
    fn concerns_encryption(&self) -> bool {
        // invalid_authorization_specification: no entry in pg_hba.conf
        self.is_tls || self.reported.as_ref().is_some_and(|failure| failure.sqlstate() == Some("28000"))
    }
}

/// Opens a connection and makes it ready for use, without a bound of its own; with the server's role if the
/// [`Route`] asks for it.
pub type Open<'a, C> = dyn Fn(Attempt) -> BoxFuture<'a, Result<(C, Option<Role>), Refusal>> + Sync + 'a;

impl Route {
    /// Returns the way to a target.
    pub fn new(target: Target) -> Self {
        Route { target, by_name: false, silent: Mutex::default() }
    }

    /// Leaves names for the driver to resolve: for one that cannot name a host whose address it is given.
    pub fn by_name(mut self, by_name: bool) -> Self {
        self.by_name = by_name;
        self
    }

    /// Returns where it leads.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Returns whether another connection may lead to another server.
    pub fn has_choice(&self) -> bool {
        let is_name = |place: &Place| matches!(place.host, Host::Name(_));
        self.asks_role() || self.target.places.len() > 1 || self.target.places.iter().any(is_name)
    }

    /// Returns whether a connection must come with the server's [`Role`].
    pub fn asks_role(&self) -> bool {
        match self.target.session {
            SessionAttrs::Any => false,
            SessionAttrs::Unsaid => self.target.places.len() > 1,
            _ => true,
        }
    }

    /// Returns a place as messages show it.
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

    /// Returns a connection to the first address that will do. Each address has the target's connect timeout.
    ///
    /// Like libpq it stops at a server that refuses the login. Unlike libpq it tries an address that was silent within
    /// the last minute after the others, so that a statement's own timeout does not end every walk at the same place.
    ///
    /// # Errors
    ///
    /// What the only server reported, or all places with what each of them said.
    pub async fn connect<C>(&self, runtime: &dyn Runtime, open: &Open<'_, C>) -> Result<C, Failure> {
        let (mut refusals, mut second_best, mut silent) = (Vec::new(), None, Vec::new());
        let places = self.order(self.target.places.len());
        for (place, again) in places.into_iter().map(|place| (place, false)).chain([(0, true)]) {
            let addresses = match again {
                true => std::mem::take(&mut silent),
                false => match self.addresses(place, runtime).await {
                    Ok(addresses) => addresses.into_iter().map(|address| (place, address)).collect(),
                    Err(refusal) => {
                        refusals.push((place, refusal));
                        continue;
                    }
                },
            };
            for (place, address) in addresses {
                if !again && self.was_silent(&address, runtime.now()) {
                    silent.push((place, address));
                    continue;
                }
                match self.try_address(place, address, runtime, open).await {
                    Ok((connection, role)) => match self.fits(role) {
                        Fit::Good => return Ok(connection),
                        Fit::Fair => second_best = second_best.or(Some(connection)),
                        Fit::Bad(why) => refusals.push((place, Refusal::of(why))),
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
        let attempt = |mode| self.in_time(Attempt { place, address: address.clone(), mode }, runtime, open);
        match (attempt(first).await, second) {
            (Err(refusal), Some(second)) if refusal.concerns_encryption() => {
                // What the first said is why the second was tried, and usually the cause.
                attempt(second).await.map_err(|other| if other.is_tls { refusal } else { other })
            }
            (opened, _) => opened,
        }
    }

    /// Makes one attempt, no longer than the connect timeout.
    async fn in_time<C>(
        &self,
        attempt: Attempt,
        runtime: &dyn Runtime,
        open: &Open<'_, C>,
    ) -> Result<(C, Option<Role>), Refusal> {
        let address = attempt.address.clone();
        let trial = Trial { route: self, address, runtime, since: runtime.now(), is_answered: false };
        let Some(limit) = self.target.connect_timeout else { return trial.answered(open(attempt).await) };
        match select(open(attempt), runtime.sleep(limit)).await {
            Either::Left((opened, _)) => trial.answered(opened),
            Either::Right(_) => Err(Refusal::of(format!("no answer within {limit:?}"))),
        }
    }

    /// Returns the addresses of a place.
    async fn addresses(&self, place: usize, runtime: &dyn Runtime) -> Result<Vec<Address>, Refusal> {
        let Some(there) = self.target.places.get(place) else { return Ok(Vec::new()) };
        let port = there.port;
        let name = match &there.host {
            Host::Socket(directory) => return Ok(vec![Address::Socket(directory.clone(), port)]),
            Host::Address(address, _) => return Ok(vec![Address::Ip(*address, port)]),
            Host::Name(name) if self.by_name => return Ok(vec![Address::Name(name.clone(), port)]),
            Host::Name(name) => name.clone(),
        };
        let found = resolve(name, port);
        let found = match self.target.connect_timeout {
            None => found.await,
            Some(limit) => match select(Box::pin(found), runtime.sleep(limit)).await {
                Either::Left((found, _)) => found,
                Either::Right(_) => Err(Refusal::of(format!("its name was not resolved within {limit:?}"))),
            },
        }?;
        let order = self.order(found.len());
        Ok(order.into_iter().filter_map(|at| found.get(at)).map(|ip| Address::Ip(*ip, port)).collect())
    }

    /// Returns the numbers below `count`, shuffled if the target balances.
    fn order(&self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        if self.target.balances {
            for last in (1..count).rev() {
                // The remainder's bias is nothing beside the 64 bits.
                let other = SystemRandomness.next_u64() % (last as u64 + 1);
                order.swap(last, usize::try_from(other).unwrap_or_default());
            }
        }
        order
    }

    fn silent(&self) -> MutexGuard<'_, HashMap<Address, Instant>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn was_silent(&self, address: &Address, now: Instant) -> bool {
        let mut silent = self.silent();
        silent.retain(|_, since| now < *since + SILENCE);
        silent.contains_key(address)
    }

    fn fits(&self, role: Option<Role>) -> Fit {
        let Some(role) = role else { return Fit::Good };
        let writes = !role.is_read_only && !role.is_standby;
        let (fits, what) = match self.target.session {
            SessionAttrs::Any => return Fit::Good,
            SessionAttrs::Unsaid => return if writes { Fit::Good } else { Fit::Fair },
            SessionAttrs::PreferStandby => return if role.is_standby { Fit::Good } else { Fit::Fair },
            SessionAttrs::ReadWrite => (writes, "it takes no writes (target_session_attrs=read-write)"),
            SessionAttrs::ReadOnly => (!writes, "it takes writes (target_session_attrs=read-only)"),
            SessionAttrs::Primary => (!role.is_standby, "it is a standby (target_session_attrs=primary)"),
            SessionAttrs::Standby => (role.is_standby, "it is no standby (target_session_attrs=standby)"),
        };
        if fits { Fit::Good } else { Fit::Bad(what) }
    }

    /// Returns what all refusals come to.
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

enum Fit {
    Good,
    /// It will do if nothing better answers.
    Fair,
    Bad(&'static str),
}

/// One attempt under way: if it ends without an answer, its address was silent.
struct Trial<'a> {
    route: &'a Route,
    address: Address,
    runtime: &'a dyn Runtime,
    since: Instant,
    is_answered: bool,
}

impl Trial<'_> {
    fn answered<T>(mut self, answer: T) -> T {
        self.is_answered = true;
        self.route.silent().remove(&self.address);
        answer
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        // One given up at once, because its program changed its mind, says nothing about the server.
        let now = self.runtime.now();
        if !self.is_answered && now >= self.since + Duration::from_secs(1) {
            self.route.silent().insert(self.address.clone(), now);
        }
    }
}

/// Returns the addresses of a host. The system's resolver blocks: it has a thread, whatever the runtime.
async fn resolve(name: String, port: u16) -> Result<Vec<IpAddr>, Refusal> {
    if name.contains('%') {
        return Err(Refusal::of("an IPv6 address with a zone, as fe80::1%eth0, is not supported: use one without"));
    }
    let (sender, receiver) = oneshot::channel();
    let look = move || {
        let found = (name.as_str(), port).to_socket_addrs();
        let unique = |mut all: Vec<IpAddr>, one: std::net::SocketAddr| {
            if !all.contains(&one.ip()) {
                all.push(one.ip());
            }
            all
        };
        // The one who asked may have given up.
        drop(sender.send(found.map(|found| found.take(MOST_ADDRESSES).fold(Vec::new(), unique))));
    };
    let thread = std::thread::Builder::new().name("pm-resolve".into()).spawn(look);
    let unresolved = |why: String| Refusal::of(format!("its name cannot be resolved: {why}"));
    thread.map_err(|error| unresolved(error.to_string()))?;
    match receiver.await {
        Ok(Ok(found)) if found.is_empty() => Err(unresolved("it has no address".into())),
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(unresolved(error.to_string())),
        Err(_) => Err(unresolved("the resolver ended".into())),
    }
}
