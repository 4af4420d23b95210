//! The task that drives a state machine, and the state it shares with the handles.

use super::link::{CoreEntropy, Link};
use crate::driver::BoxFuture;
use crate::observe::Note;
use futures_util::Stream;
use futures_util::stream::FuturesUnordered;
use pm_core::machine::{Machine, Request};
use pm_core::{Failure, Instant, Rows};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A state machine, with the futures that wait for its events.
pub(crate) trait Driven: Machine<Request: Send + 'static> + Send + Sized + 'static {
    /// The wakers and outcomes of these futures.
    type Waiters: Send + 'static;

    /// Hands the machine's events to the waiters and adds the wakers to call to `wake`.
    fn dispatch(state: &mut State<Self>, now: Instant, wake: &mut Vec<Waker>);

    /// Returns the events for the observer since the last call; none without an observer.
    fn take_notes(state: &mut State<Self>) -> Vec<Note>;

    /// Returns whether the task may end.
    fn is_finished(state: &State<Self>, now: Instant) -> bool;

    /// Returns when to check [`is_finished`](Self::is_finished) again, if it can become true by time alone.
    fn finished_at(state: &State<Self>) -> Option<Instant> {
        let _time_does_not_matter = state;
        None
    }

    /// Fails all waiters, because the task has ended.
    fn abandon(state: &mut State<Self>, wake: &mut Vec<Waker>);
}

/// The state that a task and the handles share, under one lock that is never held across an await.
pub(crate) struct State<M: Driven> {
    pub(crate) machine: M,
    pub(crate) waiters: M::Waiters,
    /// Wakes the task.
    task: Option<Waker>,
    /// The number of updates by handles.
    updates: u64,
    /// Whether the task has ended: the machine's requests are no longer sent.
    pub(crate) has_ended: bool,
}

pub(crate) struct Shared<M: Driven> {
    state: Mutex<State<M>>,
}

impl<M: Driven> Shared<M> {
    pub(crate) fn new(machine: M, waiters: M::Waiters) -> Arc<Self> {
        Arc::new(Shared { state: Mutex::new(State { machine, waiters, task: None, updates: 0, has_ended: false }) })
    }

    /// Locks the state. A poisoned lock is used as it is: the machine's own steps do not panic.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes the task after releasing the lock.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut State<M>) -> T) -> T {
        let (output, task) = {
            let mut state = self.lock();
            state.updates = state.updates.wrapping_add(1);
            let output = change(&mut state);
            (output, state.task.take())
        };
        task.into_iter().for_each(Waker::wake);
        output
    }
}

type Reply<R> = (R, Result<Rows, Failure>);

/// Drives a machine until it is finished, in the six steps of [`pm_core::machine`].
pub(crate) struct Task<M: Driven> {
    shared: Arc<Shared<M>>,
    link: Arc<Link>,
    in_flight: FuturesUnordered<BoxFuture<'static, Reply<M::Request>>>,
    timer: Option<(Instant, BoxFuture<'static, ()>)>,
    gathering: Gathering,
    /// Events for the observer, which are reported when the lock is released.
    notes: Vec<Note>,
}

/// The longest timer that is set: the runtime's timers may stop while the computer is suspended, our clock does not.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// How often the task yields to others while a batch gathers.
const MAX_YIELDS: u16 = 1_000;
/// How often in a row it yields without an update in between.
const MAX_IDLE_YIELDS: u16 = 16;

/// How often the task has yielded to others, to get a fuller batch.
#[derive(Default)]
struct Gathering {
    yields: u16,
    /// How many of the last yields brought no update.
    idle_yields: u16,
    /// The number of updates at the last yield.
    updates: u64,
}

impl<M: Driven> Task<M> {
    /// Starts a task on the link's runtime.
    pub(crate) fn spawn(shared: &Arc<Shared<M>>, link: &Arc<Link>) {
        let task = Task {
            shared: shared.clone(),
            link: link.clone(),
            in_flight: FuturesUnordered::new(),
            timer: None,
            gathering: Gathering::default(),
            notes: Vec::new(),
        };
        link.runtime.spawn(Box::pin(task));
    }

    fn receive_replies(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some((request, reply))) = Pin::new(&mut self.in_flight).poll_next(cx) {
            let mut entropy = CoreEntropy(&*self.link.randomness);
            self.shared.lock().machine.handle_reply(request, reply, self.link.now(), &mut entropy);
        }
    }

