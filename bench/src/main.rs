//! Benchmarks of pm against a hand-written baseline (the floor), in turns, on a durable private Postgres.

mod against;
mod contender;
mod floor;
mod idle;
mod options;
mod ours;
mod pickup;
mod report;
mod sizes;
mod testbed;
mod work;

use contender::Contender;
use floor::{Floor, Lean, OneTable};
use options::Options;
use ours::Ours;
use report::Report;
use std::process::ExitCode;
use testbed::Testbed;
use work::{Work, works};

/// A result with any error: the benchmark only prints it.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--help") {
        println!("{}", options::USAGE);
        return ExitCode::SUCCESS;
    }
    let mut arguments = std::env::args().skip(1);
    if let (Some(pickup::WORKER), Some(url)) = (arguments.next().as_deref(), arguments.next()) {
        return exit_code(pickup::work(&url).await);
    }
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(against::SIDE) {
        return exit_code(against::work(arguments).await);
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match &options.against {
        Some(other) => exit_code(against::measure(other, &options).await),
        None => exit_code(run(&options).await),
    }
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

async fn run(options: &Options) -> Result<()> {
    let testbed = Testbed::start(options.statements).await?;
    let mut report = Report::against("floor");
    for round in 1..=options.rounds {
        for work in works(options) {
            eprintln!("round {round} of {}: {}", options.rounds, work.name);
            measure::<Ours>(&testbed, &work, options, &mut report).await?;
            measure::<Floor<OneTable>>(&testbed, &work, options, &mut report).await?;
            measure::<Floor<Lean>>(&testbed, &work, options, &mut report).await?;
            // To measure another job queue, add a line here and a file beside ours.rs.
        }
    }
    if options.includes("P5") {
        pickup::measure(&testbed, &mut report).await?;
    }
    if options.includes("P6") {
        idle::measure(&testbed, &mut report).await?;
    }
    if options.includes("P7") {
        sizes::measure(&testbed, options.quick, &mut report).await?;
    }
    report.keep_only(|case| options.includes(case));
    report.print();
    if let Some(path) = &options.json {
        report.write_json(path, &testbed.server_version().await?, options.rounds)?;
    }
    Ok(())
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
    let (jobs, sql) = (work.jobs, if work.needs_backlog() { C::COUNT_ENDED } else { C::COUNT_ALL });
    let counted = database.number(sql).await?;
    if counted != i64::try_from(jobs)? {
        return Err(format!("{}, {}: {counted} jobs counted instead of {jobs}", work.name, C::NAME).into());
    }
    contender.close().await?;
    for (case, what, value) in work.values(&spent) {
        report.add(case, what, C::NAME, value);
    }
    database.drop().await
}
