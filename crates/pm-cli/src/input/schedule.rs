//! Policies of schedules.

use pm_core::{Missed, Overlap};

/// Parses the policy for missed ticks.
pub(crate) fn parse_missed(text: &str) -> Result<Missed, String> {
    let latest = |text: &str| text.parse().ok().filter(|count| (1..=Missed::MOST).contains(count)).map(Missed::All);
    let policy = match text {
        "skip" => Some(Missed::Skip),
        "once" => Some(Missed::Once),
        _ => text.strip_prefix("all:").and_then(latest),
    };
    policy.ok_or_else(|| format!("write skip, once, or all:N with N from 1 to {}", Missed::MOST))
}

/// Parses the policy for overlapping ticks.
pub(crate) fn parse_overlap(text: &str) -> Result<Overlap, String> {
    let policies = [Overlap::Allow, Overlap::Skip];
    policies.into_iter().find(|overlap| overlap.to_string() == text).ok_or_else(|| "write allow or skip".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formatted_policies_can_be_parsed() {
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
