//! Enqueueing.

use crate::codec::RawPayload;
use crate::observe::Span;
use crate::{EnqueueOptions, Error, Queue};
use bytes::Bytes;
use pm_core::machine::Enqueued;
use pm_core::{NewJob, QueueName, TraceContext, job_id};
use serde::Serialize;
use std::collections::VecDeque;
use uuid::Uuid;

/// How many jobs of one `enqueue_many` are encoded ahead of the statements that carry them.
const ENCODED_AHEAD: usize = 4_000;

impl Queue {
    /// Enqueues a job and returns its id, or the id of the existing job that holds the same key.
    ///
    /// When it returns `Ok`, the job is committed. Concurrent calls share a statement; a single call is sent at once.
    /// If the connection is lost, the job is sent again with the same id for up to 30 s, so it is never enqueued
    /// twice. If the job was certainly not enqueued, because no server can be reached or another transaction has
    /// locked the queue's row or the key, it is retried for 5 s; other enqueues do not wait for it. Dropping the
    /// future after its first poll does not cancel the enqueue.
    ///
    /// # Errors
    ///
    /// `QueueNotFound`; `Payload` when the payload cannot be encoded; `Invalid` for a payload over 1 GB, or a text
    /// that is too long or contains NUL; `KeyConflict` when the key is reserved and the options say
    /// [`Refuse`](crate::OnConflict::Refuse); `Unavailable`; `Database`, also when a lock was not granted in time.
    /// After an error the job is not enqueued, unless [`Error::is_outcome_unknown`] returns true.
    pub async fn enqueue<T: Serialize>(&self, queue: &str, payload: T, options: EnqueueOptions) -> Result<Uuid, Error> {
        self.enqueue_with_outcome(queue, payload, options).await.map(|enqueued| enqueued.id())
    }

    /// Does what [`Queue::enqueue`] does, and returns whether the job is new or which job holds its key.
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue`].
    pub async fn enqueue_with_outcome<T: Serialize>(
        &self,
        queue: &str,
        payload: T,
        options: EnqueueOptions,
    ) -> Result<Enqueued, Error> {
        let (name, span) = (QueueName::new(queue)?, Span::enqueue(queue, &self.link().observing));
        let enqueueing = span.within(|| {
            let trace = if options.trace.is_none() { self.link().observing.trace_context() } else { None };
            let job = self.encoded_job(&name, &payload, options, trace.as_ref())?;
            self.inner.producer.enqueue(job, false, self.inner.link.now())
        });
        drop(payload);
        let result = match enqueueing {
            Ok(enqueueing) => span.run(enqueueing).await,
            Err(error) => Err(error),
        };
        span.record_enqueued(result.as_ref().map(std::slice::from_ref));
        result
    }

    /// Enqueues many jobs, up to 1,000 in one statement, and returns their outcomes in the order given.
    ///
    /// Each statement is atomic, the whole call is not: after an error, the jobs before the failing one are enqueued,
    /// and some after it may be. About 4,000 jobs are encoded ahead of the statements that carry them, and two
    /// statements are in flight where the driver can keep their order. The jobs become ready in the order given, except
    /// one whose key another transaction has locked, which is enqueued when that transaction ends, and those of a
    /// statement that fails or finds the queue's row locked: they are sent again, behind the one that was in flight
    /// with them.
    ///
    /// # Errors
    ///
    /// As [`Queue::enqueue`], for the first job that fails.
    pub async fn enqueue_many<T: Serialize, I>(&self, queue: &str, jobs: I) -> Result<Vec<Enqueued>, Error>
    where
        I: IntoIterator<Item = (T, EnqueueOptions)>,
        I::IntoIter: Send,
    {
        let queue = QueueName::new(queue)?;
        let span = Span::enqueue(queue.as_str(), &self.link().observing);
        let result = span.run(self.enqueue_each(&queue, jobs)).await;
        span.record_enqueued(result.as_deref());
        result
    }

    async fn enqueue_each<T: Serialize, I>(&self, queue: &QueueName, jobs: I) -> Result<Vec<Enqueued>, Error>
    where
        I: IntoIterator<Item = (T, EnqueueOptions)>,
        I::IntoIter: Send,
    {
        let mut in_flight = VecDeque::new();
        let mut enqueued = Vec::new();
        let mut jobs = jobs.into_iter();
        let mut has_keys = false;
        let trace = self.link().observing.trace_context();
        loop {
            while in_flight.len() < ENCODED_AHEAD
                && let Some((payload, options)) = jobs.next()
            {
                let job = self.encoded_job(queue, &payload, options, trace.as_ref())?;
                drop(payload);
                if !has_keys && job.options.key.is_some() {
                    // From here on all jobs are sent with the keyed ones. To keep the order, wait for those before.
                    has_keys = true;
                    for enqueueing in in_flight.drain(..) {
                        enqueued.push(enqueueing.await?);
                    }
                }
                in_flight.push_back(self.inner.producer.enqueue(job, has_keys, self.inner.link.now())?);
            }
            let Some(enqueueing) = in_flight.pop_front() else { return Ok(enqueued) };
            enqueued.push(enqueueing.await?);
        }
    }

    /// Returns a new job with its payload encoded, enqueued in the span `trace` unless the options give another.
    pub(crate) fn encoded_job<T: Serialize>(
        &self,
        queue: &QueueName,
        payload: &T,
        mut options: EnqueueOptions,
        trace: Option<&TraceContext>,
    ) -> Result<NewJob, Error> {
        self.check_open()?;
        options.trace = options.trace.or_else(|| trace.cloned());
        let RawPayload { codec, bytes } = crate::codec::encode(options.codec, payload)?;
        self.new_job(queue.clone(), bytes, options.codec(codec))
    }

    /// Returns a new job with a fresh id.
    pub(crate) fn new_job(&self, queue: QueueName, payload: Bytes, options: EnqueueOptions) -> Result<NewJob, Error> {
        let link = &self.inner.link;
        let random = [link.randomness.next_u64().to_ne_bytes(), link.randomness.next_u64().to_ne_bytes()].concat();
        let random = random.first_chunk().expect("two u64 are 16 bytes");
        let job = NewJob { id: job_id(link.runtime.unix_ms(), *random), queue, payload, options };
        job.check()?;
        Ok(job)
    }
}
