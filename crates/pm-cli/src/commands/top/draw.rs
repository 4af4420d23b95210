//! Drawing `pm top`: a pure function of its state.

use super::view::{Front, List, QueueLine, Snapshot, Top};
use crate::duration::show_duration;
use crate::render::{compact_count, length, per_minute, sum};
use crate::text::{cut, printable, width, wrapped};
use pm_core::Timestamp;
use pm_driver_tokio_postgres::{JobMetadata, Uuid};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};
use std::time::Duration;

/// From this width on, every number has its own column, and leases and failures are side by side.
const WIDE: u16 = 120;
/// Below this width the rates are left out to keep room for the names.
const SLIM: u16 = 76;
/// Enough digits to identify a job.
const SHORT_ID: usize = 12;
const KEYS: &str = "q quit  Tab next list  ↑↓ move  p pause  r resume  Enter open  space update";
const JOB_KEYS: &str = "Esc close  ↑↓ scroll";

/// Draws as much as fits.
pub(super) fn draw(frame: &mut Frame<'_>, top: &Top) {
    let rows = [Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)];
    let [head, body, foot] = Layout::vertical(rows).areas(frame.area());
    let title = format!("pm top  schema {}  every {}", printable(&top.schema), show_duration(top.every));
    let took = format!("  query {}ms", top.took.as_millis());
    let title = cut(&title, usize::from(head.width).saturating_sub(took.len()));
    let space = usize::from(head.width).saturating_sub(width(&title) + took.len());
    let bold = Style::new().add_modifier(Modifier::BOLD);
    frame.render_widget(Line::styled(format!("{title}{}{took}", " ".repeat(space)), bold), head);
    match &top.front {
        Front::Job { title, lines, first } => job(frame, body, title, lines, *first),
        Front::Lists | Front::Question(..) => lists(frame, body, top),
    }
    frame.render_widget(footer(top, usize::from(foot.width)), foot);
}

fn footer(top: &Top, columns: usize) -> Line<'static> {
    let (text, style) = match (&top.front, &top.error) {
        (Front::Question(question, _), _) => {
            (question.as_str(), colour(top, Color::Magenta).add_modifier(Modifier::BOLD))
        }
        (_, Some(error)) => (error.as_str(), colour(top, Color::Red)),
        (Front::Job { .. }, None) => (JOB_KEYS, Style::new()),
        (Front::Lists, None) if !top.message.is_empty() => (top.message.as_str(), Style::new()),
        (Front::Lists, None) => (KEYS, Style::new().add_modifier(Modifier::DIM)),
    };
    Line::styled(cut(&printable(text), columns).into_owned(), style)
}

fn job(frame: &mut Frame<'_>, area: Rect, title: &str, lines: &[String], first: usize) {
    let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    frame.render_widget(Line::styled(format!(" Job {title} "), reversed), head);
    let columns = usize::from(body.width);
    let lines = lines.iter().skip(first).flat_map(|line| {
        let line = printable(line);
        let most = usize::from(body.height);
        wrapped(&line, columns).take(most).map(|piece| Line::raw(piece.to_owned())).collect::<Vec<_>>()
    });
    let shown: Vec<_> = lines.take(usize::from(body.height)).collect();
    frame.render_widget(Paragraph::new(shown), body);
}

fn lists(frame: &mut Frame<'_>, area: Rect, top: &Top) {
    let Some(snapshot) = &top.snapshot else {
        frame.render_widget(Line::raw("Loading …"), area);
        return;
    };
    let is_wide = area.width >= WIDE;
    let wanted = u16::try_from(snapshot.queues.len()).unwrap_or(u16::MAX).saturating_add(3).max(4);
    let most = if is_wide { area.height / 2 } else { area.height.saturating_sub(10).max(area.height * 2 / 5) };
    let [above, below] = Layout::vertical([Constraint::Length(wanted.min(most)), Constraint::Fill(1)]).areas(area);
    let halves = [Constraint::Fill(1), Constraint::Fill(1)];
    let [leases_area, failures_area] = match is_wide {
        true => Layout::horizontal(halves).spacing(2).areas(below),
        false => Layout::vertical(halves).areas(below),
    };
    queues(frame, above, top, snapshot);
    leases(frame, leases_area, top, &snapshot.leases);
    failures(frame, failures_area, top, &snapshot.failures);
}

