//! Being asked to stop: Ctrl-C, or a polite SIGTERM.

use crate::error::CommandError;
use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears Ctrl-C and SIGTERM, which end the process no more by themselves.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// Exit code 3 when the system refuses.
    pub(crate) fn listen() -> Result<Self, CommandError> {
        let listen =
            |kind| signal(kind).map_err(|error| CommandError::trouble(format!("cannot await signals: {error}")));
        Ok(Stop { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Returns when the process is asked to stop. It loses nothing when dropped and called again.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Returns whether the process was asked to stop, for loops whose steps are not to be cut short.
    pub(crate) fn was_asked(&mut self) -> bool {
        self.asked().now_or_never().is_some()
    }
}
