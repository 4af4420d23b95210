//! Compares this build with that of another revision. Each does the same work in its own process, on the same server.
//!
//! Both are started in the same way, so that neither has a warm process, and they take turns in going first.

use crate::Result;
use crate::options::Options;
use crate::ours::Ours;
use crate::paced;
use crate::report::Report;
use crate::side::{Program, Side};
use crate::testbed::{Checkpoints, Testbed};
use crate::work::works;
use std::path::Path;

const BEFORE: &str = "before";
const NOW: &str = "now";

/// Measures both builds in each round, and prints a table with the ratio of each pair.
pub(crate) async fn measure(other: &Path, options: &Options) -> Result<()> {
    let testbed = Testbed::start(options.counted(), Checkpoints::Between).await?;
    let mut report = Report::against(BEFORE);
    let programs = [(BEFORE, other.to_owned()), (NOW, std::env::current_exe()?)];
    let mut sides = programs.map(|(name, program)| Side::running::<Ours>(name, Program::build(program)));
    for round in 1..=options.rounds {
        report.begin_round(round);
        for work in works(options) {
            eprintln!("round {round} of {}: {}", options.rounds, work.name);
            for side in &sides {
                let done = side.measure(&testbed, &work).await.map_err(|error| format!("{}: {error}", side.name))?;
                if done.repeats > 0 {
                    return Err(format!("{}: {} jobs were handled twice", side.name, done.repeats).into());
                }
                report.add_all(side.name, work.values(&done.spent));
            }
        }
        if options.includes(paced::CASE) {
            eprintln!("round {round} of {}: paced", options.rounds);
            for side in &sides {
                let outcome = paced::measure(&testbed, side, options, &mut report).await;
                outcome.map_err(|error| format!("{}: {error}", side.name))?;
            }
        }
        sides.reverse();
    }
    report.finish(options, &testbed).await
}
