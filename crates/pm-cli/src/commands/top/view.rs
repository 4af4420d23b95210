//! The state of `pm top` and its reaction to keys; without I/O.

use crate::text::{cut, printable};
use pm_driver_tokio_postgres::{Count, JobMetadata, Uuid};
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::time::Duration;

/// How many lines of a job are shown.
const MAX_LINES: usize = 10_000;
/// How many lines PageUp and PageDown move.
const PAGE: usize = 10;

/// The data of one update.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    pub(super) queues: Vec<QueueLine>,
    /// The period of `lately`.
    pub(super) window: Duration,
    /// The next to expire first.
    pub(super) leases: Vec<JobMetadata>,
    /// The newest first.
    pub(super) failures: Vec<JobMetadata>,
}

#[derive(Debug, Clone)]
pub(super) struct QueueLine {
    pub(super) name: String,
    pub(super) paused: bool,
    /// Jobs by state, in the order of `State::ALL`.
    pub(super) counts: [Count; 5],
    /// How long the oldest ready job has waited.
    pub(super) oldest: Option<Duration>,
    /// Enqueued, finished and failed within the window.
    pub(super) lately: [Count; 3],
}

/// The lists on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum List {
    #[default]
    Queues,
    Leases,
    Failures,
}

/// What is in the foreground.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Front {
    #[default]
    Lists,
    /// A question, and the request to run when the answer is y.
    Question(String, Request),
    /// A job.
    Job { title: String, lines: Vec<String>, first: usize },
}

/// A request by a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Quit,
    Update,
    Pause(String),
    Resume(String),
    Open(Uuid),
}

/// The state of `pm top`.
#[derive(Debug, Clone, Default)]
pub(super) struct Top {
    pub(super) schema: String,
    pub(super) every: Duration,
    pub(super) colour: bool,
    pub(super) snapshot: Option<Snapshot>,
    /// How long the last update took.
    pub(super) took: Duration,
    pub(super) list: List,
    /// The selected line of each list.
    pub(super) selected: [usize; 3],
    pub(super) front: Front,
    /// The result of the last action.
    pub(super) message: String,
    /// Why the last update failed.
    pub(super) error: Option<String>,
}

impl Top {
    /// Returns a view without data.
    pub(super) fn new(schema: &str, every: Duration, colour: bool) -> Self {
        Top { schema: schema.to_owned(), every, colour, ..Top::default() }
    }

    /// Shows new data.
    pub(super) fn update(&mut self, snapshot: Snapshot, took: Duration) {
        for list in [List::Queues, List::Leases, List::Failures] {
            let last = snapshot.length(list).saturating_sub(1);
            let selected = &mut self.selected[list as usize];
            *selected = (*selected).min(last);
        }
        self.snapshot = Some(snapshot);
        self.took = took;
        self.error = None;
    }

    /// Shows a job.
    pub(super) fn open(&mut self, title: &str, text: &str) {
        let lines = text.lines().take(MAX_LINES).map(str::to_owned).collect();
        self.front = Front::Job { title: title.to_owned(), lines, first: 0 };
    }

    /// Handles a key; returns a request that needs I/O.
    pub(super) fn handle(&mut self, event: &Event) -> Option<Request> {
        let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press | KeyEventKind::Repeat, .. }) = event
        else {
            return None;
        };
        if *code == KeyCode::Char('c') && modifiers.contains(KeyModifiers::CONTROL) {
            return Some(Request::Quit);
        }
        self.message.clear();
        match (&mut self.front, code) {
            (Front::Lists, _) => return self.key_on_lists(*code),
            (Front::Job { .. }, KeyCode::Esc | KeyCode::Char('q') | KeyCode::Enter) | (Front::Question(..), _) => {}
            (Front::Job { lines, first, .. }, _) => {
                let line = if *code == KeyCode::Char(' ') { *first + PAGE } else { moved(*code, *first) };
                *first = line.min(lines.len().saturating_sub(1));
                return None;
            }
        }
        match std::mem::take(&mut self.front) {
            Front::Question(_, request) if *code == KeyCode::Char('y') => Some(request),
            _ => None,
        }
    }

    fn key_on_lists(&mut self, code: KeyCode) -> Option<Request> {
        match code {
            KeyCode::Char('q') => return Some(Request::Quit),
            KeyCode::Char(' ') => return Some(Request::Update),
            KeyCode::Tab => self.list = self.list.next(),
            KeyCode::BackTab => self.list = self.list.next().next(),
            KeyCode::Char('p') => self.ask("Pause", Request::Pause),
            KeyCode::Char('r') => self.ask("Resume", Request::Resume),
            KeyCode::Enter => return self.selected_job().map(Request::Open),
            code => self.select(code),
        }
        None
    }

    fn select(&mut self, code: KeyCode) {
        let length = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.length(self.list));
        let selected = &mut self.selected[self.list as usize];
        *selected = moved(code, *selected).min(length.saturating_sub(1));
    }

    fn ask(&mut self, verb: &str, request: fn(String) -> Request) {
        let snapshot = self.snapshot.as_ref();
        match snapshot.and_then(|snapshot| snapshot.queues.get(self.selected[List::Queues as usize])) {
            Some(queue) => {
                let question = format!("{verb} queue {}? y/n", quoted(&queue.name));
                self.front = Front::Question(question, request(queue.name.clone()));
            }
            None => self.message = "There are no queues.".to_owned(),
        }
    }

    fn selected_job(&mut self) -> Option<Uuid> {
        let snapshot = self.snapshot.as_ref()?;
        let selected = self.selected[self.list as usize];
        let id = match self.list {
            List::Queues => None,
            List::Leases => snapshot.leases.get(selected).map(|lease| lease.id),
            List::Failures => snapshot.failures.get(selected).map(|failure| failure.id),
        };
        if id.is_none() {
            self.message = "Select a job first: Tab switches to leases and failures.".to_owned();
        }
        id
    }
}

