//! The task that drives a machine, and what it shares with the handles.

use crate::link::{CoreEntropy, Link};
use crate::{BoxFuture, Error};
use futures_util::Stream;
use futures_util::stream::FuturesUnordered;
use pm_core::machine::{Machine, Request, RequestId};
use pm_core::{Failure, Instant, Rows};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A machine with those who wait on it.
pub(crate) trait Driven: Machine<Request: Send + 'static> + Send + Sized + 'static {
    /// Who waits for what.
    type Waiters: Send + 'static;

    /// Tells the waiters what happened; those to be woken go to `wake`.
    fn dispatch(state: &mut State<Self>, now: Instant, wake: &mut Vec<Waker>);

    /// Returns whether the task may end.
    fn is_over(state: &State<Self>, now: Instant) -> bool;

    /// Returns when to look again whether the task may end, if that comes by itself.
    fn over_at(state: &State<Self>) -> Option<Instant> {
        let _it_does_not = state;
        None
    }

    /// Takes note that nobody drives the machine any longer.
    fn abandon(state: &mut State<Self>, wake: &mut Vec<Waker>);
}

/// What a task and the handles share, under one lock that is never held across a wait.
pub(crate) struct State<M: Driven> {
    pub(crate) machine: M,
    pub(crate) waiters: M::Waiters,
    /// Wakes the task.
    task: Option<Waker>,
    /// How often someone said something.
    told: u64,
    /// Whether the task has ended: no verb will be heard any more.
    pub(crate) gone: bool,
}

pub(crate) struct Shared<M: Driven> {
    state: Mutex<State<M>>,
}

impl<M: Driven> Shared<M> {
    pub(crate) fn new(machine: M, waiters: M::Waiters) -> Arc<Self> {
        Arc::new(Shared { state: Mutex::new(State { machine, waiters, task: None, told: 0, gone: false }) })
    }

    /// Returns the state. A panic while it was locked leaves it as it was: the machine's own steps do not panic.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes the task, after the lock is let go.
    pub(crate) fn tell<T>(&self, change: impl FnOnce(&mut State<M>) -> T) -> T {
        let (told, task) = {
            let mut state = self.lock();
            state.told = state.told.wrapping_add(1);
            let told = change(&mut state);
            (told, state.task.take())
        };
        task.into_iter().for_each(Waker::wake);
        told
    }
}

type Reply<R> = (R, Result<Rows, Failure>);

/// Drives a machine until it is over: the six steps of [`pm_core::machine`].
pub(crate) struct Task<M: Driven> {
    shared: Arc<Shared<M>>,
    link: Arc<Link>,
    in_flight: FuturesUnordered<BoxFuture<'static, Reply<M::Request>>>,
    alarm: Option<(Instant, BoxFuture<'static, ()>)>,
    gathering: Gathering,
}

/// No timer of the runtime is set for longer: it may stand still while the machine is suspended, and our clock does not.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// How often others may run first while a batch gathers.
const MOST_YIELDS: u16 = 1_000;
/// How often in a row they may do so without saying anything.
const MOST_SILENT: u16 = 16;

/// How often others were let run first, for a fuller batch.
#[derive(Default)]
struct Gathering {
    yields: u16,
    /// How many of these, at last, were for nothing.
    silent: u16,
    /// What had been said by then.
    told: u64,
}

impl<M: Driven> Task<M> {
    /// Starts a task on the link's runtime.
    pub(crate) fn spawn(shared: &Arc<Shared<M>>, link: &Arc<Link>) {
        let task = Task {
            shared: shared.clone(),
            link: link.clone(),
            in_flight: FuturesUnordered::new(),
            alarm: None,
            gathering: Gathering::default(),
        };
        link.runtime.spawn(Box::pin(task));
    }

    fn take_in_replies(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some((request, reply))) = Pin::new(&mut self.in_flight).poll_next(cx) {
            let mut entropy = CoreEntropy(&*self.link.randomness);
            self.shared.lock().machine.handle_reply(request, reply, self.link.now(), &mut entropy);
        }
    }

    /// Returns whether the batch is likely to grow if others run first, and tells those who wait for answers.
    ///
    /// A crowd that was answered comes back one by one, perhaps on another thread: while some come, it waits for all.
    fn gathers(&mut self, wake: &mut Vec<Waker>) -> bool {
        let mut state = self.shared.lock();
        let Gathering { yields, silent, told } = self.gathering;
        let silent = if told == state.told { silent } else { 0 };
        if yields == MOST_YIELDS || silent == MOST_SILENT || !state.machine.is_gathering() {
            self.gathering = Gathering::default();
            return false;
        }
        self.gathering = Gathering { yields: yields + 1, silent: silent + 1, told: state.told };
        M::dispatch(&mut state, self.link.now(), wake);
        true
    }

