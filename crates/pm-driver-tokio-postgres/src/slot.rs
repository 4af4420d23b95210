//! A place for one connection, which is opened when needed and again when lost.

use crate::connection::Connection;
use crate::server::Server;
use futures_util::lock::Mutex;
use pm_queue::Failure;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// A place for one connection.
#[derive(Default)]
pub(crate) struct Slot {
    current: RwLock<Option<Arc<Connection>>>,
    /// Held while connecting, so that many tasks open one connection, or share one failure to.
    connecting: Mutex<Option<Failed>>,
    /// Whether a task is about to open a connection that others can do without.
    spare_comes: AtomicBool,
}

/// The last failure to connect, since when nothing else was tried.
struct Failed {
    at: Instant,
    failure: Failure,
    /// How many there were in a row.
    times: u32,
}

impl Failed {
    /// Returns until when nobody tries again, however many want to.
    fn pause_until(&self) -> Instant {
        let pause = SHORTEST_PAUSE * 2u32.saturating_pow(self.times.saturating_sub(1));
        self.at + pause.min(LONGEST_PAUSE)
    }
}

/// The pause after a failure to connect doubles from this to [`LONGEST_PAUSE`]; who asks meanwhile waits and shares
/// the next attempt.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Slot {
    pub(crate) fn usable(&self) -> Option<Arc<Connection>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone().filter(|connection| connection.is_usable())
    }

    /// Returns its connection, opened if need be.
    pub(crate) async fn open(&self, server: &Server) -> Result<Arc<Connection>, Failure> {
        let asked_at = Instant::now();
        let mut failed = self.connecting.lock().await;
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        if let Some(failed) = &*failed {
            if failed.at >= asked_at {
                return Err(failed.failure.clone());
            }
            server.sleep(failed.pause_until().saturating_duration_since(Instant::now())).await;
        }
        self.connect_into(server, &mut failed).await
    }

    /// Returns whether to call [`Slot::open_spare`]: not while somebody connects, nor in the pause after a failure.
    pub(crate) fn takes_spare(&self) -> bool {
        let Some(failed) = self.connecting.try_lock() else { return false };
        let pauses = failed.as_ref().is_some_and(|failed| failed.pause_until() > Instant::now());
        !pauses && !self.spare_comes.swap(true, Ordering::Relaxed)
    }

    /// Opens a connection that others can do without: a failure is nobody's.
    pub(crate) async fn open_spare(&self, server: &Server) {
        let mut failed = self.connecting.lock().await;
        if self.usable().is_none() {
            // A failure is noted there, and nobody waits for it.
            drop(self.connect_into(server, &mut failed).await);
        }
        self.spare_comes.store(false, Ordering::Relaxed);
    }

    async fn connect_into(&self, server: &Server, failed: &mut Option<Failed>) -> Result<Arc<Connection>, Failure> {
        match server.connect().await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(connection.clone());
                *failed = None;
                Ok(connection)
            }
            Err(failure) => {
                let times = failed.as_ref().map_or(1, |failed| failed.times.saturating_add(1));
                *failed = Some(Failed { at: Instant::now(), failure: failure.clone(), times });
                Err(failure)
            }
        }
    }
}
