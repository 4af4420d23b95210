//! A slot for one connection, which is opened on demand and again when lost.

use crate::connection::Connection;
use crate::server::Server;
use futures_util::lock::{Mutex, OwnedMutexGuard};
use pm_queue::Failure;
use pm_queue::connecting::Failed;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

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
            if let Some(failure) = failed.since(asked_at) {
                return Err(failure);
            }
            server.sleep(failed.pause()).await;
        }
        self.connect_into(server, &mut failed).await
    }

    /// Returns the right to open the connection in the background; none while another task connects, during the pause
    /// after a failure, or when the connection is open.
    pub(crate) fn spare(&self) -> Option<Spare> {
        let failed = self.connecting.try_lock_owned()?;
        let pauses = failed.as_ref().is_some_and(|failed| !failed.pause().is_zero());
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
                Failed::record(failed, &failure);
                Err(failure)
            }
        }
    }
}
