//! The progress of running jobs: the newest of each is stored, at most once a second.

use super::Worker;
use super::leases::Leases;
use super::options::MAX_BATCH;
use crate::machine::chore::Chore;
use crate::machine::{Reply, Timer, Trouble, interpret};
use crate::op::{ProgressItem, SetProgress};
use crate::{Error, Instant, JsonText, Lease, Operation};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The minimum time between two writes of the progress of one job.
const PAUSE: Duration = Duration::from_secs(1);

/// The progress that is to be stored.
///
/// An entry is made when a handler reports progress. It is sent at once, and stays for the pause after that, in which
/// newer progress waits in it. So there is at most one for each lease that the worker has, or had in the last second.
#[derive(Debug)]
pub(super) struct Progresses {
    pub(super) chore: Chore,
    /// The newest progress of each lease, unless it was sent.
    newest: BTreeMap<Lease, Option<JsonText>>,
    /// When each may be sent, or its pause ends.
    agenda: BTreeSet<(Instant, Lease)>,
}

impl Progresses {
    pub(super) fn new() -> Self {
        Progresses { chore: Chore::new(Timer::Progress, None), newest: BTreeMap::new(), agenda: BTreeSet::new() }
    }

    /// Takes what may be sent at `now`, for at most [`MAX_BATCH`] of these leases.
    fn take_due(&mut self, now: Instant, leases: &Leases) -> Vec<ProgressItem> {
        let mut items = Vec::new();
        while let Some((at, lease)) = self.agenda.first().copied()
            && at <= now
            && items.len() < MAX_BATCH
        {
            self.agenda.pop_first();
            let leased = leases.get(&lease).filter(|leased| leased.is_trusted(now));
            let newest = self.newest.remove(&lease).flatten();
            // Otherwise its pause is over, or its job is settled.
            if let (Some(progress), Some(leased)) = (newest, leased) {
                // An update now would make the caller's transaction fail with a serialization failure.
                let kept = if leased.is_resting() {
                    Some(progress)
                } else {
                    items.push(ProgressItem { lease, progress });
                    None
                };
                self.newest.insert(lease, kept);
                self.agenda.insert((now + PAUSE, lease));
            }
        }
        items.sort_by_key(|item| item.lease);
        items
    }

    /// Puts progress back that was not stored, unless there is newer; it is sent again when its pause is over.
    fn put_back(&mut self, item: ProgressItem) {
        if let Some(newest) = self.newest.get_mut(&item.lease) {
            newest.get_or_insert(item.progress);
        }
    }
}

impl Worker {
    /// Reports how far the job of a lease has come. It is stored within a second or so, unless the job is settled
    /// first; of what is reported within a second, only the newest is stored. Under a lease that is lost nothing is.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`] if the lease can no longer be trusted.
    pub fn set_progress(&mut self, lease: Lease, progress: JsonText, now: Instant) -> Result<(), Error> {
        if !self.is_trusted(&lease, now) {
            return Err(Error::LeaseLost);
        }
        let Progresses { newest, agenda, .. } = &mut self.progresses;
        if newest.insert(lease, Some(progress)).is_none() {
            agenda.insert((now, lease));
        }
        Ok(())
    }

    pub(super) fn next_progress(&self) -> Option<(Instant, Timer)> {
        let next = self.progresses.agenda.first().filter(|_| !self.progresses.chore.is_in_flight());
        next.map(|(at, _)| (*at, Timer::Progress))
    }

    pub(super) fn begin_set_progress(&mut self, now: Instant) -> Option<SetProgress> {
        if self.progresses.chore.is_in_flight() {
            return None;
        }
        let items = self.progresses.take_due(now, &self.leases);
        items.iter().for_each(|item| self.leases.begin_write(&item.lease));
        (!items.is_empty() && self.progresses.chore.begin(now)).then_some(SetProgress { items })
    }

    pub(super) fn handle_set_progress(&mut self, sent: SetProgress, reply: Reply) {
        self.progresses.chore.end(&reply);
        sent.items.iter().for_each(|item| self.leases.end_write(&item.lease));
        match interpret(reply, |rows| sent.interpret(rows)) {
            Ok(locked) => locked.into_iter().for_each(|index| self.progresses.put_back(sent.items[index].clone())),
            // It may have been stored; storing it again does no harm while the lease lasts.
            Err(Trouble::Failed(_)) => sent.items.into_iter().for_each(|item| self.progresses.put_back(item)),
            Err(trouble) => self.events.failed(trouble),
        }
    }
}
