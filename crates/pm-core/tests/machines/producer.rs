//! The producer against the fake database: every enqueue has one answer, and it is true.

use super::fake::{Fake, PENDING, rows_of};
use super::rig::{Seeded, at, ms};
use pm_core::machine::{
    EnqueueKind, Enqueued, Machine, Producer, ProducerEvent, ProducerRequest, Request, RequestId, Trouble,
};
use pm_core::{
    Class, Error, Failure, Instant, JobOptions, NewJob, QueueName, Rows, SchemaName, State, StatementId, Value, job_id,
};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

struct Scenario {
    producer: Producer,
    fake: Fake,
    now: Instant,
    in_flight: Vec<(ProducerRequest, Option<Rows>)>,
    asked: BTreeMap<RequestId, NewJob>,
    told: BTreeMap<RequestId, Result<Enqueued, Trouble>>,
    sent: Vec<StatementId>,
    entropy: Seeded,
}

impl Scenario {
    fn new() -> Self {
        let mut fake = Fake::default();
        fake.add_queue(1, "a");
        Scenario {
            producer: Producer::new(&SchemaName::default()),
            fake,
            now: at(1_000),
            in_flight: Vec::new(),
            asked: BTreeMap::new(),
            told: BTreeMap::new(),
            sent: Vec::new(),
            entropy: Seeded(1),
        }
    }

    fn enqueue(&mut self, queue: &str, key: Option<u8>) -> RequestId {
        let count = self.asked.len() as u64;
        let job = NewJob {
            id: job_id(1_700_000_000_000 + count, [7; 10]),
            queue: QueueName::new(queue).expect("it is a name"),
            payload: (&b"{}"[..]).into(),
            options: JobOptions { key: key.map(|key| key.to_string()), ..JobOptions::default() },
        };
        let request_id = self.producer.enqueue(job.clone(), self.now);
        self.asked.insert(request_id, job);
        request_id
    }

    fn pump(&mut self) {
        self.producer.handle_timeout(self.now);
        while let Some(request) = self.producer.poll_request(self.now, &mut self.entropy) {
            let kind = slot_of(&request);
            assert!(self.in_flight.iter().all(|(other, _)| slot_of(other) != kind), "two {kind:?} in flight");
            self.sent.push(kind.0);
            self.in_flight.push((request, None));
        }
        while let Some(event) = self.producer.poll_event() {
            if let ProducerEvent::Enqueued { request_id, outcome } = event {
                assert!(self.told.insert(request_id, outcome).is_none(), "{request_id:?} was told twice");
            }
        }
        let next = self.producer.poll_timeout();
        assert!(next.is_none_or(|(at, _)| at > self.now), "a busy loop at {:?}: {next:?}", self.now);
        let unanswered = self.asked.len() - self.told.len();
        assert_eq!(self.producer.len(), unanswered, "it knows how many wait");
        assert!(!self.producer.is_empty() || unanswered == 0);
    }

    fn place_of(&self, statement: StatementId) -> Option<usize> {
        self.in_flight.iter().position(|(request, _)| request.plan().statement == statement)
    }

    fn run(&mut self, place: usize) {
        let (request, ran) = &mut self.in_flight[place];
        if ran.is_none() {
            *ran = Some(self.fake.run(&request.plan(), self.now));
        }
    }

    fn answer(&mut self, place: usize) {
        if self.waits_in_vain(place) {
            return self.fail(place, Failure::reported("55P03", None, "canceling statement due to lock timeout"));
        }
        self.run(place);
        let (request, ran) = self.in_flight.remove(place);
        self.producer.handle_reply(request, Ok(ran.expect("it has just run")), self.now, &mut self.entropy);
    }

    /// Returns whether a statement that waits for keys meets a locked one.
    fn waits_in_vain(&self, place: usize) -> bool {
        let (request, ran) = &self.in_flight[place];
        let ProducerRequest::Enqueue(EnqueueKind::Keyed, batch) = request else { return false };
        let is_locked = |job: &NewJob| job.options.key.as_ref().is_some_and(|key| self.fake.locked_keys.contains(key));
        ran.is_none() && !batch.passes && batch.items.iter().any(is_locked)
    }

    fn fail(&mut self, place: usize, failure: Failure) {
        let (request, _) = self.in_flight.remove(place);
        self.producer.handle_reply(request, Err(failure), self.now, &mut self.entropy);
    }

