//! The stream of jobs that a worker gets.

use crate::observe::{Event, Span};
use crate::sending::Link;
use crate::worker::{JobAck, LocalWorkers, PendingJob, Worker};
use crate::{Error, ErrorKind};
use futures_util::Stream;
use pm_core::{Reason, TakenJob};
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A stream of the jobs of one or more queues, as they become ready.
///
/// It ends after [`Queue::close`](crate::Queue::close), after an error of kind `QueueNotFound` for its last queue, and
/// after one of kind `Schema`. If one of several queues does not exist, the stream yields `QueueNotFound` once and
/// serves the queue as soon as it is created. An error of kind `Payload` concerns one job, whose payload cannot be
/// decoded as `T`; a newer worker may be able to. The error carries the job's ack ([`Error::take_ack`]); unless it is
/// taken, the job waits for another worker, as [`JobAck::unreadable`] describes. Connection errors are not yielded:
/// the stream reconnects and continues.
///
/// The stream claims ahead, at most as many jobs as its handlers took in the last second, and releases what no handler
/// took within 5 s. It also releases a job that arrives when its lease can no longer be trusted; when that happens to
/// every job, it yields an error of kind `Invalid` that names the lease as too short for this connection. It reaps,
/// promotes due jobs and fires schedules as well. Dropping the stream releases the jobs that no handler took; acks
/// that were handed out stay valid.
#[derive(Debug)]
#[must_use = "a stream does nothing unless polled"]
pub struct JobStream<T> {
    source: Source,
    payload: PhantomData<fn() -> T>,
}

enum Source {
    Running {
        worker: Arc<Worker>,
        link: Arc<Link>,
        /// Keeps the listener running while the stream exists.
        _workers: Arc<LocalWorkers>,
    },
    /// The arguments were refused; the error is yielded once.
    Refused(Option<Error>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Running { .. } => f.write_str("Running"),
            Source::Refused(error) => f.debug_tuple("Refused").field(error).finish(),
        }
    }
}

impl<T> JobStream<T> {
    pub(crate) fn running(worker: Arc<Worker>, link: Arc<Link>, workers: Arc<LocalWorkers>) -> Self {
        JobStream { source: Source::Running { worker, link, _workers: workers }, payload: PhantomData }
    }

    pub(crate) fn refused(error: Error) -> Self {
        JobStream { source: Source::Refused(Some(error)), payload: PhantomData }
    }
}

impl<T: DeserializeOwned + 'static> Stream for JobStream<T> {
    type Item = Result<PendingJob<T>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let (worker, link) = match &mut self.source {
            Source::Refused(error) => return Poll::Ready(error.take().map(Err)),
            Source::Running { worker, link, .. } => (worker, link),
        };
        let now = link.now();
        let taken = {
            let mut state = worker.lock();
            if let Some(trouble) = state.waiters.errors.pop_front() {
                return Poll::Ready(Some(Err(trouble.into())));
            }
            match state.machine.next_job(now) {
                Some(taken) => {
                    state.waiters.observe(|activity| activity.start(&taken, now));
                    taken
                }
                None if state.has_ended || state.machine.is_draining() => return Poll::Ready(None),
                None => {
                    state.waiters.stream = Some(cx.waker().clone());
                    drop(state);
                    // The machine has recorded that the stream waits, and may send a claim.
                    worker.update(|_| ());
                    return Poll::Pending;
                }
            }
        };
        let (queue, job, attempt) = (&taken.queue, taken.job.lease.job, taken.job.columns.attempt);
        link.observing.observe(&Event::Started { queue, job, attempt });
        Poll::Ready(Some(decoded(taken, worker, link)))
    }
}

/// Returns the job with its payload decoded, or an error that carries its ack.
fn decoded<T: DeserializeOwned + 'static>(
    taken: TakenJob,
    worker: &Arc<Worker>,
    link: &Arc<Link>,
) -> Result<PendingJob<T>, Error> {
    let job = &taken.job;
    let span = Span::job(&taken, &link.observing);
    let ack = JobAck::new(worker.clone(), link.clone(), job.lease, job.columns.attempt, span);
    match crate::codec::decode(job.columns.codec, job.payload().clone()) {
        Ok(payload) => Ok(PendingJob::new(payload, taken, ack)),
        Err(problem) => {
            let (queue, id, attempt) = (&taken.queue, job.lease.job, job.columns.attempt);
            link.observing.observe(&Event::PayloadRefused { queue, job: id, attempt });
            let message = format!("the payload of job {} cannot be read: {problem}", job.lease.job);
            let ack = ack.of_unreadable(Reason::new(&message));
            Err(Error::new(ErrorKind::Payload, message).with_ack(ack))
        }
    }
}

impl<T> Drop for JobStream<T> {
    fn drop(&mut self) {
        if let Source::Running { worker, link, .. } = &self.source {
            let now = link.now();
            worker.update(|state| state.machine.shut_down(now));
        }
    }
}
