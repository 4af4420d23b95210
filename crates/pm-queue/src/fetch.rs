//! Taking one job by its id.

use crate::ack::{JobAck, Worker};
use crate::job::PendingJob;
use crate::link::Link;
use crate::{Error, ErrorKind, Queue};
use pm_core::op::{FetchJob, FetchedJob, ReleaseClaim};
use pm_core::{Class, Failure, Lease, Operation, trusted_for};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use uuid::Uuid;

impl Queue {
    /// Takes one job by its id, if it is ready and its queue is not paused.
    ///
    /// Its lease is kept alive as a stream does it. Given back, the job stands near the head of its line. Dropping the
    /// future gives the job back.
    ///
    /// # Errors
    ///
    /// `Payload` when the payload cannot be read as `T`: the job is given back. `Closed`, also when the queue was closed
    /// meanwhile: the job is given back too. `Unavailable`, also when the reply took longer than the job's lease: then it is
    /// given back. `Schema`, `Database`.
    pub async fn fetch_job<T: DeserializeOwned + Send + 'static>(
        &self,
        id: Uuid,
    ) -> Result<Option<PendingJob<T>>, Error> {
        let (worker, link) = (self.fetching_worker()?, self.link().clone());
        let fetch = FetchJob { lease: Lease { job: id, number: self.random_seed() }, worker: self.worker_name() };
        let work = async move { Ok(fetched(fetch, &worker, &link).await?.map(Handover::new)) };
        let fetched = self.spawned(work).await?;
        Ok(fetched.and_then(Handover::into_job))
    }
}

/// A fetched job on its way to whoever asked for it: given back, and not failed, if nobody is there any longer.
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
    let rows = link.send(&fetch.plan()).await.map_err(|failure| lost(failure, lease, worker, link))?;
    let fetched = fetch.interpret(&rows).inspect_err(|_| give_back(lease, worker, link))?;
    let Some(FetchedJob { job, queue, length, backoff }) = fetched else { return Ok(None) };
    if sent_at + trusted_for(length) <= link.now() {
        give_back(lease, worker, link);
        let took = link.now().since(sent_at);
        let message = format!("fetching job {} took {took:?}, longer than its lease of {length:?}", lease.job);
        return Err(Error::new(ErrorKind::Unavailable, message));
    }
    let is_served = worker.tell(|state| {
        state.machine.adopt(&job, sent_at, length, &backoff, link.now());
        !state.gone
    });
    if !is_served {
        // The queue was closed or dropped meanwhile: nobody would hear a word about the job. If this fails, its lease ends.
        drop(link.run(ReleaseClaim { lease: lease.number }).await);
        return Err(Error::closed());
    }
    let ack = JobAck::new(worker.clone(), link.clone(), lease, job.attempt);
    match crate::codec::decode(job.codec, job.payload.clone()) {
        Ok(payload) => Ok(Some(PendingJob::new(payload, job, queue.into(), ack))),
        Err(words) => {
            ack.release().detach();
            let message = format!("the payload of job {} cannot be read: {words}", lease.job);
            Err(Error::new(ErrorKind::Payload, message))
        }
    }
}

/// Sees to it that a fetch that may have run gives its job back.
fn lost(failure: Failure, lease: Lease, worker: &Worker, link: &Link) -> Error {
    if failure.class() == Class::Unknown {
        give_back(lease, worker, link);
    }
    failure.into()
}

fn give_back(lease: Lease, worker: &Worker, link: &Link) {
    worker.tell(|state| state.machine.handle_lost_claim(lease.number, link.now()));
}
