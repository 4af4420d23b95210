//! Being asked to stop: Ctrl-C, a polite SIGTERM, or the SIGHUP of a terminal that is closed.

use crate::error::CommandError;
use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears Ctrl-C, SIGTERM and SIGHUP, which end the process no more by themselves.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    /// `None` for who was told to outlive its terminal, as by `nohup`.
    hangup: Option<Signal>,
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
        let hangup = if ignores_hangups() { None } else { Some(listen(SignalKind::hangup())?) };
        Ok(Stop { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())?, hangup })
    }

    /// Returns when the process is asked to stop. It loses nothing when dropped and called again.
    pub(crate) async fn asked(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }

    /// Returns whether the process was asked to stop, for loops whose steps are not to be cut short.
    pub(crate) fn was_asked(&mut self) -> bool {
        self.asked().now_or_never().is_some()
    }
}

/// Returns whether SIGHUP is ignored, also where nobody can tell: then it stays as it is.
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let signals = ignored.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    // Signal n is bit n − 1, and SIGHUP is 1.
    signals.is_none_or(|signals| signals & 1 == 1)
}
