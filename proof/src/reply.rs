//! Fuzzes the interpretation of replies.

use crate::rows::rows;
use arbitrary::{Result, Unstructured};
use pm_core::op::*;
use pm_core::{
    Catalog, Cron, EnqueueOptions, Error, IdSuffix, JsonText, Lease, Missed, NewJob, NewSchedule, Operation, Overlap,
    QueueName, Reason, Rows, ScheduleName, SchemaName, SettingsChange, State, StatementId, Timestamp, Verdict,
};
use std::sync::LazyLock;
use std::time::Duration;
use uuid::Uuid;

/// Created once, because that takes longer than everything else here.
pub(crate) static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::new(&SchemaName::default()));

/// Reads bytes as a statement and the reply to it, and interprets the reply.
///
/// # Panics
///
/// If the interpretation panics; an error is fine.
pub fn reply(bytes: &[u8]) {
    // Too few bytes are not an error: the fuzzer adds more.
    let _done_or_used_up = read(&mut Unstructured::new(bytes));
}

fn read(bytes: &mut Unstructured<'_>) -> Result<()> {
    let statement = *bytes.choose(&StatementId::ALL)?;
    let rows = rows(bytes, CATALOG.statement(statement).columns)?;
    reply_to(statement, &rows);
    Ok(())
}

/// Interprets rows as the reply to a statement with two or three items; returns whether it knows the statement.
///
/// # Panics
///
/// If the interpretation panics.
pub fn reply_to(statement: StatementId, rows: &Rows) -> bool {
    match statement {
        StatementId::Enqueue
        | StatementId::EnqueueFresh
        | StatementId::EnqueueKeyed
        | StatementId::EnqueueEach
        | StatementId::KeyHolder
        | StatementId::ReplaceJobs => producer(statement, rows),
        StatementId::Claim
        | StatementId::Poll
        | StatementId::Settle
        | StatementId::SettleCommits
        | StatementId::Outcome
        | StatementId::Extend
        | StatementId::SetProgress
        | StatementId::Reap
        | StatementId::Promote
        | StatementId::ReleaseClaim
        | StatementId::FetchJob => worker(statement, rows),
        _ => {
            operator_on_queues(statement, rows)
                || operator_on_jobs(statement, rows)
                || reader(statement, rows)
                || schedules(statement, rows)
        }
    }
}

/// Interprets rows; an error must have a message.
fn interpret<O: Operation>(operation: O, rows: &Rows) -> bool {
    if let Err(error) = operation.interpret(rows) {
        let error: Error = error;
        assert!(!error.to_string().is_empty());
    }
    true
}

fn name() -> QueueName {
    QueueName::new("a").expect("a valid name")
}

fn ids() -> Vec<Uuid> {
    (1..4).map(Uuid::from_u128).collect()
}

fn producer(statement: StatementId, rows: &Rows) -> bool {
    let job = |id| NewJob { id, queue: name(), payload: Default::default(), options: EnqueueOptions::default() };
    let jobs: Vec<_> = ids().into_iter().map(job).collect();
    match statement {
        StatementId::Enqueue => interpret(Enqueue { jobs: &jobs }, rows),
        StatementId::EnqueueFresh => interpret(EnqueueFresh { jobs: &jobs }, rows),
        StatementId::EnqueueKeyed => interpret(EnqueueKeyed { jobs: &jobs, in_transaction: false }, rows),
        StatementId::EnqueueEach => interpret(EnqueueEach { jobs: &jobs }, rows),
        StatementId::KeyHolder => interpret(KeyHolder { jobs: &jobs }, rows),
        _ => interpret(ReplaceJobs { jobs: &jobs }, rows),
    }
}

fn worker(statement: StatementId, rows: &Rows) -> bool {
    let leases: Vec<_> = ids().into_iter().map(|job| Lease { job, number: 7 }).collect();
    let item =
        |lease: &Lease| SettleItem { lease: *lease, verdict: Verdict::Commit, state: State::Finished, delay: None };
    let items: Vec<_> = leases.iter().map(item).collect();
    let line = LineCursor { queue_id: 1, priority: 0, cursor: 0 };
    match statement {
        StatementId::Claim => {
            let claim = Claim { lines: vec![line], limit: 3, lease: 7, worker: "w".to_owned(), due_bound: None };
            interpret(claim, rows)
        }
        StatementId::Poll => interpret(Poll { queues: vec![name()], sleep: None }, rows),
        StatementId::Settle => interpret(Settle { items: &items, passes: false }, rows),
        StatementId::SettleCommits => interpret(SettleCommits { items: &items }, rows),
        StatementId::Outcome => interpret(Outcome { items: &items }, rows),
        StatementId::Extend => {
            let items = leases.into_iter().map(|lease| ExtendItem { lease, latest_end: None }).collect();
            interpret(Extend { items }, rows)
        }
        StatementId::SetProgress => {
            let progress = JsonText::progress("1".to_owned()).expect("it is short");
            let items = leases.into_iter().map(|lease| ProgressItem { lease, progress: progress.clone() }).collect();
            interpret(SetProgress { items }, rows)
        }
        StatementId::Reap => interpret(Reap { limit: 3, seed: 7 }, rows),
        StatementId::Promote => interpret(Promote { limit: 3, bound: None }, rows),
        StatementId::ReleaseClaim => interpret(ReleaseClaim { lease: 7 }, rows),
        _ => interpret(FetchJob { lease: leases[0], worker: "w".to_owned() }, rows),
    }
}

