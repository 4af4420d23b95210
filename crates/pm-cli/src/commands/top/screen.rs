//! The terminal while `pm top` has it.

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

/// So many key presses may wait.
const WAITING: usize = 64;

/// The whole terminal; it is given back when this is closed or dropped, and when the program panics.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    events: mpsc::Receiver<io::Result<Event>>,
}

impl Screen {
    /// Takes the terminal, and begins to hear its keys.
    pub(super) fn open() -> Result<Self, CommandError> {
        restore_on_panic();
        terminal::enable_raw_mode().map_err(failed)?;
        // From here on dropping gives it back.
        let (sender, events) = mpsc::channel(WAITING);
        let backend = CrosstermBackend::new(io::stdout());
        let screen = Terminal::new(backend).map(|terminal| Screen { terminal, events });
        let screen = screen.inspect_err(|_| restore()).map_err(failed)?;
        execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide).map_err(failed)?;
        // It ends with the process: there is no other end to a read of a terminal.
        std::thread::spawn(move || while sender.blocking_send(event::read()).is_ok() {});
        Ok(screen)
    }

    /// Draws a frame; the size is that of the terminal at this moment.
    pub(super) fn draw(&mut self, top: &Top) -> Result<(), CommandError> {
        self.terminal.draw(|frame| draw(frame, top)).map(drop).map_err(failed)
    }

    /// Returns the next key press or change of size. It loses nothing when dropped and called again.
    pub(super) async fn event(&mut self) -> Result<Event, CommandError> {
        let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
        self.events.recv().await.unwrap_or_else(|| Err(gone())).map_err(failed)
    }

    /// Gives the terminal back.
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
    // There is nothing to be done for a terminal that does not take it.
    drop(execute!(io::stdout(), terminal::LeaveAlternateScreen, cursor::Show));
    drop(terminal::disable_raw_mode());
}

/// Gives the terminal back before a panic is told on it.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            tell(panic);
        }));
    });
}

fn failed(error: io::Error) -> CommandError {
    CommandError::trouble(format!("the terminal cannot be used: {error}"))
}
