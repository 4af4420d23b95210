//! Maintenance in a process without streams: reap, promote, and all of it step by step.

use crate::observe::Event;
use crate::sending::CoreEntropy;
use crate::{Error, ErrorKind, Queue};
use pm_core::machine::{self, MaintenanceOptions, MaintenanceReport, Request};
use pm_core::op::{Promote, Reap, Reaped};
use std::time::Duration;

/// The interval between checks for work that other processes may have added: of tools, and of [`Queue::run_reaper`].
const LOOK_EVERY: Duration = Duration::from_secs(5);
const REAPER_LOOKS_EVERY: Duration = Duration::from_secs(60);
/// The longest single wait, so that a closed queue is detected in time.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Promotes due jobs, reaps expired leases, fires schedules and optionally prunes, step by step.
///
/// For deployments without streams, and for tools that report what was done; created by [`Queue::maintenance`].
/// Several may run at the same time, in one or more processes and beside streams; they share the work.
#[derive(Debug)]
pub struct Maintenance {
    queue: Queue,
    machine: machine::Maintenance,
}

impl Queue {
    /// Reaps expired leases and fails jobs that have passed their time to expire; returns how many of both, and the
    /// time until the next lease or waiting job expires.
    ///
    /// Streams reap automatically. Concurrent calls share the work. The cost grows with the number of jobs in progress,
    /// not with the backlog.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn reap(&self) -> Result<Reaped, Error> {
        let mut total = Reaped::default();
        loop {
            let reaped = self.execute(Reap { limit: Reap::BATCH, seed: self.random_seed() }).await?;
            total.reaped += reaped.reaped;
            total.expired += reaped.expired;
            self.observe_reaped(reaped.reaped);
            if !reaped.is_full() {
                self.notify_idle(total.reaped).await;
                return Ok(Reaped { next_expiry: reaped.next_expiry, ..total });
            }
        }
    }

    fn observe_reaped(&self, count: u64) {
        if count > 0 {
            self.link().observing.observe(&Event::Reaped { count });
        }
    }

    /// Makes scheduled jobs ready that have become due; returns how many, and the time until the next one is due.
    ///
    /// Streams promote automatically. Concurrent calls share the work. The cost is about 9 µs per promoted job, and
    /// does not depend on the number of scheduled jobs.
    ///
    /// # Errors
    ///
    /// `Unavailable`, `Schema` or `Database`.
    pub async fn promote(&self) -> Result<(u64, Option<Duration>), Error> {
        let (mut total, mut bound) = (0, None);
        loop {
            let promoted = self.execute(Promote { limit: Promote::BATCH, bound }).await?;
            total += promoted.promoted;
            if promoted.promoted < Promote::BATCH as u64 {
                self.notify_idle(total).await;
                return Ok((total, promoted.next_due));
            }
            bound = promoted.upto;
        }
    }

    /// Returns maintenance that prunes at this interval, or not at all for `None`. Nothing is sent before the first
    /// [`Maintenance::step`].
    pub fn maintenance(&self, prune_every: Option<Duration>) -> Maintenance {
        self.maintenance_with(prune_every, LOOK_EVERY)
    }

    fn maintenance_with(&self, prune_every: Option<Duration>, look_every: Duration) -> Maintenance {
        let options = MaintenanceOptions { reaps: true, prune_every, look_every: Some(look_every) };
        Maintenance { queue: self.clone(), machine: machine::Maintenance::new(options, self.link().now()) }
    }

    /// Runs maintenance until the queue is closed: promotes jobs when they become due, reaps leases when they expire,
    /// and fires schedules at their ticks. Checks for all of these at least once a minute. Does not prune.
    ///
    /// For deployments without streams; every stream does the same by default. After a database error it tries again.
    pub async fn run_reaper(&self) {
        let mut maintenance = self.maintenance_with(None, REAPER_LOOKS_EVERY);
        while !matches!(maintenance.step().await, Err(error) if error.kind() == ErrorKind::Closed) {}
    }
}

impl Maintenance {
    /// Waits until there is work, does it, and returns what was done.
    ///
    /// If the future is dropped before it completes, a request may stay unanswered; then create a new `Maintenance`.
    ///
    /// # Errors
    ///
    /// `Closed` when the queue is closed; `Unavailable`, `Schema`, `Forbidden` or `Database` when a statement failed.
    /// The next call tries again after a pause of at most 5 s.
    pub async fn step(&mut self) -> Result<MaintenanceReport, Error> {
        loop {
            self.queue.check_open()?;
            let link = self.queue.link().clone();
            let entropy = &mut CoreEntropy(&*link.randomness);
            let Some(request) = self.machine.poll_request(link.now(), entropy) else {
                let until = self.machine.poll_timeout().map_or(LONGEST_WAIT, |(at, _)| at.since(link.now()));
                link.runtime.sleep(until.min(LONGEST_WAIT)).await;
                continue;
            };
            let reply = link.send(&request.plan()).await;
            let entropy = &mut CoreEntropy(&*link.randomness);
            let report = self.machine.handle_reply(request, reply, link.now(), entropy)?;
            self.queue.observe_reaped(report.reaped);
            self.queue.notify_idle(report.ready()).await;
            if report != MaintenanceReport::default() {
                return Ok(report);
            }
        }
    }
}
