//! Requests to stop: SIGINT (Ctrl-C), SIGTERM, and SIGHUP, which a closed terminal sends.

use crate::error::CommandError;
use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Receives SIGINT, SIGTERM and SIGHUP, which then no longer end the process.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    /// `None` when SIGHUP is ignored, as by `nohup`.
    hangup: Option<Signal>,
}

impl Stop {
    /// Installs the signal handlers. Errors: exit code 3 when the system refuses.
    pub(crate) fn listen() -> Result<Self, CommandError> {
        let listen = |kind| {
            signal(kind).map_err(|error| CommandError::trouble(format!("cannot install signal handlers: {error}")))
        };
        let hangup = if ignores_hangups() { None } else { Some(listen(SignalKind::hangup())?) };
        Ok(Stop { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())?, hangup })
    }

    /// Returns when the process is asked to stop. Cancel-safe.
    pub(crate) async fn requested(&mut self) {
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

    /// Returns whether the process was asked to stop, for loops that check between steps.
    pub(crate) fn was_requested(&mut self) -> bool {
        self.requested().now_or_never().is_some()
    }
}

/// Returns whether SIGHUP is ignored; true when that is unknown, so that its handling stays unchanged.
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let signals = ignored.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    // Signal n is bit n − 1, and SIGHUP is 1.
    signals.is_none_or(|signals| signals & 1 == 1)
}
