//! A slot for one connection, which is opened on demand and again when lost.

use crate::connection::Connection;
use crate::server::Server;
use futures_util::lock::{Mutex, OwnedMutexGuard};
use pm_queue::Failure;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// A slot for one connection.
#[derive(Default)]
pub(crate) struct Slot {
    current: RwLock<Option<Arc<Connection>>>,
    /// Locked while connecting, so that tasks which need the connection at the same time share it, or share the
    /// failure.
    connecting: Arc<Mutex<Option<Failed>>>,
}

/// The right to open a connection in the background. While it exists, no other task connects.
pub(crate) struct Spare(OwnedMutexGuard<Option<Failed>>);

/// The last failure to connect, with no attempt since.
struct Failed {
    at: Instant,
    failure: Failure,
    /// The number of consecutive failures.
    times: u32,
}

impl Failed {
    /// Returns the earliest time of the next attempt.
    fn pause_until(&self) -> Instant {
        let pause = SHORTEST_PAUSE * 2u32.saturating_pow(self.times.saturating_sub(1));
        self.at + pause.min(LONGEST_PAUSE)
    }
}

/// The pause after a failure to connect doubles from this to [`LONGEST_PAUSE`]. Tasks that need the connection during
/// it wait, and share the next attempt.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Slot {
    pub(crate) fn usable(&self) -> Option<Arc<Connection>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone().filter(|connection| connection.is_usable())
    }

    /// Returns the connection, opening it if necessary.
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

    /// Returns the right to open the connection in the background; none while another task connects, during the pause
    /// after a failure, or when the connection is open.
    pub(crate) fn spare(&self) -> Option<Spare> {
        let failed = self.connecting.try_lock_owned()?;
        let pauses = failed.as_ref().is_some_and(|failed| failed.pause_until() > Instant::now());
        (!pauses && self.usable().is_none()).then_some(Spare(failed))
    }

    /// Opens the connection in the background.
    pub(crate) async fn open_spare(&self, server: &Server, mut spare: Spare) {
        // `connect_into` records a failure; no caller waits for the result.
        drop(self.connect_into(server, &mut spare.0).await);
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
