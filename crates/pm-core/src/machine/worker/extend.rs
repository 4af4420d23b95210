//! Extending leases: for the heartbeat, and on request of the user.

use super::leases::{Due, Leased};
use super::options::MAX_BATCH;
use super::{Worker, WorkerEvent};
use crate::machine::chore::Chore;
use crate::machine::{Entropy, Reply, RequestId, Timer, Trouble, interpret};
use crate::op::{Extend, ExtendItem, Extended};
use crate::{Class, Error, Failure, Instant, Lease, Operation};
use std::time::Duration;

/// The pause before an extension is retried whose job another transaction has locked.
const LOCKED_PAUSE: Duration = Duration::from_millis(250);

/// The extensions that were not sent.
#[derive(Debug)]
pub(super) struct Extensions {
    /// Its time is when those that the user requested may be sent again after a failure.
    pub(super) chore: Chore,
    /// Those that the user requested.
    requested: Vec<(Lease, RequestId)>,
    /// Those that are due for the heartbeat.
    due: Vec<Lease>,
}

/// An extension in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentExtend {
    pub(super) extend: Extend,
    sent_at: Instant,
    /// The requests of the user that it serves, each with the index of its lease.
    request_ids: Vec<(usize, RequestId)>,
}

impl Extensions {
    pub(super) fn new() -> Self {
        Extensions { chore: Chore::new(Timer::Lease, None), requested: Vec::new(), due: Vec::new() }
    }

    /// Adds an extension for the heartbeat, to be sent as soon as none is in flight.
    pub(super) fn add_due(&mut self, lease: Lease) {
        self.due.push(lease);
    }

    /// Returns whether none is requested or in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.requested.is_empty() && !self.chore.is_in_flight()
    }

    /// Returns when requested extensions are sent again.
    pub(super) fn next(&self) -> Option<(Instant, Timer)> {
        self.chore.next().filter(|_| !self.requested.is_empty())
    }

    /// Takes some of the requested extensions that may be sent: half a batch at most, so that the heartbeat has the
    /// other half.
    fn take_requested(&mut self, now: Instant) -> Vec<(Lease, RequestId)> {
        if self.chore.at().is_some_and(|at| at > now) {
            return Vec::new();
        }
        self.chore.set(None);
        let rest = self.requested.split_off(self.requested.len().min(MAX_BATCH / 2));
        std::mem::replace(&mut self.requested, rest)
    }

    /// Takes as many extensions as fit in one statement: the leases in order, and the requests of the user with the
    /// indexes of their leases.
    fn take_batch(&mut self, now: Instant) -> (Vec<Lease>, Vec<(usize, RequestId)>) {
        let requested = self.take_requested(now);
        let room = MAX_BATCH - requested.len();
        let mut leases = self.due.split_off(self.due.len().saturating_sub(room));
        leases.extend(requested.iter().map(|(lease, _)| *lease));
        leases.sort_unstable();
        leases.dedup();
        let index_of = |lease| leases.binary_search(&lease).expect("the list contains it");
        let request_ids = requested.into_iter().map(|(lease, request_id)| (index_of(lease), request_id)).collect();
        (leases, request_ids)
    }
}

impl Worker {
    /// Queues an extension of a lease. A [`WorkerEvent::Extended`] with the returned request id reports the outcome.
    pub fn extend(&mut self, lease: Lease) -> RequestId {
        let request_id = self.events.next_request_id();
        self.extensions.requested.push((lease, request_id));
        request_id
    }

    /// Suspends the extension of a lease, and progress under it, while the caller's transaction settles it, until
    /// [`Worker::resume`]. After that it is extended late, so that a second transaction has most of the lease for
    /// itself.
    ///
    /// A statement in flight goes on; see [`Worker::is_being_written`]. Extensions that were requested and not sent
    /// fail.
    pub fn rest(&mut self, lease: Lease) {
        self.leases.rest(lease);
        self.extensions.due.retain(|other| *other != lease);
        for (_, request_id) in self.extensions.requested.extract_if(.., |(other, _)| *other == lease) {
            self.events.extended(request_id, Err(Trouble::Failed(Failure::locked())));
        }
    }

    /// Returns whether a statement in flight extends this lease or stores progress under it.
    pub fn is_being_written(&self, lease: &Lease) -> bool {
        self.leases.get(lease).is_some_and(Leased::is_being_written)
    }

    /// Resumes the extension of a lease, because the caller's transaction has not committed, or may not have.
    pub fn resume(&mut self, lease: Lease) {
        self.leases.resume(lease);
    }

