//! Formatting of all output, for humans and for programs.

mod bulk;
mod change;
mod exact;
mod finding;
mod job;
mod json;
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

pub(crate) use bulk::{ActionText, BulkReport, Tally};
pub(crate) use change::ChangeView;
pub(crate) use finding::FindingView;
pub(crate) use job::{JobView, job_document, job_table};
pub(crate) use matches::{Location, MatchView, Needle};
pub(crate) use output::{Format, Output, jobs, may_colour, stderr_is_terminal, write_stderr};
pub(crate) use payload::decode as payload_value;
pub(crate) use progress::{Progress, Total};
pub(crate) use queue::{QueueView, SettingsView, compact_count, queue_table};
pub(crate) use schedule::{ScheduleView, schedule_table};
pub(crate) use stats::{StatsView, per_minute};
pub(crate) use stream::RowStream;
pub(crate) use time::length;
pub(crate) use value::Value;
