//! How far long work has come: a line on a terminal's stderr, and nothing elsewhere.

use super::text::{cut, width};
use super::{may_draw, stderr_width, write_stderr};
use pm_core::State;
use pm_driver_tokio_postgres::QueueSummary;
use std::time::{Duration, Instant};

/// The line is drawn anew no more often than this.
const REDRAW: Duration = Duration::from_millis(100);
/// How wide the bar is, at most, and at least when the work has a long name.
const BAR: usize = 24;
const SHORTEST_BAR: usize = 8;
/// The last column stays empty, and there is room for the `^C` that a terminal writes: else the line would wrap, and
/// half of it stay behind.
const MARGIN: usize = 3;

/// A line that tells how far work has come. It goes when this is dropped.
pub(crate) struct Progress {
    doing: String,
    /// How much there is to do, if that is known.
    total: Option<Total>,
    began: Instant,
    drawn: Option<Instant>,
    is_shown: bool,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) jobs: u64,
    pub(crate) is_estimate: bool,
}

impl Total {
    /// Returns a total that was counted.
    pub(crate) fn exactly(jobs: u64) -> Self {
        Total { jobs, is_estimate: false }
    }

    /// Returns how many jobs these queues have.
    pub(crate) fn of<'a>(queues: impl IntoIterator<Item = &'a QueueSummary>) -> Self {
        let counts = queues.into_iter().flat_map(|queue| State::ALL.map(|state| queue.count(state)));
        counts.fold(Total::exactly(0), |sum, count| Total {
            jobs: sum.jobs + count.jobs,
            is_estimate: sum.is_estimate || count.is_estimate,
        })
    }

    /// Returns which part of it is done, up to 1; none when there is nothing to do.
    fn share(self, done: u64) -> Option<f64> {
        (self.jobs > 0).then(|| (done as f64 / self.jobs as f64).min(1.0))
    }
}

impl Progress {
    /// Returns the line for work like "Deleting jobs".
    pub(crate) fn new(doing: impl Into<String>, total: Option<Total>) -> Self {
        Progress { doing: doing.into(), total, began: Instant::now(), drawn: None, is_shown: may_draw() }
    }

    /// Shows that so much is done.
    pub(crate) fn show(&mut self, done: u64) {
        self.show_with(done, "");
    }

    /// Shows that so much is done, and what came of it, like "7 deleted".
    pub(crate) fn show_with(&mut self, done: u64, outcome: &str) {
        let now = Instant::now();
        if !self.is_shown || self.drawn.is_some_and(|drawn| now - drawn < REDRAW) {
            return;
        }
        self.drawn = Some(now);
        let told = told(done, self.total, outcome, now - self.began);
        let share = self.total.and_then(|total| total.share(done));
        draw(&line(&self.doing, share, &told, columns()));
    }

    /// Makes room for other lines until it is shown again.
    pub(crate) fn hide(&mut self) {
        if self.drawn.take().is_some() {
            draw("");
        }
    }

    /// Awaits work that does not tell how far it is, and shows how long it takes.
    pub(crate) async fn during<T>(mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(REDRAW, &mut work).await {
                Ok(outcome) => return outcome,
                Err(_) if self.is_shown => {
                    self.drawn = Some(Instant::now());
                    let told = format!("{}s", self.began.elapsed().as_secs());
                    draw(&line(&self.doing, None, &told, columns()));
                }
                Err(_) => {}
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.hide();
    }
}

fn draw(line: &str) {
    write_stderr(&format!("\r\x1b[K{line}"));
}

fn columns() -> usize {
    stderr_width().saturating_sub(MARGIN)
}

/// Returns the numbers of the line.
fn told(done: u64, total: Option<Total>, outcome: &str, since: Duration) -> String {
    let mut told = done.to_string();
    if let Some(total) = total
        && let Some(share) = total.share(done)
    {
        let about = if total.is_estimate { "~" } else { "" };
        told.push_str(&format!(" of {about}{} ({:.0}%)", total.jobs, (share * 100.0).floor()));
    }
    if !outcome.is_empty() {
        told.push_str(&format!(", {outcome}"));
    }
    if since >= Duration::from_secs(1) {
        told.push_str(&format!(", {:.0} a second", done as f64 / since.as_secs_f64()));
    }
    told
}

/// Returns the line, no wider than so many columns: what gives way is the bar, then the name, then the end.
fn line(doing: &str, share: Option<f64>, told: &str, columns: usize) -> String {
    let room = columns.saturating_sub(width(told));
    let Some(share) = share else {
        let doing = cut(doing, room.saturating_sub(2));
        return cut(&format!("{doing}: {told}"), columns).into_owned();
    };
    let doing = cut(doing, room.saturating_sub(SHORTEST_BAR + 2));
    let bar = BAR.min(room.saturating_sub(width(&doing) + 2));
    let full = (share * bar as f64) as usize;
    let line = format!("{doing} {}{} {told}", "█".repeat(full), "░".repeat(bar - full));
    cut(&line, columns).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(doing: &str, done: u64, total: Option<Total>, since_s: u64, columns: usize) -> String {
        let share = total.and_then(|total| total.share(done));
        line(doing, share, &told(done, total, "", Duration::from_secs(since_s)), columns)
    }

    #[test]
    fn a_known_total_makes_a_bar() {
        let total = Some(Total::exactly(100));
        let half = shown("Deleting jobs", 50, total, 0, 120);
        assert_eq!(half, "Deleting jobs ████████████░░░░░░░░░░░░ 50 of 100 (50%)");
        let more = shown("Deleting jobs", 101, total, 2, 120);
        assert_eq!(more, "Deleting jobs ████████████████████████ 101 of 100 (100%), 50 a second");
        assert!(shown("x", 999, Some(Total::exactly(1_000)), 0, 120).contains("(99%)"), "100% is the end");
        let about = Some(Total { jobs: 100, is_estimate: true });
        assert!(shown("x", 1, about, 0, 120).ends_with(" 1 of ~100 (1%)"));
    }

    #[test]
    fn an_unknown_total_makes_a_count() {
        for total in [None, Some(Total::exactly(0))] {
            assert_eq!(shown("Counting jobs", 7, total, 7, 120), "Counting jobs: 7, 1 a second");
        }
    }

    #[test]
    fn what_came_of_it_is_told() {
        let told = told(5_000, Some(Total::exactly(10_000)), "7 deleted", Duration::from_secs(1));
        assert_eq!(told, "5000 of 10000 (50%), 7 deleted, 5000 a second");
    }

    #[test]
    fn numbers_stay_on_a_narrow_line_whatever_the_name() {
        let name = format!("Deleting queue \"{}\"", "請求書の送信".repeat(20));
        for (doing, columns) in [(name.as_str(), 77), ("Deleting jobs", 77), ("Deleting jobs", 60), (&name, 57)] {
            let line = shown(doing, 123_456, Some(Total::exactly(1_000_000)), 10, columns);
            assert!(width(&line) <= columns, "{line}");
            assert!(line.ends_with("░ 123456 of 1000000 (12%), 12346 a second"), "{line}");
        }
        assert_eq!(width(&shown(&name, 123_456, Some(Total::exactly(1_000_000)), 10, 20)), 20);
        assert!(width(&shown(&name, 123_456, None, 10, 40)) <= 40);
    }
}
