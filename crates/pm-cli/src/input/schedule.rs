//! Schedules as people name and describe them.

use pm_core::{Missed, Overlap, ScheduleName};

/// Reads the name of a schedule.
pub(crate) fn parse_schedule(text: &str) -> Result<ScheduleName, String> {
    ScheduleName::new(text).map_err(|error| error.to_string())
}

/// Reads what becomes of missed ticks.
pub(crate) fn parse_missed(text: &str) -> Result<Missed, String> {
    let most = |text: &str| text.parse().ok().filter(|most| (1..=Missed::MOST).contains(most)).map(Missed::All);
    let policy = match text {
        "skip" => Some(Missed::Skip),
        "once" => Some(Missed::Once),
        _ => text.strip_prefix("all:").and_then(most),
    };
    policy.ok_or_else(|| format!("write skip, once, or all:N with N from 1 to {}", Missed::MOST))
}

/// Reads what becomes of ticks that come too soon.
pub(crate) fn parse_overlap(text: &str) -> Result<Overlap, String> {
    let policies = [Overlap::Allow, Overlap::Skip];
    policies.into_iter().find(|overlap| overlap.to_string() == text).ok_or_else(|| "write allow or skip".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_they_are_shown() {
        for missed in [Missed::Skip, Missed::Once, Missed::All(1), Missed::All(100)] {
            assert_eq!(parse_missed(&missed.to_string()), Ok(missed));
        }
        for odd in ["", "all", "all:", "all:0", "all:101", "all:-1", "never"] {
            assert!(parse_missed(odd).unwrap_err().contains("all:N"), "{odd}");
        }
        assert_eq!((parse_overlap("allow"), parse_overlap("skip")), (Ok(Overlap::Allow), Ok(Overlap::Skip)));
        assert!(parse_overlap("forbid").is_err());
    }
}
