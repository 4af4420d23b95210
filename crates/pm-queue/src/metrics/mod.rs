//! Counters and histograms of a queue handle, as text for Prometheus.

mod histogram;
mod text;

use crate::observe::{EnqueueOutcome, Event, Observer, SettleOutcome};
use histogram::Histogram;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use text::{Family, Kind, Text};

/// The content type of [`Metrics::render`] in the format of Prometheus.
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The content type of [`Metrics::render`] in the format of OpenMetrics.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The maximum number of queues with metrics of their own; the rest are counted together.
const MAX_QUEUES: usize = 500;
/// The `queue` of all other queues.
const OTHER: &str = "_other";

/// Counts the events of one or more queue handles, and prints the counts for Prometheus.
///
/// Add it to the handle as an observer, keep a clone of the `Arc`, and serve what [`Metrics::render`] returns under
/// `/metrics`. `docs/observability.md` lists the metrics and what they mean.
///
/// The first 500 queues have metrics of their own; the others are counted together under `queue="_other"`. So the
/// memory is bounded: under 1 kB per queue, 500 kB in all. An event takes a lock for less than a microsecond.
///
/// ```
/// use pm_queue::{ConnectOptions, metrics::Metrics};
/// use std::sync::Arc;
///
/// let metrics = Arc::new(Metrics::new());
/// let options = ConnectOptions::default().observer(metrics.clone());
/// // Connect with these options. For each request of Prometheus:
/// let body = metrics.render(false);
/// assert!(body.contains("pm_up 0"), "nothing is connected yet");
/// ```
#[derive(Debug, Default)]
pub struct Metrics(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// At most [`MAX_QUEUES`], and [`OTHER`].
    queues: BTreeMap<Box<str>, QueueCounts>,
    leases_lost: u64,
    leases_reaped: u64,
    claims: Histogram,
    /// Whether a statement has succeeded.
    was_up: bool,
    /// How many handles have an outage.
    outages: u64,
}

#[derive(Debug, Default)]
struct QueueCounts {
    enqueued: u64,
    claimed: u64,
    settled: [u64; SettleOutcome::ALL.len()],
    in_flight: i64,
    wait: Histogram,
    run: Histogram,
}

impl Metrics {
    /// Returns metrics without any count.
    pub fn new() -> Self {
        Metrics::default()
    }

    /// Returns the metrics as text: in the format of OpenMetrics 1.0, or in that of Prometheus.
    ///
    /// Serve it with the content type [`OPENMETRICS`] or [`PROMETHEUS`]: the former to those that accept
    /// `application/openmetrics-text`. The cost grows with the number of queues: about 4 kB of text for each.
    pub fn render(&self, openmetrics: bool) -> String {
        let counts = self.lock();
        let mut text = Text::new(openmetrics);
        counts.render_process(&mut text);
        counts.render_queues(&mut text);
        text.finish()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Metrics {
    fn observe(&self, event: &Event<'_>) {
        let counts = &mut *self.lock();
        match *event {
            Event::Enqueued { queue, outcome: EnqueueOutcome::Inserted, count } => {
                counts.queue(queue).enqueued += count;
            }
            Event::Claimed { queue, jobs, waited, .. } => {
                let queue = counts.queue(queue);
                queue.claimed += jobs;
                waited.iter().for_each(|waited| queue.wait.record(*waited));
            }
            Event::Started { queue, .. } => counts.queue(queue).in_flight += 1,
            Event::Settled { queue, outcome, ran, .. } => {
                let queue = counts.queue(queue);
                queue.settled[outcome as usize] += 1;
                queue.in_flight -= 1;
                queue.run.record(ran);
            }
            Event::LeaseLost { .. } => counts.leases_lost += 1,
            Event::Reaped { count } => counts.leases_reaped += count,
            Event::Statement { name, took, ok } => {
                if name == "claim" {
                    counts.claims.record(took);
                }
                counts.was_up |= ok;
            }
            // Other statements may succeed while claims fail.
            Event::OutageBegan { .. } => counts.outages += 1,
            Event::OutageHealed { .. } => counts.outages = counts.outages.saturating_sub(1),
            _ => {}
        }
    }
}

impl Counts {
    fn queue(&mut self, name: &str) -> &mut QueueCounts {
        // Looked up twice, because the borrow checker does not accept an early return of a mutable reference.
        if self.queues.contains_key(name) {
            return self.queues.get_mut(name).expect("it contains the key");
        }
        let name = if self.queues.len() < MAX_QUEUES { name } else { OTHER };
        self.queues.entry(name.into()).or_default()
    }

    fn render_process(&self, text: &mut Text) {
        let up =
            Family { name: "pm_up", kind: Kind::Gauge, help: "Whether the database can be reached (1) or not (0)" };
        text.begin(&up);
        text.value(&[], u64::from(self.was_up && self.outages == 0));
        let help = "Always 1; the version of pm is a label";
        text.begin(&Family { name: "pm_build_info", kind: Kind::Gauge, help });
        text.value(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        let help = "Leases lost while their jobs were running";
        text.begin(&Family { name: "pm_leases_lost", kind: Kind::Counter, help });
        text.value(&[], self.leases_lost);
        let help = "Expired leases, also of other workers, that this process reaped";
        text.begin(&Family { name: "pm_leases_reaped", kind: Kind::Counter, help });
        text.value(&[], self.leases_reaped);
        let help = "The time of statements that claim, until the reply";
        text.begin(&Family { name: "pm_claim_seconds", kind: Kind::Histogram, help });
        text.histogram(&[], &self.claims);
    }

    fn render_queues(&self, text: &mut Text) {
        let counter = |name, help| Family { name, kind: Kind::Counter, help };
        text.begin(&counter("pm_jobs_enqueued", "Jobs enqueued by this process"));
        self.each(|labels, queue| text.value(labels, queue.enqueued));
        text.begin(&counter("pm_jobs_claimed", "Jobs claimed by this process"));
        self.each(|labels, queue| text.value(labels, queue.claimed));
        text.begin(&counter("pm_jobs_settled", "Attempts at jobs that ended, by outcome"));
        self.each(|labels, queue| {
            for outcome in SettleOutcome::ALL {
                let outcome_label = ("outcome", outcome.name());
                text.value(&[labels, &[outcome_label]].concat(), queue.settled[outcome as usize]);
            }
        });
        let help = "Jobs started and not settled";
        text.begin(&Family { name: "pm_jobs_in_flight", kind: Kind::Gauge, help });
        self.each(|labels, queue| text.value(labels, queue.in_flight));
        let histogram = |name, help| Family { name, kind: Kind::Histogram, help };
        text.begin(&histogram(
            "pm_job_wait_seconds",
            "The time from enqueue to the first claim, by the database's clock",
        ));
        self.each(|labels, queue| text.histogram(labels, &queue.wait));
        text.begin(&histogram(
            "pm_job_run_seconds",
            "The time from the start of an attempt to the handler's call to settle",
        ));
        self.each(|labels, queue| text.histogram(labels, &queue.run));
    }

    fn each(&self, mut render: impl FnMut(&[(&str, &str)], &QueueCounts)) {
        self.queues.iter().for_each(|(name, queue)| render(&[("queue", name)], queue));
    }
}

#[cfg(test)]
mod tests;
