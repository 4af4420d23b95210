//! Compares the answers that processes receive with the tables.

use super::Auditor;
use crate::sim::general;
use crate::sim::pool::FULL_ENQUEUE;
use crate::sim::stack::Process;
use crate::sim::world::World;
use pm_core::StatementId;
use pm_queue::driver::Value;
use pm_queue::{Enqueued, Error, ErrorKind, Lease};
use std::sync::Arc;

/// The verdicts that leave no trace in the tables: of a release and of a snooze.
const UNRECORDED: [i16; 2] = [3, 9];

impl Auditor {
    /// Records that a handler got a job and trusts its lease.
    pub(crate) fn trust(&mut self, process: usize, lease: Lease) {
        let name = (lease.job, lease.number);
        if !self.handed.insert(name) {
            self.violate(format!("a job is handed out once a lease: {lease} came again"));
        }
        self.holders.insert(name, process);
    }

    /// Records that a handler does not trust its lease any more.
    pub(crate) fn distrust(&mut self, lease: Lease) {
        self.holders.remove(&(lease.job, lease.number));
    }

    /// Records that a process is gone with all its handlers.
    pub(crate) fn forget(&mut self, process: usize) {
        self.holders.retain(|_, of| *of != process);
        self.in_flight.retain(|(of, _), _| *of != process);
    }

