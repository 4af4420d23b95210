//! Numbers of jobs, which may be estimates.

use pm_driver_tokio_postgres::Count;

/// Returns a number that is not an estimate.
pub(crate) fn exactly(jobs: u64) -> Count {
    Count { jobs, is_estimate: false }
}

/// Returns the sum of the numbers.
pub(crate) fn sum(counts: impl IntoIterator<Item = Count>) -> Count {
    counts.into_iter().fold(exactly(0), |sum, count| Count {
        jobs: sum.jobs + count.jobs,
        is_estimate: sum.is_estimate || count.is_estimate,
    })
}

/// Returns the mark of an estimate, `~`, or nothing.
pub(super) fn about(count: Count) -> &'static str {
    if count.is_estimate { "~" } else { "" }
}

/// Returns the number, with `~` for an estimate.
pub(super) fn show_count(count: Count) -> String {
    format!("{}{}", about(count), count.jobs)
}

/// Returns the number in at most six columns, with `~` for an estimate: `~1.2M`.
pub(crate) fn compact_count(count: Count) -> String {
    let about = about(count);
    match count.jobs {
        jobs @ ..100_000 => format!("{about}{jobs}"),
        jobs @ ..1_000_000 => format!("{about}{}k", jobs / 1_000),
        jobs @ ..10_000_000 => format!("{about}{:.1}M", (jobs / 100_000) as f64 / 10.0),
        jobs => format!("{about}{}M", jobs / 1_000_000),
    }
}
