//! Benchmarks of pm against a hand-written baseline (the floor) and other job queues, in turns, on a durable private
//! Postgres.

mod against;
mod contender;
mod curves;
mod floor;
mod footprint;
mod held;
mod idle;
mod load;
mod options;
mod ours;
mod paced;
mod peers;
mod pickup;
mod plot;
mod report;
mod samples;
mod scale;
mod side;
mod sizes;
mod soak;
mod testbed;
mod work;

use contender::Contender;
use floor::{Floor, Lean, OneTable};
use options::Options;
use ours::Ours;
use report::Report;
use side::Side;
use std::process::ExitCode;
use testbed::{Checkpoints, Testbed};
use work::{Work, works};

/// Any error: the benchmark only prints it.
type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

/// The jobs of a measurement of pick-up.
const PICKUPS: usize = 500;

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help") {
        println!("{}", options::USAGE);
        return ExitCode::SUCCESS;
    }
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(side::SIDE) {
        return exit_code(side::work(arguments).await);
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    exit_code(match &options.against {
        Some(other) => against::measure(other, &options).await,
        None if options.peers => peers::measure(&options).await,
        None if options.soak => soak::measure(&options).await,
        None if options.smoke => smoke(options).await,
        None if options.scale => scale::measure(&options).await,
        None => run(&options).await,
    })
}

fn exit_code(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pm-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the benchmarks of pm on a few jobs, to see that they work. The figures mean nothing.
async fn smoke(mut options: Options) -> Result<()> {
    run(&options).await?;
    options.scale = true;
    scale::measure(&options).await
}

async fn run(options: &Options) -> Result<()> {
    let testbed = Testbed::start(options.counted(), Checkpoints::Between).await?;
    let mut report = Report::against("floor");
    for round in 1..=options.rounds {
        report.begin_round(round);
        for work in works(options) {
            eprintln!("round {round} of {}: {}", options.rounds, work.name);
            measure::<Ours>(&testbed, &work, options, &mut report).await?;
            measure::<Floor<OneTable>>(&testbed, &work, options, &mut report).await?;
            measure::<Floor<Lean>>(&testbed, &work, options, &mut report).await?;
        }
        if options.includes(paced::CASE) && options.only.as_deref().is_none_or(|only| only == <Ours>::NAME) {
            eprintln!("round {round} of {}: paced", options.rounds);
            paced::measure(&testbed, &Side::of::<Ours>()?, options, &mut report).await?;
        }
        if options.includes(held::CASE) {
            eprintln!("round {round} of {}: held snapshot", options.rounds);
            held::measure(&testbed, &Side::of::<Ours>()?, options, &mut report).await?;
        }
    }
    if options.includes("P5") {
        eprintln!("pick-up by another process: {PICKUPS} jobs");
        pickup::measure(&testbed, &Side::of::<Ours>()?, PICKUPS, &mut report).await?;
    }
    if options.includes("P6") {
        idle::measure(&testbed, &mut report).await?;
    }
    if options.includes("P7") {
        sizes::measure(&testbed, options.quick, &mut report).await?;
    }
    if options.includes(footprint::CASE) {
        footprint::measure(&testbed, options.pm.as_deref(), &mut report).await?;
    }
    report.finish(options, &testbed).await
}

/// Measures one contender on one piece of work in a new database, and checks that the work was done.
async fn measure<C: Contender>(testbed: &Testbed, work: &Work, options: &Options, report: &mut Report) -> Result<()> {
    if options.only.as_deref().is_some_and(|only| only != C::NAME) {
        return Ok(());
    }
    let database = testbed.database().await?;
    let contender = C::open(&database.url).await?;
    if work.needs_backlog() {
        contender.enqueue_many(work.jobs).await?;
    }
    testbed.reset_statements().await?;
    let before = testbed.read().await?;
    work.run(&contender).await?;
    let spent = testbed.spent_since(before).await?;
    testbed.print_statements(C::NAME, &database.name).await?;
    let ended = C::COUNT_ENDED.filter(|_| work.needs_backlog());
    let (jobs, counted) = (work.jobs, database.number(ended.unwrap_or(C::COUNT_ALL)).await?);
    if counted != i64::try_from(jobs)? {
        return Err(format!("{}, {}: {counted} jobs counted instead of {jobs}", work.name, C::NAME).into());
    }
    contender.close().await?;
    report.add_all(C::NAME, work.values(&spent));
    database.drop().await
}
