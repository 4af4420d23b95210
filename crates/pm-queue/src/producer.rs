//! Enqueues, which a task of the queue gathers into batches.

use crate::observe::{EnqueueActivity, Note};
use crate::sending::{Driven, Link, Outcomes, Shared, State, Task, add_waker};
use crate::worker::LocalWorkers;
use crate::{Error, ErrorKind};
use pm_core::machine::{Enqueued, Producer, ProducerEvent};
use pm_core::op::Notification;
use pm_core::{Instant, NewJob, OnConflict};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The futures that wait on a producer.
pub(crate) struct ProducerWaiters {
    outcomes: Outcomes<Enqueued>,
    /// Whether no further job is accepted.
    closing: bool,
    closers: Vec<Waker>,
    workers: Arc<LocalWorkers>,
    /// What is needed for the observer, if there is one.
    activity: Option<EnqueueActivity>,
}

impl Driven for Producer {
    type Waiters = ProducerWaiters;

    fn dispatch(state: &mut State<Self>, now: Instant, wake: &mut Vec<Waker>) {
        while let Some(event) = state.machine.poll_event() {
            match event {
                ProducerEvent::Enqueued { request_id, outcome } => {
                    if let Some(activity) = &mut state.waiters.activity {
                        activity.enqueued(request_id, &outcome);
                    }
                    state.waiters.outcomes.deliver(request_id, outcome, wake);
                }
                ProducerEvent::Ready { queue, priority } => {
                    state.waiters.workers.wake_up(queue.as_str(), priority, now)
                }
            }
        }
    }

    fn take_notes(state: &mut State<Self>) -> Vec<Note> {
        state.waiters.activity.as_mut().map(EnqueueActivity::take_notes).unwrap_or_default()
    }

    fn is_finished(state: &State<Self>, _now: Instant) -> bool {
        state.waiters.closing && state.machine.is_empty()
    }

    fn abandon(state: &mut State<Self>, wake: &mut Vec<Waker>) {
        state.waiters.outcomes.end(wake);
        state.waiters.activity.iter_mut().for_each(EnqueueActivity::abandon);
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
            activity: link.observing.is_on().then(EnqueueActivity::default),
        };
        let producer = Producer::new(link.catalog.schema());
        let producer = match link.driver.room().pipelined_enqueues {
            Some(jobs) => producer.pipelined(jobs),
            None => producer,
        };
        let shared = Shared::new(producer, waiters);
        Task::spawn(&shared, link);
        ProducerHandle(shared)
    }

    /// Queues a job for sending. From here on it is enqueued, whether or not the outcome is awaited. With
    /// `behind_keyed` it does not overtake jobs with keys. Errors: `Closed`, or `Unavailable` when the task has ended.
    /// The future returns `KeyConflict` if the job refuses a reserved key.
    pub(crate) fn enqueue(
        &self,
        job: NewJob,
        behind_keyed: bool,
        now: Instant,
    ) -> Result<impl Future<Output = Result<Enqueued, Error>> + use<>, Error> {
        let refuses = job.options.on_conflict == OnConflict::Refuse;
        let start = |state: &mut State<Producer>| {
            if state.waiters.closing {
                return Err(Error::closed());
            }
            if state.has_ended {
                return Err(Error::no_task());
            }
            let observed = state.waiters.activity.as_mut().map(|activity| (activity, job.queue.clone()));
            let request_id = match behind_keyed {
                true => state.machine.enqueue_behind_keyed(job, now),
                false => state.machine.enqueue(job, now),
            };
            if let Some((activity, queue)) = observed {
                activity.enqueue(request_id, queue);
            }
            Ok(request_id)
        };
        let outcome = self.0.request(|waiters| &mut waiters.outcomes, start)?;
        Ok(async move {
            match outcome.await {
                Ok(existing @ Enqueued::Existing(..)) if refuses => Err(key_conflict(existing)),
                Ok(enqueued) => Ok(enqueued),
                Err(trouble) => Err(trouble.map_or_else(Error::no_task, Error::from)),
            }
        })
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

/// Returns the error for a key that another job has reserved.
pub(crate) fn key_conflict(enqueued: Enqueued) -> Error {
    match enqueued {
        Enqueued::Existing(holder, state) => pm_core::Error::KeyConflict { holder, state }.into(),
        _ => Error::new(ErrorKind::KeyConflict, "another job has reserved the key"),
    }
}
