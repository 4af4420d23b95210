//! What is asked for on the command line.

use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
usage: scripts/bench [--quick] [--rounds N] [--only NAME] [--json FILE] [--statements] [CASE …]
       scripts/bench --against REV [--quick] [--rounds N] [--json FILE] [CASE …]

Cases, as in the performance targets; without one, all but P5, P6 and P7:
  P1a  drain, 32 handlers, every commit awaited     P1b  the same, commits detached
  P2   drain, 1 handler                             P3   enqueue one at a time
  P4   enqueue in bulk                              P5   pick-up by an idle worker (30 s)
  P6   an idle worker (35 s)                        P7   drain at backlogs of 1k, 100k, 1M
  P9   WAL for a job's life                         P11  CPU for a drained job

--quick       fewer jobs
--rounds N    how often each contender has its turn (default 3; 7 with --against)
--against REV this build beside a build of that revision, on one server, in turns; the ratio is now / before
--only NAME   measure ours, floor or lean alone, for a profiler
--json FILE   write all values as JSON
--statements  print every statement's calls and rows (pg_stat_statements)";

const ORDINARY: [&str; 7] = ["P1a", "P1b", "P2", "P3", "P4", "P9", "P11"];
const ON_DEMAND: [&str; 3] = ["P5", "P6", "P7"];

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    /// The program of the other revision.
    pub(crate) against: Option<PathBuf>,
    pub(crate) only: Option<String>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) statements: bool,
    cases: Vec<String>,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Options {
            quick: false,
            rounds: 0,
            against: None,
            only: None,
            json: None,
            statements: false,
            cases: vec![],
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--statements" => options.statements = true,
                "--against" => options.against = Some(value()?.into()),
                "--only" => options.only = Some(value()?),
                "--json" => options.json = Some(value()?.into()),
                "--rounds" => {
                    let rounds = value()?.parse().ok().filter(|rounds| *rounds > 0);
                    options.rounds = rounds.ok_or("--rounds needs a number from 1")?;
                }
                case if ORDINARY.contains(&case) || ON_DEMAND.contains(&case) => options.cases.push(argument),
                odd => return Err(format!("there is no case and no option {odd}")),
            }
        }
        if options.against.is_some() {
            options.check_against()?;
        }
        if options.rounds == 0 {
            options.rounds = if options.against.is_some() { 7 } else { 3 };
        }
        Ok(options)
    }

    fn check_against(&self) -> Result<(), String> {
        if self.only.is_some() || self.statements || self.cases.iter().any(|case| ON_DEMAND.contains(&case.as_str())) {
            return Err(format!("--against goes with none of --only, --statements, {}", ON_DEMAND.join(", ")));
        }
        Ok(())
    }

    pub(crate) fn asked_for(&self, case: &str) -> bool {
        match self.cases.is_empty() {
            true => ORDINARY.contains(&case),
            false => self.cases.iter().any(|asked| asked == case),
        }
    }
}