    /// Records which process a claim is from.
    pub(crate) fn note_claim(&mut self, process: usize, statement: StatementId, params: &[Value<'_>]) {
        if let (StatementId::Claim, Some(Value::Int8(lease))) = (statement, params.get(4)) {
            self.claimed_by.insert(*lease, process);
        }
    }

    /// Judges that a process that closed its queue has no lease left that was never handed to a handler.
    pub(crate) fn closed(&mut self, world: &World, process: usize) {
        let now = world.now();
        let left = world.database.look(|tables| {
            let is_left = |job: &&pm_driver_memory::JobRow| {
                let lease = job.lease.filter(|_| job.state == 1 && job.lease_expires_at > Some(now));
                lease.is_some_and(|lease| {
                    self.claimed_by.get(&lease) == Some(&process) && !self.handed.contains(&(job.id, lease))
                })
            };
            tables.job.values().find(is_left).cloned()
        });
        if let Some(job) = left {
            self.violate(format!("closing leaves nothing behind: process {process} closed and has {job:?}"));
        }
    }

    /// Records that a transaction has settled a lease, and that its handler does not know that.
    pub(crate) fn settled_unknowingly(&mut self, lease: Lease) {
        self.unknowing.insert((lease.job, lease.number));
    }

    /// Judges the answer to a settlement.
    pub(crate) fn settled(&mut self, world: &World, lease: Lease, verdict: i16, answer: &Result<(), Error>) {
        let was_applied = self.applied.contains(&(lease.job, lease.number, verdict));
        match answer.as_ref().map_err(Error::kind) {
            Ok(()) if verdict != 0 && self.reaped_cancelled.contains(&(lease.job, lease.number)) => {}
            Ok(()) if !was_applied => {
                self.violate(format!("a settle that resolved is durable: verdict {verdict} of {lease} is not"));
            }
            Ok(()) => {}
            Err(ErrorKind::LeaseLost) => {
                self.tally.lost += 1;
                // A handler that settles again because it does not know that its transaction committed, and does so
                // after the lease has expired, gets `LeaseLost`: that is documented.
                let is_repeated = self.unknowing.contains(&(lease.job, lease.number));
                if was_applied && !UNRECORDED.contains(&verdict) && !is_repeated && !self.deleted.contains(&lease.job) {
                    self.violate(format!(
                        "a resend is answered as the first time: verdict {verdict} of {lease} was lost"
                    ));
                }
                let now = world.now_us();
                let is_ours = world.database.look(|tables| {
                    tables.job.get(&lease.job).is_some_and(|job| {
                        let ends = job.lease_expires_at.map(|at| (at.unix_us() - crate::sim::world::START_US) as u64);
                        job.state == 1 && job.lease == Some(lease.number) && ends > Some(now)
                    })
                });
                if is_ours {
                    self.violate(format!("a lease that is still valid was reported as lost: {lease}"));
                }
            }
            Err(ErrorKind::Unavailable) if self.peace_since.is_none() => {}
            Err(other) => self.violate(format!("verdict {verdict} of {lease} was answered {other:?}: {answer:?}")),
        }
    }

    /// Judges the answer to an enqueue of this payload.
    pub(crate) fn enqueued(&mut self, payload: &[u8], answer: &Result<Enqueued, Error>) {
        let replaced = self.replacements.get(payload).copied();
        if let (Ok(enqueued), Some(job)) = (answer, replaced.filter(|job| !self.deleted.contains(job)))
            && *enqueued != Enqueued::Replaced(job)
        {
            let payload = String::from_utf8_lossy(payload);
            self.violate(format!(
                "a resend is answered as the first time: {payload} replaced {job}, answered {enqueued:?}"
            ));
        }
        match answer {
            Ok(enqueued) if self.ever.contains(&enqueued.id()) => {}
            Ok(enqueued) => self.violate(format!("nothing is lost: {enqueued:?} was confirmed and does not exist")),
            Err(error) => match error.kind() {
                ErrorKind::QueueNotFound | ErrorKind::KeyConflict | ErrorKind::Closed | ErrorKind::Unavailable => {}
                // Judged with its call.
                ErrorKind::Database if error.to_string().contains("55P03") => {}
                other => self.violate(format!("an enqueue was answered {other:?}: {error}")),
            },
        }
    }

    /// Returns whether two batches of enqueues without keys of a process are in flight.
    pub(crate) fn has_two_enqueues(&self, process: usize) -> bool {
        self.in_flight.get(&(process, StatementId::Enqueue)) == Some(&2)
    }

    /// Records that a process opened one more stream.
    pub(crate) fn open_stream(&mut self, process: usize) {
        *self.streams.entry(process).or_default() += 1;
    }
}

/// A statement whose caller waits for the reply.
pub(crate) struct InFlight(Arc<Process>, StatementId);

impl InFlight {
    /// Counts it until this is dropped.
    pub(crate) fn count(process: &Arc<Process>, statement: StatementId, params: &[Value<'_>]) -> Self {
        let mut auditor = process.world.auditor();
        let streams = auditor.streams.get(&process.number).copied().unwrap_or_default();
        // Two statements of one request.
        let is_bulk = statement == StatementId::EnqueueFresh && fills_statement(params);
        let statement =
            if statement == StatementId::EnqueueEach { StatementId::EnqueueKeyed } else { general(statement) };
        let count = auditor.in_flight.entry((process.number, statement)).or_default();
        *count += 1;
        let most = match statement {
            // Two full ones, sent for the first time, where connections are shared.
            StatementId::Enqueue if is_bulk && !process.world.is_pooled => 2,
            StatementId::Enqueue | StatementId::EnqueueKeyed | StatementId::ReplaceJobs => 1,
            // One for enqueues with keys, one for those without.
            StatementId::KeyHolder => 2,
            // One more for the worker of jobs fetched by id.
            StatementId::Claim
            | StatementId::Settle
            | StatementId::Extend
            | StatementId::SetProgress
            | StatementId::Poll => streams + 1,
            _ => usize::MAX,
        };
        if *count > most {
            let count = *count;
            auditor.violate(format!("bounded: {count} statements {statement:?} under way in one process"));
        }
        auditor.tally.pairs += u64::from(is_bulk && auditor.in_flight[&(process.number, statement)] == 2);
        drop(auditor);
        InFlight(process.clone(), statement)
    }
}

/// Returns whether an enqueue has as many jobs as fit into a statement.
fn fills_statement(params: &[Value<'_>]) -> bool {
    matches!(params.first(), Some(Value::UuidArray(ids)) if ids.len() == FULL_ENQUEUE)
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if let Some(count) = self.0.world.auditor().in_flight.get_mut(&(self.0.number, self.1)) {
            *count = count.saturating_sub(1);
        }
    }
}
