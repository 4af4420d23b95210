//! The auditor checks every change of the tables, every settlement, and every holder of a lease whenever all processes
//! wait.

mod changes;
mod enqueues;
mod settlements;
mod ticks;

pub(super) use enqueues::Call;
pub(super) use settlements::InFlight;

use super::link::Link;
use super::world::World;
use pm_core::StatementId;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use uuid::Uuid;

/// How many of the last events are shown with a violation.
const SHOWN_EVENTS: usize = 60;

type LeaseName = (Uuid, i64);

/// What has been recorded so far, and the first violation.
#[derive(Default)]
pub(super) struct Auditor {
    violation: Option<String>,
    /// A hash of everything that happened: the same for the same seed.
    hash: u64,
    events: VecDeque<String>,
    /// Leases that an operator ended.
    broken: BTreeSet<LeaseName>,
    /// When each claim ran, by its lease number.
    claimed_at: BTreeMap<i64, u64>,
    /// The settlements that were applied: job, lease, verdict.
    applied: BTreeSet<(Uuid, i64, i16)>,
    /// The leases that were reaped after their jobs had been cancelled: a settlement that comes later than that has the
    /// same effect, and may be answered so.
    reaped_cancelled: BTreeSet<LeaseName>,
    /// Which process claimed under each lease number.
    claimed_by: BTreeMap<i64, usize>,
    deleted: BTreeSet<Uuid>,
    /// Leases that a transaction has settled, and whose handlers do not know that.
    unknowing: BTreeSet<LeaseName>,
    /// Every job that ever existed.
    ever: BTreeSet<Uuid>,
    /// Payloads that were enqueued, and as which job.
    intents: BTreeMap<Vec<u8>, Uuid>,
    enqueues: enqueues::Enqueues,
    /// Payloads that replaced another, and of which job.
    replacements: BTreeMap<Vec<u8>, Uuid>,
    /// Leases that a handler got.
    handed: BTreeSet<LeaseName>,
    /// Leases that their handlers trust, and the processes of these.
    holders: BTreeMap<LeaseName, usize>,
    in_flight: BTreeMap<(usize, StatementId), usize>,
    streams: BTreeMap<usize, usize>,
    ticks: ticks::Ticks,
    link: Link,
    pub(super) tally: Tally,
    /// Since when there are no faults.
    pub(super) peace_since: Option<u64>,
}

/// How much happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Statements that the server ran.
    pub statements: u64,
    /// Jobs that were created.
    pub jobs: u64,
    /// Jobs that finished or failed, restarts counted again.
    pub endings: u64,
    /// Leases that expired and were reaped.
    pub reaped: u64,
    /// Settlements that were refused.
    pub lost: u64,
    /// How often two full batches of enqueues of a process were in flight.
    pub pairs: u64,
    /// Processes that crashed.
    pub crashes: u64,
    /// Ticks of schedules that made a job.
    pub ticks: u64,
}

impl Auditor {
    pub(super) fn on(link: Link) -> Self {
        Auditor { link, ..Auditor::default() }
    }

    pub(super) fn is_violated(&self) -> bool {
        self.violation.is_some()
    }

    pub(super) fn violate(&mut self, what: String) {
        if self.violation.is_none() {
            self.violation = Some(what);
        }
    }

    /// Returns the violation with the last events, and the hash of everything.
    pub(super) fn verdict(&self) -> (Option<String>, u64) {
        let with_events = |violation: &String| {
            let events: Vec<_> = self.events.iter().map(String::as_str).collect();
            format!("{violation}\nthe last events:\n  {}", events.join("\n  "))
        };
        (self.violation.as_ref().map(with_events), self.hash)
    }

    /// Records an event and hashes it (FNV-1a).
    pub(super) fn note(&mut self, event: &str) {
        for byte in event.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.events.len() == SHOWN_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event.to_owned());
    }

    /// Checks all trusted leases when no task is ready at this instant.
    pub(super) fn at_rest(&mut self, world: &World) {
        let now = world.now_us();
        let wrong = world.database.look(|tables| {
            let running = self.holders.iter().filter(|(_, process)| !world.executor.is_stalled(**process));
            let mut trusted = running.map(|(lease, _)| lease).filter(|lease| !self.broken.contains(lease));
            trusted.find_map(|(id, number)| {
                let ends = |at: pm_queue::Timestamp| (at.unix_us() - super::world::START_US) as u64;
                let is_valid = |job: &&pm_driver_memory::JobRow| {
                    let is_ours = job.state == 1 && job.lease == Some(*number);
                    is_ours && job.lease_expires_at.is_some_and(|at| ends(at) > now)
                };
                let job = tables.job.get(id);
                job.filter(is_valid).is_none().then(|| (*id, *number, job.cloned()))
            })
        });
        if let Some((id, lease, job)) = wrong {
            let process = self.holders[&(id, lease)];
            self.violate(format!("one trusted lease: at {now} process {process} trusts {lease} of {id}: {job:?}"));
        }
    }
}
