//! The terminal of `pm top`.

use super::draw::draw;
use super::view::Top;
use crate::error::CommandError;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use std::io;
use tokio::sync::mpsc;

/// How many events are buffered.
const MAX_EVENTS: usize = 64;

/// The whole terminal. It is restored when this is dropped, and when the program panics.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    events: mpsc::Receiver<io::Result<Event>>,
}

impl Screen {
    /// Takes over the terminal and starts reading events.
    pub(super) fn open() -> Result<Self, CommandError> {
        let hidden = |mut terminal: DefaultTerminal| terminal.hide_cursor().map(|()| terminal);
        let terminal = ratatui::try_init().and_then(hidden).inspect_err(|_| restore()).map_err(failed)?;
        let (sender, events) = mpsc::channel(MAX_EVENTS);
        // The thread ends with the process: a blocking read of a terminal cannot be cancelled.
        std::thread::spawn(move || while sender.blocking_send(event::read()).is_ok() {});
        Ok(Screen { terminal, events })
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
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    // Errors are ignored: nothing else can be done.
    drop(ratatui::try_restore());
}

fn failed(error: io::Error) -> CommandError {
    CommandError::trouble(format!("the terminal cannot be used: {error}"))
}