    /// Answers everything until nothing is left to do, without faults.
    fn finish(&mut self) {
        for _ in 0..1_000 {
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

/// Returns what may be in flight only once.
fn slot_of(request: &ProducerRequest) -> (StatementId, Option<EnqueueKind>) {
    let kind = match request {
        ProducerRequest::Enqueue(kind, _) | ProducerRequest::KeyHolder(kind, _) | ProducerRequest::Replace(kind, _) => {
            Some(*kind)
        }
        ProducerRequest::Notify(_) => None,
    };
    let statement = match request.plan().statement {
        StatementId::EnqueueEach => StatementId::EnqueueKeyed,
        statement => statement,
    };
    (statement, kind)
}

#[test]
fn enqueues_made_together_go_together_and_are_told_one_by_one() {
    let mut scenario = Scenario::new();
    let first = scenario.enqueue("a", None);
    scenario.pump();
    let good = scenario.enqueue("a", Some(1));
    let unknown_queue = scenario.enqueue("nowhere", None);
    let doubled = scenario.enqueue("a", Some(1));
    scenario.finish();
    let sent = [StatementId::Enqueue, StatementId::EnqueueKeyed, StatementId::Enqueue, StatementId::KeyHolder];
    assert_eq!(scenario.sent, sent, "those with keys do not wait for those without");
    for request_id in [first, good] {
        assert_eq!(scenario.told[&request_id], Ok(Enqueued::Inserted(scenario.asked[&request_id].id)));
    }
    assert_eq!(scenario.told[&unknown_queue], Err(Trouble::Refused(Error::QueueNotFound("nowhere".to_owned()))));
    assert_eq!(scenario.told[&doubled], Ok(Enqueued::Existing(scenario.asked[&good].id, State::Pending)));
}

#[test]
fn an_enqueue_whose_reply_is_lost_is_sent_again_and_goes_in_once() {
    let mut scenario = Scenario::new();
    let request_id = scenario.enqueue("a", None);
    scenario.pump();
    scenario.run(0);
    scenario.fail(0, Failure::no_reply("cut"));
    scenario.finish();
    assert_eq!(scenario.told[&request_id], Ok(Enqueued::Inserted(scenario.asked[&request_id].id)));
    assert_eq!(scenario.fake.jobs.len(), 1);
}

#[test]
fn resends_stop_after_30_s() {
    for (failure, last_ms) in [(Failure::no_reply("cut"), 30_000), (Failure::not_sent("refused"), 5_000)] {
        let mut scenario = Scenario::new();
        let start = scenario.now;
        let request_id = scenario.enqueue("a", None);
        while scenario.told.is_empty() {
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
        assert_eq!(scenario.told[&request_id], Err(trouble), "it says whether the job may be in");
        let took = scenario.now.since(start);
        assert!((ms(last_ms)..ms(last_ms + 100)).contains(&took), "{took:?}");
    }
}

/// Answers everything at once, for as long as the patience of enqueues lasts and a little longer.
fn answer_for_10_s(scenario: &mut Scenario) -> BTreeMap<RequestId, Duration> {
    let start = scenario.now;
    let mut answered = BTreeMap::new();
    while scenario.now.since(start) < ms(10_000) {
        scenario.pump();
        for request_id in scenario.told.keys() {
            answered.entry(*request_id).or_insert(scenario.now.since(start));
        }
        match scenario.in_flight.is_empty() {
            false => scenario.answer(0),
            true => scenario.now = scenario.producer.poll_timeout().map_or(scenario.now + ms(10_000), |(at, _)| at),
        }
    }
    answered
}

/// Guards: each enqueue is answered within 5 s while its queue's row is locked, and other queues are not held up.
#[test]
fn a_locked_queue_holds_up_no_other_and_its_enqueues_are_answered_within_their_patience() {
    for count in [1, 64, 2_000] {
        let mut scenario = Scenario::new();
        scenario.fake.add_queue(2, "b");
        scenario.fake.locked_queues.insert("a".to_owned());
        let locked: Vec<_> =
            (0..count).map(|n| scenario.enqueue("a", (n % 3 == 0).then_some((n % 200) as u8))).collect();
        let free = [scenario.enqueue("b", None), scenario.enqueue("b", Some(201))];
        let answered = answer_for_10_s(&mut scenario);
        for request_id in free {
            assert_eq!(answered[&request_id], ms(0), "it does not wait");
            assert!(scenario.told[&request_id].is_ok());
        }
        for request_id in locked {
            let Err(Trouble::Failed(failure)) = &scenario.told[&request_id] else {
                panic!("{:?}", scenario.told[&request_id])
            };
            assert!(failure.message().contains("has locked the queue \"a\""), "{failure}");
            assert!((ms(5_000)..=ms(5_100)).contains(&answered[&request_id]), "{:?}", answered[&request_id]);
        }
        assert!(scenario.sent.len() < 30 + count / 500, "{} statements", scenario.sent.len());
        assert!(scenario.producer.is_empty() && scenario.fake.jobs.len() == 2);
    }
}

#[test]
fn enqueues_that_waited_for_a_locked_queue_go_in_in_their_order() {
    let mut scenario = Scenario::new();
    scenario.fake.locked_queues.insert("a".to_owned());
    let first: Vec<_> = (0..3).map(|_| scenario.enqueue("a", None)).collect();
    for _ in 0..8 {
        scenario.pump();
        match scenario.in_flight.is_empty() {
            false => scenario.answer(0),
            true => scenario.now = scenario.producer.poll_timeout().unwrap().0,
        }
    }
    let later: Vec<_> = (0..3).map(|_| scenario.enqueue("a", None)).collect();
    scenario.fake.locked_queues.clear();
    scenario.finish();
    let places: Vec<_> = first
        .into_iter()
        .chain(later)
        .map(|request_id| scenario.fake.job(scenario.asked[&request_id].id).seq)
        .collect();
    assert!(places.is_sorted(), "{places:?}");
}

/// Guards: the neighbours of locked keys are answered after one wait in vain and one more statement; those without keys
/// do not wait at all.
#[test]
fn a_locked_key_holds_up_no_other() {
    for locked in [vec![100u8], (0..=255).step_by(3).collect()] {
        let mut scenario = Scenario::new();
        scenario.fake.locked_keys = locked.iter().map(u8::to_string).collect();
        let keyed: Vec<_> = (0..=255u8).map(|key| (key, scenario.enqueue("a", Some(key)))).collect();
        let plain: Vec<_> = (0..256).map(|_| scenario.enqueue("a", None)).collect();
        scenario.pump();
        let [in_vain, at_once] = [StatementId::EnqueueKeyed, StatementId::Enqueue];
        scenario.answer(scenario.place_of(at_once).unwrap());
        scenario.pump();
        assert!(plain.iter().all(|request_id| scenario.told[request_id].is_ok()), "they do not wait");
        scenario.answer(scenario.place_of(in_vain).unwrap());
        scenario.pump();
        scenario.answer(scenario.place_of(StatementId::EnqueueEach).unwrap());
        scenario.pump();
        for (key, request_id) in &keyed {
            let told = scenario.told.get(request_id);
            assert_eq!(told.is_none(), locked.contains(key), "{key}: {told:?}");
        }
        scenario.fake.locked_keys.clear();
        scenario.finish();
        assert!(scenario.told.values().all(Result::is_ok), "what waited went in once the lock was gone");
    }
}

#[test]
fn of_two_enqueues_with_a_locked_key_the_first_one_gets_it() {
    let mut scenario = Scenario::new();
    scenario.fake.locked_keys.insert("1".to_owned());
    let first = scenario.enqueue("a", Some(1));
    for _ in 0..4 {
        scenario.pump();
        match scenario.in_flight.is_empty() {
            false => scenario.answer(0),
            true => scenario.now = scenario.producer.poll_timeout().unwrap().0,
        }
    }
    let second = scenario.enqueue("a", Some(1));
    scenario.fake.locked_keys.clear();
    scenario.finish();
    assert_eq!(scenario.told[&first], Ok(Enqueued::Inserted(scenario.asked[&first].id)));
    assert_eq!(scenario.told[&second], Ok(Enqueued::Existing(scenario.asked[&first].id, State::Pending)));
}

#[test]
fn enqueues_go_on_while_holders_of_keys_are_asked_for() {
    let mut scenario = Scenario::new();
    for _ in 0..2 {
        scenario.enqueue("a", Some(1));
        scenario.pump();
        scenario.in_flight.len().checked_sub(1).into_iter().for_each(|place| scenario.answer(place));
        scenario.pump();
    }
    assert!(scenario.place_of(StatementId::KeyHolder).is_some());
    let other = scenario.enqueue("a", Some(1));
    scenario.pump();
    let place = scenario.place_of(StatementId::EnqueueKeyed).expect("it need not wait");
    scenario.answer(place);
    // The scenario sees to it that the second question waits for the answer to the first.
    scenario.enqueue("a", Some(2));
    scenario.pump();
    let place = scenario.place_of(StatementId::KeyHolder).unwrap();
    scenario.fail(place, Failure::no_reply("cut"));
    scenario.finish();
    assert!(matches!(scenario.told[&other], Ok(Enqueued::Existing(..))));
    assert_eq!(scenario.fake.jobs.len(), 2);
}

/// Guards: an idle worker in another process hears of a job that was replaced, whatever else was sent meanwhile.
#[test]
fn a_replacement_is_notified_although_another_batch_was_answered_meanwhile() {
    let mut producer = Producer::new(&SchemaName::default());
    let (now, mut entropy) = (at(1_000), Seeded(1));
    let job = |n: u64, key: &str| NewJob {
        id: job_id(1_700_000_000_000 + n, [7; 10]),
        queue: QueueName::new("a").expect("it is a name"),
        payload: (&b"{}"[..]).into(),
        options: JobOptions {
            key: Some(key.to_owned()),
            on_conflict: pm_core::OnConflict::Replace,
            ..JobOptions::default()
        },
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
    let notified = producer.poll_request(now, &mut entropy).expect("the worker may sleep");
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
fn a_question_for_holders_that_fails_does_not_disturb_the_enqueue_in_flight() {
    let mut scenario = Scenario::new();
    scenario.enqueue("a", Some(1));
    scenario.enqueue("a", Some(1));
    scenario.pump();
    scenario.answer(0);
    scenario.pump();
    scenario.enqueue("a", Some(2));
    scenario.pump();
    scenario.fail(scenario.place_of(StatementId::KeyHolder).unwrap(), Failure::not_sent("refused"));
    scenario.enqueue("a", Some(3));
    scenario.now = scenario.now + ms(1_000);
    scenario.pump();
    scenario.finish();
    assert!(scenario.told.values().all(Result::is_ok));
}

#[test]
fn a_reply_that_names_a_place_twice_is_survived() {
    for outcomes in [[1, 1, 2], [1, 2, 2], [2, 1, 1], [2, 2, 1], [2, 2, 2], [1, 1, 1]] {
        for places in [[1, 1, 2], [1, 2, 2], [2, 2, 2], [2, 1, 2], [1, 1, 1]] {
            let mut scenario = Scenario::new();
            scenario.enqueue("a", None);
            scenario.enqueue("a", None);
            scenario.pump();
            let row = |(place, outcome)| vec![Value::Int8(place), Value::Int2(outcome), Value::Int4(1)];
            scenario.in_flight[0].1 = Some(rows_of(3, places.into_iter().zip(outcomes).map(row)));
            scenario.answer(0);
            scenario.finish();
            assert_eq!(scenario.told.len(), 2);
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
    Run(Index),
    Answer(Index),
    Fail(Index, u8),
    LoseReply(Index),
    /// Frees a key.
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
        2 => index().prop_map(Step::Run),
        8 => index().prop_map(Step::Answer),
        2 => (index(), 0..4u8).prop_map(|(place, how)| Step::Fail(place, how)),
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
        Step::EndJob(which) => {
            let ids: Vec<Uuid> = scenario.fake.jobs.keys().copied().collect();
            if !ids.is_empty() {
                scenario.fake.jobs.entry(*which.get(&ids)).and_modify(|job| job.state = super::fake::FINISHED);
            }
        }
        _ if count == 0 => {}
        Step::Run(which) => scenario.run(which.index(count)),
        Step::Answer(which) => scenario.answer(which.index(count)),
        Step::Lock(queue, key) => {
            // At most one of each, now and then.
            scenario.fake.locked_queues = queue.then(|| "a".to_owned()).into_iter().collect();
            scenario.fake.locked_keys = key.map(|key| key.to_string()).into_iter().collect();
        }
        Step::Fail(which, how) => {
            // What has run already cannot be refused any more.
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
    fn whatever_happens_every_enqueue_has_one_true_answer(steps in prop::collection::vec(step(), 0..120)) {
        let mut scenario = Scenario::new();
        for step in steps {
            apply(&mut scenario, step);
            scenario.pump();
        }
        scenario.fake.locked_queues.clear();
        scenario.fake.locked_keys.clear();
        scenario.finish();
        prop_assert!(scenario.producer.is_empty());
        prop_assert_eq!(scenario.told.len(), scenario.asked.len());
        for (request_id, outcome) in &scenario.told {
            let id = scenario.asked[request_id].id;
            match outcome {
                Ok(Enqueued::Inserted(inserted)) => {
                    prop_assert_eq!(*inserted, id);
                    prop_assert!(scenario.fake.jobs.contains_key(&id));
                }
                Ok(existing) => {
                    prop_assert!(existing.id() != id && scenario.fake.jobs.contains_key(&existing.id()));
                    prop_assert!(!scenario.fake.jobs.contains_key(&id));
                }
                Err(Trouble::Refused(Error::QueueNotFound(name))) => prop_assert_eq!(name, "nowhere"),
                // It may have gone in all the same: that is what an unknown outcome means.
                Err(Trouble::Unknown(_)) => {}
                // It says that the job is not in, and is not going to be.
                Err(Trouble::Failed(_)) => prop_assert!(!scenario.fake.jobs.contains_key(&id)),
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert!(scenario.fake.jobs.values().all(|job| job.state >= PENDING));
    }
}
