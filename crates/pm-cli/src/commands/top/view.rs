//! What `pm top` shows, and what keys do to it: pure.

use crate::render::{cut, printable};
use pm_driver_tokio_postgres::{Count, Uuid};
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::time::Duration;

/// A job is shown up to so many lines.
const LINES: usize = 10_000;
/// So many lines a page.
const PAGE: usize = 10;

/// What one look at the database saw.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    pub(super) queues: Vec<QueueLine>,
    /// How far back "lately" reaches.
    pub(super) window: Duration,
    /// The soonest to end first.
    pub(super) leases: Vec<Lease>,
    /// The latest first.
    pub(super) failures: Vec<Failure>,
}

#[derive(Debug, Clone)]
pub(super) struct QueueLine {
    pub(super) name: String,
    pub(super) paused: bool,
    /// Jobs by state, in the order of `State::ALL`.
    pub(super) counts: [Count; 5],
    /// How long the oldest ready job waits.
    pub(super) oldest: Option<Duration>,
    /// Enqueued, finished, failed within the window.
    pub(super) lately: [Count; 3],
}

#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) id: Uuid,
    pub(super) queue: String,
    pub(super) worker: String,
    pub(super) attempt: u32,
    /// Negative when it ran out already.
    pub(super) ends_in_s: i64,
}

#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) id: Uuid,
    pub(super) queue: String,
    pub(super) ago_s: u64,
    pub(super) reason: String,
}

/// The lists on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Queues,
    Leases,
    Failures,
}

/// What is in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Front {
    Lists,
    /// A question that y answers with yes.
    Question(String, Request),
    /// A job.
    Job {
        title: String,
        lines: Vec<String>,
        first: usize,
    },
}

/// What a key asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Quit,
    Look,
    Pause(String),
    Resume(String),
    Open(Uuid),
}

/// Everything `pm top` shows.
#[derive(Debug, Clone)]
pub(super) struct Top {
    pub(super) schema: String,
    pub(super) every: Duration,
    pub(super) colour: bool,
    pub(super) snapshot: Option<Snapshot>,
    /// How long the last look took.
    pub(super) took: Duration,
    pub(super) list: List,
    /// Which line of each list is chosen.
    pub(super) chosen: [usize; 3],
    pub(super) front: Front,
    /// What was done last.
    pub(super) sentence: String,
    /// Why the last look failed.
    pub(super) trouble: Option<String>,
}

impl Top {
    /// Returns a view that has seen nothing yet.
    pub(super) fn new(schema: &str, every: Duration, colour: bool) -> Self {
        Top {
            schema: schema.to_owned(),
            every,
            colour,
            snapshot: None,
            took: Duration::ZERO,
            list: List::Queues,
            chosen: [0; 3],
            front: Front::Lists,
            sentence: String::new(),
            trouble: None,
        }
    }

    /// Takes up what a look saw.
    pub(super) fn saw(&mut self, snapshot: Snapshot, took: Duration) {
        for list in [List::Queues, List::Leases, List::Failures] {
            let last = snapshot.length(list).saturating_sub(1);
            let chosen = &mut self.chosen[list as usize];
            *chosen = (*chosen).min(last);
        }
        self.snapshot = Some(snapshot);
        self.took = took;
        self.trouble = None;
    }

    /// Says what was done.
    pub(super) fn say(&mut self, sentence: &str) {
        self.sentence = sentence.to_owned();
    }

    /// Says what is wrong.
    pub(super) fn trouble(&mut self, why: &str) {
        self.trouble = Some(why.to_owned());
    }

    /// Shows a job.
    pub(super) fn open(&mut self, title: &str, text: &str) {
        let lines = text.lines().take(LINES).map(str::to_owned).collect();
        self.front = Front::Job { title: title.to_owned(), lines, first: 0 };
    }

