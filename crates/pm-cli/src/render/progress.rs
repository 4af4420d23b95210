//! Progress of long commands: a line on stderr when it is a terminal, nothing otherwise.

use super::count::show_count;
use super::output::{may_draw, stderr_width, write_stderr};
use crate::text::{cut, width};
use pm_driver_tokio_postgres::Count;
use std::time::{Duration, Instant};

/// The shortest time between two redraws.
const REDRAW: Duration = Duration::from_millis(100);
/// The usual width of the bar, and its minimum when the name of the work is long.
const BAR: usize = 24;
const SHORTEST_BAR: usize = 8;
/// Columns left empty at the end: the last one, and two for the `^C` that a terminal echoes. A line that wraps could
/// not be erased completely.
const MARGIN: usize = 3;

/// A progress line; dropping this erases it.
pub(crate) struct Progress {
    doing: String,
    /// The amount of work, if known.
    total: Option<Count>,
    began: Instant,
    drawn: Option<Instant>,
    is_shown: bool,
}

impl Progress {
    /// Returns a line for work like "Deleting jobs".
    pub(crate) fn new(doing: impl Into<String>, total: Option<Count>) -> Self {
        Progress { doing: doing.into(), total, began: Instant::now(), drawn: None, is_shown: may_draw() }
    }

    /// Shows how much is done.
    pub(crate) fn show(&mut self, done: u64) {
        self.show_with(done, "");
    }

    /// Shows how much is done, with an outcome like "7 deleted".
    pub(crate) fn show_with(&mut self, done: u64, outcome: &str) {
        let now = Instant::now();
        if !self.is_shown || self.drawn.is_some_and(|drawn| now - drawn < REDRAW) {
            return;
        }
        self.drawn = Some(now);
        let status = status(done, self.total, outcome, now - self.began);
        let share = self.total.and_then(|total| share(done, total));
        draw(&line(&self.doing, share, &status, columns()));
    }

    /// Erases the line until it is shown again.
    pub(crate) fn hide(&mut self) {
        if self.drawn.take().is_some() {
            draw("");
        }
    }

    /// Awaits work of unknown progress, and shows how long it takes.
    pub(crate) async fn during<T>(mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(REDRAW, &mut work).await {
                Ok(outcome) => return outcome,
                Err(_) if self.is_shown => {
                    self.drawn = Some(Instant::now());
                    let status = format!("{}s", self.began.elapsed().as_secs());
                    draw(&line(&self.doing, None, &status, columns()));
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

/// Returns the share that is done, at most 1; `None` when there is nothing to do.
fn share(done: u64, total: Count) -> Option<f64> {
    (total.jobs > 0).then(|| (done as f64 / total.jobs as f64).min(1.0))
}

/// Returns the numbers of the line.
fn status(done: u64, total: Option<Count>, outcome: &str, since: Duration) -> String {
    let mut status = done.to_string();
    if let Some(total) = total
        && let Some(share) = share(done, total)
    {
        status.push_str(&format!(" of {} ({:.0}%)", show_count(total), (share * 100.0).floor()));
    }
    if !outcome.is_empty() {
        status.push_str(&format!(", {outcome}"));
    }
    if since >= Duration::from_secs(1) {
        status.push_str(&format!(", {:.0} per second", done as f64 / since.as_secs_f64()));
    }
    status
}

/// Returns the line, at most `columns` wide: first the bar shrinks, then the name is cut, then the end.
fn line(doing: &str, share: Option<f64>, status: &str, columns: usize) -> String {
    let room = columns.saturating_sub(width(status));
    let Some(share) = share else {
        let doing = cut(doing, room.saturating_sub(2));
        return cut(&format!("{doing}: {status}"), columns).into_owned();
    };
    let doing = cut(doing, room.saturating_sub(SHORTEST_BAR + 2));
    let bar = BAR.min(room.saturating_sub(width(&doing) + 2));
    let full = (share * bar as f64) as usize;
    let line = format!("{doing} {}{} {status}", "█".repeat(full), "░".repeat(bar - full));
    cut(&line, columns).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::count::exactly;
    use super::*;

    fn shown(doing: &str, done: u64, total: Option<Count>, since_s: u64, columns: usize) -> String {
        let share = total.and_then(|total| super::share(done, total));
        line(doing, share, &status(done, total, "", Duration::from_secs(since_s)), columns)
    }

    #[test]
    fn a_known_total_makes_a_bar() {
        let total = Some(exactly(100));
        let half = shown("Deleting jobs", 50, total, 0, 120);
        assert_eq!(half, "Deleting jobs ████████████░░░░░░░░░░░░ 50 of 100 (50%)");
        let more = shown("Deleting jobs", 101, total, 2, 120);
        assert_eq!(more, "Deleting jobs ████████████████████████ 101 of 100 (100%), 50 per second");
        assert!(shown("x", 999, Some(exactly(1_000)), 0, 120).contains("(99%)"), "100% only at the end");
        let about = Some(Count { jobs: 100, is_estimate: true });
        assert!(shown("x", 1, about, 0, 120).ends_with(" 1 of ~100 (1%)"));
    }

    #[test]
    fn an_unknown_total_makes_a_count() {
        for total in [None, Some(exactly(0))] {
            assert_eq!(shown("Counting jobs", 7, total, 7, 120), "Counting jobs: 7, 1 per second");
        }
    }

    #[test]
    fn the_outcome_is_shown() {
        let status = status(5_000, Some(exactly(10_000)), "7 deleted", Duration::from_secs(1));
        assert_eq!(status, "5000 of 10000 (50%), 7 deleted, 5000 per second");
    }

    #[test]
    fn a_narrow_line_keeps_its_numbers() {
        let name = format!("Deleting queue \"{}\"", "請求書の送信".repeat(20));
        for (doing, columns) in [(name.as_str(), 77), ("Deleting jobs", 77), ("Deleting jobs", 60), (&name, 57)] {
            let line = shown(doing, 123_456, Some(exactly(1_000_000)), 10, columns);
            assert!(width(&line) <= columns, "{line}");
            assert!(line.ends_with("░ 123456 of 1000000 (12%), 12346 per second"), "{line}");
        }
        assert_eq!(width(&shown(&name, 123_456, Some(exactly(1_000_000)), 10, 20)), 20);
        assert!(width(&shown(&name, 123_456, None, 10, 40)) <= 40);
    }
}
