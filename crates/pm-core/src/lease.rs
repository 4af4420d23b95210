//! Leases, and how they end.

use crate::named::named;
use crate::{Error, JsonText, Timestamp};
use std::fmt;
use std::time::Duration;
use uuid::Uuid;

/// The right to work on one job for a limited time, identified by the job and a lease number.
///
/// The number is the fencing token: 63 random bits chosen by the claiming worker, new for each claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// The job.
    pub job: Uuid,
    /// The lease number.
    pub number: i64,
}

impl Lease {
    /// Returns a lease number made of 63 of the random bits.
    pub fn number_from(random: u64) -> i64 {
        i64::try_from(random >> 1).unwrap_or_default()
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of job {}", self.number, self.job)
    }
}

/// Returns for how long after sending the claim a worker may rely on a lease of this length.
///
/// The margin of 50 ms or a twentieth of the lease, whichever is longer, covers drift between two clocks.
pub fn trusted_for(lease: Duration) -> Duration {
    lease.saturating_sub((lease / 20).max(Duration::from_millis(50)))
}

/// For how long after its timeout a job may be leased, so that its handler can end. Claims have the same number.
pub(crate) const TIMEOUT_GRACE: Duration = Duration::from_secs(30);

/// Returns the length of a lease of a job with this timeout, given that of its queue.
pub(crate) fn lease_length(of_queue: Duration, timeout: Option<Duration>) -> Duration {
    timeout.map_or(of_queue, |timeout| of_queue.min(timeout.saturating_add(TIMEOUT_GRACE)))
}

/// Returns until when a job with this timeout may be leased at the latest, if it was claimed then.
pub(crate) fn latest_lease_end(claimed_at: Option<Timestamp>, timeout: Option<Duration>) -> Timestamp {
    let (Some(claimed_at), Some(timeout)) = (claimed_at, timeout) else { return Timestamp::INFINITY };
    let most_us = i64::try_from(timeout.saturating_add(TIMEOUT_GRACE).as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_unix_us(claimed_at.unix_us().saturating_add(most_us))
}

/// How a worker settles a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The job is done.
    Commit,
    /// The job is done, and this is its result.
    CommitWith(JsonText),
    /// The attempt failed; the job is retried if retries are left.
    SoftFail(Reason),
    /// The same, but the retry comes after this time, whatever the backoff.
    RetryAfter(Reason, Duration),
    /// The job failed, without another retry.
    HardFail(Reason),
    /// The job was not tried. It keeps its position in the line, and no attempt is counted.
    Release,
    /// The job is not to be done before this time has passed. No retry and no attempt is counted.
    Snooze(Duration),
    /// The job was not tried, because the worker cannot decode its payload; another worker may be able to. No retry is
    /// counted. The job is offered again after 1 min, 5 min and 25 min, then every 25 min, and fails after
    /// [24 h](UNREADABLE_FOR).
    Unreadable(Reason),
}

/// A job fails when workers have been unable to decode its payload for this long.
pub const UNREADABLE_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Returns the delay before the next try of a job whose payload has been unreadable for `unreadable_for`; `None` if the
/// job fails.
pub(crate) fn delay_of_unreadable(unreadable_for: Option<Duration>) -> Option<Duration> {
    const MINUTE: Duration = Duration::from_secs(60);
    match unreadable_for {
        None => Some(MINUTE),
        Some(time) if time < MINUTE * 6 => Some(MINUTE * 5),
        Some(time) if time < UNREADABLE_FOR => Some(MINUTE * 25),
        Some(_) => None,
    }
}

impl Verdict {
    pub(crate) fn code(&self) -> i16 {
        match self {
            Verdict::Commit | Verdict::CommitWith(_) => 0,
            Verdict::SoftFail(_) | Verdict::RetryAfter(..) => 1,
            Verdict::HardFail(_) => 2,
            Verdict::Release => 3,
            Verdict::Unreadable(_) => 8,
            Verdict::Snooze(_) => 9,
        }
    }

    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Verdict::SoftFail(reason)
            | Verdict::RetryAfter(reason, _)
            | Verdict::HardFail(reason)
            | Verdict::Unreadable(reason) => Some(&reason.0),
            Verdict::Commit | Verdict::CommitWith(_) | Verdict::Release | Verdict::Snooze(_) => None,
        }
    }

    pub(crate) fn result(&self) -> Option<&str> {
        if let Verdict::CommitWith(result) = self { Some(result.as_str()) } else { None }
    }
}

