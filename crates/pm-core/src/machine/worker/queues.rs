//! The queues that a worker follows.

use crate::Backoff;
use crate::op::{FollowedQueue, QueueReading};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The settings of a followed queue, as last read.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) name: Arc<str>,
    pub(super) paused: bool,
    pub(super) lease: Duration,
    pub(super) backoff: Arc<Backoff>,
}

/// The followed queues that exist, by id.
#[derive(Debug, Default)]
pub(super) struct Queues(BTreeMap<i32, Followed>);

impl Queues {
    pub(super) fn get(&self, id: i32) -> Option<&Followed> {
        self.0.get(&id)
    }

    /// Returns the queue of this name and its id.
    pub(super) fn named(&self, name: &str) -> Option<(i32, &Followed)> {
        self.0.iter().find(|(_, followed)| &*followed.name == name).map(|(id, followed)| (*id, followed))
    }

    /// Returns whether jobs may be claimed from a queue.
    pub(super) fn is_open(&self, id: i32) -> bool {
        self.get(id).is_some_and(|followed| !followed.paused)
    }

    /// Returns the lengths of the leases.
    pub(super) fn leases(&self) -> impl Iterator<Item = Duration> {
        self.0.values().map(|followed| followed.lease)
    }

    /// Replaces all queues with those that a poll found.
    pub(super) fn replace(&mut self, found: Vec<FollowedQueue>) {
        let before = std::mem::take(self);
        let followed = |FollowedQueue { id, name, paused, lease, backoff, .. }| {
            (id, Followed { name: name.into(), paused, lease, backoff: before.shared_backoff(id, backoff) })
        };
        self.0 = found.into_iter().map(followed).collect();
    }

    /// Records the settings that a claim has read.
    pub(super) fn update(&mut self, reading: QueueReading) {
        let backoff = self.shared_backoff(reading.queue_id, reading.backoff);
        if let Some(followed) = self.0.get_mut(&reading.queue_id) {
            (followed.paused, followed.lease, followed.backoff) = (reading.paused, reading.lease, backoff);
        }
    }

    /// Returns the backoff in the allocation that the queue already has, if it has not changed.
    fn shared_backoff(&self, id: i32, backoff: Backoff) -> Arc<Backoff> {
        match self.get(id) {
            Some(followed) if *followed.backoff == backoff => followed.backoff.clone(),
            _ => Arc::new(backoff),
        }
    }
}
