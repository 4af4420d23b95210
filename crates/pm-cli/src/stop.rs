//! Requests to stop: SIGINT (Ctrl-C), SIGTERM, and SIGHUP, which a closed terminal sends.

use crate::error::CommandError;
use futures_util::FutureExt;
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Receives SIGINT, SIGTERM and SIGHUP, which then no longer end the process. SIGHUP stays ignored if it is, as by
/// `nohup`.
pub(crate) struct Stop(Vec<Signal>);

impl Stop {
    /// Installs the signal handlers. Errors: exit code 3 when the system refuses.
    pub(crate) fn listen() -> Result<Self, CommandError> {
        let hangup = (!ignores_hangups()).then(SignalKind::hangup);
        let kinds = [SignalKind::interrupt(), SignalKind::terminate()].into_iter().chain(hangup);
        let signals: io::Result<_> = kinds.map(signal).collect();
        signals.map(Stop).map_err(|error| CommandError::trouble(format!("cannot install signal handlers: {error}")))
    }

    /// Returns when the process is asked to stop. Cancel-safe.
    pub(crate) async fn requested(&mut self) {
        poll_fn(|cx| match self.0.iter_mut().any(|signal| signal.poll_recv(cx).is_ready()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
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
