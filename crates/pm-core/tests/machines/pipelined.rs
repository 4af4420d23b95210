//! Two full batches of enqueues in flight.

use super::producer::{Scenario, slot_of};
use pm_core::machine::{Enqueued, Producer, ProducerRequest, Request, Trouble};
use pm_core::{Error, Failure, SchemaName, StatementId};

/// How many jobs fit into a statement of a pipelined producer here.
const FULL: usize = 3;

impl Scenario {
    pub(super) fn pipelined() -> Self {
        let mut scenario = Scenario::new();
        scenario.producer = Producer::new(&SchemaName::default()).pipelined(FULL);
        scenario.is_pipelined = true;
        scenario
    }

    /// One request of a kind is in flight, or two full first enqueues without keys.
    pub(super) fn check_bound(&mut self, request: &ProducerRequest) {
        let kind = slot_of(request);
        let mut others = self.in_flight.iter().map(|(other, _)| other).filter(|other| slot_of(other) == kind);
        let Some(other) = others.next() else { return };
        let is_full = |request: &ProducerRequest| match request {
            ProducerRequest::Enqueue(_, batch) => batch.items.len() == FULL,
            _ => false,
        };
        let is_bulk = [request, other]
            .into_iter()
            .all(|request| request.plan().statement == StatementId::EnqueueFresh && is_full(request));
        assert!(self.is_pipelined && is_bulk && others.next().is_none(), "too many {kind:?} in flight");
        self.pairs += 1;
    }
}

/// Enqueues nine jobs, of which the first three and the next three are in flight. What becomes of either does not
/// depend on the reply to the other one, nor on which of them comes first.
#[test]
fn two_full_batches_are_in_flight_and_each_has_its_own_outcome() {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Case {
        Inserted,
        IdExists,
        NoQueue,
        ReplyLost,
        NotSent,
    }
    const CASES: [Case; 5] = [Case::Inserted, Case::IdExists, Case::NoQueue, Case::ReplyLost, Case::NotSent];
    let orders = [false, true].map(|is_second_first| CASES.map(|second| (is_second_first, second)));
    for (first, (is_second_first, second)) in
        CASES.into_iter().flat_map(|first| orders.as_flattened().iter().map(move |order| (first, *order)))
    {
        let mut scenario = Scenario::pipelined();
        let existing = [(); 2].map(|()| {
            let request_id = scenario.enqueue("a", None);
            scenario.finish();
            scenario.enqueues[&request_id].id
        });
        let mut jobs = Vec::new();
        for (case, existing) in [first, second].into_iter().zip(existing) {
            jobs.push(scenario.enqueue("a", None));
            jobs.push(match case {
                Case::IdExists => scenario.enqueue_as(existing, "a", None),
                Case::NoQueue => scenario.enqueue("nowhere", None),
                _ => scenario.enqueue("a", None),
            });
            jobs.push(scenario.enqueue("a", None));
        }
        jobs.extend([(); FULL].map(|()| scenario.enqueue("a", None)));
        scenario.pump();
        assert_eq!(scenario.in_flight.len(), 2);
        // The server runs them in order.
        for (index, case) in [first, second].into_iter().enumerate().filter(|(_, case)| *case != Case::NotSent) {
            scenario.run(index);
            let fails = scenario.in_flight[index].1.as_ref().is_some_and(Result::is_err);
            assert_eq!(fails, case == Case::IdExists);
        }
        let replies = if is_second_first { [(1, second), (0, first)] } else { [(0, first), (0, second)] };
        for (index, case) in replies {
            match case {
                Case::ReplyLost => scenario.fail(index, Failure::no_reply("cut")),
                Case::NotSent => scenario.fail(index, Failure::not_sent("refused")),
                _ => scenario.answer(index),
            }
            scenario.pump();
        }
        scenario.finish();
        for request_id in &jobs {
            let job = &scenario.enqueues[request_id];
            let expected = match job.queue.as_str() {
                "a" => Ok(Enqueued::Inserted(job.id)),
                queue => Err(Trouble::Refused(Error::QueueNotFound(queue.to_owned()))),
            };
            assert_eq!(scenario.outcomes[request_id], expected, "{first:?} {second:?} {is_second_first}");
        }
    }
}

#[test]
fn full_batches_keep_the_order_of_their_jobs_unless_one_fails() {
    let mut scenario = Scenario::pipelined();
    let jobs: Vec<_> = (0..40).map(|_| scenario.enqueue("a", None)).collect();
    scenario.finish();
    let positions: Vec<_> =
        jobs.iter().map(|request_id| scenario.database.job(scenario.enqueues[request_id].id).seq).collect();
    assert!(positions.is_sorted(), "{positions:?}");
    assert_eq!((scenario.sent.len(), scenario.pairs), (14, 12), "the last one is not full");
}
