//! pm compared with other job queues, each through its public API, as its own documentation recommends for throughput.
//!
//! Every contender does each piece of work in its own process, on the same server, in a new database. The crates need
//! the feature `peers`; without it pm, the floor and the peers in Node.js remain.

#[cfg(feature = "peers")]
mod apalis;
#[cfg(feature = "peers")]
mod awa;
#[cfg(feature = "peers")]
mod crates;
#[cfg(feature = "peers")]
mod fang;
#[cfg(feature = "peers")]
mod graphile_worker;
mod node;
#[cfg(feature = "peers")]
mod pgmq;
#[cfg(feature = "peers")]
mod postmodern;
#[cfg(feature = "peers")]
mod sqlx;

#[cfg(feature = "peers")]
pub(crate) use crates::serve;

use crate::contender::{Choice, Contender};
use crate::floor::{Floor, OneTable};
use crate::options::Options;
use crate::ours::Ours;
use crate::paced;
use crate::pickup;
use crate::report::Report;
use crate::side::Side;
use crate::testbed::{Checkpoints, Testbed};
use crate::work::works;
use crate::{Error, Result};

/// The jobs of a measurement of pick-up, in each round.
const PICKUPS: usize = 100;

/// Measures all contenders in each round, and prints a table with ratios to pm. A measurement that fails is reported;
/// the others go on.
pub(crate) async fn measure(options: &Options) -> Result<()> {
    let mut sides = sides(options)?;
    let testbed = Testbed::start(options.counted(), Checkpoints::Between).await?;
    let mut report = Report::against(<Ours>::NAME);
    for side in &sides {
        report.add_version(side.name, side.version.clone());
    }
    let names = |commits| sides.iter().filter(|side| side.commits == commits).map(|side| side.name).collect::<Vec<_>>();
    let (never_wait, always_wait) = (names(Choice::Detached).join(", "), names(Choice::Awaited).join(", "));
    for round in 1..=options.rounds {
        report.begin_round(round);
        for work in works(options) {
            eprintln!("round {round} of {}: {}", options.rounds, work.name);
            for side in &sides {
                let Some(work) = work.of_side(side) else { continue };
                match side.measure(&testbed, &work).await {
                    Ok(done) => {
                        report.add_all(side.name, work.values(&done.spent));
                        if done.repeats > 0 {
                            report.add_repeats(side.name, work.name, done.repeats);
                        }
                    }
                    Err(error) => fail(&mut report, side, work.name, error),
                }
            }
        }
        if options.includes("P5") {
            eprintln!("round {round} of {}: pick-up", options.rounds);
            for side in sides.iter().filter(|side| side.waits_for_jobs) {
                if let Err(error) = pickup::measure(&testbed, side, PICKUPS, &mut report).await {
                    fail(&mut report, side, "pick-up", error);
                }
            }
        }
        if options.includes(paced::CASE) {
            eprintln!("round {round} of {}: paced", options.rounds);
            for side in sides.iter().filter(|side| side.waits_for_jobs) {
                if let Err(error) = paced::measure(&testbed, side, options, &mut report).await {
                    fail(&mut report, side, "paced", error);
                }
            }
        }
        sides.reverse();
    }
    report.finish(options, &testbed).await?;
    println!("\nIn the drains these do not wait for their commits, whatever the row says: {never_wait}.");
    println!("These always wait: {always_wait}.");
    Ok(())
}

fn fail(report: &mut Report, side: &Side, what: &str, error: Error) {
    eprintln!("{}, {what}: {error}", side.name);
    report.add_failure(side.name, what, error.to_string());
}

/// Returns the contenders that this build has and the options ask for; always pm.
fn sides(options: &Options) -> Result<Vec<Side>> {
    let mut sides = vec![Side::of::<Ours>()?];
    #[cfg(feature = "peers")]
    sides.push(Side::of::<Ours<sqlx::Sqlx>>()?);
    sides.push(Side::of::<Floor<OneTable>>()?);
    #[cfg(feature = "peers")]
    sides.extend(crates::sides()?);
    if cfg!(not(feature = "peers")) {
        eprintln!("built without the feature `peers`: the crates are left out");
    }
    if let Some(directory) = &options.node {
        sides.extend(node::sides(directory)?);
    }
    let Some(only) = &options.only else { return Ok(sides) };
    let wanted: Vec<&str> = only.split(',').collect();
    match wanted.iter().find(|name| !sides.iter().any(|side| side.name == **name)) {
        Some(odd) => Err(format!("no contender named {odd:?}").into()),
        None => {
            sides.retain(|side| side.name == <Ours>::NAME || wanted.contains(&side.name));
            Ok(sides)
        }
    }
}
