//! The common part of the bulk commands: selection, confirmation, chunks and report.

mod action;
mod pages;
mod selection;

pub(super) use pages::Pages;
pub(super) use selection::{Filter, SelectionArgs};

use crate::ask;
use crate::context::Context;
use crate::error::CommandError;
use crate::render::{BulkReport, Json, Outcome, Progress, Tally, Value, exactly, jobs};
use crate::stop::Stop;
use action::Action;
use pages::CHUNK;
use pm_driver_tokio_postgres::{BulkAction, Change, Count, Precondition, Queue, Uuid};
use std::collections::HashSet;
use std::slice::Chunks;

/// Applies an action to the selected jobs, and reports the outcome of each. Jobs must have the `lease` of this number,
/// if it is given. Errors: exit code 1 when no job matched, some were refused, or it was interrupted; 2 when no job is
/// given or a suffix is ambiguous; nothing is changed then.
pub(super) async fn run(
    context: &mut Context,
    selection: &SelectionArgs,
    what: BulkAction,
    lease: Option<i64>,
) -> Result<(), CommandError> {
    let action = Action { what, lease };
    selection.check()?;
    let queue = context.connect().await?;
    action.check(&queue).await?;
    let report = BulkReport::new(action.text());
    let mut bulk = Bulk { context, queue, action, report, keys_taken: 0, locked: 0 };
    if !selection.ids.is_empty() {
        let given = bulk.resolve(&selection.ids).await?;
        if selection.dry_run {
            return bulk.dry_run_ids(given).await;
        }
        for missing in given.iter().filter(|job| job.id.is_none()) {
            bulk.report.add(&mut bulk.context.output, &missing.digits, &Outcome::NotFound)?;
        }
        let ids: Vec<_> = given.iter().filter_map(|job| job.id).collect();
        return bulk.change_all(Parts::Ids(ids.chunks(CHUNK)), Some(exactly(ids.len() as u64))).await;
    }
    let mut pages = Pages::new(selection.filter.clone());
    if selection.dry_run {
        let (tally, _) = bulk.count(pages).await?;
        return bulk.report_dry_run(tally);
    }
    let mut total = None;
    if !selection.yes && ask::is_possible() {
        let (tally, newest) = bulk.count(pages.clone()).await?;
        total = Some(exactly(tally.total()));
        bulk.ask(tally.total())?;
        // Jobs added after the count were not confirmed.
        pages = pages.no_newer_than(newest);
    }
    bulk.change_all(Parts::Pages(pages), total).await
}

/// A run of a bulk command.
struct Bulk<'a> {
    context: &'a mut Context,
    queue: Queue,
    action: Action,
    report: BulkReport,
    /// How many jobs were skipped because another job reserves their key.
    keys_taken: u64,
    /// How many jobs were skipped because another transaction has locked them.
    locked: u64,
}

/// A job given by the end of its id.
struct Given {
    digits: String,
    /// `None` when there is no such job.
    id: Option<Uuid>,
}

/// The jobs to change, in parts of at most 1,000.
enum Parts<'a> {
    Ids(Chunks<'a, Uuid>),
    Pages(Pages),
}

impl Parts<'_> {
    /// Returns the ids of the next part by the precondition of their change; `None` at the end.
    async fn next(&mut self, queue: &Queue) -> Result<Option<Vec<(Precondition, Vec<Uuid>)>>, CommandError> {
        Ok(match self {
            Parts::Ids(chunks) => chunks.next().map(|ids| vec![(Precondition::default(), ids.to_vec())]),
            Parts::Pages(pages) => pages.next(queue).await?.map(|page| pages.by_precondition(&page)),
        })
    }
}

