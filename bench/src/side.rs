//! One side of a comparison: a program that does a piece of work for one contender in its own process.
//!
//! Its arguments are the URL of a database, the name of the work, the number of jobs and the name of the contender. It
//! prints a line when it is ready, begins after a line on stdin, and prints its CPU time in µs and the number of jobs
//! that its handlers have had when it is done. So no contender has a warm process, what one leaves running dies with
//! its process, and programs in other languages can take part.

use crate::contender::{Choice, Contender, handled};
use crate::floor::{Floor, OneTable};
use crate::load;
use crate::ours::Ours;
use crate::pickup;
use crate::testbed::{Database, Spent, Testbed, own_cpu};
use crate::work::Work;
use crate::{Error, Result, footprint};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines, Stdin};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

/// The argument that makes this program one side of a comparison.
pub(crate) const SIDE: &str = "--side";
/// A measurement that takes longer, with the setting up of its backlog, has failed.
const LIMIT: Duration = Duration::from_secs(180);
/// The most bytes of a program's stderr that an error repeats.
const STDERR_BYTES: usize = 500;

/// One side, as the measuring process knows it.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    /// The name in the table.
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) commits: Choice,
    pub(crate) has_bulk: bool,
    pub(crate) waits_for_jobs: bool,
    pub(crate) enqueues_at_most: usize,
    pub(crate) drains_at_most: usize,
    pub(crate) count_all: &'static str,
    pub(crate) count_ended: Option<&'static str>,
    pub(crate) program: Program,
}

/// How a side is started.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: OsString,
    /// The argument before the URL.
    argument: OsString,
    /// The last argument; older revisions do not know it.
    contender: Option<&'static str>,
}

impl Program {
    /// Returns a build of this benchmark, of any revision, which measures pm.
    pub(crate) fn build(path: PathBuf) -> Program {
        Program { path: path.into_os_string(), argument: SIDE.into(), contender: None }
    }

    /// Returns a script with its interpreter.
    pub(crate) fn script(interpreter: &str, script: PathBuf) -> Program {
        Program { path: interpreter.into(), argument: script.into_os_string(), contender: None }
    }
}

impl Side {
    /// Returns the side that measures a contender with this build.
    pub(crate) fn of<C: Contender>() -> Result<Side> {
        let program = Program { contender: Some(C::NAME), ..Program::build(std::env::current_exe()?) };
        Ok(Side::running::<C>(C::NAME, program))
    }

    /// Returns a side that measures a contender with a program.
    pub(crate) fn running<C: Contender>(name: &'static str, program: Program) -> Side {
        Side {
            name,
            version: "of this build".to_owned(),
            commits: C::COMMITS,
            has_bulk: C::HAS_BULK,
            waits_for_jobs: C::WAITS_FOR_JOBS,
            enqueues_at_most: C::ENQUEUES_AT_MOST,
            drains_at_most: C::DRAINS_AT_MOST,
            count_all: C::COUNT_ALL,
            count_ended: C::COUNT_ENDED,
            program,
        }
    }

    /// Does a piece of work in a new database, and checks that it was done.
    pub(crate) async fn measure(&self, testbed: &Testbed, work: &Work) -> Result<Done> {
        let database = testbed.database().await?;
        let outcome = limited(self.measure_in(testbed, &database, work)).await;
        database.drop().await?;
        outcome
    }

    async fn measure_in(&self, testbed: &Testbed, database: &Database<'_>, work: &Work) -> Result<Done> {
        let mut running = self.start(&database.url, work.name, work.jobs).await?;
        if work.needs_backlog() {
            check(work, "enqueued", database.number(self.count_all).await?)?;
        }
        let before = testbed.read().await?;
        running.go().await?;
        let line = running.line().await?;
        let mut spent = testbed.spent_since(before).await?;
        let mut fields = line.split_whitespace();
        spent.client_cpu = Duration::from_micros(fields.next().ok_or("an empty line")?.parse()?);
        running.end().await?;
        let all = database.number(self.count_all).await?;
        if !work.needs_backlog() {
            check(work, "enqueued", all)?;
            return Ok(Done { spent, repeats: 0 });
        }
        // Older revisions do not say it.
        let handled = fields.next().map_or(Ok(work.jobs), str::parse)?;
        let repeats = handled.saturating_sub(work.jobs);
        check(work, "handled", i64::try_from(handled - repeats)?)?;
        let ended = match self.count_ended {
            Some(sql) => database.number(sql).await?,
            None => i64::try_from(work.jobs)? - all,
        };
        check(work, "ended", ended)?;
        Ok(Done { spent, repeats })
    }

    /// Starts the program, and returns when it is ready.
    pub(crate) async fn start(&self, url: &str, work: &str, jobs: usize) -> Result<Running> {
        let Program { path, argument, contender } = &self.program;
        let mut child = Command::new(path)
            .arg(argument)
            .args([url, work, &jobs.to_string()])
            .args(contender)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take().ok_or("the process has no stdin")?;
        let lines = BufReader::new(child.stdout.take().ok_or("the process has no stdout")?).lines();
        let mut stderr = child.stderr.take().ok_or("the process has no stderr")?;
        let stderr = tokio::spawn(async move {
            let mut text = Vec::new();
            // What was read before an error is what can be shown.
            drop(stderr.read_to_end(&mut text).await);
            String::from_utf8_lossy(&text).into_owned()
        });
        let mut running = Running { name: self.name, child, stdin: Some(stdin), lines, stderr };
        running.line().await?;
        Ok(running)
    }
}