    /// Takes up a key; returns what it asks for beyond the view.
    pub(super) fn heard(&mut self, event: &Event) -> Option<Request> {
        let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press | KeyEventKind::Repeat, .. }) = event
        else {
            return None;
        };
        if *code == KeyCode::Char('c') && modifiers.contains(KeyModifiers::CONTROL) {
            return Some(Request::Quit);
        }
        self.sentence.clear();
        match std::mem::replace(&mut self.front, Front::Lists) {
            Front::Lists => self.key_on_lists(*code),
            Front::Question(_, request) => (*code == KeyCode::Char('y')).then_some(request),
            Front::Job { title, lines, first } => self.key_on_job(*code, title, lines, first),
        }
    }

    fn key_on_lists(&mut self, code: KeyCode) -> Option<Request> {
        match code {
            KeyCode::Char('q') => return Some(Request::Quit),
            KeyCode::Char(' ') => return Some(Request::Look),
            KeyCode::Tab => self.list = self.list.next(),
            KeyCode::BackTab => self.list = self.list.next().next(),
            KeyCode::Up | KeyCode::Char('k') => self.choose(|chosen| chosen.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.choose(|chosen| chosen + 1),
            KeyCode::PageUp => self.choose(|chosen| chosen.saturating_sub(PAGE)),
            KeyCode::PageDown => self.choose(|chosen| chosen + PAGE),
            KeyCode::Home => self.choose(|_| 0),
            KeyCode::End => self.choose(|_| usize::MAX),
            KeyCode::Char('p') => self.ask("Pause", Request::Pause),
            KeyCode::Char('r') => self.ask("Resume", Request::Resume),
            KeyCode::Enter => return self.chosen_job().map(Request::Open),
            _ => {}
        }
        None
    }

    fn key_on_job(&mut self, code: KeyCode, title: String, lines: Vec<String>, first: usize) -> Option<Request> {
        let first = match code {
            KeyCode::Esc | KeyCode::Char('q') | KeyCode::Enter => return None,
            KeyCode::Up | KeyCode::Char('k') => first.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => first + 1,
            KeyCode::PageUp => first.saturating_sub(PAGE),
            KeyCode::PageDown | KeyCode::Char(' ') => first + PAGE,
            KeyCode::Home => 0,
            KeyCode::End => usize::MAX,
            _ => first,
        };
        let first = first.min(lines.len().saturating_sub(1));
        self.front = Front::Job { title, lines, first };
        None
    }

    fn choose(&mut self, to: impl Fn(usize) -> usize) {
        let length = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.length(self.list));
        let chosen = &mut self.chosen[self.list as usize];
        *chosen = to(*chosen).min(length.saturating_sub(1));
    }

    fn ask(&mut self, order: &str, request: fn(String) -> Request) {
        let snapshot = self.snapshot.as_ref();
        match snapshot.and_then(|snapshot| snapshot.queues.get(self.chosen[List::Queues as usize])) {
            Some(queue) => {
                let question = format!("{order} queue {}? y/n", quoted(&queue.name));
                self.front = Front::Question(question, request(queue.name.clone()));
            }
            None => self.say("There is no queue."),
        }
    }

    fn chosen_job(&mut self) -> Option<Uuid> {
        let snapshot = self.snapshot.as_ref()?;
        let chosen = self.chosen[self.list as usize];
        let id = match self.list {
            List::Queues => None,
            List::Leases => snapshot.leases.get(chosen).map(|lease| lease.id),
            List::Failures => snapshot.failures.get(chosen).map(|failure| failure.id),
        };
        if id.is_none() {
            self.say("Choose a job first: Tab goes to the leases and failures.");
        }
        id
    }
}

/// Returns a queue's name for a sentence, so short that the sentence fits on a narrow screen.
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
    use super::super::draw::tests::{press, seen};
    use super::*;

    #[test]
    fn a_queue_is_paused_only_when_the_answer_is_yes() {
        let mut top = seen();
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
        let mut top = seen();
        assert_eq!(press(&mut top, KeyCode::Enter), None);
        assert!(top.sentence.contains("Choose a job"));
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
    fn what_is_chosen_stays_within_what_there_is() {
        let mut top = seen();
        press(&mut top, KeyCode::End);
        assert_eq!(top.chosen[0], 2);
        press(&mut top, KeyCode::Char('j'));
        assert_eq!(top.chosen[0], 2);
        top.saw(Snapshot::default(), Duration::ZERO);
        assert_eq!(top.chosen, [0; 3]);
        for code in [KeyCode::Down, KeyCode::End, KeyCode::Enter, KeyCode::Char('p'), KeyCode::PageUp] {
            assert_eq!(press(&mut top, code), None);
        }
    }

    #[test]
    fn q_and_ctrl_c_quit() {
        let mut top = seen();
        assert_eq!(press(&mut top, KeyCode::Char('q')), Some(Request::Quit));
        top.open("a job", "text");
        assert_eq!(press(&mut top, KeyCode::Char('q')), None, "it closes the job");
        top.open("a job", "text");
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(top.heard(&Event::Key(control_c)), Some(Request::Quit));
    }
}
