//! The listener for notifications, one for each queue handle and its clones.

use crate::driver::{BoxFuture, Listener};
use crate::observe::Event;
use crate::sending::Link;
use crate::worker::LocalWorkers;
use futures_util::future::{Either, select};
use pm_core::op::Notification;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// The pause before listening again after a failure doubles from this to [`LONGEST_PAUSE`], half of it random.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often the listener checks whether it is still needed.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Runs at most one listener for the workers of a queue handle and its clones.
///
/// It runs while a worker needs it, and reconnects after a failure.
#[derive(Default)]
pub(crate) struct Listening {
    state: Mutex<ListenerState>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum ListenerState {
    #[default]
    Absent,
    /// The task runs, but has no connection yet, or has lost it.
    Connecting,
    Connected,
}

impl Listening {
    /// Starts the listener unless it runs, and reports to a new worker whether it is connected.
    pub(crate) fn ensure_started(listening: &Arc<Listening>, link: &Arc<Link>, workers: &Arc<LocalWorkers>) {
        let mut state = listening.lock();
        match *state {
            ListenerState::Absent => {
                *state = ListenerState::Connecting;
                let listener =
                    ListenerTask { listening: listening.clone(), workers: Arc::downgrade(workers), link: link.clone() };
                link.runtime.spawn(Box::pin(listener.run()));
            }
            ListenerState::Connecting => {}
            ListenerState::Connected => {
                drop(state);
                workers.set_listening(true, link.now());
            }
        }
    }

    /// Returns whether the listener is connected.
    pub(crate) fn is_listening(&self) -> bool {
        *self.lock() == ListenerState::Connected
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ListenerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: ListenerState) {
        *self.lock() = state;
    }
}

/// The listener's task.
struct ListenerTask {
    listening: Arc<Listening>,
    workers: Weak<LocalWorkers>,
    link: Arc<Link>,
}

impl ListenerTask {
    /// Listens while a worker needs it. After a failure it reconnects, with growing pauses.
    async fn run(self) {
        let channel = Notification::channel(self.link.catalog.schema());
        let mut pause = SHORTEST_PAUSE;
        while self.should_continue() {
            match self.link.driver.listen(&channel).await {
                Ok(Some(listener)) => {
                    pause = SHORTEST_PAUSE;
                    self.forward(listener).await;
                }
                Ok(None) => return self.listening.set(ListenerState::Absent),
                Err(_) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
            let random = self.link.randomness.next_u64() % 1_024;
            let jitter = u32::try_from(random).unwrap_or_default();
            self.link.runtime.sleep(pause / 2 + pause / 2 * jitter / 1_024).await;
        }
    }

    /// Returns whether a worker still needs the listener; otherwise marks it as absent.
    fn should_continue(&self) -> bool {
        let mut state = self.listening.lock();
        let needed = self.is_needed();
        if !needed {
            *state = ListenerState::Absent;
        }
        needed
    }

    /// Passes notifications to the workers until the connection is lost or no worker needs the listener.
    async fn forward(&self, mut listener: Box<dyn Listener>) {
        self.listening.set(ListenerState::Connected);
        self.link.observing.observe(&Event::ListenerConnected {});
        // Jobs added before this moment are found by polling.
        self.with_workers(|workers| workers.set_listening(true, self.link.now()));
        let mut check: BoxFuture<'_, ()> = self.link.runtime.sleep(CHECK_INTERVAL);
        let lost_servers = self.link.lost_servers();
        let is_lost = loop {
            match select(listener.next(), check).await {
                Either::Left((Ok(payload), rest)) => {
                    check = rest;
                    if let Some(notification) = Notification::parse(&payload) {
                        self.with_workers(|workers| workers.handle_notification(notification, self.link.now()));
                    }
                }
                Either::Left((Err(_), _)) => break true,
                // A server that stopped without closing its connections sends nothing here; failing statements reveal
                // it.
                Either::Right(_) if self.link.lost_servers() != lost_servers => break true,
                Either::Right(_) if !self.is_needed() => break false,
                Either::Right(_) => check = self.link.runtime.sleep(CHECK_INTERVAL),
            }
        };
        if is_lost {
            self.link.observing.observe(&Event::ListenerLost {});
        }
        self.listening.set(ListenerState::Connecting);
        self.with_workers(|workers| workers.set_listening(false, self.link.now()));
    }

    fn is_needed(&self) -> bool {
        self.workers.upgrade().is_some_and(|workers| workers.need_listener())
    }

    fn with_workers(&self, report: impl FnOnce(&LocalWorkers)) {
        if let Some(workers) = self.workers.upgrade() {
            report(&workers);
        }
    }
}
