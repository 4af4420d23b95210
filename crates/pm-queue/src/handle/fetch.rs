//! Fetching one job by its id.

use crate::observe::{Event, Span};
use crate::sending::Link;
use crate::worker::Worker;
use crate::{Error, ErrorKind, JobAck, PendingJob, Queue};
use pm_core::op::{FetchJob, ReleaseClaim};
use pm_core::{Class, Failure, Lease, Operation, trusted_for};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use uuid::Uuid;

impl Queue {
    /// Leases one job by its id, if it is ready and its queue is not paused; returns `None` otherwise.
    ///
    /// The heartbeat extends its lease as for a job from a stream. If the job is released, it goes near the front of
    /// its line. Dropping the future releases the job.
    ///
    /// # Errors
    ///
    /// `Payload` when the payload cannot be decoded as `T`; `Closed`, also when the queue is closed during the call;
    /// `Unavailable`, also when the reply took longer than the job's lease; `Schema`, `Database`. If the job was
    /// leased all the same, it is released.
    pub async fn fetch_job<T: DeserializeOwned + Send + 'static>(
        &self,
        id: Uuid,
    ) -> Result<Option<PendingJob<T>>, Error> {
        let (worker, link) = (self.fetching_worker()?, self.link().clone());
        let fetch =
            FetchJob { lease: Lease { job: id, number: self.random_seed() }, worker: self.inner.worker_name.clone() };
        let work = async move { Ok(fetched(fetch, &worker, &link).await?.map(Handover::new)) };
        let fetched = self.spawned(work).await?;
        Ok(fetched.and_then(Handover::into_job))
    }
}

/// A fetched job on its way to the caller. It is released, not soft-failed, if the caller has dropped the future.
struct Handover<T>(Option<PendingJob<T>>);

impl<T> Handover<T> {
    fn new(job: PendingJob<T>) -> Self {
        Handover(Some(job))
    }

    fn into_job(mut self) -> Option<PendingJob<T>> {
        self.0.take()
    }
}

impl<T> Drop for Handover<T> {
    fn drop(&mut self) {
        if let Some(job) = self.0.take() {
            job.into_parts().1.release().detach();
        }
    }
}

async fn fetched<T: DeserializeOwned + 'static>(
    fetch: FetchJob,
    worker: &Arc<Worker>,
    link: &Arc<Link>,
) -> Result<Option<PendingJob<T>>, Error> {
    let (lease, sent_at) = (fetch.lease, link.now());
    let rows = link.send(&fetch.plan()).await.map_err(|failure| release_if_unknown(failure, lease, worker, link))?;
    let fetched = fetch.interpret(&rows).inspect_err(|_| release_lost_claim(lease, worker, link))?;
    let Some((taken, length, backoff)) = fetched else { return Ok(None) };
    if sent_at + trusted_for(length) <= link.now() {
        release_lost_claim(lease, worker, link);
        let took = link.now().since(sent_at);
        let message = format!("fetching job {} took {took:?}, longer than its lease of {length:?}", lease.job);
        return Err(Error::new(ErrorKind::Unavailable, message));
    }
    let now = link.now();
    let is_running = worker.update(|state| {
        state.machine.adopt(&taken.job, sent_at, length, &backoff, now);
        if !state.has_ended {
            state.waiters.observe(|activity| activity.start(&taken, now));
        }
        !state.has_ended
    });
    if !is_running {
        // The queue was closed or dropped in the meantime, so no settlement would be sent. If this fails, the lease
        // expires.
        drop(link.run(ReleaseClaim { lease: lease.number }).await);
        return Err(Error::closed());
    }
    let (columns, queue) = (&taken.job.columns, &taken.queue);
    link.observing.observe(&Event::Claimed { queue, jobs: 1, waited: &[], took: now.since(sent_at) });
    link.observing.observe(&Event::Started { queue, job: lease.job, attempt: columns.attempt });
    let span = Span::job(&taken, &link.observing);
    let ack = JobAck::new(worker.clone(), link.clone(), lease, columns.attempt, span);
    match crate::codec::decode(columns.codec, taken.job.payload().clone()) {
        Ok(payload) => Ok(Some(PendingJob::new(payload, taken, ack))),
        Err(problem) => {
            link.observing.observe(&Event::PayloadRefused { queue, job: lease.job, attempt: columns.attempt });
            ack.release().detach();
            let message = format!("the payload of job {} cannot be read: {problem}", lease.job);
            Err(Error::new(ErrorKind::Payload, message))
        }
    }
}

/// Releases the job of a fetch that may have run.
fn release_if_unknown(failure: Failure, lease: Lease, worker: &Worker, link: &Link) -> Error {
    if failure.class() == Class::Unknown {
        release_lost_claim(lease, worker, link);
    }
    failure.into()
}

fn release_lost_claim(lease: Lease, worker: &Worker, link: &Link) {
    worker.update(|state| state.machine.handle_lost_claim(lease.number, link.now()));
}
