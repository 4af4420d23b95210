//! The producer against the memory driver's database: every enqueue has exactly one outcome, and it is correct.

use super::database::{Database, PENDING, rows_of};
use super::rig::{Seeded, at, ms};
use pm_core::machine::{
    EnqueueKind, Enqueued, Machine, Producer, ProducerEvent, ProducerRequest, Request, RequestId, Trouble,
};
use pm_core::{
    Class, EnqueueOptions, Error, Failure, Instant, NewJob, QueueName, Rows, SchemaName, State, StatementId, Value,
    job_id,
};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use uuid::Uuid;

pub(super) struct Scenario {
    pub(super) producer: Producer,
    pub(super) database: Database,
    now: Instant,
    /// With their replies, if they have run already.
    pub(super) in_flight: Vec<(ProducerRequest, Option<Result<Rows, Failure>>)>,
    pub(super) enqueues: BTreeMap<RequestId, NewJob>,
    pub(super) outcomes: BTreeMap<RequestId, Result<Enqueued, Trouble>>,
    pub(super) sent: Vec<StatementId>,
    pub(super) is_pipelined: bool,
    /// Jobs that are enqueued although they exist.
    doubled: BTreeSet<Uuid>,
    /// How often two statements of a kind were in flight.
    pub(super) pairs: usize,
    entropy: Seeded,
}

impl Scenario {
    pub(super) fn new() -> Self {
        Scenario {
            producer: Producer::new(&SchemaName::default()),
            database: Database::new(),
            now: at(1_000),
            in_flight: Vec::new(),
            enqueues: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            sent: Vec::new(),
            is_pipelined: false,
            doubled: BTreeSet::new(),
            pairs: 0,
            entropy: Seeded(1),
        }
    }

    pub(super) fn enqueue(&mut self, queue: &str, key: Option<u8>) -> RequestId {
        let count = self.enqueues.len() as u64;
        self.enqueue_as(job_id(1_700_000_000_000 + count, [7; 10]), queue, key)
    }

    pub(super) fn enqueue_as(&mut self, id: Uuid, queue: &str, key: Option<u8>) -> RequestId {
        let job = NewJob {
            id,
            queue: QueueName::new(queue).expect("a valid name"),
            payload: (&b"{}"[..]).into(),
            options: key.map_or_else(EnqueueOptions::default, |key| EnqueueOptions::default().key(key.to_string())),
        };
        let request_id = self.producer.enqueue(job.clone(), self.now);
        self.enqueues.insert(request_id, job);
        request_id
    }

    pub(super) fn pump(&mut self) {
        self.producer.handle_timeout(self.now);
        while let Some(request) = self.producer.poll_request(self.now, &mut self.entropy) {
            self.check_bound(&request);
            self.sent.push(request.plan().statement);
            self.in_flight.push((request, None));
        }
        while let Some(event) = self.producer.poll_event() {
            if let ProducerEvent::Enqueued { request_id, outcome } = event {
                assert!(self.outcomes.insert(request_id, outcome).is_none(), "{request_id:?} has two outcomes");
            }
        }
        let next = self.producer.poll_timeout();
        assert!(next.is_none_or(|(at, _)| at > self.now), "a busy loop at {:?}: {next:?}", self.now);
        let unanswered = self.enqueues.len() - self.outcomes.len();
        assert_eq!(self.producer.len(), unanswered, "its length is the number of enqueues without outcome");
        assert!(!self.producer.is_empty() || unanswered == 0);
    }

    fn index_of(&self, statement: StatementId) -> Option<usize> {
        self.in_flight.iter().position(|(request, _)| request.plan().statement == statement)
    }

    pub(super) fn run(&mut self, index: usize) {
        let (request, ran) = &mut self.in_flight[index];
        if ran.is_none() {
            *ran = Some(self.database.run(&request.plan(), self.now));
        }
    }

    pub(super) fn answer(&mut self, index: usize) {
        self.run(index);
        let (request, ran) = self.in_flight.remove(index);
        self.producer.handle_reply(request, ran.expect("it has just run"), self.now, &mut self.entropy);
    }

    pub(super) fn fail(&mut self, index: usize, failure: Failure) {
        let (request, _) = self.in_flight.remove(index);
        self.producer.handle_reply(request, Err(failure), self.now, &mut self.entropy);
    }