fn operator_on_queues(statement: StatementId, rows: &Rows) -> bool {
    let name = name();
    match statement {
        StatementId::CreateQueue => interpret(CreateQueue { name, paused: false }, rows),
        StatementId::PauseQueue => interpret(PauseQueue { name }, rows),
        StatementId::ResumeQueue => interpret(ResumeQueue { name }, rows),
        StatementId::CountPending => interpret(CountPending { queue_id: 1 }, rows),
        StatementId::ListQueues => interpret(ListQueues { name: Some(name) }, rows),
        StatementId::Settings => interpret(Settings { name }, rows),
        StatementId::SetQueue => {
            let change = SettingsChange::new().lease(Duration::from_secs(1));
            SetQueue::new(name, change).is_ok_and(|operation| interpret(operation, rows))
        }
        StatementId::BeginQueueDeletion => interpret(BeginQueueDeletion { name }, rows),
        StatementId::RenameQueue => interpret(RenameQueue { from: name.clone(), to: name }, rows),
        StatementId::PruneJobs => interpret(PruneJobs { after: None, page: 3, queue_id: None }, rows),
        StatementId::DeleteEmptyQueues => interpret(DeleteEmptyQueues { queue_id: Some(1) }, rows),
        StatementId::SchemaVersion => interpret(SchemaVersion, rows),
        StatementId::Encoding => interpret(Encoding, rows),
        StatementId::Relations => interpret(Relations, rows),
        StatementId::Privileges => interpret(Privileges::of_current_role(), rows),
        StatementId::Sequences => interpret(Sequences, rows),
        _ => false,
    }
}

fn operator_on_jobs(statement: StatementId, rows: &Rows) -> bool {
    let (name, id, ids, channel) = (name(), Uuid::from_u128(1), ids(), "pm_pm".to_owned());
    match statement {
        StatementId::ListJobs => interpret(ListJobs { filter: JobFilter::default() }, rows),
        StatementId::Job => interpret(Job { id }, rows),
        StatementId::Payload => interpret(Payload { id }, rows),
        StatementId::JobResult => interpret(JobResult { id }, rows),
        StatementId::ResolveSuffix => {
            let suffix = IdSuffix::new("1").expect("a valid suffix");
            interpret(ResolveSuffix { suffix, newest: None }, rows)
        }
        StatementId::Attempts => interpret(Attempts { id }, rows),
        StatementId::NextJobs => interpret(NextJobs { queue: name, limit: 3 }, rows),
        StatementId::Notify => interpret(Notify { channel, notifications: Vec::new() }, rows),
        StatementId::NotifyIdle => interpret(NotifyIdle { channel }, rows),
        StatementId::RestartJobs => {
            interpret(RestartJobs { ids, force: false, precondition: Precondition::default() }, rows)
        }
        StatementId::EndJobs => interpret(EndJobs::failed(ids, "no"), rows),
        StatementId::CancelJobs => {
            let (reason, precondition) = (Reason::new("no"), Precondition::default());
            interpret(CancelJobs { ids, force: false, reason, precondition }, rows)
        }
        StatementId::CancelRequests => interpret(CancelRequests { leases: vec![Lease { job: id, number: 1 }] }, rows),
        StatementId::DeleteJobs => interpret(DeleteJobs { ids, precondition: Precondition::default() }, rows),
        StatementId::MoveJobs => interpret(MoveJobs { ids, queue: name, precondition: Precondition::default() }, rows),
        StatementId::EditJobs => interpret(EditJobs { ids, priority: 3, precondition: Precondition::default() }, rows),
        StatementId::CopyJob => {
            let options = EnqueueOptions::default();
            let job = NewJob { id: ids[1], queue: name, payload: Vec::new().into(), options };
            interpret(CopyJob { source: id, job }, rows)
        }
        _ => false,
    }
}

fn reader(statement: StatementId, rows: &Rows) -> bool {
    let threshold = Duration::from_secs(60);
    match statement {
        StatementId::Activity => interpret(Activity { window: threshold }, rows),
        StatementId::TableSizes => interpret(TableSizes, rows),
        StatementId::RowHolders => interpret(RowHolders, rows),
        StatementId::TableHealths => interpret(TableHealths, rows),
        StatementId::IndexHealths => interpret(IndexHealths, rows),
        StatementId::QueueHealths => interpret(QueueHealths { threshold }, rows),
        StatementId::Orphans => interpret(Orphans, rows),
        StatementId::SearchPaths => interpret(SearchPaths, rows),
        _ => false,
    }
}

fn schedules(statement: StatementId, rows: &Rows) -> bool {
    let schedule_name = ScheduleName::new("s").expect("a valid name");
    match statement {
        StatementId::ListSchedules => {
            let reading = ListSchedules { name: None }.interpret(rows);
            // Operations made from the reply must not panic either.
            reading.iter().flat_map(|reading| &reading.schedules).for_each(|found| drop(HoldSchedule::resume(found)));
            interpret(ListSchedules { name: None }, rows)
        }
        StatementId::SetSchedule => {
            let schedule = NewSchedule {
                name: schedule_name,
                queue: name(),
                cron: Cron::new("* * * * *", "UTC").expect("a valid expression"),
                missed: Missed::default(),
                overlap: Overlap::default(),
                payload: Default::default(),
                options: EnqueueOptions::default(),
            };
            let set = SetSchedule::new(schedule, Timestamp::from_unix_us(0));
            set.is_ok_and(|operation| interpret(operation, rows))
        }
        StatementId::HoldSchedule => interpret(HoldSchedule::pause(schedule_name), rows),
        StatementId::DeleteSchedule => interpret(DeleteSchedule { name: schedule_name }, rows),
        StatementId::DueSchedules => {
            if let Ok(due) = DueSchedules::default().interpret(rows) {
                assert!(!FireSchedules::of(&due, || 4).params().is_empty());
            }
            true
        }
        StatementId::FireSchedules => interpret(FireSchedules::default(), rows),
        _ => false,
    }
}
