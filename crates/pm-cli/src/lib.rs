//! `pm`, the operations tool of the pm job queue.
//!
//! Each command has a file of its name under `commands`; the doc comment of its arguments is its help. `render` formats
//! the output; `error` turns errors into hints and exit codes.

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
mod path;
mod process_one;
mod redact;
mod render;
mod stop;
mod text;

#[doc(hidden)]
pub mod fuzz;

pub use cli::run;