    /// Answers all requests without faults until nothing is left to do.
    pub(super) fn finish(&mut self) {
        for _ in 0..2_000 {
            self.pump();
            if !self.in_flight.is_empty() {
                self.answer(0);
            } else if let Some((at, _)) = self.producer.poll_timeout() {
                self.now = at;
            } else {
                return;
            }
        }
        panic!("it never ends: {:?}", self.producer);
    }
}

/// Returns a key that at most one request in flight may have.
pub(super) fn slot_of(request: &ProducerRequest) -> (StatementId, Option<EnqueueKind>) {
    let kind = match request {
        ProducerRequest::Enqueue(kind, _) | ProducerRequest::KeyHolder(kind, _) | ProducerRequest::Replace(kind, _) => {
            Some(*kind)
        }
        ProducerRequest::Notify(_) => None,
    };
    let statement = match request.plan().statement {
        StatementId::EnqueueEach => StatementId::EnqueueKeyed,
        StatementId::EnqueueFresh => StatementId::Enqueue,
        statement => statement,
    };
    (statement, kind)
}

#[test]
fn enqueues_share_statements_and_have_separate_outcomes() {
    let mut scenario = Scenario::new();
    let first = scenario.enqueue("a", None);
    scenario.pump();
    let good = scenario.enqueue("a", Some(1));
    let unknown_queue = scenario.enqueue("nowhere", None);
    let doubled = scenario.enqueue("a", Some(1));
    scenario.finish();
    let sent = [
        StatementId::EnqueueFresh,
        StatementId::EnqueueKeyed,
        StatementId::EnqueueFresh,
        StatementId::KeyHolder,
        // It reports why there is no job.
        StatementId::Enqueue,
    ];
    assert_eq!(scenario.sent, sent, "those with keys do not wait for those without");
    for request_id in [first, good] {
        assert_eq!(scenario.outcomes[&request_id], Ok(Enqueued::Inserted(scenario.enqueues[&request_id].id)));
    }
    assert_eq!(scenario.outcomes[&unknown_queue], Err(Trouble::Refused(Error::QueueNotFound("nowhere".to_owned()))));
    assert_eq!(scenario.outcomes[&doubled], Ok(Enqueued::Existing(scenario.enqueues[&good].id, State::Pending)));
}

#[test]
fn an_id_that_exists_already_fails_no_other_enqueue() {
    let mut scenario = Scenario::new();
    let first = scenario.enqueue("a", None);
    scenario.finish();
    let id = scenario.enqueues[&first].id;
    let blocker = scenario.enqueue("a", None);
    scenario.pump();
    let others = [scenario.enqueue("a", None), scenario.enqueue("a", None)];
    let again = scenario.enqueue_as(id, "a", None);
    scenario.finish();
    for request_id in [blocker, others[0], others[1], again] {
        assert_eq!(scenario.outcomes[&request_id], Ok(Enqueued::Inserted(scenario.enqueues[&request_id].id)));
    }
    assert_eq!(scenario.database.jobs().len(), 4);
    let [.., failed, general, _] = scenario.sent[..] else { panic!("{:?}", scenario.sent) };
    assert_eq!([failed, general], [StatementId::EnqueueFresh, StatementId::Enqueue]);
}

#[test]
fn an_enqueue_whose_reply_is_lost_is_sent_again_and_inserted_once() {
    let mut scenario = Scenario::new();
    let request_id = scenario.enqueue("a", None);
    scenario.pump();
    scenario.run(0);
    scenario.fail(0, Failure::no_reply("cut"));
    scenario.finish();
    assert_eq!(scenario.outcomes[&request_id], Ok(Enqueued::Inserted(scenario.enqueues[&request_id].id)));
    assert_eq!(scenario.database.jobs().len(), 1);
}

#[test]
fn resends_stop_after_30_s() {
    for (failure, last_ms) in [(Failure::no_reply("cut"), 30_000), (Failure::not_sent("refused"), 5_000)] {
        let mut scenario = Scenario::new();
        let start = scenario.now;
        let request_id = scenario.enqueue("a", None);
        while scenario.outcomes.is_empty() {
            scenario.pump();
            while !scenario.in_flight.is_empty() {
                scenario.fail(0, failure.clone());
            }
            scenario.pump();
            scenario.now = scenario.producer.poll_timeout().map_or(scenario.now, |(at, _)| at);
        }
        let trouble = match failure.class() {
            Class::Unknown => Trouble::Unknown(Box::new(Trouble::Failed(failure))),
            _ => Trouble::Failed(failure),
        };
        assert_eq!(scenario.outcomes[&request_id], Err(trouble), "only a lost reply leaves the outcome unknown");
        let took = scenario.now.since(start);
        assert!((ms(last_ms)..ms(last_ms + 100)).contains(&took), "{took:?}");
    }
}