/// A column: its title, its width (0 for a share of the rest), and whether it contains numbers.
type Column = (&'static str, u16, bool);

/// Draws a titled list. In the selected list, the selected line is highlighted.
fn list(
    frame: &mut Frame<'_>,
    area: Rect,
    top: &Top,
    list: List,
    title: &str,
    columns: &[Column],
    rows: Vec<Vec<Cell<'_>>>,
) {
    let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let is_selected = top.list == list;
    let style = if is_selected {
        Style::new().add_modifier(Modifier::REVERSED)
    } else {
        Style::new().add_modifier(Modifier::BOLD)
    };
    frame.render_widget(Line::styled(format!(" {title} "), style), head);
    let titles = columns.iter().map(|(title, _, is_number)| aligned((*title).to_owned(), *is_number));
    let titles = Row::new(titles).style(Style::new().add_modifier(Modifier::UNDERLINED));
    let widths = widths(columns, body.width).into_iter().map(Constraint::Length);
    let table = Table::new(rows.into_iter().map(Row::new), widths).header(titles).column_spacing(1);
    let table = table.row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let selected = is_selected.then_some(top.selected[list as usize]);
    frame.render_stateful_widget(table, body, &mut TableState::new().with_selected(selected));
}

/// Returns the widths of the columns; those of width 0 share the rest.
fn widths(columns: &[Column], total: u16) -> Vec<u16> {
    let fixed: u16 = columns.iter().map(|(_, width, _)| width + 1).sum::<u16>().saturating_sub(1);
    let sharing = columns.iter().filter(|(_, width, _)| *width == 0).count().max(1);
    let share = total.saturating_sub(fixed) / u16::try_from(sharing).unwrap_or(u16::MAX);
    columns.iter().map(|(_, width, _)| if *width == 0 { share } else { *width }).collect()
}

fn queues(frame: &mut Frame<'_>, area: Rect, top: &Top, snapshot: &Snapshot) {
    const NARROW: [Column; 9] = [
        ("queue", 0, false),
        ("waiting", 7, true),
        ("active", 6, true),
        ("finished", 8, true),
        ("failed", 6, true),
        ("oldest", 6, true),
        ("in/m", 6, true),
        ("done/m", 6, true),
        ("fail/m", 6, true),
    ];
    const WIDER: [Column; 10] = [
        ("queue", 0, false),
        ("pending", 9, true),
        ("paused", 9, true),
        ("in progress", 11, true),
        ("finished", 10, true),
        ("failed", 9, true),
        ("oldest waiting", 14, true),
        ("enqueued/m", 10, true),
        ("finished/m", 10, true),
        ("failed/m", 9, true),
    ];
    let is_wide = area.width >= WIDE;
    let columns: &[Column] = match area.width {
        WIDE.. => &WIDER,
        SLIM.. => &NARROW,
        _ => &NARROW[..6],
    };
    let name_width = usize::from(widths(columns, area.width)[0]);
    let row = |queue: &QueueLine| {
        let mut cells = queue_row(top, queue, snapshot.window, name_width, is_wide);
        cells.truncate(columns.len());
        cells
    };
    let rows = snapshot.queues.iter().map(row).collect();
    let mut title = format!("Queues ({})", snapshot.queues.len());
    if area.width >= SLIM {
        title.push_str(&format!(", rates per minute over {}", show_duration(snapshot.window)));
    }
    list(frame, area, top, List::Queues, &title, columns, rows);
}

fn queue_row(top: &Top, queue: &QueueLine, window: Duration, name_width: usize, is_wide: bool) -> Vec<Cell<'static>> {
    const PAUSED: &str = " (paused)";
    let name = printable(&queue.name);
    let name = match queue.paused {
        true => Line::styled(
            format!("{}{PAUSED}", cut(&name, name_width.saturating_sub(PAUSED.len()))),
            colour(top, Color::Magenta),
        ),
        false => Line::raw(cut(&name, name_width).into_owned()),
    };
    let [pending, paused, in_progress, finished, failed] = queue.counts;
    let counts = match is_wide {
        true => vec![pending, paused, in_progress, finished],
        false => vec![sum([pending, paused]), in_progress, finished],
    };
    let mut cells = vec![Cell::from(name)];
    cells.extend(counts.into_iter().map(|count| aligned(compact_count(count), true)));
    cells.push(alarming(top, compact_count(failed), failed.jobs > 0));
    cells.push(aligned(queue.oldest.map_or("-".to_owned(), length), true));
    for (index, count) in queue.lately.into_iter().enumerate() {
        cells.push(alarming(top, per_minute(count, window), index == 2 && count.jobs > 0));
    }
    cells
}

