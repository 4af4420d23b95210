//! Claims, from the reply to the handlers, and settlements, from the calls to their outcomes.

use crate::{Fixed, encode};
use pm_core::machine::{Machine, Worker, WorkerOptions, WorkerRequest};
use pm_core::op::{ClaimRow, PollRow, RetryColumns};
use pm_core::wire::{AnyShape, Columns};
use pm_core::{Backoff, Codec, Instant, Lease, LeasedColumns, QueueName, Rows, Timestamp, Verdict, job_id};
use std::hint::black_box;
use std::time::Duration;
use uuid::Uuid;

const JOBS: usize = 500;
/// Settlements come in another order than claims: the step from one job to the next.
const STEP: usize = 7;

pub(crate) struct State {
    worker: Worker,
    claim: Option<(WorkerRequest, Rows)>,
    leases: Vec<Lease>,
}

fn now() -> Instant {
    Instant::from_start(Duration::from_secs(60))
}

/// Returns a worker that has sent a claim, and the reply to it.
pub(crate) fn before_claim() -> State {
    let mut worker = Worker::new(options(), now());
    let poll = worker.poll_request(now(), &mut Fixed).expect("it polls at once");
    worker.handle_reply(poll, Ok(rows(&[polled()])), now(), &mut Fixed);
    assert!(worker.next_job(now()).is_none(), "nothing is claimed yet");
    let claim = worker.poll_request(now(), &mut Fixed).expect("a handler waits");
    let claimed: Vec<ClaimRow> = std::iter::once(settings()).chain((0..JOBS).map(job)).collect();
    State { worker, claim: Some((claim, rows(&claimed))), leases: Vec::with_capacity(JOBS) }
}

/// Reads the reply, and hands out the jobs.
pub(crate) fn claim(state: &mut State) {
    let (claim, reply) = state.claim.take().expect("it is in flight");
    state.worker.handle_reply(claim, Ok(reply), now(), &mut Fixed);
    while let Some(taken) = state.worker.next_job(now()) {
        state.leases.push(taken.job.lease);
        black_box(taken);
    }
    assert_eq!(state.leases.len(), JOBS);
}

pub(crate) fn before_settle() -> State {
    let mut state = before_claim();
    claim(&mut state);
    state
}

/// Settles the jobs in one statement, and receives the outcomes.
pub(crate) fn settle(state: &mut State) {
    let worker = &mut state.worker;
    for index in 0..JOBS {
        black_box(worker.settle(state.leases[index * STEP % JOBS], Verdict::Commit, now(), 0));
    }
    let request = worker.poll_request(now(), &mut Fixed).expect("there are settlements");
    assert!(matches!(&request, WorkerRequest::Settle(batch) if batch.items.len() == JOBS));
    encode(&request);
    let settled: Vec<i64> = (1..=JOBS as i64).collect();
    worker.handle_reply(request, Ok(rows(&settled)), now(), &mut Fixed);
    for _ in 0..JOBS {
        black_box(worker.poll_event().expect("every settlement has an outcome"));
    }
}

fn options() -> WorkerOptions {
    WorkerOptions {
        queues: vec![QueueName::new("mail").expect("a valid name")],
        worker: "worker".to_owned(),
        prefetch: JOBS,
        heartbeat: None,
        poll_least: Duration::from_secs(1),
        poll_most: Duration::from_secs(10),
        reaps: false,
        channel: "pm_pm".to_owned(),
        statement_timeout: Duration::from_secs(30),
    }
}

fn rows<T: Columns>(rows: &[T]) -> Rows {
    let mut reply = Rows::builder(T::COLUMNS.len());
    rows.iter().for_each(|row| row.write(&mut reply));
    reply.finish()
}

fn polled() -> PollRow {
    PollRow {
        id: 1,
        name: "mail".to_owned(),
        paused: false,
        lease: Duration::from_secs(1_200),
        backoff: Backoff::default(),
        priorities: vec![0],
        due_ms: None,
        expiry_ms: None,
        tick_ms: None,
    }
}

fn settings() -> ClaimRow {
    let backoff_ms = Some(AnyShape(vec![1_000, 60_000]));
    ClaimRow {
        id: None,
        queue_id: 1,
        paused: Some(false),
        lease_ms: Some(1_200_000),
        retries: RetryColumns { max_retries: Some(10), backoff_ms, jitter_percent: Some(10) },
        due_ms: None,
        claimed_at: Some(Timestamp::from_unix_us(1_700_000_001_000_000)),
        job: None,
    }
}

fn job(number: usize) -> ClaimRow {
    ClaimRow {
        id: Some(id(number)),
        queue_id: 1,
        paused: None,
        lease_ms: None,
        retries: RetryColumns::default(),
        due_ms: None,
        claimed_at: None,
        job: Some(LeasedColumns {
            priority: 0,
            seq: 1 + number as i64,
            attempt: 1,
            retry_count: 0,
            snoozes: None,
            timeout: None,
            created_at: Timestamp::from_unix_us(1_700_000_000_000_000),
            codec: Codec::default(),
            description: None,
            key: None,
            trace: None,
            payload: Some(vec![b'x'; 120].into()),
        }),
    }
}

fn id(number: usize) -> Uuid {
    job_id(1_700_000_000_000 + number as u64, [7; 10])
}
