//! Streams of jobs.

use crate::ack::{JobAck, Worker};
use crate::job::PendingJob;
use crate::link::Link;
use crate::worker::LocalWorkers;
use crate::{Error, ErrorKind};
use futures_util::Stream;
use pm_core::Reason;
use pm_core::machine::TakenJob;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Jobs of one queue or several, as they become ready.
///
/// It ends after [`Queue::close`](crate::Queue::close), and after an error of kind `QueueNotFound` for its last queue
/// or of kind `Schema`. A queue that is missing beside others is told once, and served as soon as there is one of its
/// name. An error of kind `Payload` concerns one job, whose payload cannot be read as `T`: a newer worker may be able to.
/// It carries the job's ack ([`Error::take_ack`]); when it is dropped with it, the job waits for another worker, as
/// [`JobAck::unreadable`] says.
/// Trouble with the connection is not shown: it heals, and the stream goes on.
///
/// It claims ahead, at most as many jobs as were taken in the last second, and gives back what no handler took within
/// 5 s of its arrival. A job that arrives when its lease can no longer be trusted is given back too; when every job does,
/// an error of kind `Invalid` names the lease that is too short for this link. It also reaps, and promotes jobs that are due. Dropping it gives back what was not started; acks handed out
/// stay valid.
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
        /// Kept for the listener, which serves them for as long as a stream lives.
        _workers: Arc<LocalWorkers>,
    },
    /// It could not be started.
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
            if let Some(error) = state.waiters.errors.pop_front() {
                return Poll::Ready(Some(Err(error)));
            }
            match state.machine.next_job(now) {
                Some(taken) => taken,
                None if state.gone || state.machine.is_draining() => return Poll::Ready(None),
                None => {
                    state.waiters.stream = Some(cx.waker().clone());
                    drop(state);
                    // The machine now knows that someone waits, and may want to claim.
                    worker.tell(|_| ());
                    return Poll::Pending;
                }
            }
        };
        Poll::Ready(Some(decoded(taken, worker, link)))
    }
}

/// Returns the job with its payload read, or an error that has the ack of a job whose payload cannot be read.
fn decoded<T: DeserializeOwned + 'static>(
    taken: TakenJob,
    worker: &Arc<Worker>,
    link: &Arc<Link>,
) -> Result<PendingJob<T>, Error> {
    let TakenJob { job, queue } = taken;
    let ack = JobAck::new(worker.clone(), link.clone(), job.lease, job.attempt);
    match crate::codec::decode(job.codec, job.payload.clone()) {
        Ok(payload) => Ok(PendingJob::new(payload, job, queue, ack)),
        Err(words) => {
            let message = format!("the payload of job {} cannot be read: {words}", job.lease.job);
            let ack = ack.of_unreadable(Reason::new(&message));
            Err(Error::new(ErrorKind::Payload, message).with_ack(ack))
        }
    }
}

impl<T> Drop for JobStream<T> {
    fn drop(&mut self) {
        if let Source::Running { worker, link, .. } = &self.source {
            let now = link.now();
            worker.tell(|state| state.machine.shut_down(now));
        }
    }
}
