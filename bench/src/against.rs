//! Compares this build with that of another revision. Each does the same work in its own process, on the same server.
//!
//! Both are started in the same way, so that neither has a warm process, and they take turns in going first.

use crate::Result;
use crate::contender::Contender;
use crate::options::Options;
use crate::ours::Ours;
use crate::report::Report;
use crate::testbed::{Database, Testbed, own_cpu};
use crate::work::{Work, works};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// The argument that makes this program one side of a comparison. It is followed by the URL of a database, the name of
/// the work, and the number of jobs.
pub(crate) const SIDE: &str = "--side";
const BEFORE: &str = "before";
const NOW: &str = "now";

/// Does one piece of work after a line on stdin. Prints a line when it is ready, and its CPU time in µs when it is
/// done.
pub(crate) async fn work(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let mut argument = || arguments.next().ok_or("--side needs a URL, a work and a number of jobs");
    let (url, name, jobs) = (argument()?, argument()?, argument()?.parse()?);
    let work = Work::named(&name, jobs).ok_or_else(|| format!("this revision has no benchmark named {name:?}"))?;
    let ours = Ours::open(&url).await?;
    if work.needs_backlog() {
        ours.enqueue_many(work.jobs).await?;
    }
    print_line("ready").await?;
    BufReader::new(tokio::io::stdin()).lines().next_line().await?;
    let before = own_cpu()?;
    work.run(&ours).await?;
    print_line(&own_cpu()?.saturating_sub(before).as_micros().to_string()).await?;
    ours.close().await
}

async fn print_line(line: &str) -> Result<()> {
    let mut out = tokio::io::stdout();
    out.write_all(format!("{line}\n").as_bytes()).await?;
    Ok(out.flush().await?)
}

/// Measures both builds in each round, and prints a table with the ratio of each pair.
pub(crate) async fn measure(other: &Path, options: &Options) -> Result<()> {
    let testbed = Testbed::start(false).await?;
    let mut report = Report::against(BEFORE);
    let mut sides = [(BEFORE, other.to_owned()), (NOW, std::env::current_exe()?)];
    for round in 1..=options.rounds {
        for work in works(options) {
            eprintln!("round {round} of {}: {}", options.rounds, work.name);
            for (side, program) in &sides {
                measure_side(&testbed, &work, (side, program), &mut report).await?;
            }
        }
        sides.reverse();
    }
    report.keep_only(|case| options.includes(case));
    report.print();
    match &options.json {
        Some(path) => report.write_json(path, &testbed.server_version().await?, options.rounds),
        None => Ok(()),
    }
}

async fn measure_side(
    testbed: &Testbed,
    work: &Work,
    (side, program): (&'static str, &PathBuf),
    report: &mut Report,
) -> Result<()> {
    let database = testbed.database().await?;
    let mut child = Command::new(program)
        .args([SIDE, &database.url, work.name, &work.jobs.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("the process has no stdout")?).lines();
    let ended = || format!("the build {side} ended early");
    lines.next_line().await?.ok_or_else(ended)?;
    let before = testbed.read().await?;
    child.stdin.take().ok_or("the process has no stdin")?.write_all(b"go\n").await?;
    let cpu = lines.next_line().await?.ok_or_else(ended)?;
    let mut spent = testbed.spent_since(before).await?;
    spent.client_cpu = Duration::from_micros(cpu.parse()?);
    if !child.wait().await?.success() {
        return Err(ended().into());
    }
    check_count(work, &database).await?;
    for (case, what, value) in work.values(&spent) {
        report.add(case, what, side, value);
    }
    database.drop().await
}

async fn check_count(work: &Work, database: &Database<'_>) -> Result<()> {
    let sql = if work.needs_backlog() { Ours::COUNT_ENDED } else { Ours::COUNT_ALL };
    let counted = database.number(sql).await?;
    match counted == i64::try_from(work.jobs)? {
        true => Ok(()),
        false => Err(format!("{}: {counted} jobs counted instead of {}", work.name, work.jobs).into()),
    }
}