/// Answers all requests at once for 10 s, longer than the deadline of enqueues; returns how long each enqueue took.
fn answer_for_10_s(scenario: &mut Scenario) -> BTreeMap<RequestId, Duration> {
    let start = scenario.now;
    let mut answered = BTreeMap::new();
    while scenario.now.since(start) < ms(10_000) {
        scenario.pump();
        for request_id in scenario.outcomes.keys() {
            answered.entry(*request_id).or_insert(scenario.now.since(start));
        }
        match scenario.in_flight.is_empty() {
            false => scenario.answer(0),
            true => scenario.now = scenario.producer.poll_timeout().map_or(scenario.now + ms(10_000), |(at, _)| at),
        }
    }
    answered
}

#[test]
fn a_locked_queue_does_not_delay_others_and_its_enqueues_fail_at_their_deadline() {
    for count in [1, 64, 2_000] {
        let mut scenario = Scenario::new();
        scenario.database.add_queue("b");
        scenario.database.lock_for_enqueues(&["a"], []);
        let locked: Vec<_> =
            (0..count).map(|n| scenario.enqueue("a", (n % 3 == 0).then_some((n % 200) as u8))).collect();
        let free = [scenario.enqueue("b", None), scenario.enqueue("b", Some(201))];
        let answered = answer_for_10_s(&mut scenario);
        for request_id in free {
            assert_eq!(answered[&request_id], ms(0), "it does not wait");
            assert!(scenario.outcomes[&request_id].is_ok());
        }
        for request_id in locked {
            let Err(Trouble::Failed(failure)) = &scenario.outcomes[&request_id] else {
                panic!("{:?}", scenario.outcomes[&request_id])
            };
            assert!(failure.message().contains("has locked the queue \"a\""), "{failure}");
            assert!((ms(5_000)..=ms(5_100)).contains(&answered[&request_id]), "{:?}", answered[&request_id]);
        }
        assert!(scenario.sent.len() < 30 + count / 500, "{} statements", scenario.sent.len());
        assert!(scenario.producer.is_empty() && scenario.database.jobs().len() == 2);
    }
}

#[test]
fn enqueues_that_waited_for_a_locked_queue_are_inserted_in_order() {
    let mut scenario = Scenario::new();
    scenario.database.lock_for_enqueues(&["a"], []);
    let first: Vec<_> = (0..3).map(|_| scenario.enqueue("a", None)).collect();
    for _ in 0..8 {
        scenario.pump();
        match scenario.in_flight.is_empty() {
            false => scenario.answer(0),
            true => scenario.now = scenario.producer.poll_timeout().unwrap().0,
        }
    }
    let later: Vec<_> = (0..3).map(|_| scenario.enqueue("a", None)).collect();
    scenario.database.lock_for_enqueues(&[], []);
    scenario.finish();
    let positions: Vec<_> = first
        .into_iter()
        .chain(later)
        .map(|request_id| scenario.database.job(scenario.enqueues[&request_id].id).seq)
        .collect();
    assert!(positions.is_sorted(), "{positions:?}");
}

/// The first half of a batch meets a locked queue, which is not locked any more when the second half would be sent.
#[test]
fn enqueues_of_a_halved_batch_are_inserted_in_order() {
    let mut scenario = Scenario::new();
    let blocker = scenario.enqueue("a", None);
    scenario.pump();
    let jobs: Vec<_> = (0..4).map(|_| scenario.enqueue("a", None)).collect();
    scenario.answer(0);
    scenario.pump();
    scenario.fail(0, Failure::reported("22P05", None, "a bad text of another item"));
    scenario.database.lock_for_enqueues(&["a"], []);
    scenario.pump();
    scenario.answer(0);
    scenario.database.lock_for_enqueues(&[], []);
    scenario.finish();
    let position = |request_id: &RequestId| scenario.database.job(scenario.enqueues[request_id].id).seq;
    let positions: Vec<_> = [blocker].iter().chain(&jobs).map(position).collect();
    assert!(positions.is_sorted(), "{positions:?}");
}

