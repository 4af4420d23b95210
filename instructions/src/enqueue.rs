//! Enqueues, from the calls to their outcomes.

use crate::{Fixed, encode};
use pm_core::machine::{Machine, Producer};
use pm_core::op::KnownQueue;
use pm_core::wire::Columns;
use pm_core::{EnqueueOptions, Instant, NewJob, QueueName, Rows, SchemaName, job_id};
use std::hint::black_box;

pub(crate) struct State {
    producer: Producer,
    jobs: Vec<NewJob>,
}

pub(crate) fn before(jobs: u64) -> State {
    let job = |number: u64| NewJob {
        id: job_id(1_700_000_000_000 + number, [7; 10]),
        queue: QueueName::new("mail").expect("a valid name"),
        payload: vec![b'x'; 120].into(),
        options: EnqueueOptions::default(),
    };
    State { producer: Producer::new(&SchemaName::default()).pipelined(1_000), jobs: (0..jobs).map(job).collect() }
}

/// Enqueues the jobs, which form one statement, and receives their outcomes.
pub(crate) fn enqueue(state: &mut State) {
    let (producer, now, count) = (&mut state.producer, Instant::default(), state.jobs.len());
    for job in state.jobs.drain(..) {
        black_box(producer.enqueue(job, now));
    }
    let request = producer.poll_request(now, &mut Fixed).expect("there are jobs to send");
    encode(&request);
    let mut inserted = Rows::builder(KnownQueue::COLUMNS.len());
    KnownQueue { queue_id: 1, queue: "mail".to_owned(), may_be_idle: Some(false), inserted: count as i64 }
        .write(&mut inserted);
    producer.handle_reply(request, Ok(inserted.finish()), now, &mut Fixed);
    while let Some(event) = producer.poll_event() {
        black_box(event);
    }
    assert!(producer.is_empty(), "the jobs fit into one statement");
}
