//! The one listener of a process.

use crate::link::Link;
use crate::worker::LocalWorkers;
use crate::{BoxFuture, Listener};
use futures_util::future::{Either, select};
use pm_core::op::Notification;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// The pause before listening again after a failure doubles from this to [`LONGEST_PAUSE`], half of it random.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often an unwanted listener looks whether it may end.
const LOOK_ROUND: Duration = Duration::from_secs(10);

/// Runs at most one listener for the workers of a queue handle and its clones.
#[derive(Default)]
pub(crate) struct Listening {
    state: Mutex<ListenerState>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum ListenerState {
    #[default]
    Absent,
    /// Its task runs; it has no connection yet, or lost it.
    Connecting,
    Hearing,
}

impl Listening {
    /// Sees to it that a listener runs, and tells a new worker whether it hears.
    pub(crate) fn want(listening: &Arc<Listening>, link: &Arc<Link>, workers: &Arc<LocalWorkers>) {
        let mut state = listening.lock();
        match *state {
            ListenerState::Absent => {
                *state = ListenerState::Connecting;
                let listener =
                    Listen { listening: listening.clone(), workers: Arc::downgrade(workers), link: link.clone() };
                link.runtime.spawn(Box::pin(listener.run()));
            }
            ListenerState::Connecting => {}
            ListenerState::Hearing => {
                drop(state);
                workers.set_listening(true, link.now());
            }
        }
    }

    /// Returns whether notifications are heard.
    pub(crate) fn is_hearing(&self) -> bool {
        *self.lock() == ListenerState::Hearing
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ListenerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: ListenerState) {
        *self.lock() = state;
    }
}

/// The listener's task.
struct Listen {
    listening: Arc<Listening>,
    workers: Weak<LocalWorkers>,
    link: Arc<Link>,
}

impl Listen {
    /// Listens for as long as some worker wants it; after a failure again, ever more patiently.
    async fn run(self) {
        let channel = Notification::channel(self.link.catalog.schema());
        let mut pause = SHORTEST_PAUSE;
        while self.goes_on() {
            match self.link.driver.listen(&channel).await {
                Ok(Some(listener)) => {
                    pause = SHORTEST_PAUSE;
                    self.hear(listener).await;
                }
                Ok(None) => return self.listening.set(ListenerState::Absent),
                Err(_) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
            let random = self.link.randomness.next_u64() % 1_024;
            let jitter = u32::try_from(random).unwrap_or_default();
            self.link.runtime.sleep(pause / 2 + pause / 2 * jitter / 1_024).await;
        }
    }

    /// Returns whether some worker wants the listener; otherwise it is absent from now on.
    fn goes_on(&self) -> bool {
        let mut state = self.listening.lock();
        let wanted = self.is_wanted();
        if !wanted {
            *state = ListenerState::Absent;
        }
        wanted
    }

    /// Passes on what is heard, until the connection is lost or nobody wants it any longer.
    async fn hear(&self, mut listener: Box<dyn Listener>) {
        self.listening.set(ListenerState::Hearing);
        // Whatever was said before we listened is found by looking.
        self.tell(|workers| workers.set_listening(true, self.link.now()));
        let mut look_round: BoxFuture<'_, ()> = self.link.runtime.sleep(LOOK_ROUND);
        let lost_servers = self.link.lost_servers();
        loop {
            match select(listener.next(), look_round).await {
                Either::Left((Ok(payload), rest)) => {
                    look_round = rest;
                    if let Some(notification) = Notification::parse(&payload) {
                        self.tell(|workers| workers.handle_notification(notification, self.link.now()));
                    }
                }
                Either::Left((Err(_), _)) => break,
                // A server that has stopped without closing its connections sends nothing here either: statements notification.
                Either::Right(_) if !self.is_wanted() || self.link.lost_servers() != lost_servers => break,
                Either::Right(_) => look_round = self.link.runtime.sleep(LOOK_ROUND),
            }
        }
        self.listening.set(ListenerState::Connecting);
        self.tell(|workers| workers.set_listening(false, self.link.now()));
    }

    fn is_wanted(&self) -> bool {
        self.workers.upgrade().is_some_and(|workers| workers.want_listener())
    }

    fn tell(&self, say: impl FnOnce(&LocalWorkers)) {
        if let Some(workers) = self.workers.upgrade() {
            say(&workers);
        }
    }
}