#[test]
fn a_missing_queue_is_reported_however_late_the_reply_comes() {
    let mut scenario = Scenario::new();
    let request_id = scenario.enqueue("nowhere", None);
    scenario.pump();
    scenario.now = scenario.now + Duration::from_secs(60);
    scenario.finish();
    assert_eq!(scenario.outcomes[&request_id], Err(Trouble::Refused(Error::QueueNotFound("nowhere".to_owned()))));
}

/// Enqueues with other keys have their outcomes after one statement that timed out and one more; those without keys do
/// not wait.
#[test]
fn a_locked_key_does_not_delay_others() {
    for locked in [vec![100u8], (0..=255).step_by(3).collect()] {
        let mut scenario = Scenario::new();
        scenario.database.lock_for_enqueues(&[], locked.clone());
        let keyed: Vec<_> = (0..=255u8).map(|key| (key, scenario.enqueue("a", Some(key)))).collect();
        let plain: Vec<_> = (0..256).map(|_| scenario.enqueue("a", None)).collect();
        scenario.pump();
        let [waiting, at_once] = [StatementId::EnqueueKeyed, StatementId::EnqueueFresh];
        scenario.answer(scenario.index_of(at_once).unwrap());
        scenario.pump();
        assert!(plain.iter().all(|request_id| scenario.outcomes[request_id].is_ok()), "they do not wait");
        scenario.answer(scenario.index_of(waiting).unwrap());
        scenario.pump();
        scenario.answer(scenario.index_of(StatementId::EnqueueEach).unwrap());
        scenario.pump();
        for (key, request_id) in &keyed {
            let outcome = scenario.outcomes.get(request_id);
            assert_eq!(outcome.is_none(), locked.contains(key), "{key}: {outcome:?}");
        }
        scenario.database.lock_for_enqueues(&[], []);
        scenario.finish();
        assert!(
            scenario.outcomes.values().all(Result::is_ok),
            "those that waited are inserted once the keys are not locked"
        );
    }
}

#[test]
fn the_first_of_two_enqueues_with_a_locked_key_gets_it() {
    let mut scenario = Scenario::new();
    scenario.database.lock_for_enqueues(&[], [1]);
    let first = scenario.enqueue("a", Some(1));
    for _ in 0..4 {
        scenario.pump();
        match scenario.in_flight.is_empty() {
            false => scenario.answer(0),
            true => scenario.now = scenario.producer.poll_timeout().unwrap().0,
        }
    }
    let second = scenario.enqueue("a", Some(1));
    scenario.database.lock_for_enqueues(&[], []);
    scenario.finish();
    assert_eq!(scenario.outcomes[&first], Ok(Enqueued::Inserted(scenario.enqueues[&first].id)));
    assert_eq!(scenario.outcomes[&second], Ok(Enqueued::Existing(scenario.enqueues[&first].id, State::Pending)));
}

#[test]
fn enqueues_are_sent_while_the_holders_of_keys_are_looked_up() {
    let mut scenario = Scenario::new();
    for _ in 0..2 {
        scenario.enqueue("a", Some(1));
        scenario.pump();
        scenario.in_flight.len().checked_sub(1).into_iter().for_each(|index| scenario.answer(index));
        scenario.pump();
    }
    assert!(scenario.index_of(StatementId::KeyHolder).is_some());
    let other = scenario.enqueue("a", Some(1));
    scenario.pump();
    let index = scenario.index_of(StatementId::EnqueueKeyed).expect("it need not wait");
    scenario.answer(index);
    // The scenario checks that the second look-up waits for the reply to the first.
    scenario.enqueue("a", Some(2));
    scenario.pump();
    let index = scenario.index_of(StatementId::KeyHolder).unwrap();
    scenario.fail(index, Failure::no_reply("cut"));
    scenario.finish();
    assert!(matches!(scenario.outcomes[&other], Ok(Enqueued::Existing(..))));
    assert_eq!(scenario.database.jobs().len(), 2);
}