    /// Returns whether the batch is likely to grow if other tasks run first; if so, delivers the outcomes they wait
    /// for.
    ///
    /// Tasks that got an outcome often enqueue or settle again, one by one and perhaps on another thread. While
    /// updates arrive, this waits for more.
    fn gathers(&mut self, wake: &mut Vec<Waker>) -> bool {
        let mut state = self.shared.lock();
        let Gathering { yields, idle_yields, updates } = self.gathering;
        let idle_yields = if updates == state.updates { idle_yields } else { 0 };
        if yields == MAX_YIELDS || idle_yields == MAX_IDLE_YIELDS || !state.machine.is_gathering() {
            self.gathering = Gathering::default();
            return false;
        }
        self.gathering = Gathering { yields: yields + 1, idle_yields: idle_yields + 1, updates: state.updates };
        M::dispatch(&mut state, self.link.now(), wake);
        self.notes.extend(M::take_notes(&mut state));
        true
    }

    /// Runs one step of the machine. Returns whether it sent something and its next deadline, or `None` when it is
    /// finished.
    fn step(&mut self, cx: &mut Context<'_>, wake: &mut Vec<Waker>) -> Option<(bool, Option<Instant>)> {
        let now = self.link.now();
        let shared = self.shared.clone();
        let mut state = shared.lock();
        state.task = Some(cx.waker().clone());
        state.machine.handle_timeout(now);
        let mut sent = false;
        while let Some(request) = state.machine.poll_request(now, &mut CoreEntropy(&*self.link.randomness)) {
            let link = self.link.clone();
            self.in_flight.push(Box::pin(async move {
                let reply = link.send(&request.plan()).await;
                (request, reply)
            }));
            sent = true;
        }
        M::dispatch(&mut state, now, wake);
        self.notes.extend(M::take_notes(&mut state));
        if !sent && self.in_flight.is_empty() && M::is_finished(&state, now) {
            return None;
        }
        let deadline = state.machine.poll_timeout().map(|(at, _)| at);
        // After `finished_at` the task only waits for replies; a timer in the past would expire again and again.
        let deadlines = [deadline, M::finished_at(&state).filter(|at| *at > now)];
        Some((sent, deadlines.into_iter().flatten().min()))
    }

    /// Reports the events for the observer, and wakes the tasks that wait for outcomes.
    fn report_and_wake(&mut self, wake: Vec<Waker>) {
        self.notes.drain(..).for_each(|note| note.report(&self.link.observing));
        wake.into_iter().for_each(Waker::wake);
    }

    /// Polls the timer; returns whether it has expired.
    fn timer_expires(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = deadline else {
            self.timer = None;
            return false;
        };
        // A timer that is too early expires once in vain, which is cheaper than resetting it each time.
        if self.timer.as_ref().is_none_or(|(at, _)| *at > deadline) {
            let now = self.link.now();
            let at = deadline.min(now + LONGEST_SLEEP);
            self.timer = Some((at, self.link.runtime.sleep(at.since(now))));
        }
        let has_expired = self.timer.as_mut().is_some_and(|(_, sleep)| sleep.as_mut().poll(cx).is_ready());
        if has_expired {
            self.timer = None;
        }
        has_expired
    }
}

impl<M: Driven> Future for Task<M> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = &mut *self;
        loop {
            task.receive_replies(cx);
            let mut wake = Vec::new();
            if task.gathers(&mut wake) {
                task.report_and_wake(wake);
                // The woken tasks may need this very CPU.
                std::thread::yield_now();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let step = task.step(cx, &mut wake);
            task.report_and_wake(wake);
            let Some((sent, deadline)) = step else { return Poll::Ready(()) };
            if !sent && !task.timer_expires(deadline, cx) {
                return Poll::Pending;
            }
        }
    }
}

impl<M: Driven> Drop for Task<M> {
    /// Fails all waiters, whether the task has finished or its runtime was shut down.
    fn drop(&mut self) {
        let mut wake = Vec::new();
        {
            let mut state = self.shared.lock();
            state.has_ended = true;
            M::abandon(&mut state, &mut wake);
            self.notes.extend(M::take_notes(&mut state));
        }
        self.report_and_wake(wake);
    }
}