impl Bulk<'_> {
    /// Resolves all ids before anything is changed; duplicates are removed.
    async fn resolve(&self, suffixes: &[pm_core::IdSuffix]) -> Result<Vec<Given>, CommandError> {
        let (mut given, mut seen) = (Vec::new(), HashSet::new());
        for suffix in suffixes {
            let id = crate::id::resolve_among_all(&self.queue, suffix).await?;
            if id.is_none_or(|id| seen.insert(id)) {
                given.push(Given { digits: suffix.digits().to_owned(), id });
            }
        }
        Ok(given)
    }

    async fn change_all(mut self, parts: Parts<'_>, total: Option<Count>) -> Result<(), CommandError> {
        self.context.output.ignore_closed_pipe();
        match self.change_parts(parts, total).await {
            Ok(()) => self.end(),
            Err(error) => self.end_with_error(error),
        }
    }

    /// Changes the parts until the process is asked to stop. A chunk is never interrupted.
    async fn change_parts(&mut self, mut parts: Parts<'_>, total: Option<Count>) -> Result<(), CommandError> {
        // From here on, Ctrl-C does not end the process at once.
        let mut stop = Stop::listen()?;
        let mut progress = Progress::new(self.action.text().doing, total);
        while let Some(part) = parts.next(&self.queue).await? {
            for (precondition, ids) in part {
                if stop.was_requested() {
                    return Err(CommandError::refused("interrupted").hint("run it again to continue"));
                }
                self.change(&ids, &precondition).await?;
            }
            progress.show(self.report.tally.total());
        }
        Ok(())
    }

    async fn change(&mut self, ids: &[Uuid], precondition: &Precondition) -> Result<(), CommandError> {
        let precondition = Precondition { lease: self.action.lease, ..precondition.clone() };
        let report = self.queue.change_jobs(&self.action.what, ids, &precondition).await?;
        for (id, change) in ids.iter().zip(report.changes().iter().copied()) {
            self.keys_taken += u64::from(change == Change::KeyTaken);
            self.locked += u64::from(change == Change::Locked);
            let outcome = match change {
                Change::Changed => Outcome::Changed,
                Change::Requested => Outcome::Requested,
                Change::NotFound => Outcome::NotFound,
                Change::Refused(state) if precondition.state.is_some_and(|was| was != state) => {
                    Outcome::Skipped(format!("now {state}"))
                }
                Change::Refused(state) => Outcome::Skipped(self.action.refusal_reason(state)),
                Change::KeyTaken => Outcome::Skipped(self.action.key_is_reserved()),
                Change::Locked => Outcome::Skipped("locked by another transaction".to_owned()),
                Change::Unknown => Outcome::Skipped("locked at first; whether it was changed is not known".to_owned()),
                Change::InOtherQueue => Outcome::Skipped("now in another queue".to_owned()),
            };
            self.report.add(&mut self.context.output, &id.to_string(), &outcome)?;
        }
        Ok(())
    }

    /// Reports what was done before the error, if anything was.
    fn end_with_error(mut self, error: CommandError) -> Result<(), CommandError> {
        if self.report.tally != Tally::default() {
            let done = self.report.end(&mut self.context.output)?;
            self.context.output.message(&format!("{done}."));
        }
        Err(error)
    }

    fn end(mut self) -> Result<(), CommandError> {
        let done = self.report.end(&mut self.context.output)?;
        self.context.output.note(&format!("{done}."));
        match self.report.refusal() {
            Some(refusal) => {
                let hint = match self.report.tally.skipped {
                    0 => None,
                    skipped if skipped == self.keys_taken => {
                        Some("a key becomes free when the job that reserves it ends")
                    }
                    skipped if skipped == self.locked => Some("run it again; pm db doctor shows long transactions"),
                    _ => self.action.hint(),
                };
                Err(hint.into_iter().fold(refusal, CommandError::hint))
            }
            None if self.report.tally == Tally::default() => Err(CommandError::refused("no job matches")),
            None => Ok(()),
        }
    }

    /// Counts the jobs by what the action would do, and returns the newest; changes nothing.
    async fn count(&mut self, mut pages: Pages) -> Result<(Tally, Option<Uuid>), CommandError> {
        let (mut tally, mut newest) = (Tally::default(), None);
        let mut progress = Progress::new("Counting jobs", None);
        while let Some(page) = pages.next(&self.queue).await? {
            newest = newest.or(page.first().map(|job| job.id));
            page.into_iter().for_each(|job| self.action.foresee(&mut tally, Some(job)));
            progress.show(tally.total());
        }
        Ok((tally, newest))
    }

    fn ask(&self, count: u64) -> Result<(), CommandError> {
        let text = self.action.text();
        match count {
            0 => Err(CommandError::refused("no job matches")),
            count => ask::confirm(&format!("{} {}{}?", text.verb, jobs(count), text.suffix)),
        }
    }

    async fn dry_run_ids(self, given: Vec<Given>) -> Result<(), CommandError> {
        let mut tally = Tally::default();
        for Given { id, .. } in given {
            let job = match id {
                Some(id) => self.queue.get_job(id).await?,
                None => None,
            };
            self.action.foresee(&mut tally, job);
        }
        self.report_dry_run(tally)
    }

    /// Reports what would be done.
    fn report_dry_run(self, tally: Tally) -> Result<(), CommandError> {
        let text = self.action.text();
        let mut sentence = format!("Would {} {}{}", text.verb.to_lowercase(), jobs(tally.changed), text.suffix);
        if tally.skipped > 0 {
            sentence.push_str(&format!(", skip {}", tally.skipped));
        }
        if tally.not_found > 0 {
            sentence.push_str(&format!("; {} not found", tally.not_found));
        }
        let json = Value::named([("dry_run", true.into())]).and(tally.json());
        self.context.output.done(&json, &format!("{sentence}."))?;
        if tally.changed == 0 { Err(CommandError::refused("no job would be changed")) } else { Ok(()) }
    }
}