    /// Lets the machine act; returns whether it sent something and when it wants to be woken, or `None` when it is over.
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
        if !sent && self.in_flight.is_empty() && M::is_over(&state, now) {
            return None;
        }
        let deadline = state.machine.poll_timeout().map(|(at, _)| at);
        // What is over by time and goes on all the same waits for an answer: an alarm would ring for nothing, again and again.
        let deadlines = [deadline, M::over_at(&state).filter(|at| *at > now)];
        Some((sent, deadlines.into_iter().flatten().min()))
    }

    /// Returns whether the deadline has come.
    fn alarm_rings(&mut self, deadline: Option<Instant>, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = deadline else {
            self.alarm = None;
            return false;
        };
        // An alarm set too early rings once for nothing, which is cheaper than setting it anew each time.
        if self.alarm.as_ref().is_none_or(|(at, _)| *at > deadline) {
            let now = self.link.now();
            let at = deadline.min(now + LONGEST_SLEEP);
            self.alarm = Some((at, self.link.runtime.sleep(at.since(now))));
        }
        let rings = self.alarm.as_mut().is_some_and(|(_, sleep)| sleep.as_mut().poll(cx).is_ready());
        if rings {
            self.alarm = None;
        }
        rings
    }
}

impl<M: Driven> Future for Task<M> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = &mut *self;
        loop {
            task.take_in_replies(cx);
            let mut wake = Vec::new();
            if task.gathers(&mut wake) {
                wake.into_iter().for_each(Waker::wake);
                // Those who were woken may wait for this very processor.
                std::thread::yield_now();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let step = task.step(cx, &mut wake);
            wake.into_iter().for_each(Waker::wake);
            let Some((sent, deadline)) = step else { return Poll::Ready(()) };
            if !sent && !task.alarm_rings(deadline, cx) {
                return Poll::Pending;
            }
        }
    }
}

impl<M: Driven> Drop for Task<M> {
    /// Whether it ended or its runtime went away: nobody waits for ever.
    fn drop(&mut self) {
        let mut wake = Vec::new();
        {
            let mut state = self.shared.lock();
            state.gone = true;
            M::abandon(&mut state, &mut wake);
        }
        wake.into_iter().for_each(Waker::wake);
    }
}

/// Adds the waker of `cx` to `wakers`, unless one that wakes the same task is there.
pub(crate) fn note_waker(wakers: &mut Vec<Waker>, cx: &Context<'_>) {
    if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
    }
}

/// Answers by request id, for those who still want them.
pub(crate) struct Answers<T>(HashMap<RequestId, Slot<T>>);

enum Slot<T> {
    Waiting(Option<Waker>),
    Here(Result<T, Error>),
}

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Answers(HashMap::new())
    }
}

impl<T> Answers<T> {
    /// Takes note that someone wants the answer.
    pub(crate) fn expect(&mut self, request_id: RequestId) {
        self.0.insert(request_id, Slot::Waiting(None));
    }

    /// Takes note that nobody wants the answer any longer.
    pub(crate) fn forget(&mut self, request_id: RequestId) {
        self.0.remove(&request_id);
    }

    /// Delivers an answer, if someone wants it.
    pub(crate) fn deliver(&mut self, request_id: RequestId, answer: Result<T, Error>, wake: &mut Vec<Waker>) {
        if let Some(slot) = self.0.get_mut(&request_id)
            && let Slot::Waiting(waker) = std::mem::replace(slot, Slot::Here(answer))
        {
            wake.extend(waker);
        }
    }

    /// Answers everyone who waits.
    pub(crate) fn deliver_all(&mut self, answer: impl Fn() -> Error, wake: &mut Vec<Waker>) {
        for slot in self.0.values_mut() {
            if let Slot::Waiting(waker) = slot {
                wake.extend(waker.take());
                *slot = Slot::Here(Err(answer()));
            }
        }
    }

    /// Returns the answer if it is here; otherwise `cx` is woken when it comes.
    pub(crate) fn poll(&mut self, request_id: RequestId, cx: &mut Context<'_>) -> Poll<Result<T, Error>> {
        match self.0.get_mut(&request_id) {
            Some(Slot::Waiting(waker)) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(Slot::Here(_)) | None => match self.0.remove(&request_id) {
                Some(Slot::Here(answer)) => Poll::Ready(answer),
                Some(Slot::Waiting(_)) | None => Poll::Ready(Err(Error::no_task())),
            },
        }
    }
}
