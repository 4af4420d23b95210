//! Enqueues, which a task of the queue gathers into batches.

use crate::sending::{Driven, Link, Outcomes, Shared, State, Task, add_waker};
use crate::worker::LocalWorkers;
use crate::{Error, ErrorKind};
use pm_core::machine::{Enqueued, Producer, ProducerEvent, RequestId};
use pm_core::op::Notification;
use pm_core::{Instant, NewJob};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The futures that wait on a producer.
pub(crate) struct ProducerWaiters {
    outcomes: Outcomes<Enqueued>,
    /// Whether no further job is accepted.
    closing: bool,
    closers: Vec<Waker>,
    workers: Arc<LocalWorkers>,
}

impl Driven for Producer {
    type Waiters = ProducerWaiters;

    fn dispatch(state: &mut State<Self>, now: Instant, wake: &mut Vec<Waker>) {
        while let Some(event) = state.machine.poll_event() {
            match event {
                ProducerEvent::Enqueued { request_id, outcome } => {
                    state.waiters.outcomes.deliver(request_id, outcome, wake);
                }
                ProducerEvent::Ready { queue, priority } => {
                    state.waiters.workers.wake_up(queue.as_str(), priority, now)
                }
            }
        }
    }

    fn is_finished(state: &State<Self>, _now: Instant) -> bool {
        state.waiters.closing && state.machine.is_empty()
    }

    fn abandon(state: &mut State<Self>, wake: &mut Vec<Waker>) {
        state.waiters.outcomes.end(wake);
        wake.append(&mut state.waiters.closers);
    }
}

/// A handle on the task that sends a queue's enqueues.
pub(crate) struct ProducerHandle(Arc<Shared<Producer>>);

impl ProducerHandle {
    pub(crate) fn spawn(link: &Arc<Link>, workers: &Arc<LocalWorkers>) -> Self {
        let waiters = ProducerWaiters {
            outcomes: Outcomes::default(),
            closing: false,
            closers: Vec::new(),
            workers: workers.clone(),
        };
        let shared = Shared::new(Producer::new(link.catalog.schema()), waiters);
        Task::spawn(&shared, link);
        ProducerHandle(shared)
    }

    /// Queues a job for sending. From here on it is enqueued, whether or not the outcome is awaited. With
    /// `behind_keyed` it does not overtake jobs with keys.
    pub(crate) fn enqueue(&self, job: NewJob, behind_keyed: bool, now: Instant) -> Result<Enqueueing, Error> {
        let request_id = self.0.update(|state| {
            if state.waiters.closing {
                return Err(Error::closed());
            }
            if state.has_ended {
                return Err(Error::no_task());
            }
            let request_id = match behind_keyed {
                true => state.machine.enqueue_behind_keyed(job, now),
                false => state.machine.enqueue(job, now),
            };
            state.waiters.outcomes.expect(request_id);
            Ok(request_id)
        })?;
        Ok(Enqueueing { shared: self.0.clone(), request_id })
    }

    /// Queues a notification for the workers of other processes.
    pub(crate) fn notify(&self, notification: Notification) {
        self.0.update(|state| state.machine.notify(notification));
    }

    /// Refuses further jobs.
    pub(crate) fn close(&self) {
        self.0.update(|state| state.waiters.closing = true);
    }

    /// Is ready when every job that was accepted has its outcome.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.has_ended {
            return Poll::Ready(());
        }
        add_waker(&mut state.waiters.closers, cx);
        Poll::Pending
    }
}

impl Drop for ProducerHandle {
    fn drop(&mut self) {
        self.close();
    }
}

/// An enqueue in progress.
pub(crate) struct Enqueueing {
    shared: Arc<Shared<Producer>>,
    request_id: RequestId,
}

impl Future for Enqueueing {
    type Output = Result<Enqueued, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = self.shared.lock().waiters.outcomes.poll(self.request_id, cx);
        outcome.map_err(|trouble| trouble.map_or_else(Error::no_task, Error::from))
    }
}

impl Drop for Enqueueing {
    fn drop(&mut self) {
        self.shared.lock().waiters.outcomes.forget(self.request_id);
    }
}

/// Returns the error for a key that another job has reserved.
pub(crate) fn key_conflict(enqueued: Enqueued) -> Error {
    match enqueued {
        Enqueued::Existing(holder, state) => pm_core::Error::KeyConflict { holder, state }.into(),
        _ => Error::new(ErrorKind::KeyConflict, "another job has reserved the key"),
    }
}
