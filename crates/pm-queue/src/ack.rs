//! The right to say what became of a job.

use crate::Error;
use crate::link::Link;
use crate::task::{Shared, note_waker};
use pm_core::machine::RequestId;
use pm_core::{Lease, Reason, Verdict};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use uuid::Uuid;

pub(crate) type Worker = Shared<pm_core::machine::Worker>;

/// The right to say what became of a job: the holder's end of its lease.
///
/// A word is queued the moment it is said, and sent by the worker's task together with others; dropping the returned
/// future does not take it back. Dropping the ack without a word soft-fails the job (`dropped without ack`, or
/// `panicked` while unwinding): on any thread, in or out of a runtime, without blocking. With
/// [`catch_panic`](crate::catch_panic) the reason has the panic's text.
#[must_use = "dropping an ack soft-fails its job"]
pub struct JobAck {
    worker: Arc<Worker>,
    link: Arc<Link>,
    lease: Lease,
    attempt: u32,
    stance: Stance,
    /// Why the payload could not be read; a drop says so then.
    unreadable: Option<Reason>,
}

/// What dropping an ack does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stance {
    /// It soft-fails the job, or says that its payload cannot be read.
    Live,
    /// A transaction of the caller's, which may still be open, settles the job: its lease is left to end.
    InTransaction,
    /// The holder has left the job in progress: its lease is left to end.
    Left,
    /// The job is settled, or will be by what was queued.
    Settled,
}

impl JobAck {
    pub(crate) fn new(worker: Arc<Worker>, link: Arc<Link>, lease: Lease, attempt: u32) -> Self {
        JobAck { worker, link, lease, attempt, stance: Stance::Live, unreadable: None }
    }

    /// Returns the ack of a job whose payload cannot be read, for this reason.
    pub(crate) fn of_unreadable(mut self, reason: Reason) -> Self {
        self.unreadable = Some(reason);
        self
    }

    /// Returns the job's id.
    pub fn id(&self) -> Uuid {
        self.lease.job
    }

    /// Returns how often the job was claimed, this time included.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns the lease: the job's id, and the number that fences every word about it.
    pub fn lease(&self) -> Lease {
        self.lease
    }

    /// Says that the job is done.
    ///
    /// The future resolves to `Ok` when that is durable. It costs a share of one statement: what is said while one is
    /// in flight goes together next.
    ///
    /// # Errors
    ///
    /// `LeaseLost` when someone else has the job; `Unavailable` when the database could not be reached until 30 s
    /// after the lease's end, or the runtime that served the queue is gone.
    pub fn commit(self) -> Settling {
        self.settle(Verdict::Commit)
    }

    /// Says that the job failed; it is retried after the queue's backoff while retries are left.
    ///
    /// The reason is kept with the job: at most 8 KiB, NUL replaced, and what the encoding of the database cannot store.
    ///
    /// # Errors
    ///
    /// As [`JobAck::commit`].
    pub fn soft_fail(self, reason: impl AsRef<str>) -> Settling {
        self.settle(Verdict::SoftFail(Reason::new(reason.as_ref())))
    }

    /// Says that the job failed and can never succeed.
    ///
    /// # Errors
    ///
    /// As [`JobAck::commit`].
    pub fn hard_fail(self, reason: impl AsRef<str>) -> Settling {
        self.settle(Verdict::HardFail(Reason::new(reason.as_ref())))
    }

    /// Gives the job back untried: it keeps its place in the line and its retry count.
    ///
    /// It leaves no trace in the job's history: when the reply is lost and someone has claimed the job since, the answer
    /// is `LeaseLost` although the word took effect.
    ///
    /// # Errors
    ///
    /// As [`JobAck::commit`].
    pub fn release(self) -> Settling {
        self.settle(Verdict::Release)
    }

    /// Says that this worker cannot read the job's payload: it waits for one that can.
    ///
    /// For those who decode payloads themselves; a stream does it for the types it is given. No retry is counted. The job
    /// comes back after 1, 5 and 25 minutes, then every 25 minutes, and fails with this reason when no worker could read
    /// it for 24 hours.
    ///
    /// # Errors
    ///
    /// As [`JobAck::commit`].
    pub fn unreadable(self, reason: impl AsRef<str>) -> Settling {
        self.settle(Verdict::Unreadable(Reason::new(reason.as_ref())))
    }

    /// Says nothing and leaves the job in progress; returns the lease, under which someone else may end it.
    ///
    /// The lease is no longer kept alive: when it ends, the job is reaped. For hand-overs between processes, with
    /// [`Queue::change_jobs`](crate::Queue::change_jobs) and the lease as a precondition at the other end.
    pub fn leave(mut self) -> Lease {
        self.stance = Stance::Left;
        self.lease
    }

