//! The settings of a queue as command-line options.

use crate::duration::parse_duration;
use crate::error::CommandError;
use clap::Args;
use pm_core::op::SetQueue;
use pm_core::{QueueName, SettingsChange};
use std::time::Duration;

/// The settings of a queue, all optional.
#[derive(clap::Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct SettingsArgs {
    /// How long a worker may work on a job before another worker may take it
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    lease: Option<Duration>,
    /// How many times a job is retried after soft failures
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// The delays before the retries, separated by commas; the last one repeats
    #[arg(long, value_name = "TIMES", value_delimiter = ',', value_parser = parse_duration)]
    backoff: Option<Vec<Duration>>,
    /// Random extra delay before a retry, as a percentage of the delay, like 10%; up to 2s or more
    /// before the first retry, so that jobs that failed together are not retried together. 0%
    /// turns it off
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    jitter: Option<u8>,
    /// How long to keep finished and failed jobs, or `forever`
    #[arg(long, value_name = "TIME", value_parser = parse_retention)]
    retain: Option<Retention>,
    /// How long an attempt may take, or `forever`; a job can have its own
    #[arg(long, value_name = "TIME", value_parser = parse_retention)]
    timeout: Option<Retention>,
}

/// How long ended jobs are kept; `None` means forever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Retention(Option<Duration>);

impl SettingsArgs {
    /// Returns the names of the options as a text: `--lease, … and --retain`.
    pub(crate) fn list() -> String {
        let command = SettingsArgs::augment_args(clap::Command::new(""));
        let names = command.get_arguments().filter_map(|option| option.get_long()).map(|name| format!("--{name}"));
        let names: Vec<_> = names.collect();
        names.split_last().map(|(last, others)| format!("{} and {last}", others.join(", "))).unwrap_or_default()
    }

    /// Returns the validated change for this queue, `None` when no setting is given. Errors: exit code 2 for a setting
    /// out of range.
    pub(crate) fn change(&self, queue: &QueueName) -> Result<Option<SettingsChange>, CommandError> {
        let mut change = SettingsChange::new();
        change = self.lease.into_iter().fold(change, SettingsChange::lease);
        change = self.retries.into_iter().fold(change, SettingsChange::max_retries);
        change = self.backoff.clone().into_iter().fold(change, SettingsChange::backoff);
        change = self.jitter.into_iter().fold(change, SettingsChange::jitter_percent);
        change = self.retain.into_iter().fold(change, |change, Retention(retain)| change.retain(retain));
        change = self.timeout.into_iter().fold(change, |change, Retention(timeout)| change.timeout(timeout));
        // The operation validates the change; `queue create` needs that before it creates the queue.
        SetQueue::new(queue.clone(), change.clone())?;
        Ok((!change.is_empty()).then_some(change))
    }
}

fn parse_percent(text: &str) -> Result<u8, String> {
    let number = text.trim_end_matches('%').trim_end();
    number.parse().ok().filter(|percent| *percent <= 100).ok_or_else(|| "write a percentage from 0% to 100%".to_owned())
}

fn parse_retention(text: &str) -> Result<Retention, String> {
    if text == "forever" {
        return Ok(Retention(None));
    }
    let duration = parse_duration(text).map_err(|error| format!("{error}, or `forever`"))?;
    Ok(Retention(Some(duration)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_and_retentions_are_parsed() {
        assert_eq!((parse_percent("10%"), parse_percent("10"), parse_percent("0 %")), (Ok(10), Ok(10), Ok(0)));
        assert!(parse_percent("101%").is_err() && parse_percent("-1").is_err() && parse_percent("").is_err());
        assert_eq!(parse_retention("forever"), Ok(Retention(None)));
        assert_eq!(parse_retention("7d"), Ok(Retention(Some(Duration::from_secs(604_800)))));
        assert!(parse_retention("always").unwrap_err().contains("forever"));
    }
}
