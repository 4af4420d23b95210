//! Producers and operators, which act at any moment and concurrently.

use super::auditor::Call;
use super::schedules::schedule;
use super::stack::Process;
use super::worker::{ALL_QUEUES, QUEUES, handle};
use super::world::SECOND;
use pm_queue::{
    BulkAction, BulkReport, Change, EnqueueOptions, Enqueued, Error, InitialState, JobFilter, OnConflict, Precondition,
    Queue, QueueName, RunAt, TraceContext, Uuid,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Enqueues jobs and operates on them until faults end.
pub(super) async fn produce_and_operate(process: Arc<Process>, queue: Queue) {
    if process.world.below(2) == 0 {
        let (reaper, of) = (queue.clone(), process.clone());
        process.world.executor.spawn(of.number, Box::pin(async move { reaper.run_reaper().await }));
    }
    while !process.world.is_peaceful() {
        let (client, queue) = (process.clone(), queue.clone());
        let action = async move {
            match client.world.below(if client.world.has_schedules { 4 } else { 3 }) {
                0 => operate(&client, &queue).await,
                3 => schedule(&client, &queue).await,
                _ => produce(&client, &queue).await,
            }
        };
        let (of, timeout_us) =
            (process.clone(), [SECOND / 10, SECOND, 3_600 * SECOND][process.world.below(3) as usize]);
        process.world.executor.spawn(
            process.number,
            // Cancelled when it takes longer.
            Box::pin(async move { of.within_us(timeout_us, action).await.unwrap_or_default() }),
        );
        process.sleep_us(process.world.below(SECOND * 3 / 2)).await;
    }
}

/// Enqueues one job, or several.
pub(super) async fn produce(process: &Arc<Process>, queue: &Queue) {
    let name = QUEUES[process.world.below(3) as usize];
    let jobs = if process.world.below(4) == 0 { 1 + process.world.below(8) } else { 1 };
    if process.world.below(8) == 0 {
        let payloads = (0..jobs).map(|_| process.world.intents.fetch_add(1, Ordering::Relaxed)).collect();
        return super::transaction::produce(process, queue, name, payloads).await;
    }
    if jobs == 1 {
        let (payload, options) = drawn_job(process);
        let (at, key) = (process.world.now_us(), options.key.clone());
        let call = Call { at, queue: name.to_owned(), key, payload: payload.to_string().into_bytes() };
        let answer = queue.enqueue_with_outcome(name, payload, options).await;
        process.world.auditor().call_answered(&call, &answer, process.world.now_us());
    } else {
        let mut jobs: Vec<_> = (0..jobs).map(|_| drawn_job(process)).collect();
        if process.world.below(2) == 0 {
            // From the first key on, none is sent with those without keys.
            jobs.iter_mut().for_each(|(_, options)| options.key = None);
        }
        let payloads: Vec<_> = jobs.iter().map(|(payload, _)| *payload).collect();
        for (payload, enqueued) in payloads.into_iter().zip(queue.enqueue_many(name, jobs).await.into_iter().flatten())
        {
            answered(process, payload, &Ok(enqueued));
        }
    }
}

fn answered(process: &Process, payload: u64, answer: &Result<Enqueued, Error>) {
    process.world.auditor().enqueued(payload.to_string().as_bytes(), answer);
}

fn drawn_job(process: &Process) -> (u64, EnqueueOptions) {
    let payload = process.world.intents.fetch_add(1, Ordering::Relaxed);
    let mut seed = process.world.chance();
    let mut options = EnqueueOptions::default().priority(seed.pick(&[0, 0, 0, 5, -1]));
    match seed.below(12) {
        // After the faults, no operator would resume a paused job, and every job must end.
        0 | 1 if process.world.is_peaceful() => {}
        0 => options = options.run_at(RunAt::In(Duration::from_millis(seed.below(8_000)))),
        1 => options = options.initial_state(InitialState::Paused),
        2..5 => {
            let key = seed.pick(&["x", "y"]);
            options =
                options.key(key).on_conflict(seed.pick(&[OnConflict::Keep, OnConflict::Replace, OnConflict::Refuse]));
        }
        5 => options = options.max_retries(seed.below(3) as u32).description("the way → there"),
        8 | 9 => options = options.timeout(Duration::from_millis(1 + seed.below(2_000))),
        // Where no stream reaps, a job that has expired waits for the reaper for up to a minute.
        7 if process.world.is_peaceful() => {}
        7 => options = options.expires_in(Duration::from_millis(1 + seed.below(6_000))),
        6 => options = options.backoff(vec![Duration::from_millis(seed.below(2_000))]),
        10 => options = options.trace(TraceContext::new(TRACEPARENT, None).expect("it is valid")),
        _ => {}
    }
    (payload, options)
}

/// Does an operator's action on some job or queue. Errors are ignored.
async fn operate(process: &Arc<Process>, queue: &Queue) {
    let world = &process.world;
    let ids = some_jobs(process);
    let name = QUEUES[world.below(3) as usize];
    let anything = Precondition::default();
    match world.below(22) {
        0 | 1 => drop(queue.pause_queue(name).await),
        2..5 => drop(queue.resume_queue(name).await),
        5 => judge(
            process,
            &ids,
            queue.change_jobs(&BulkAction::Move { to: QueueName::new(name).unwrap() }, &ids, &anything).await,
        ),
        6 => judge(process, &ids, queue.change_jobs(&BulkAction::Restart { force: false }, &ids, &anything).await),
        7 => judge(process, &ids, queue.change_jobs(&BulkAction::Restart { force: true }, &ids, &anything).await),
        8 => judge(
            process,
            &ids,
            queue.change_jobs(&BulkAction::Fail { reason: "enough".to_owned() }, &ids, &anything).await,
        ),
        9 => judge(process, &ids, queue.change_jobs(&BulkAction::Finish, &ids, &anything).await),
        10 => judge(process, &ids, queue.change_jobs(&BulkAction::Delete, &ids, &anything).await),
        11 => {
            if let Some(id) = ids.first() {
                drop(queue.copy_job(*id, name, EnqueueOptions::default()).await);
            }
        }
        12 => drop(queue.delete_queue("c").await),
        13 => drop(queue.create_queue("c", false).await),
        14 => drop(queue.prune().await),
        15 => drop((queue.reap().await, queue.promote().await)),
        16 => drop((queue.list_queues().await, queue.list_jobs(JobFilter::default()).await)),
        17 => drop(queue.rename_queue("c", "d").await),
        18 => {
            let priority = [0, 5, -1][world.below(3) as usize];
            judge(process, &ids, queue.change_jobs(&BulkAction::SetPriority(priority), &ids, &anything).await);
        }
        19 | 20 => {
            let cancel = BulkAction::Cancel { reason: "no longer wanted".to_owned(), force: world.below(4) == 0 };
            judge(process, &ids, queue.change_jobs(&cancel, &ids, &anything).await);
        }
        _ => match ids.first() {
            Some(id) => {
                if let Ok(Some(job)) = queue.fetch_job::<u64>(*id).await {
                    handle(process.clone(), job).await;
                }
            }
            None => drop(queue.rename_queue("d", "c").await),
        },
    }
}

/// Lets the auditor judge an operator's report.
fn judge(process: &Process, ids: &[Uuid], report: Result<BulkReport, Error>) {
    let report = report.unwrap_or_default();
    let missing = ids.iter().zip(report.changes()).filter(|(_, change)| **change == Change::NotFound);
    let missing: Vec<Uuid> = missing.map(|(id, _)| *id).collect();
    let world = &process.world;
    world.database.look(|tables| world.auditor().reported_missing(&missing, tables));
}

/// Returns up to three jobs in any state.
fn some_jobs(process: &Process) -> Vec<Uuid> {
    let all: Vec<Uuid> = process.world.database.look(|tables| tables.job.keys().copied().collect());
    let mut seed = process.world.chance();
    let count = seed.below(4).min(all.len() as u64);
    (0..count).map(|_| all[seed.below(all.len() as u64) as usize]).collect()
}

/// Restores the queues: each exists and is active, and the deletion of deleted ones is complete. Twice, because
/// enqueues with lost replies are sent again for 30 s, with paused jobs among them.
pub(super) async fn restore_queues(process: Arc<Process>, queue: Queue) {
    for _ in 0..2 {
        for name in ALL_QUEUES {
            while queue.create_queue(name, false).await.is_err() || queue.resume_queue(name).await.is_err() {
                process.sleep_us(SECOND).await;
            }
        }
        while queue.prune().await.is_err() {
            process.sleep_us(SECOND).await;
        }
        process.sleep_us(40 * SECOND).await;
    }
}
