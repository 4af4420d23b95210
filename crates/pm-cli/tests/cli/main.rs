//! Runs `pm` against a real Postgres, and checks its output and exit codes.

// Clippy recognizes tests by their attribute, but not functions that only tests call.
#![allow(clippy::unwrap_used)]

mod arguments;
mod backups;
mod bulk;
mod configuration;
mod copies;
mod database;
mod demo;
mod dev;
mod doctor;
mod filters;
mod grants;
mod jobs;
mod logging;
mod next;
mod payloads;
mod progress;
mod queues;
mod results;
mod schedules;
mod screen;
mod serving;
mod stats;
mod support;
mod terminal;
mod top;
mod trouble;
mod upkeep;
mod watch;
mod work;
