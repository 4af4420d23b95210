//! The functions that the fuzzer runs, one per target. Each takes any bytes and panics if something is wrong.
//!
//! The targets in `fuzz/` only call them. `proof/tests/corpus.rs` runs them on the committed corpora, so that fixed
//! bugs stay fixed.

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

/// Reads bytes as the configuration file of `pm`, if the first one is even, or as its arguments, one per line.
///
/// # Panics
///
/// If an error has no proper message.
pub fn config(bytes: &[u8]) {
    let Some((first, text)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    match first % 2 {
        0 => pm_cli::fuzz::file(&text),
        _ => pm_cli::fuzz::arguments(text.split('\n')),
    }
}
