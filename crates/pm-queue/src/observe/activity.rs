//! What must be remembered to report what machines do: which job a lease or a request belongs to.

use super::{EnqueueOutcome, Event, Observing, SettleOutcome};
use pm_core::machine::{Enqueued, RequestId, Trouble};
use pm_core::{Instant, Lease, QueueName, TakenJob};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// An event of a machine, kept until its lock is released.
#[derive(Debug)]
pub(crate) enum Note {
    Enqueued { queue: QueueName, outcome: EnqueueOutcome, count: u64 },
    Claimed { queue: Arc<str>, jobs: u64, waited: Vec<Duration>, took: Duration },
    Settled { job: StartedJob, outcome: SettleOutcome, ran: Duration },
    LeaseLost { job: StartedJob },
    Reaped { count: u64 },
}

/// A job that was handed out.
#[derive(Debug, Clone)]
pub(crate) struct StartedJob {
    queue: Arc<str>,
    id: Uuid,
    attempt: u32,
    at: Instant,
}

/// The jobs of an observed worker that were handed out, until their settlements have outcomes: as many as the machine
/// has leases and settlements of.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    started: HashMap<Lease, StartedJob>,
    settling: HashMap<RequestId, (StartedJob, SettleOutcome, Duration)>,
    notes: Vec<Note>,
}

/// The queues of the enqueues of an observed producer that have no outcome: as many as the machine has enqueues.
#[derive(Debug, Default)]
pub(crate) struct EnqueueActivity {
    queues: HashMap<RequestId, QueueName>,
    notes: Vec<Note>,
}

impl Note {
    pub(crate) fn report(&self, observing: &Observing) {
        observing.observe(&match self {
            Note::Enqueued { queue, outcome, count } => {
                Event::Enqueued { queue: queue.as_str(), outcome: *outcome, count: *count }
            }
            Note::Claimed { queue, jobs, waited, took } => Event::Claimed { queue, jobs: *jobs, waited, took: *took },
            Note::Settled { job: StartedJob { queue, id, attempt, .. }, outcome, ran } => {
                Event::Settled { queue, job: *id, attempt: *attempt, outcome: *outcome, ran: *ran }
            }
            Note::LeaseLost { job: StartedJob { queue, id, attempt, .. } } => {
                Event::LeaseLost { queue, job: *id, attempt: *attempt }
            }
            Note::Reaped { count } => Event::Reaped { count: *count },
        });
    }
}

impl Activity {
    /// Records that a job is handed out.
    pub(crate) fn start(&mut self, taken: &TakenJob, now: Instant) {
        let (id, attempt) = (taken.job.lease.job, taken.job.columns.attempt);
        self.started.insert(taken.job.lease, StartedJob { queue: taken.queue.clone(), id, attempt, at: now });
    }

    /// Records that a settlement was queued, with its outcome if it is applied.
    pub(crate) fn settle(&mut self, lease: &Lease, request_id: RequestId, applied: SettleOutcome, now: Instant) {
        if let Some(job) = self.started.remove(lease) {
            let ran = now.since(job.at);
            self.settling.insert(request_id, (job, applied, ran));
        }
    }

    /// Records the outcome of a settlement.
    pub(crate) fn settled(&mut self, request_id: RequestId, outcome: &Result<(), Trouble>) {
        if let Some((job, applied, ran)) = self.settling.remove(&request_id) {
            let outcome = outcome.as_ref().map_or_else(SettleOutcome::of_trouble, |()| applied);
            self.notes.push(Note::Settled { job, outcome, ran });
        }
    }

    /// Records that an attempt has ended without a settlement by the worker's task. A repeated call has no effect.
    pub(crate) fn end(&mut self, lease: &Lease, outcome: SettleOutcome, now: Instant) {
        if let Some(job) = self.started.remove(lease) {
            let ran = now.since(job.at);
            self.notes.push(Note::Settled { job, outcome, ran });
        }
    }

    /// Records that a lease is lost.
    pub(crate) fn lose(&mut self, lease: &Lease) {
        if let Some(job) = self.started.get(lease).cloned() {
            self.notes.push(Note::LeaseLost { job });
        }
    }

    /// Records something that needs no memory.
    pub(crate) fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// Records that no settlement will get an outcome any more.
    pub(crate) fn abandon(&mut self) {
        let abandoned = self.settling.drain().map(|(_, (job, _, ran))| {
            let outcome = SettleOutcome::NotStored;
            Note::Settled { job, outcome, ran }
        });
        self.notes.extend(abandoned);
    }

    /// Returns the events since the last call.
    pub(crate) fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }
}

impl EnqueueActivity {
    /// Records that an enqueue was queued.
    pub(crate) fn enqueue(&mut self, request_id: RequestId, queue: QueueName) {
        self.queues.insert(request_id, queue);
    }

    /// Records the outcome of an enqueue; those of one queue with the same outcome make one event.
    pub(crate) fn enqueued(&mut self, request_id: RequestId, result: &Result<Enqueued, Trouble>) {
        let Some(new_queue) = self.queues.remove(&request_id) else { return };
        let new_outcome = EnqueueOutcome::of(result);
        match self.notes.last_mut() {
            Some(Note::Enqueued { queue, outcome, count }) if *queue == new_queue && *outcome == new_outcome => {
                *count += 1;
            }
            _ => self.notes.push(Note::Enqueued { queue: new_queue, outcome: new_outcome, count: 1 }),
        }
    }

    /// Records that no enqueue will get an outcome any more.
    pub(crate) fn abandon(&mut self) {
        let abandoned = self.queues.drain();
        let failed = abandoned.map(|(_, queue)| Note::Enqueued { queue, outcome: EnqueueOutcome::Failed, count: 1 });
        self.notes.extend(failed);
    }

    /// Returns the events since the last call.
    pub(crate) fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }
}
