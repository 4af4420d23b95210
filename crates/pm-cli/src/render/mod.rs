//! Formatting of all output, for humans and for programs.

mod bulk;
mod change;
mod count;
mod end;
mod finding;
mod job;
mod json;
mod lookup;
mod matches;
mod output;
mod payload;
mod progress;
mod queue;
mod schedule;
mod stats;
mod stream;
mod table;
mod time;
mod value;
mod yaml;

pub(crate) use bulk::{ActionText, BulkReport, Outcome, Tally};
pub(crate) use change::JobChange;
pub(crate) use count::{compact_count, exactly, sum};
pub(crate) use end::JobEnd;
pub(crate) use finding::FixableFinding;
pub(crate) use job::FullJob;
pub(crate) use matches::{JobMatch, Location, Needle};
pub(crate) use output::{Format, Json, Output, jobs, may_colour, stderr_is_terminal, write_stderr};
pub(crate) use payload::decode as payload_value;
pub(crate) use progress::Progress;
pub(crate) use schedule::next_tick;
pub(crate) use stats::{per_minute, stats_text};
pub(crate) use stream::RowStream;
pub(crate) use time::length;
pub(crate) use value::Value;