/// Why an attempt failed: at most 8 KiB of text without NUL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// The maximum length of a reason, in bytes.
    pub const MAX_BYTES: usize = 8 * 1024;

    /// Returns the text as a reason: cut at a character boundary, with every NUL (which Postgres cannot store) replaced
    /// by U+FFFD.
    pub fn new(text: &str) -> Self {
        let mut text = text.replace('\0', "\u{fffd}");
        text.truncate(text.floor_char_boundary(Self::MAX_BYTES));
        Reason(text)
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

named! {
    /// How an attempt ended, as recorded in the database, in the order of their codes.
    pub enum Ending {
        /// Committed by its worker.
        Commit = "commit",
        /// Soft-failed by its worker.
        SoftFail = "soft fail",
        /// Hard-failed by its worker.
        HardFail = "hard fail",
        /// Released by its worker.
        Release = "release",
        /// Reaped after its lease expired.
        Reap = "reap",
        /// Marked as finished by an operator.
        Done = "done",
        /// Marked as failed by an operator.
        Fail = "fail",
        /// Restarted by an operator.
        Restart = "restart",
        /// Returned by its worker, which could not decode the payload.
        Unreadable = "unreadable",
        /// Put off by its worker.
        Snooze = "snooze",
        /// Cancelled by an operator.
        Cancel = "cancel",
        /// Not started by its time to expire.
        Expire = "expire",
    }
}

impl Ending {
    pub(crate) fn code(self) -> i16 {
        self as i16
    }

    /// Returns the ending that is stored as this number.
    pub fn from_code(code: i16) -> Option<Ending> {
        Ending::ALL.into_iter().find(|ending| ending.code() == code)
    }
}

/// The maximum length of a description, in bytes.
pub const MAX_DESCRIPTION_BYTES: usize = 8 * 1024;
/// The maximum length of a key, in bytes.
pub const MAX_KEY_BYTES: usize = 1_000;

pub(crate) fn check_text(what: &str, text: &str, max_bytes: usize) -> Result<(), Error> {
    let problem = if text.contains('\0') {
        "contains a NUL byte, which Postgres cannot store".to_owned()
    } else if text.len() > max_bytes {
        format!("is {} bytes long; at most {max_bytes} are allowed", text.len())
    } else {
        return Ok(());
    };
    Err(Error::invalid(what, problem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn trust_ends_before_the_lease() {
        assert_eq!(trusted_for(Duration::from_secs(1200)), Duration::from_secs(1140));
        assert_eq!(trusted_for(Duration::from_millis(200)), Duration::from_millis(150));
        assert_eq!(trusted_for(Duration::from_millis(10)), Duration::ZERO);
    }

    #[test]
    fn a_timeout_bounds_the_lease() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert_eq!(lease_length(minutes(20), None), minutes(20));
        assert_eq!(lease_length(minutes(20), Some(minutes(20))), minutes(20));
        assert_eq!(lease_length(minutes(20), Some(minutes(1))), Duration::from_secs(90));
        let (claimed_at, latest) = (Timestamp::from_unix_us(1), Timestamp::from_unix_us(90_000_001));
        assert_eq!(latest_lease_end(Some(claimed_at), Some(minutes(1))), latest);
        assert_eq!(latest_lease_end(Some(claimed_at), Some(Duration::MAX)), Timestamp::INFINITY);
        assert_eq!(latest_lease_end(Some(claimed_at), None), Timestamp::INFINITY);
    }

    #[test]
    fn claims_have_the_same_grace() {
        let sql = crate::render::render("{first_lease_end}", &crate::SchemaName::default());
        assert!(sql.contains(&format!("+ {}", TIMEOUT_GRACE.as_millis())), "{sql}");
    }

    proptest! {
        #[test]
        fn reasons_are_bounded_and_storable(text in ".{0,9000}") {
            let reason = Reason::new(&text);
            prop_assert!(reason.as_str().len() <= Reason::MAX_BYTES);
            prop_assert!(!reason.as_str().contains('\0'));
        }
    }

    #[test]
    fn an_unreadable_job_is_retried_for_a_day() {
        let (mut at, mut delays) = (None, Vec::new());
        while let Some(delay) = delay_of_unreadable(at) {
            delays.push(delay.as_secs() / 60);
            at = Some(at.unwrap_or_default() + delay);
        }
        assert_eq!(delays[..5], [1, 5, 25, 25, 25]);
        assert!((UNREADABLE_FOR..UNREADABLE_FOR + Duration::from_secs(25 * 60)).contains(&at.unwrap()), "{at:?}");
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = Reason::new(&"é".repeat(5000));
        assert_eq!(reason.as_str(), "é".repeat(4096));
    }

    #[test]
    fn a_nul_is_replaced() {
        assert_eq!(Reason::new("a\0b").as_str(), "a\u{fffd}b");
    }
}