/// A piece of work that was done.
pub(crate) struct Done {
    pub(crate) spent: Spent,
    /// How many jobs more than there are handlers have had: some were handled twice.
    pub(crate) repeats: usize,
}

/// A program that has started. It is killed when this is dropped.
pub(crate) struct Running {
    name: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    stderr: JoinHandle<String>,
}

impl Running {
    /// Lets the program begin.
    pub(crate) async fn go(&mut self) -> Result<()> {
        self.say("go").await
    }

    /// Sends a line to its input.
    pub(crate) async fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().ok_or("the process is ending")?;
        Ok(stdin.write_all(format!("{line}\n").as_bytes()).await?)
    }

    /// Returns the next line of its output.
    pub(crate) async fn line(&mut self) -> Result<String> {
        match self.lines.next_line().await? {
            Some(line) => Ok(line),
            None => Err(self.failure().await),
        }
    }

    /// Returns a value about the memory of the program, as Linux names it, in MB.
    pub(crate) fn memory_mb(&self, name: &str) -> Result<f64> {
        let pid = self.child.id().ok_or("the process has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib: f64 = line.and_then(|line| line.split_whitespace().next()).ok_or("no such value")?.parse()?;
        Ok(kib * 1_024.0 / 1e6)
    }

    /// Waits until the program has ended by itself. It may still wait for input, which ends here.
    pub(crate) async fn end(mut self) -> Result<()> {
        drop(self.stdin.take());
        match self.child.wait().await?.success() {
            true => Ok(()),
            false => Err(self.failure().await),
        }
    }

    async fn failure(&mut self) -> Error {
        let text = (&mut self.stderr).await.unwrap_or_default();
        let (text, start) = (text.trim(), text.trim().len().saturating_sub(STDERR_BYTES));
        let start = (start..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        match &text[start..] {
            "" => format!("{} ended early", self.name).into(),
            text => text.into(),
        }
    }
}

/// Fails when something takes too long.
pub(crate) async fn limited<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(LIMIT, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("not done after {} s", LIMIT.as_secs()).into()),
    }
}

fn check(work: &Work, what: &str, counted: i64) -> Result<()> {
    match counted == i64::try_from(work.jobs)? {
        true => Ok(()),
        false => Err(format!("{}: {counted} jobs {what} instead of {}", work.name, work.jobs).into()),
    }
}

/// Does the work that the arguments name.
pub(crate) async fn work(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let mut argument = || arguments.next().ok_or("--side needs a URL, a work and a number of jobs");
    let (url, name, jobs) = (argument()?, argument()?, argument()?.parse()?);
    match arguments.next().as_deref().unwrap_or(<Ours>::NAME) {
        <Ours>::NAME => serve::<Ours>(&url, &name, jobs).await,
        Floor::<OneTable>::NAME => serve::<Floor<OneTable>>(&url, &name, jobs).await,
        #[cfg(feature = "peers")]
        peer => crate::peers::serve(peer, &url, &name, jobs).await,
        #[cfg(not(feature = "peers"))]
        odd => Err(format!("no contender named {odd:?} in this build").into()),
    }
}

/// Does a piece of work for one contender.
pub(crate) async fn serve<C: Contender>(url: &str, name: &str, jobs: usize) -> Result<()> {
    if let Some(role) = pickup::Role::named(name) {
        return pickup::serve::<C>(url, role, jobs).await;
    }
    if let Some(role) = load::Role::named(name) {
        return load::serve::<C>(url, role, jobs).await;
    }
    if name == footprint::PREFETCH {
        return footprint::serve(url, jobs).await;
    }
    let work = Work::named(name, jobs).ok_or_else(|| format!("this revision has no benchmark named {name:?}"))?;
    let contender = C::open(url).await?;
    if work.needs_backlog() {
        contender.enqueue_many(work.jobs).await?;
    }
    wait_for_go().await?;
    let before = own_cpu()?;
    work.run(&contender).await?;
    print_line(&format!("{} {}", own_cpu()?.saturating_sub(before).as_micros(), handled())).await?;
    contender.close().await
}

/// Says that this side is ready, and waits for the line that lets it begin.
pub(crate) async fn wait_for_go() -> Result<()> {
    drop(lines_after_go().await?);
    Ok(())
}

/// Does the same, and returns the lines that follow.
pub(crate) async fn lines_after_go() -> Result<Lines<BufReader<Stdin>>> {
    print_line("ready").await?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    lines.next_line().await?.ok_or("the measuring process is gone")?;
    Ok(lines)
}

/// Prints a line at once.
pub(crate) async fn print_line(line: &str) -> Result<()> {
    let mut out = tokio::io::stdout();
    out.write_all(format!("{line}\n").as_bytes()).await?;
    Ok(out.flush().await?)
}