fn leases(frame: &mut Frame<'_>, area: Rect, top: &Top, leases: &[JobMetadata]) {
    const COLUMNS: [Column; 5] =
        [("job", 12, false), ("queue", 0, false), ("worker", 0, false), ("attempt", 7, true), ("ends in", 9, true)];
    let width = usize::from(widths(&COLUMNS, area.width)[1]);
    let row = |job: &JobMetadata| {
        let (left, is_over) = distance(job, job.lease_expires_at);
        vec![
            Cell::from(short(job.id)),
            text(&job.queue, width),
            text(job.worker.as_deref().unwrap_or_default(), width),
            aligned(job.attempt.to_string(), true),
            alarming(top, if is_over { format!("{left} over") } else { left }, is_over),
        ]
    };
    let title = format!("Leases ({}), next to expire first", leases.len());
    list(frame, area, top, List::Leases, &title, &COLUMNS, leases.iter().map(row).collect());
}

fn failures(frame: &mut Frame<'_>, area: Rect, top: &Top, failures: &[JobMetadata]) {
    const COLUMNS: [Column; 4] = [("job", 12, false), ("queue", 16, false), ("failed", 8, true), ("reason", 0, false)];
    let width = usize::from(widths(&COLUMNS, area.width)[3]);
    let row = |job: &JobMetadata| {
        vec![
            Cell::from(short(job.id)),
            text(&job.queue, 16),
            aligned(format!("{} ago", distance(job, job.ended_at).0), true),
            text(job.reason.as_deref().unwrap_or_default(), width),
        ]
    };
    list(frame, area, top, List::Failures, "Failures, newest first", &COLUMNS, failures.iter().map(row).collect());
}

/// Returns how far a time is from when the job was read, and whether it was at least a second before.
fn distance(job: &JobMetadata, time: Option<Timestamp>) -> (String, bool) {
    let us = time.unwrap_or(job.read_at).unix_us().saturating_sub(job.read_at.unix_us());
    (length(Duration::from_micros(us.unsigned_abs())), us <= -1_000_000)
}

fn short(id: Uuid) -> String {
    let id = id.simple().to_string();
    id[id.len() - SHORT_ID..].to_owned()
}

fn text(text: &str, columns: usize) -> Cell<'static> {
    Cell::from(cut(&printable(text), columns).into_owned())
}

fn aligned(text: String, is_number: bool) -> Cell<'static> {
    let line = Line::raw(text);
    Cell::from(if is_number { line.right_aligned() } else { line })
}

fn alarming(top: &Top, text: String, is_alarming: bool) -> Cell<'static> {
    let style = if is_alarming { colour(top, Color::Red) } else { Style::new() };
    Cell::from(Line::styled(text, style).right_aligned())
}

