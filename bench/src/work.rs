//! The benchmarks that every contender runs: the work of each, and the values that it yields.

use crate::Result;
use crate::contender::{Choice, Commits, Contender};
use crate::options::Options;
use crate::side::Side;
use crate::testbed::Spent;

/// A piece of work that the contenders do in turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// The name, for humans.
    pub(crate) name: &'static str,
    case: &'static str,
    kind: Kind,
    /// The number of jobs.
    pub(crate) jobs: usize,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Drain(Commits),
    EnqueueEach { tasks: usize },
    EnqueueMany,
}

/// Returns the work that the options ask for.
pub(crate) fn works(options: &Options) -> Vec<Work> {
    let (few, many) = match (options.quick, options.jobs) {
        (_, Some(jobs)) => (jobs.div_ceil(10), jobs),
        (true, None) => (1_000, 10_000),
        (false, None) => (3_000, 50_000),
    };
    let works = all(few, many).into_iter();
    works.filter(|work| work.cases().any(|case| options.includes(case))).collect()
}

fn all(few: usize, many: usize) -> [Work; 7] {
    let work = |case, name, jobs, kind| Work { case, name, jobs, kind };
    [
        work("P1a", "drain, 32 handlers, awaited", many, Kind::Drain(Commits::Awaited(32))),
        work("P1b", "drain, 32 handlers, detached", many, Kind::Drain(Commits::Detached(32))),
        work("P2", "drain, 1 handler, awaited", few, Kind::Drain(Commits::Awaited(1))),
        work("P2", "drain, 1 handler, detached", many, Kind::Drain(Commits::Detached(1))),
        work("P3", "enqueue, 1 task", few, Kind::EnqueueEach { tasks: 1 }),
        work("P3", "enqueue, 32 tasks", many, Kind::EnqueueEach { tasks: 32 }),
        work("P4", "enqueue in bulk", many, Kind::EnqueueMany),
    ]
}

impl Work {
    /// Returns the work of this name, with this number of jobs.
    pub(crate) fn named(name: &str, jobs: usize) -> Option<Work> {
        all(jobs, jobs).into_iter().find(|work| work.name == name)
    }

    /// Returns whether it works off jobs that must be enqueued before.
    pub(crate) fn needs_backlog(&self) -> bool {
        matches!(self.kind, Kind::Drain(_))
    }

    pub(crate) async fn run(&self, contender: &impl Contender) -> Result<()> {
        match self.kind {
            Kind::Drain(commits) => contender.drain(self.jobs, commits).await,
            Kind::EnqueueEach { tasks } => contender.enqueue_each(self.jobs, tasks).await,
            Kind::EnqueueMany => contender.enqueue_many(self.jobs).await,
        }
    }

    /// Returns this work as a side does it, with fewer jobs if it is slow; `None` if it cannot do it.
    pub(crate) fn of_side(self, side: &Side) -> Option<Work> {
        match self.kind {
            Kind::EnqueueMany => side.has_bulk.then_some(self),
            Kind::EnqueueEach { .. } => Some(Work { jobs: self.jobs.min(side.enqueues_at_most), ..self }),
            Kind::Drain(Commits::Detached(_)) if side.commits == Choice::Awaited => None,
            Kind::Drain(_) => Some(Work { jobs: self.jobs.min(side.drains_at_most), ..self }),
        }
    }

    /// Returns the cases for which it yields values: its own, and those about its cost.
    fn cases(&self) -> impl Iterator<Item = &'static str> {
        let costs: &[&str] = match self.case {
            "P3" if matches!(self.kind, Kind::EnqueueEach { tasks: 2.. }) => &["P9"],
            "P1a" | "P1b" => &["P9", "P11"],
            "P4" => &["P9"],
            _ => &[],
        };
        std::iter::once(self.case).chain(costs.iter().copied())
    }

    /// Returns the measured values: case, name with unit, value.
    pub(crate) fn values(&self, spent: &Spent) -> Vec<(&'static str, String, f64)> {
        let jobs = self.jobs as f64;
        let mut values = vec![(self.case, format!("{}, jobs/s", self.name), jobs / spent.time.as_secs_f64())];
        for case in self.cases() {
            match case {
                "P9" => values.push((case, format!("{}, WAL B/job", self.name), spent.wal_bytes as f64 / jobs)),
                "P11" => {
                    let us = |cpu: std::time::Duration| cpu.as_secs_f64() * 1e6 / jobs;
                    values.push((case, format!("{}, client µs/job", self.name), us(spent.client_cpu)));
                    values.push((case, format!("{}, server µs/job", self.name), us(spent.server_cpu)));
                }
                _ => {}
            }
        }
        values
    }
}
