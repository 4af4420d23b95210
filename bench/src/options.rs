//! The command line.

use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
usage: scripts/bench [--quick] [--rounds N] [--only NAME] [--json FILE] [--statements] [CASE …]
       scripts/bench --against REV [--quick] [--rounds N] [--json FILE] [CASE …]

Cases, as in the performance targets (default: all but P5, P6 and P7):
  P1a  drain, 32 handlers, every commit awaited     P1b  the same, commits detached
  P2   drain, 1 handler                             P3   enqueue one at a time
  P4   enqueue in bulk                              P5   pick-up by an idle worker (30 s)
  P6   an idle worker (35 s)                        P7   drain at backlogs of 1k, 100k, 1M
  P9   WAL per job                                  P11  CPU per drained job

--quick       fewer jobs
--rounds N    how often each contender is measured (default 3; 7 with --against)
--against REV compare with a build of that revision, on one server, in turns; the ratio is now / before
--only NAME   measure only ours, floor or lean, for a profiler
--json FILE   write all values as JSON
--statements  print every statement's calls and rows (pg_stat_statements)";

const DEFAULT_CASES: [&str; 7] = ["P1a", "P1b", "P2", "P3", "P4", "P9", "P11"];
const OTHER_CASES: [&str; 3] = ["P5", "P6", "P7"];

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    /// The benchmark program of the other revision.
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
                    options.rounds = rounds.ok_or("--rounds needs a positive number")?;
                }
                case if DEFAULT_CASES.contains(&case) || OTHER_CASES.contains(&case) => options.cases.push(argument),
                odd => return Err(format!("unknown case or option {odd}")),
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
        let has_other_case = self.cases.iter().any(|case| OTHER_CASES.contains(&case.as_str()));
        if self.only.is_some() || self.statements || has_other_case {
            return Err(format!("--against cannot be combined with --only, --statements, {}", OTHER_CASES.join(", ")));
        }
        Ok(())
    }

    pub(crate) fn includes(&self, case: &str) -> bool {
        match self.cases.is_empty() {
            true => DEFAULT_CASES.contains(&case),
            false => self.cases.iter().any(|case_name| case_name == case),
        }
    }
}
