//! The cases of performance.md that are races: what is done, and which numbers it gives.

use crate::Result;
use crate::contender::{Contender, Way};
use crate::ground::Spent;
use crate::options::Options;

/// A piece of work that every contender does in turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// What it is, for people.
    pub(crate) name: &'static str,
    case: &'static str,
    kind: Kind,
    /// How many jobs.
    pub(crate) jobs: usize,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Drain(Way),
    EnqueueEach { tasks: usize },
    EnqueueMany,
}

/// Returns the work asked for.
pub(crate) fn works(options: &Options) -> Vec<Work> {
    let (few, many) = if options.quick { (1_000, 10_000) } else { (3_000, 50_000) };
    let works = all(few, many).into_iter();
    works.filter(|work| work.cases().any(|case| options.asked_for(case))).collect()
}

fn all(few: usize, many: usize) -> [Work; 7] {
    let work = |case, name, jobs, kind| Work { case, name, jobs, kind };
    [
        work("P1a", "drain, 32 handlers, awaited", many, Kind::Drain(Way::Awaited(32))),
        work("P1b", "drain, 32 handlers, detached", many, Kind::Drain(Way::Detached(32))),
        work("P2", "drain, 1 handler, awaited", few, Kind::Drain(Way::Awaited(1))),
        work("P2", "drain, 1 handler, detached", many, Kind::Drain(Way::Detached(1))),
        work("P3", "enqueue, 1 task", few, Kind::EnqueueEach { tasks: 1 }),
        work("P3", "enqueue, 32 tasks", many, Kind::EnqueueEach { tasks: 32 }),
        work("P4", "enqueue in bulk", many, Kind::EnqueueMany),
    ]
}

impl Work {
    /// Returns the work of this name with so many jobs.
    pub(crate) fn named(name: &str, jobs: usize) -> Option<Work> {
        all(jobs, jobs).into_iter().find(|work| work.name == name)
    }

    /// Returns whether it works off jobs that must be there before.
    pub(crate) fn needs_backlog(&self) -> bool {
        matches!(self.kind, Kind::Drain(_))
    }

    pub(crate) async fn run(&self, contender: &impl Contender) -> Result<()> {
        match self.kind {
            Kind::Drain(way) => contender.drain(self.jobs, way).await,
            Kind::EnqueueEach { tasks } => contender.enqueue_each(self.jobs, tasks).await,
            Kind::EnqueueMany => contender.enqueue_many(self.jobs).await,
        }
    }

    /// Returns the cases it serves: its own, and those that are about what it costs.
    fn cases(&self) -> impl Iterator<Item = &'static str> {
        let costs: &[&str] = match self.case {
            "P1b" => &["P9", "P11"],
            "P4" => &["P9"],
            _ => &[],
        };
        std::iter::once(self.case).chain(costs.iter().copied())
    }

    /// Returns what was measured: case, name with its unit, value.
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
