//! The command line.

use crate::contender::Contender;
use crate::ours::Ours;
use crate::testbed::Statements;
use crate::{footprint, held, paced, scale};
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
usage: scripts/bench [--quick] [--rounds N] [--only NAME] [--json FILE] [--svg DIR] [--statements] [CASE …]
       scripts/bench --peers [--quick] [--rounds N] [--jobs N] [--only NAME,…] [--json FILE] [--svg DIR] [CASE …]
       scripts/bench --against REV [--quick] [--rounds N] [--json FILE] [--svg DIR] [CASE …]
       scripts/bench --smoke
       scripts/bench --scale [--quick] [--rounds N] [--jobs N] [--json FILE] [--svg DIR]
       scripts/bench --soak [--minutes N] [--rate N] [--json FILE] [--svg DIR]

Cases, as in the performance targets (default: all but P5, P6, P7, Q9 and Q13; with --peers, which has neither P6, P7,
Q9 nor Q13, all but Q15):
  P1a  drain, 32 handlers, every commit awaited     P1b  the same, commits detached
  P2   drain, 1 handler                             P3   enqueue one at a time
  P4   enqueue in bulk                              P5   pick-up by an idle worker (30 s)
  P6   an idle worker (35 s)                        P7   drain at backlogs of 1k, 100k, 1M
  P9   WAL per job                                  P11  CPU per drained job
  Q9   drain of 300k jobs with a held snapshot      Q13  the size and start of pm, memory (20 s)
  Q15  3,000 jobs/s in and out for 20 s, awaited

--quick       fewer jobs
--rounds N    how often each contender is measured (default 3; 7 with --against)
--against REV compare with a build of that revision, on one server, in turns; the ratio is now / before
--peers       compare with other job queues; the ratio is to ours (docs/performance.md)
--smoke       only see that the benchmarks of pm work: a few jobs each, in a debug build; CI does it
--scale       1, 2 and 4 worker processes that drain one queue; the ratio is to one process
--soak        jobs in and out at a steady rate for hours, and a snapshot held for a twelfth of the time
--minutes N   with --soak: how long (default 120); the retention is a twelfth of it, at least a minute
--rate N      with --soak: the jobs enqueued in a second (default 3000)
--jobs N      with --peers: the jobs of a measurement (default 50000; a tenth where they go one by one);
              with --scale: the jobs of a drain (default 200000)
--only NAME   measure only ours, floor or lean, for a profiler; with --peers ours and those of a list
--json FILE   write all values as JSON
--svg DIR     write a bar plot of each row of the table; of a soak a plot over time of each kind of figure
--statements  print every statement's calls and rows (pg_stat_statements)";

const DEFAULT_CASES: [&str; 8] = ["P1a", "P1b", "P2", "P3", "P4", "P9", "P11", paced::CASE];
const SMOKE_JOBS: usize = 500;
const SOAK_MINUTES: usize = 120;
const OTHER_CASES: [&str; 5] = ["P5", "P6", "P7", held::CASE, footprint::CASE];

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    /// The benchmark program of the other revision.
    pub(crate) against: Option<PathBuf>,
    pub(crate) only: Option<String>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) svg: Option<PathBuf>,
    pub(crate) peers: bool,
    /// The directory of the peers in Node.js. `scripts/bench` sets it.
    pub(crate) node: Option<PathBuf>,
    pub(crate) smoke: bool,
    pub(crate) scale: bool,
    pub(crate) soak: bool,
    /// How long a soak takes.
    pub(crate) minutes: usize,
    /// The jobs per second of a soak.
    pub(crate) rate: usize,
    /// A release build of the `pm` command. `scripts/bench` sets it.
    pub(crate) pm: Option<PathBuf>,
    /// The number of jobs of a measurement, instead of the usual one.
    pub(crate) jobs: Option<usize>,
    pub(crate) statements: bool,
    cases: Vec<String>,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Options { minutes: SOAK_MINUTES, rate: paced::RATE, ..Options::default() };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--statements" => options.statements = true,
                "--against" => options.against = Some(value()?.into()),
                "--only" => options.only = Some(value()?),
                "--json" => options.json = Some(value()?.into()),
                "--svg" => options.svg = Some(value()?.into()),
                "--peers" => options.peers = true,
                "--smoke" => options = Options::smoke(),
                "--scale" => options.scale = true,
                "--soak" => options.soak = true,
                "--minutes" => options.minutes = positive(&argument, &value()?)?,
                "--rate" => options.rate = positive(&argument, &value()?)?,
                "--pm" => options.pm = Some(value()?.into()),
                "--node" => options.node = Some(value()?.into()),
                "--jobs" => options.jobs = Some(positive(&argument, &value()?)?),
                "--rounds" => options.rounds = positive(&argument, &value()?)?,
                case if DEFAULT_CASES.contains(&case) || OTHER_CASES.contains(&case) => options.cases.push(argument),
                odd => return Err(format!("unknown case or option {odd}")),
            }
        }
        if options.against.is_some() {
            options.check_against()?;
        }
        options.check_modes()?;
        if options.rounds == 0 {
            options.rounds = if options.against.is_some() { 7 } else { 3 };
        }
        Ok(options)
    }

    /// Returns the options of a smoke test.
    fn smoke() -> Self {
        let only = Some(<Ours>::NAME.to_owned());
        Options {
            smoke: true,
            only,
            jobs: Some(SMOKE_JOBS),
            rounds: 1,
            rate: paced::RATE,
            minutes: SOAK_MINUTES,
            ..Options::default()
        }
    }

    fn check_modes(&self) -> Result<(), String> {
        let modes = [self.against.is_some(), self.peers, self.scale, self.soak];
        if modes.iter().filter(|is_chosen| **is_chosen).count() > 1 {
            return Err("--against, --peers, --scale and --soak cannot be combined".to_owned());
        }
        if (self.scale || self.soak) && !(self.cases.is_empty() && self.only.is_none() && !self.statements) {
            return Err("--scale and --soak cannot be combined with cases, --only and --statements".to_owned());
        }
        let has_other_load = self.minutes != SOAK_MINUTES || self.rate != paced::RATE;
        match () {
            () if self.jobs.is_some() && !self.peers && !self.scale && !self.smoke => {
                Err("--jobs needs --peers or --scale".to_owned())
            }
            () if has_other_load && !self.soak => Err("--minutes and --rate need --soak".to_owned()),
            () => Ok(()),
        }
    }

    fn check_against(&self) -> Result<(), String> {
        let has_other_case = self.cases.iter().any(|case| OTHER_CASES.contains(&case.as_str()));
        if self.only.is_some() || self.statements || has_other_case {
            let cases = OTHER_CASES.join(", ");
            return Err(format!("--against cannot be combined with --only, --statements, {cases}"));
        }
        Ok(())
    }

    /// Returns the statements that the server must count.
    pub(crate) fn counted(&self) -> Statements {
        match self.includes(paced::CASE) {
            _ if self.statements => Statements::Printed,
            true => Statements::WhereAsked,
            false => Statements::Uncounted,
        }
    }

    pub(crate) fn includes(&self, case: &str) -> bool {
        match self.cases.is_empty() {
            true if self.scale => case == scale::CASE,
            true if self.peers && case == "P5" => true,
            true if self.peers && case == paced::CASE => false,
            true => DEFAULT_CASES.contains(&case),
            false => self.cases.iter().any(|case_name| case_name == case),
        }
    }
}

fn positive(option: &str, value: &str) -> Result<usize, String> {
    value.parse().ok().filter(|number| *number > 0).ok_or(format!("{option} needs a positive number"))
}