#[test]
fn a_replacement_is_notified_although_another_batch_got_its_reply_in_the_meantime() {
    let mut producer = Producer::new(&SchemaName::default());
    let (now, mut entropy) = (at(1_000), Seeded(1));
    let job = |n: u64, key: &str| NewJob {
        id: job_id(1_700_000_000_000 + n, [7; 10]),
        queue: QueueName::new("a").expect("a valid name"),
        payload: (&b"{}"[..]).into(),
        options: EnqueueOptions::default().key(key).on_conflict(pm_core::OnConflict::Replace),
    };
    let reply = |columns: usize, cells: &[Option<&[u8]>]| {
        let mut rows = Rows::builder(columns);
        cells.iter().for_each(|cell| rows.push(*cell));
        Ok(rows.finish())
    };
    let (one, present, idle, queue) = (1i64.to_be_bytes(), 2i16.to_be_bytes(), 3i16.to_be_bytes(), 4i32.to_be_bytes());
    producer.enqueue(job(1, "x"), now);
    let first = producer.poll_request(now, &mut entropy).expect("it is sent");
    let cells = [Some(&one[..]), Some(&present), None, Some(&one), Some(&idle), Some(&queue)];
    producer.handle_reply(first, reply(3, &cells), now, &mut entropy);
    let notified = producer.poll_request(now, &mut entropy).expect("the worker may be idle");
    assert!(matches!(notified, ProducerRequest::Notify(_)));
    producer.handle_reply(notified, reply(1, &[Some(&one)]), now, &mut entropy);
    let now = now + ms(1_000);
    let follow_up = producer.poll_request(now, &mut entropy).expect("the holder is replaced");
    assert!(matches!(follow_up, ProducerRequest::Replace(..)));
    producer.enqueue(job(2, "y"), now);
    let second = producer.poll_request(now, &mut entropy).expect("it need not wait");
    producer.handle_reply(second, reply(3, &[]), now, &mut entropy);
    let (id, pending) = (job_id(1_600_000_000_000, [7; 10]), 0i16.to_be_bytes());
    let cells = [Some(&one[..]), Some(id.as_bytes()), Some(&pending), Some(&[1])];
    producer.handle_reply(follow_up, reply(4, &cells), now, &mut entropy);
    let next = producer.poll_request(now, &mut entropy).expect("something is left to send");
    assert!(matches!(next, ProducerRequest::Notify(_)), "{next:?}");
}

#[test]
fn a_failed_look_up_of_holders_does_not_disturb_the_enqueue_in_flight() {
    let mut scenario = Scenario::new();
    scenario.enqueue("a", Some(1));
    scenario.enqueue("a", Some(1));
    scenario.pump();
    scenario.answer(0);
    scenario.pump();
    scenario.enqueue("a", Some(2));
    scenario.pump();
    scenario.fail(scenario.index_of(StatementId::KeyHolder).unwrap(), Failure::not_sent("refused"));
    scenario.enqueue("a", Some(3));
    scenario.now = scenario.now + ms(1_000);
    scenario.pump();
    scenario.finish();
    assert!(scenario.outcomes.values().all(Result::is_ok));
}

