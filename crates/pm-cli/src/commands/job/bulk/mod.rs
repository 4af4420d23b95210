//! What the commands that change many jobs have in common: which jobs, asking first, chunks, and the report.

mod action;
mod pages;
mod selection;

pub(super) use action::Action;
pub(super) use pages::{Filter, Pages};
pub(super) use selection::SelectionArgs;

use crate::ask;
use crate::context::Context;
use crate::error::CommandError;
use crate::render::{BulkReport, Format, Progress, Tally, Total, jobs};
use crate::stop::Stop;
use pm_driver_tokio_postgres::{Change, Precondition, Queue, Uuid};
use selection::Wanted;
use serde::Serialize;
use std::collections::HashSet;

/// So many jobs are changed at once.
const CHUNK: usize = 1_000;

/// Does one thing to the selected jobs, and tells what became of each.
///
/// # Errors
///
/// Exit code 1 when nothing matched, some were refused, or it was stopped; 2 when no job is named or a suffix is
/// ambiguous, in which case nothing was done.
pub(super) async fn run(context: &mut Context, selection: &SelectionArgs, action: Action) -> Result<(), CommandError> {
    let wanted = selection.wanted()?;
    let queue = context.connect().await?;
    action.check(&queue).await?;
    let report = BulkReport::new(action.words());
    let mut bulk = Bulk { context, queue, action, report, keys_taken: 0, locked: 0, stop: None };
    match wanted {
        Wanted::Ids(ids) => {
            let ids = bulk.resolve(&ids).await?;
            if selection.dry_run { bulk.foresee_ids(ids).await } else { bulk.change_ids(ids).await }
        }
        Wanted::Matching(filter) if selection.dry_run => {
            let foreseen = bulk.count(Pages::new(filter)).await?;
            bulk.foretell(foreseen.tally)
        }
        Wanted::Matching(filter) => {
            let mut pages = Pages::new(filter);
            let mut total = None;
            if !selection.yes && ask::is_possible() {
                let counted = bulk.count(pages.clone()).await?;
                total = Some(Total::exactly(counted.jobs));
                bulk.ask(counted.jobs)?;
                // What came in since is not what was agreed to.
                pages = pages.no_newer_than(counted.newest);
            }
            bulk.change_pages(pages, total).await
        }
    }
}

/// A run of such a command.
struct Bulk<'a> {
    context: &'a mut Context,
    queue: Queue,
    action: Action,
    report: BulkReport,
    /// How many jobs were skipped because another job holds their key.
    keys_taken: u64,
    locked: u64,
    /// From when on Ctrl-C does not end the process at once.
    stop: Option<Stop>,
}

/// A job as it was named.
struct Named {
    digits: String,
    /// `None` when there is no such job.
    id: Option<Uuid>,
}

/// What a first walk over the jobs found.
struct Counted {
    jobs: u64,
    tally: Tally,
    newest: Option<Uuid>,
}

#[derive(Serialize)]
struct Foreseen {
    dry_run: bool,
    #[serde(flatten)]
    tally: Tally,
}

