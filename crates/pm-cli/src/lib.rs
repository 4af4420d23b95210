//! `pm`, the operations tool of the pm job queue.
//!
//! Each command has a file of its name under `commands`, or is short and in the file of its group; the doc comment of
//! its arguments is its help. Imports only go down: `cli` knows the commands, these the `context` with settings,
//! connection and output; below are `input`, which parses, and `render`, which formats; below them `error`, which has
//! hints and exit codes, and the terms that all share, such as `text` and `duration`.

mod ask;
mod cli;
mod commands;
mod config;
mod context;
mod duration;
mod error;
mod global;
mod id;
mod input;
mod json;
mod logging;
mod path;
mod process_one;
mod redact;
mod render;
mod sandbox;
mod serving;
mod stop;
mod text;

#[doc(hidden)]
pub mod fuzz;

pub use cli::run;