#[test]
fn a_reply_that_names_an_item_twice_does_not_break_the_producer() {
    for outcomes in [[1, 1, 2], [1, 2, 2], [2, 1, 1], [2, 2, 1], [2, 2, 2], [1, 1, 1]] {
        for ordinals in [[1, 1, 2], [1, 2, 2], [2, 2, 2], [2, 1, 2], [1, 1, 1]] {
            let mut scenario = Scenario::new();
            scenario.enqueue("a", None);
            scenario.enqueue("a", None);
            scenario.pump();
            let row = |(ordinal, outcome)| vec![Value::Int8(ordinal), Value::Int2(outcome), Value::Int4(1)];
            scenario.in_flight[0].1 = Some(Ok(rows_of(3, ordinals.into_iter().zip(outcomes).map(row))));
            scenario.answer(0);
            scenario.finish();
            assert_eq!(scenario.outcomes.len(), 2);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Enqueue {
        queue: bool,
        key: Option<u8>,
    },
    /// Enqueues several jobs without keys.
    Bulk(u8),
    /// Enqueues a job that exists already.
    Double(Index),
    Run(Index),
    Answer(Index),
    Fail(Index, u8),
    LoseReply(Index),
    /// Ends a job, which frees its key.
    EndJob(Index),
    /// Locks or unlocks the queue's row and a key.
    Lock(bool, Option<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    prop_oneof![
        4 => (0..100u64).prop_map(Step::Wait),
        1 => (0..9_000u64).prop_map(Step::Wait),
        8 => (prop::bool::weighted(0.9), prop::option::of(0..4u8)).prop_map(|(queue, key)| Step::Enqueue { queue, key }),
        2 => (2..12u8).prop_map(Step::Bulk),
        1 => index().prop_map(Step::Double),
        2 => index().prop_map(Step::Run),
        8 => index().prop_map(Step::Answer),
        2 => (index(), 0..4u8).prop_map(|(index, how)| Step::Fail(index, how)),
        2 => index().prop_map(Step::LoseReply),
        1 => index().prop_map(Step::EndJob),
        1 => (any::<bool>(), prop::option::of(0..4u8)).prop_map(|(queue, key)| Step::Lock(queue, key)),
    ]
}

fn apply(scenario: &mut Scenario, step: Step) {
    let count = scenario.in_flight.len();
    match step {
        Step::Wait(for_ms) => scenario.now = scenario.now + ms(for_ms),
        Step::Enqueue { queue, key } => {
            scenario.enqueue(if queue { "a" } else { "nowhere" }, key);
        }
        Step::Bulk(count) => drop((0..count).map(|_| scenario.enqueue("a", None)).collect::<Vec<_>>()),
        Step::Double(which) => {
            let jobs = scenario.database.jobs();
            if !jobs.is_empty() {
                let id = which.get(&jobs).id;
                scenario.doubled.insert(id);
                scenario.enqueue_as(id, "a", None);
            }
        }
        Step::EndJob(which) => {
            let jobs = scenario.database.jobs();
            if !jobs.is_empty() {
                scenario.database.end_job(which.get(&jobs).id);
            }
        }
        _ if count == 0 => {}
        Step::Run(which) => scenario.run(which.index(count)),
        Step::Answer(which) => scenario.answer(which.index(count)),
        Step::Lock(queue, key) => {
            // At most one of each.
            scenario.database.lock_for_enqueues(if queue { &["a"] } else { &[] }, key);
        }
        Step::Fail(which, how) => {
            // A request that has run can only lose its reply.
            let how = if scenario.in_flight[which.index(count)].1.is_some() { 3 } else { how };
            let failure = match how {
                0 => Failure::not_sent("refused"),
                1 => Failure::reported("55P03", None, "locked"),
                2 => Failure::reported("22021", None, "never"),
                _ => Failure::no_reply("cut"),
            };
            scenario.fail(which.index(count), failure);
        }
        Step::LoseReply(which) => {
            scenario.run(which.index(count));
            scenario.fail(which.index(count), Failure::no_reply("cut"));
        }
    }
}

proptest! {
    #[test]
    fn every_enqueue_has_exactly_one_correct_outcome(
        is_pipelined: bool,
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut scenario = if is_pipelined { Scenario::pipelined() } else { Scenario::new() };
        for step in steps {
            apply(&mut scenario, step);
            scenario.pump();
        }
        scenario.database.lock_for_enqueues(&[], []);
        scenario.finish();
        prop_assert!(scenario.producer.is_empty());
        prop_assert_eq!(scenario.outcomes.len(), scenario.enqueues.len());
        let jobs = scenario.database.jobs();
        let has_job = |id: Uuid| jobs.iter().any(|job| job.id == id);
        for (request_id, outcome) in &scenario.outcomes {
            let id = scenario.enqueues[request_id].id;
            match outcome {
                Ok(Enqueued::Inserted(inserted)) => {
                    prop_assert_eq!(*inserted, id);
                    prop_assert!(has_job(id));
                }
                Ok(existing) => {
                    prop_assert!(existing.id() != id && has_job(existing.id()));
                    prop_assert!(!has_job(id));
                }
                Err(Trouble::Refused(Error::QueueNotFound(name))) => prop_assert_eq!(name, "nowhere"),
                // The job may or may not have been inserted.
                Err(Trouble::Unknown(_)) => {}
                // The job was not inserted, and will not be.
                Err(Trouble::Failed(_)) => prop_assert!(scenario.doubled.contains(&id) || !has_job(id)),
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert!(scenario.database.jobs().iter().all(|job| job.state >= PENDING));
    }
}
