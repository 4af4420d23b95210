//! Enqueues, gathered into batches by a task of the queue.

use crate::link::Link;
use crate::task::{Answers, Driven, Shared, State, Task, note_waker};
use crate::worker::LocalWorkers;
use crate::{Error, ErrorKind};
use pm_core::machine::{Enqueued, Producer, ProducerEvent, RequestId};
use pm_core::op::Notification;
use pm_core::{Instant, NewJob};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Who waits on a producer.
pub(crate) struct ProducerWaiters {
    answers: Answers<Enqueued>,
    /// Whether no further job will come.
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
                    state.waiters.answers.deliver(request_id, outcome.map_err(Error::from), wake);
                }
                ProducerEvent::Ready { queue, priority } => {
                    state.waiters.workers.wake_up(queue.as_str(), priority, now)
                }
            }
        }
    }

    fn is_over(state: &State<Self>, _now: Instant) -> bool {
        state.waiters.closing && state.machine.is_empty()
    }

    fn abandon(state: &mut State<Self>, wake: &mut Vec<Waker>) {
        state.waiters.answers.deliver_all(Error::no_task, wake);
        wake.append(&mut state.waiters.closers);
    }
}

/// The way to a queue's producer.
pub(crate) struct ProducerHandle(Arc<Shared<Producer>>);

impl ProducerHandle {
    pub(crate) fn spawn(link: &Arc<Link>, workers: &Arc<LocalWorkers>) -> Self {
        let waiters = ProducerWaiters {
            answers: Answers::default(),
            closing: false,
            closers: Vec::new(),
            workers: workers.clone(),
        };
        let shared = Shared::new(Producer::new(link.catalog.schema()), waiters);
        Task::spawn(&shared, link);
        ProducerHandle(shared)
    }

    /// Queues a job for sending. From here on it goes in, whether or not the answer is awaited. One that goes `behind_keyed`
    /// does not overtake jobs with keys.
    pub(crate) fn enqueue(&self, job: NewJob, behind_keyed: bool, now: Instant) -> Result<Enqueueing, Error> {
        let request_id = self.0.tell(|state| {
            if state.waiters.closing {
                return Err(Error::closed());
            }
            if state.gone {
                return Err(Error::no_task());
            }
            let request_id = match behind_keyed {
                true => state.machine.enqueue_behind_keyed(job, now),
                false => state.machine.enqueue(job, now),
            };
            state.waiters.answers.expect(request_id);
            Ok(request_id)
        })?;
        Ok(Enqueueing { shared: self.0.clone(), request_id })
    }

    /// Queues a notification to workers of other processes.
    pub(crate) fn notify(&self, notification: Notification) {
        self.0.tell(|state| state.machine.notify(notification));
    }

    /// Takes no further job.
    pub(crate) fn close(&self) {
        self.0.tell(|state| state.waiters.closing = true);
    }

    /// Returns when every job taken has its answer.
    pub(crate) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.gone {
            return Poll::Ready(());
        }
        note_waker(&mut state.waiters.closers, cx);
        Poll::Pending
    }
}

impl Drop for ProducerHandle {
    fn drop(&mut self) {
        self.close();
    }
}

/// An enqueue under way.
pub(crate) struct Enqueueing {
    shared: Arc<Shared<Producer>>,
    request_id: RequestId,
}

impl Future for Enqueueing {
    type Output = Result<Enqueued, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.shared.lock().waiters.answers.poll(self.request_id, cx)
    }
}

impl Drop for Enqueueing {
    fn drop(&mut self) {
        self.shared.lock().waiters.answers.forget(self.request_id);
    }
}

/// Returns the error for a key that another job holds.
pub(crate) fn key_conflict(enqueued: Enqueued) -> Error {
    match enqueued {
        Enqueued::Existing(holder, state) => pm_core::Error::KeyConflict { holder, state }.into(),
        _ => Error::new(ErrorKind::KeyConflict, "the key is held by another job"),
    }
}