    /// Extends the lease to its full length from now and returns what remains.
    ///
    /// Streams do this by themselves for up to an hour; see
    /// [`StreamOptions::heartbeat`](crate::StreamOptions::heartbeat).
    ///
    /// # Errors
    ///
    /// `LeaseLost` when someone else has the job; `Unavailable` when the database could not be reached before the
    /// lease's end.
    pub async fn refresh_lock(&mut self) -> Result<Duration, Error> {
        let (lease, now) = (self.lease, self.link.now());
        let request_id = self.worker.tell(|state| {
            if let Some(error) = state.closed(now) {
                return Err(error);
            }
            let request_id = state.machine.extend(lease);
            state.waiters.extended.expect(request_id);
            Ok(request_id)
        })?;
        Extending { worker: self.worker.clone(), request_id }.await
    }

    /// Returns a future that ends when the lease must no longer be trusted: stop working, someone else may have the job.
    ///
    /// It ends as well once the ack was used or dropped. It borrows nothing. After a suspend of the machine it ends within
    /// 5 s: the runtime's timers stood still.
    pub fn lost(&self) -> Lost {
        Lost { worker: self.worker.clone(), link: self.link.clone(), lease: self.lease }
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    pub(crate) fn stance(&self) -> Stance {
        self.stance
    }

    pub(crate) fn set_stance(&mut self, stance: Stance) {
        self.stance = stance;
    }

    /// Returns what scatters the retry that a verdict leads to.
    pub(crate) fn random_for(&self, verdict: &Verdict) -> u64 {
        if matches!(verdict, Verdict::SoftFail(_)) { self.link.randomness.next_u64() } else { 0 }
    }

    pub(crate) fn settle(mut self, verdict: Verdict) -> Settling {
        self.say(verdict)
    }

    fn say(&mut self, verdict: Verdict) -> Settling {
        self.stance = Stance::Settled;
        let (lease, now) = (self.lease, self.link.now());
        let random = self.random_for(&verdict);
        let (answer, wakers) = self.worker.tell(|state| {
            let wakers = state.waiters.losses.remove(&lease).unwrap_or_default();
            if let Some(error) = state.closed(now) {
                return (Err(error), wakers);
            }
            let request_id = state.machine.settle(lease, verdict, now, random);
            state.waiters.settled.expect(request_id);
            (Ok(request_id), wakers)
        });
        wakers.into_iter().for_each(std::task::Waker::wake);
        Settling { worker: self.worker.clone(), answer: Some(answer) }
    }
}

impl std::fmt::Debug for JobAck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobAck").field("lease", &self.lease).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

impl Drop for JobAck {
    fn drop(&mut self) {
        match self.stance {
            Stance::Settled => {}
            Stance::InTransaction | Stance::Left => {
                let lease = self.lease;
                let wakers = self.worker.tell(|state| {
                    state.machine.forget(&lease);
                    state.waiters.losses.remove(&lease).unwrap_or_default()
                });
                wakers.into_iter().for_each(std::task::Waker::wake);
            }
            Stance::Live => {
                let verdict = match self.unreadable.take() {
                    Some(reason) => Verdict::Unreadable(reason),
                    None if std::thread::panicking() => Verdict::SoftFail(Reason::new("panicked")),
                    None => Verdict::SoftFail(Reason::new("dropped without ack")),
                };
                drop(self.say(verdict));
            }
        }
    }
}

/// The answer to a word about a job; dropping it does not take the word back.
#[must_use = "the word is on its way, but whether it counts is only known after awaiting; say .detach() if you do not care"]
pub struct Settling {
    worker: Arc<Worker>,
    answer: Option<Result<RequestId, Error>>,
}

impl Settling {
    /// Does not wait for the answer.
    ///
    /// The word is sent all the same. The stream holds back further jobs while 10,000 words are unsettled, and
    /// [`Queue::close`](crate::Queue::close) waits for all.
    pub fn detach(self) {}
}

impl Future for Settling {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.answer.take() {
            Some(Ok(request_id)) => {
                let answer = self.worker.lock().waiters.settled.poll(request_id, cx);
                if answer.is_pending() {
                    self.answer = Some(Ok(request_id));
                }
                answer
            }
            Some(Err(error)) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        if let Some(Ok(request_id)) = self.answer {
            self.worker.lock().waiters.settled.forget(request_id);
        }
    }
}

/// The answer to an extension.
pub(crate) struct Extending {
    pub(crate) worker: Arc<Worker>,
    pub(crate) request_id: RequestId,
}

impl Future for Extending {
    type Output = Result<Duration, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.worker.lock().waiters.extended.poll(self.request_id, cx)
    }
}

impl Drop for Extending {
    fn drop(&mut self) {
        self.worker.lock().waiters.extended.forget(self.request_id);
    }
}

/// Ends when a lease must no longer be trusted.
#[must_use = "futures do nothing unless awaited"]
pub struct Lost {
    worker: Arc<Worker>,
    link: Arc<Link>,
    lease: Lease,
}

impl Future for Lost {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.worker.lock();
        if state.gone || !state.machine.is_trusted(&self.lease, self.link.now()) {
            return Poll::Ready(());
        }
        note_waker(state.waiters.losses.entry(self.lease).or_default(), cx);
        Poll::Pending
    }
}
