//! What the fuzzer runs: one function a target, each taking any bytes and panicking when something is wrong.
//!
//! The targets in `fuzz/` call them and nothing else. `proof/tests/corpus.rs` runs them on the committed corpora, so that
//! what was found once stays mended.

mod connecting;
mod cron;
mod names;
mod reply;
mod rows;
mod wire;
mod worker;

pub use connecting::connecting;
pub use cron::cron;
pub use names::names;
pub use reply::{reply, reply_to};
pub use wire::wire;
pub use worker::worker;

/// Reads bytes as the configuration file of `pm` (the first one even) or as its arguments, a line each (odd).
///
/// # Panics
///
/// When a refusal is not fit to be seen.
pub fn config(bytes: &[u8]) {
    let Some((first, text)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    match first % 2 {
        0 => pm_cli::fuzz::file(&text),
        _ => pm_cli::fuzz::arguments(text.split('\n')),
    }
}
