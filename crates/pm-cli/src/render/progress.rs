//! How far long work has come: a line on a terminal's stderr, and nothing elsewhere.

use super::text::{cut, width};
use super::{may_draw, stderr_width, write_stderr};
use std::time::{Duration, Instant};

/// The line is drawn anew no more often than this.
const REDRAW: Duration = Duration::from_millis(100);
/// How wide the bar is.
const BAR: usize = 24;

/// A line that tells how far work has come. It goes when this is dropped.
pub(crate) struct Progress {
    doing: String,
    /// How much there is to do, if that is known.
    total: Option<u64>,
    began: Instant,
    drawn: Option<Instant>,
    is_shown: bool,
}

impl Progress {
    /// Returns the line for work like "Deleting jobs".
    pub(crate) fn new(doing: impl Into<String>, total: Option<u64>) -> Self {
        Progress { doing: doing.into(), total, began: Instant::now(), drawn: None, is_shown: may_draw() }
    }

    /// Shows that so much is done.
    pub(crate) fn show(&mut self, done: u64) {
        let now = Instant::now();
        if !self.is_shown || self.drawn.is_some_and(|drawn| now - drawn < REDRAW) {
            return;
        }
        self.drawn = Some(now);
        let line = line(&self.doing, done, self.total, now - self.began);
        write_stderr(&format!("\r\x1b[K{}", cut(&line, stderr_width().saturating_sub(1))));
    }

    /// Makes room for other lines until it is shown again.
    pub(crate) fn hide(&mut self) {
        if self.drawn.take().is_some() {
            write_stderr("\r\x1b[K");
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
                    write_stderr(&format!("\r\x1b[K{} … {}s", self.doing, self.began.elapsed().as_secs()));
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

fn line(doing: &str, done: u64, total: Option<u64>, since: Duration) -> String {
    let rate = (done as f64 / since.as_secs_f64().max(0.001)).round();
    let rate = if since < Duration::from_secs(1) { String::new() } else { format!(", {rate} a second") };
    let Some(total) = total.filter(|total| *total > 0) else { return format!("{doing}: {done}{rate}") };
    let share = (done as f64 / total as f64).min(1.0);
    let full = (share * BAR as f64) as usize;
    let bar = "█".repeat(full) + &"░".repeat(BAR - full);
    debug_assert_eq!(width(&bar), BAR);
    format!("{doing} {bar} {done} of {total} ({:.0}%){rate}", (share * 100.0).floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_total_makes_a_bar() {
        let half = line("Deleting jobs", 50, Some(100), Duration::ZERO);
        assert_eq!(half, "Deleting jobs ████████████░░░░░░░░░░░░ 50 of 100 (50%)");
        let more = line("Deleting jobs", 101, Some(100), Duration::from_secs(2));
        assert_eq!(more, "Deleting jobs ████████████████████████ 101 of 100 (100%), 51 a second");
        assert!(line("x", 999, Some(1_000), Duration::ZERO).contains("(99%)"), "100% is the end");
    }

    #[test]
    fn an_unknown_total_makes_a_count() {
        for total in [None, Some(0)] {
            assert_eq!(line("Counting jobs", 7, total, Duration::from_secs(7)), "Counting jobs: 7, 1 a second");
        }
    }
}