/// Returns where a key moves to from a line; it may be past the last line.
fn moved(code: KeyCode, from: usize) -> usize {
    match code {
        KeyCode::Up | KeyCode::Char('k') => from.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => from + 1,
        KeyCode::PageUp => from.saturating_sub(PAGE),
        KeyCode::PageDown => from + PAGE,
        KeyCode::Home => 0,
        KeyCode::End => usize::MAX,
        _ => from,
    }
}

/// Returns a queue's name in quotes, cut so that the message fits on a narrow screen.
pub(super) fn quoted(name: &str) -> String {
    const COLUMNS: usize = 32;
    format!("\"{}\"", cut(&printable(name), COLUMNS))
}

impl Snapshot {
    fn length(&self, list: List) -> usize {
        match list {
            List::Queues => self.queues.len(),
            List::Leases => self.leases.len(),
            List::Failures => self.failures.len(),
        }
    }
}

impl List {
    fn next(self) -> List {
        match self {
            List::Queues => List::Leases,
            List::Leases => List::Failures,
            List::Failures => List::Queues,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::draw::tests::{filled, press};
    use super::*;

    #[test]
    fn a_queue_is_paused_only_when_the_answer_is_yes() {
        let mut top = filled();
        for (answer, request) in [('n', None), ('x', None), ('y', Some(Request::Pause("mail".to_owned())))] {
            press(&mut top, KeyCode::Home);
            assert_eq!(press(&mut top, KeyCode::Char('p')), None);
            assert_eq!(
                top.front,
                Front::Question("Pause queue \"mail\"? y/n".to_owned(), Request::Pause("mail".to_owned()))
            );
            assert_eq!(press(&mut top, KeyCode::Char(answer)), request);
            assert_eq!(top.front, Front::Lists);
        }
    }

    #[test]
    fn a_job_is_opened_from_leases_and_failures() {
        let mut top = filled();
        assert_eq!(press(&mut top, KeyCode::Enter), None);
        assert!(top.message.contains("Select a job"));
        press(&mut top, KeyCode::Tab);
        press(&mut top, KeyCode::Down);
        let id = top.snapshot.as_ref().unwrap().leases[1].id;
        assert_eq!(press(&mut top, KeyCode::Enter), Some(Request::Open(id)));
        top.open("a job", "one\ntwo\nthree");
        press(&mut top, KeyCode::End);
        assert!(matches!(&top.front, Front::Job { first: 2, .. }), "{:?}", top.front);
        press(&mut top, KeyCode::Esc);
        assert_eq!(top.front, Front::Lists);
    }

    #[test]
    fn the_selection_stays_within_the_list() {
        let mut top = filled();
        press(&mut top, KeyCode::End);
        assert_eq!(top.selected[0], 2);
        press(&mut top, KeyCode::Char('j'));
        assert_eq!(top.selected[0], 2);
        top.update(Snapshot::default(), Duration::ZERO);
        assert_eq!(top.selected, [0; 3]);
        for code in [KeyCode::Down, KeyCode::End, KeyCode::Enter, KeyCode::Char('p'), KeyCode::PageUp] {
            assert_eq!(press(&mut top, code), None);
        }
    }

    #[test]
    fn q_and_ctrl_c_quit() {
        let mut top = filled();
        assert_eq!(press(&mut top, KeyCode::Char('q')), Some(Request::Quit));
        top.open("a job", "text");
        assert_eq!(press(&mut top, KeyCode::Char('q')), None, "it closes the job");
        top.open("a job", "text");
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(top.handle(&Event::Key(control_c)), Some(Request::Quit));
    }
}
