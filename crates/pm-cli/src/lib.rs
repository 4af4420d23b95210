//! `pm`, the operations tool of the pm job queue.
//!
//! Each command is one file under `commands`, named as it is typed; the doc comment of its arguments is its help.
//! What people and programs read is made in `render`; what goes wrong becomes hints and exit codes in `error`.

mod ask;
mod cli;
mod commands;
mod config;
mod context;
mod error;
mod id;
mod input;
mod process_one;
mod redact;
mod render;
mod stop;

#[doc(hidden)]
pub mod fuzz;

pub use cli::run;