impl Bulk<'_> {
    /// Finds out which jobs are meant before anything is done; one that is named twice counts once.
    async fn resolve(&self, suffixes: &[pm_core::IdSuffix]) -> Result<Vec<Named>, CommandError> {
        let (mut named, mut seen) = (Vec::new(), HashSet::new());
        for suffix in suffixes {
            let id = crate::id::resolve_among_all(&self.queue, suffix).await?;
            if id.is_none_or(|id| seen.insert(id)) {
                named.push(Named { digits: suffix.digits().to_owned(), id });
            }
        }
        Ok(named)
    }

    async fn change_ids(mut self, named: Vec<Named>) -> Result<(), CommandError> {
        for missing in named.iter().filter(|named| named.id.is_none()) {
            self.report.not_found(&mut self.context.output, &missing.digits)?;
        }
        self.stop = Some(Stop::listen()?);
        self.context.output.outlive_reader();
        let ids: Vec<_> = named.iter().filter_map(|named| named.id).collect();
        let mut progress = Progress::new(self.action.words().doing, Some(Total::exactly(ids.len() as u64)));
        for chunk in ids.chunks(CHUNK) {
            if let Err(error) = self.change(chunk, &Precondition::default()).await {
                drop(progress);
                return self.broken_off(error);
            }
            progress.show(self.report.tally().all());
        }
        drop(progress);
        self.end()
    }

    async fn change_pages(mut self, mut pages: Pages, total: Option<Total>) -> Result<(), CommandError> {
        self.stop = Some(Stop::listen()?);
        self.context.output.outlive_reader();
        let mut progress = Progress::new(self.action.words().doing, total);
        loop {
            let changed = match pages.next(&self.queue).await {
                Ok(Some(page)) => self.change_page(pages.by_what_they_are(&page)).await,
                Ok(None) => break,
                Err(error) => Err(error),
            };
            if let Err(error) = changed {
                drop(progress);
                return self.broken_off(error);
            }
            progress.show(self.report.tally().all());
        }
        drop(progress);
        self.end()
    }

    async fn change_page(&mut self, page: Vec<(Precondition, Vec<Uuid>)>) -> Result<(), CommandError> {
        for (precondition, ids) in page {
            self.change(&ids, &precondition).await?;
        }
        Ok(())
    }

    /// Changes one chunk, unless the process was asked to stop: a chunk that was begun is finished.
    async fn change(&mut self, ids: &[Uuid], precondition: &Precondition) -> Result<(), CommandError> {
        if self.stop.as_mut().is_some_and(Stop::was_asked) {
            return Err(CommandError::refused("stopped before the end").hint("run it again to go on"));
        }
        let report = self.action.change(&self.queue, ids, precondition).await?;
        let output = &mut self.context.output;
        for (id, change) in ids.iter().zip(report.changes().iter().copied()) {
            match change {
                Change::Changed => self.report.changed(output, *id)?,
                Change::Refused(state) if precondition.state.is_some_and(|was| was != state) => {
                    self.report.skipped(output, *id, &format!("{state} meanwhile"))?;
                }
                Change::Refused(state) => self.report.skipped(output, *id, &self.action.why_not(state))?,
                Change::KeyTaken => {
                    self.keys_taken += 1;
                    self.report.skipped(output, *id, &self.action.key_is_held())?;
                }
                Change::Locked => {
                    self.locked += 1;
                    self.report.skipped(output, *id, "locked by another transaction")?;
                }
                Change::Elsewhere => self.report.skipped(output, *id, "in another queue meanwhile")?,
                Change::NotFound => self.report.not_found(output, &id.to_string())?,
            }
        }
        Ok(())
    }

    /// Tells what was done before the error, if anything was.
    fn broken_off(mut self, error: CommandError) -> Result<(), CommandError> {
        if self.report.tally() != Tally::default() {
            let done = self.report.end(&mut self.context.output)?;
            self.context.output.say(&format!("{done}."));
        }
        Err(error)
    }

    fn end(mut self) -> Result<(), CommandError> {
        let done = self.report.end(&mut self.context.output)?;
        if self.context.output.format() == Format::People {
            self.context.output.say(&format!("{done}."));
        }
        match self.report.refusal() {
            Some(refusal) => {
                let hint = match self.report.tally().skipped {
                    0 => None,
                    skipped if skipped == self.keys_taken => Some("a key is free when the job that holds it has ended"),
                    skipped if skipped == self.locked => {
                        Some("run it again; long transactions are shown by pm db doctor")
                    }
                    _ => self.action.hint(),
                };
                Err(hint.into_iter().fold(refusal, CommandError::hint))
            }
            None if self.report.tally() == Tally::default() => Err(CommandError::refused("no job matches")),
            None => Ok(()),
        }
    }

    /// Walks over the jobs and counts them, writing nothing.
    async fn count(&mut self, mut pages: Pages) -> Result<Counted, CommandError> {
        let mut counted = Counted { jobs: 0, tally: Tally::default(), newest: None };
        let mut progress = Progress::new("Counting jobs", None);
        while let Some(page) = pages.next(&self.queue).await? {
            counted.newest = counted.newest.or(page.first().map(|job| job.id));
            counted.jobs += page.len() as u64;
            let changed = page.iter().filter(|job| self.action.is_allowed(job)).count() as u64;
            counted.tally.changed += changed;
            counted.tally.skipped += page.len() as u64 - changed;
            progress.show(counted.jobs);
        }
        Ok(counted)
    }

    fn ask(&self, count: u64) -> Result<(), CommandError> {
        let words = self.action.words();
        match count {
            0 => Err(CommandError::refused("no job matches")),
            count => ask::confirm(&format!("{} {}{}?", capital(words.order), jobs(count), words.tail)),
        }
    }

    async fn foresee_ids(self, named: Vec<Named>) -> Result<(), CommandError> {
        let mut tally = Tally::default();
        for named in named {
            let job = match named.id {
                Some(id) => self.queue.get_job(id).await?,
                None => None,
            };
            match job {
                Some(job) if self.action.is_allowed(&job) => tally.changed += 1,
                Some(_) => tally.skipped += 1,
                None => tally.not_found += 1,
            }
        }
        self.foretell(tally)
    }

    /// Says what would be done.
    fn foretell(self, tally: Tally) -> Result<(), CommandError> {
        let words = self.action.words();
        let mut sentence = format!("Would {} {}{}", words.order, jobs(tally.changed), words.tail);
        if tally.skipped > 0 {
            sentence.push_str(&format!(", skip {}", tally.skipped));
        }
        if tally.not_found > 0 {
            sentence.push_str(&format!("; {} not found", tally.not_found));
        }
        self.context.output.done(&Foreseen { dry_run: true, tally }, &format!("{sentence}."))?;
        if tally.changed == 0 { Err(CommandError::refused("no job would be changed")) } else { Ok(()) }
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}