    /// Resumes the extension of a lease, and extends it at once if it has a heartbeat, so that the caller's next
    /// transaction has a full lease. A [`WorkerEvent::Extended`] with the returned request id reports the outcome.
    /// Returns `None` if the lease has no heartbeat.
    pub fn resume_and_extend(&mut self, lease: Lease, now: Instant) -> Option<RequestId> {
        self.leases.resume(lease);
        let has_heartbeat = self.leases.get(&lease).is_some_and(|leased| leased.has_heartbeat(now));
        has_heartbeat.then(|| self.extend(lease))
    }

    /// Reports leases that can no longer be trusted, and collects those that are due to be extended.
    pub(super) fn check_leases(&mut self, now: Instant) {
        for (lease, due) in self.leases.due(now) {
            match due {
                Due::Extend => self.extensions.due.push(lease),
                Due::TrustEnded => self.events.push(WorkerEvent::LeaseLost(lease)),
            }
        }
    }

    pub(super) fn begin_extend(&mut self, now: Instant) -> Option<SentExtend> {
        if self.extensions.chore.is_in_flight() {
            return None;
        }
        let (leases, request_ids) = self.extensions.take_batch(now);
        if leases.is_empty() {
            return None;
        }
        self.extensions.chore.begin(now);
        leases.iter().for_each(|lease| self.leases.begin_write(lease));
        let latest_end = |lease| self.leases.get(&lease).and_then(Leased::latest_end);
        let items = leases.into_iter().map(|lease| ExtendItem { lease, latest_end: latest_end(lease) }).collect();
        Some(SentExtend { extend: Extend { items }, sent_at: now, request_ids })
    }

    pub(super) fn handle_extend(&mut self, sent: SentExtend, reply: Reply, now: Instant, entropy: &mut dyn Entropy) {
        self.extensions.chore.end(&reply);
        let SentExtend { extend, sent_at, request_ids } = sent;
        let leases: Vec<_> = extend.items.iter().map(|item| item.lease).collect();
        leases.iter().for_each(|lease| self.leases.end_write(lease));
        match interpret(reply, |rows| extend.interpret(rows)) {
            Ok(extended) => {
                for (lease, extended) in leases.iter().zip(&extended) {
                    self.record_extended(*lease, sent_at, *extended, now);
                }
                for (index, request_id) in request_ids {
                    match extended[index] {
                        Extended::Remains { time, .. } => self.events.extended(request_id, Ok(time)),
                        Extended::Lost => self.events.extended(request_id, Err(Trouble::Refused(Error::LeaseLost))),
                        Extended::Locked => {
                            self.extensions.chore.set(Some(now + LOCKED_PAUSE));
                            let trouble = Trouble::Failed(Failure::locked());
                            self.retry_extension(leases[index], request_id, &trouble, now);
                        }
                    }
                }
            }
            Err(trouble) => {
                let at = self.extensions.chore.retry(now, entropy);
                let may_have_run = matches!(&trouble, Trouble::Failed(failure) if failure.class() == Class::Unknown);
                for lease in &leases {
                    self.leases.postpone(*lease, at);
                    if may_have_run {
                        self.leases.may_be_extended(*lease, now + self.options.statement_timeout);
                    }
                }
                for (index, request_id) in request_ids {
                    self.retry_extension(leases[index], request_id, &trouble, now);
                }
            }
        }
    }

    fn record_extended(&mut self, lease: Lease, sent_at: Instant, extended: Extended, now: Instant) {
        let remaining = match extended {
            Extended::Remains { time, is_cancelled } => {
                if is_cancelled {
                    self.record_cancelled(lease);
                }
                Some(time)
            }
            Extended::Lost => None,
            Extended::Locked => return self.leases.postpone(lease, now + LOCKED_PAUSE),
        };
        if self.leases.extended(lease, sent_at, remaining, now) {
            self.events.push(WorkerEvent::LeaseLost(lease));
        }
    }

    /// Sends an extension again after an error that may pass. Reports any other error, and that of a lease that has
    /// ended.
    fn retry_extension(&mut self, lease: Lease, request_id: RequestId, trouble: &Trouble, now: Instant) {
        let may_pass = matches!(trouble, Trouble::Failed(failure) if failure.class() != Class::Permanent);
        match self.leases.get(&lease).is_some_and(|leased| may_pass && leased.ends_at() > now) {
            true => self.extensions.requested.push((lease, request_id)),
            false => self.events.extended(request_id, Err(trouble.clone())),
        }
    }
}
