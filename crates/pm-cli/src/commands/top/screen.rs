//! The terminal of `pm top`.

use super::draw::draw;
use super::view::Top;
use crate::error::CommandError;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::{cursor, execute, terminal};
use std::io::{self, Stdout};
use std::sync::Once;
use tokio::sync::mpsc;

/// How many events are buffered.
const MAX_EVENTS: usize = 64;

/// The whole terminal. It is restored when this is closed or dropped, and when the program panics.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    events: mpsc::Receiver<io::Result<Event>>,
}

impl Screen {
    /// Takes over the terminal and starts reading events.
    pub(super) fn open() -> Result<Self, CommandError> {
        restore_on_panic();
        terminal::enable_raw_mode().map_err(failed)?;
        // From here on, dropping the screen restores the terminal.
        let (sender, events) = mpsc::channel(MAX_EVENTS);
        let backend = CrosstermBackend::new(io::stdout());
        let screen = Terminal::new(backend).map(|terminal| Screen { terminal, events });
        let screen = screen.inspect_err(|_| restore()).map_err(failed)?;
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide).map_err(failed)?;
        // The thread ends with the process: a blocking read of a terminal cannot be cancelled.
        std::thread::spawn(move || while sender.blocking_send(event::read()).is_ok() {});
        Ok(screen)
    }

    /// Draws a frame in the current size of the terminal.
    pub(super) fn draw(&mut self, top: &Top) -> Result<(), CommandError> {
        self.terminal.draw(|frame| draw(frame, top)).map(drop).map_err(failed)
    }

    /// Returns the next key press or resize. Cancel-safe.
    pub(super) async fn event(&mut self) -> Result<Event, CommandError> {
        let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
        self.events.recv().await.unwrap_or_else(|| Err(gone())).map_err(failed)
    }

    /// Restores the terminal.
    pub(super) fn close(self) -> Result<(), CommandError> {
        drop(self);
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    // Errors are ignored: nothing else can be done.
    drop(execute!(io::stdout(), terminal::LeaveAlternateScreen, cursor::Show));
    drop(terminal::disable_raw_mode());
}

/// Restores the terminal before a panic is printed.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            print(panic);
        }));
    });
}

fn failed(error: io::Error) -> CommandError {
    CommandError::trouble(format!("the terminal cannot be used: {error}"))
}