/// Returns a style in a colour of the terminal's theme, or without colour if colours are off.
fn colour(top: &Top, colour: Color) -> Style {
    if top.colour { Style::new().fg(colour) } else { Style::new() }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::view::Request;
    use super::*;
    use pm_core::{Codec, State};
    use pm_driver_tokio_postgres::Count;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};

    /// Presses a key without modifiers.
    pub(in super::super) fn press(top: &mut Top, code: KeyCode) -> Option<Request> {
        top.handle(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
    }

    /// Returns a view with data in all lists.
    pub(in super::super) fn filled() -> Top {
        // As they are shown: ~ marks an estimate.
        let count = |text: &str| Count {
            jobs: text.trim_start_matches('~').parse().unwrap(),
            is_estimate: text.starts_with('~'),
        };
        let queue = |name: &str, paused, counts: [&str; 5], oldest_s: Option<u64>, lately: [&str; 3]| QueueLine {
            name: name.to_owned(),
            paused,
            counts: counts.map(count),
            oldest: oldest_s.map(Duration::from_secs),
            lately: lately.map(count),
        };
        let long_name = "a queue with a name that is far too long for any column";
        let queues = vec![
            queue("mail", false, ["~123456", "2", "32", "~1234567", "17"], Some(7_500), ["5000", "~12345", "~3"]),
            queue(long_name, true, ["0", "40", "0", "9", "0"], None, ["0"; 3]),
            queue("日本語の長い長い長い長い名前のキュー", false, ["0"; 5], None, ["0"; 3]),
        ];
        let now = Timestamp::from_unix_us(1_903_867_200_000_000);
        let job = |n: u128, in_s: i64, worker: &str, reason: &str| JobMetadata {
            id: Uuid::from_u128(n),
            queue: "mail".to_owned(),
            state: State::InProgress,
            priority: 0,
            attempt: 1,
            retry_count: 0,
            snoozes: 0,
            expires_at: None,
            timeout: None,
            cancelled_at: None,
            cancel_reason: None,
            progress: None,
            result_bytes: None,
            max_retries: 8,
            codec: Codec::Json,
            created_at: now,
            run_at: None,
            ended_at: Some(Timestamp::from_unix_us(now.unix_us() + in_s * 1_000_000)),
            lease_expires_at: Some(Timestamp::from_unix_us(now.unix_us() + in_s * 1_000_000)),
            lease: None,
            worker: Some(worker.to_owned()),
            key: None,
            description: None,
            reason: Some(reason.to_owned()),
            trace: None,
            payload_bytes: 4,
            read_at: now,
        };
        let leases = vec![
            job(0xabcdef, -65, "1234@a-host-with-quite-a-long-name.example.org", ""),
            job(0x1234, 1_199, "日本@ホスト👩\u{200d}🚀", ""),
        ];
        let long_reason = "connection refused\n\u{1b}[31m(os error 111) while the letter was delivered to its far too long \
                           address";
        let failures = vec![job(0xf1, -12, "", long_reason), job(0xf2, -90_000, "", "")];
        let mut top = Top::new("pm", Duration::from_secs(2), false);
        top.update(Snapshot { queues, window: Duration::from_secs(300), leases, failures }, Duration::from_millis(45));
        top
    }

    fn shown(top: &Top, columns: u16, rows: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(frame, top)).unwrap();
        let buffer = terminal.backend().buffer();
        let mut text = String::new();
        for row in 0..rows {
            let mut line = String::new();
            let mut column = 0;
            while column < columns {
                let symbol = buffer[(column, row)].symbol();
                line.push_str(symbol);
                column += u16::try_from(width(symbol)).unwrap().max(1);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// `PM_UPDATE_SNAPSHOTS=1 cargo test -p pm-cli` updates the snapshots.
    #[test]
    fn frames_match_the_snapshots() {
        let mut job = filled();
        job.open(
            "00000000-0000-0000-0000-000000001234",
            &format!(
                "id: 1234\nqueue: mail\nreason: {}\npayload:\n  to: ada\n",
                "a reason that is longer than one line, 理由は一行より長い、 all of which is shown ".repeat(2),
            ),
        );
        let mut asking = filled();
        press(&mut asking, KeyCode::Char('p'));
        let mut asking_long = filled();
        press(&mut asking_long, KeyCode::Down);
        press(&mut asking_long, KeyCode::Char('r'));
        let mut failing = filled();
        failing.list = List::Failures;
        failing.error = Some("the database cannot be reached: connection refused".to_owned());
        let fresh = Top::new("pm", Duration::from_secs(2), true);
        let mut frames = String::new();
        for (name, top, columns, rows) in [
            ("80x24", &filled(), 80, 24),
            ("160x30", &filled(), 160, 30),
            ("60x14", &filled(), 60, 14),
            ("a question, 80x12", &asking, 80, 12),
            ("a question about a long name, 60x4", &asking_long, 60, 4),
            ("a job, 60x12", &job, 60, 12),
            ("an error, 100x16", &failing, 100, 16),
            ("no data yet, 40x4", &fresh, 40, 4),
        ] {
            frames.push_str(&format!("== {name} ==\n{}", shown(top, columns, rows)));
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/commands/top/frames.txt");
        if std::env::var_os("PM_UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(path, &frames).unwrap();
        }
        assert_eq!(frames, std::fs::read_to_string(path).unwrap_or_default());
    }

    #[test]
    fn it_fits_any_size() {
        for (columns, rows) in [(1, 1), (3, 2), (20, 5), (79, 23), (119, 10), (120, 10), (300, 100)] {
            let text = shown(&filled(), columns, rows);
            assert_eq!(text.lines().count(), usize::from(rows));
        }
    }

    #[test]
    fn colours_can_be_turned_off() {
        for (has_colour, expected) in [(false, false), (true, true)] {
            let top = Top { colour: has_colour, ..filled() };
            let mut terminal = Terminal::new(TestBackend::new(120, 30)).unwrap();
            terminal.draw(|frame| draw(frame, &top)).unwrap();
            let cells = terminal.backend().buffer().content();
            assert_eq!(cells.iter().any(|cell| cell.fg != Color::Reset), expected);
            assert!(cells.iter().all(|cell| cell.bg == Color::Reset), "the background is the terminal's");
        }
    }
}
