//! The producer against the fake database: every enqueue has one answer, and it is true.

use super::fake::{Fake, PENDING, rows_of};
use super::rig::{Seeded, at, ms};
use pm_core::machine::{
    Enqueued, LaneKind, Machine, Producer, ProducerEvent, ProducerRequest, Request, Ticket, Trouble,
};
use pm_core::{
    Class, Error, Failure, Instant, JobOptions, NewJob, QueueName, Rows, SchemaName, State, StatementId, Value, job_id,
};
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

struct Scene {
    producer: Producer,
    fake: Fake,
    now: Instant,
    in_flight: Vec<(ProducerRequest, Option<Rows>)>,
    asked: BTreeMap<Ticket, NewJob>,
    told: BTreeMap<Ticket, Result<Enqueued, Trouble>>,
    sent: Vec<StatementId>,
    entropy: Seeded,
}

impl Scene {
    fn new() -> Self {
        let mut fake = Fake::default();
        fake.add_queue(1, "a");
        Scene {
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

    fn enqueue(&mut self, queue: &str, key: Option<u8>) -> Ticket {
        let count = self.asked.len() as u64;
        let job = NewJob {
            id: job_id(1_700_000_000_000 + count, [7; 10]),
            queue: QueueName::new(queue).expect("it is a name"),
            payload: (&b"{}"[..]).into(),
            options: JobOptions { key: key.map(|key| key.to_string()), ..JobOptions::default() },
        };
        let ticket = self.producer.enqueue(job.clone(), self.now);
        self.asked.insert(ticket, job);
        ticket
    }

    fn pump(&mut self) {
        self.producer.handle_timeout(self.now);
        while let Some(request) = self.producer.poll_request(self.now, &mut self.entropy) {
            let kind = lane_of(&request);
            assert!(self.in_flight.iter().all(|(other, _)| lane_of(other) != kind), "two {kind:?} in flight");
            self.sent.push(kind.0);
            self.in_flight.push((request, None));
        }
        while let Some(event) = self.producer.poll_event() {
            if let ProducerEvent::Enqueued { ticket, outcome } = event {
                assert!(self.told.insert(ticket, outcome).is_none(), "{ticket:?} was told twice");
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
        let ProducerRequest::Enqueue(LaneKind::Keyed, batch) = request else { return false };
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
fn lane_of(request: &ProducerRequest) -> (StatementId, Option<LaneKind>) {
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
    let mut scene = Scene::new();
    let first = scene.enqueue("a", None);
    scene.pump();
    let good = scene.enqueue("a", Some(1));
    let homeless = scene.enqueue("nowhere", None);
    let doubled = scene.enqueue("a", Some(1));
    scene.finish();
    let sent = [StatementId::Enqueue, StatementId::EnqueueKeyed, StatementId::Enqueue, StatementId::KeyHolder];
    assert_eq!(scene.sent, sent, "those with keys do not wait for those without");
    for ticket in [first, good] {
        assert_eq!(scene.told[&ticket], Ok(Enqueued::Inserted(scene.asked[&ticket].id)));
    }
    assert_eq!(scene.told[&homeless], Err(Trouble::Refused(Error::QueueNotFound("nowhere".to_owned()))));
    assert_eq!(scene.told[&doubled], Ok(Enqueued::Existing(scene.asked[&good].id, State::Pending)));
}

#[test]
fn an_enqueue_whose_reply_is_lost_is_sent_again_and_goes_in_once() {
    let mut scene = Scene::new();
    let ticket = scene.enqueue("a", None);
    scene.pump();
    scene.run(0);
    scene.fail(0, Failure::no_reply("cut"));
    scene.finish();
    assert_eq!(scene.told[&ticket], Ok(Enqueued::Inserted(scene.asked[&ticket].id)));
    assert_eq!(scene.fake.jobs.len(), 1);
}

#[test]
fn resends_stop_after_30_s() {
    for (failure, last_ms) in [(Failure::no_reply("cut"), 30_000), (Failure::not_sent("refused"), 5_000)] {
        let mut scene = Scene::new();
        let start = scene.now;
        let ticket = scene.enqueue("a", None);
        while scene.told.is_empty() {
            scene.pump();
            while !scene.in_flight.is_empty() {
                scene.fail(0, failure.clone());
            }
            scene.pump();
            scene.now = scene.producer.poll_timeout().map_or(scene.now, |(at, _)| at);
        }
        let trouble = match failure.class() {
            Class::Unknown => Trouble::Unknown(Box::new(Trouble::Failed(failure))),
            _ => Trouble::Failed(failure),
        };
        assert_eq!(scene.told[&ticket], Err(trouble), "it says whether the job may be in");
        let took = scene.now.since(start);
        assert!((ms(last_ms)..ms(last_ms + 100)).contains(&took), "{took:?}");
    }
}

/// Answers everything at once, for as long as the patience of enqueues lasts and a little longer.
fn answer_for_10_s(scene: &mut Scene) -> BTreeMap<Ticket, Duration> {
    let start = scene.now;
    let mut answered = BTreeMap::new();
    while scene.now.since(start) < ms(10_000) {
        scene.pump();
        for ticket in scene.told.keys() {
            answered.entry(*ticket).or_insert(scene.now.since(start));
        }
        match scene.in_flight.is_empty() {
            false => scene.answer(0),
            true => scene.now = scene.producer.poll_timeout().map_or(scene.now + ms(10_000), |(at, _)| at),
        }
    }
    answered
}

/// Guards: each enqueue is answered within 5 s while its queue's row is locked, and other queues are not held up.
#[test]
fn a_locked_queue_holds_up_no_other_and_its_enqueues_are_answered_within_their_patience() {
    for count in [1, 64, 2_000] {
        let mut scene = Scene::new();
        scene.fake.add_queue(2, "b");
        scene.fake.locked_queues.insert("a".to_owned());
        let locked: Vec<_> = (0..count).map(|n| scene.enqueue("a", (n % 3 == 0).then_some((n % 200) as u8))).collect();
        let free = [scene.enqueue("b", None), scene.enqueue("b", Some(201))];
        let answered = answer_for_10_s(&mut scene);
        for ticket in free {
            assert_eq!(answered[&ticket], ms(0), "it does not wait");
            assert!(scene.told[&ticket].is_ok());
        }
        for ticket in locked {
            let Err(Trouble::Failed(failure)) = &scene.told[&ticket] else { panic!("{:?}", scene.told[&ticket]) };
            assert!(failure.message().contains("has locked the queue \"a\""), "{failure}");
            assert!((ms(5_000)..=ms(5_100)).contains(&answered[&ticket]), "{:?}", answered[&ticket]);
        }
        assert!(scene.sent.len() < 30 + count / 500, "{} statements", scene.sent.len());
        assert!(scene.producer.is_empty() && scene.fake.jobs.len() == 2);
    }
}

#[test]
fn enqueues_that_waited_for_a_locked_queue_go_in_in_their_order() {
    let mut scene = Scene::new();
    scene.fake.locked_queues.insert("a".to_owned());
    let first: Vec<_> = (0..3).map(|_| scene.enqueue("a", None)).collect();
    for _ in 0..8 {
        scene.pump();
        match scene.in_flight.is_empty() {
            false => scene.answer(0),
            true => scene.now = scene.producer.poll_timeout().unwrap().0,
        }
    }
    let later: Vec<_> = (0..3).map(|_| scene.enqueue("a", None)).collect();
    scene.fake.locked_queues.clear();
    scene.finish();
    let places: Vec<_> =
        first.into_iter().chain(later).map(|ticket| scene.fake.job(scene.asked[&ticket].id).seq).collect();
    assert!(places.is_sorted(), "{places:?}");
}

/// Guards: the neighbours of locked keys are answered after one wait in vain and one more statement; those without keys
/// do not wait at all.
#[test]
fn a_locked_key_holds_up_no_other() {
    for locked in [vec![100u8], (0..=255).step_by(3).collect()] {
        let mut scene = Scene::new();
        scene.fake.locked_keys = locked.iter().map(u8::to_string).collect();
        let keyed: Vec<_> = (0..=255u8).map(|key| (key, scene.enqueue("a", Some(key)))).collect();
        let plain: Vec<_> = (0..256).map(|_| scene.enqueue("a", None)).collect();
        scene.pump();
        let [in_vain, at_once] = [StatementId::EnqueueKeyed, StatementId::Enqueue];
        scene.answer(scene.place_of(at_once).unwrap());
        scene.pump();
        assert!(plain.iter().all(|ticket| scene.told[ticket].is_ok()), "they do not wait");
        scene.answer(scene.place_of(in_vain).unwrap());
        scene.pump();
        scene.answer(scene.place_of(StatementId::EnqueueEach).unwrap());
        scene.pump();
        for (key, ticket) in &keyed {
            let told = scene.told.get(ticket);
            assert_eq!(told.is_none(), locked.contains(key), "{key}: {told:?}");
        }
        scene.fake.locked_keys.clear();
        scene.finish();
        assert!(scene.told.values().all(Result::is_ok), "what waited went in once the lock was gone");
    }
}

#[test]
fn of_two_enqueues_with_a_locked_key_the_first_one_gets_it() {
    let mut scene = Scene::new();
    scene.fake.locked_keys.insert("1".to_owned());
    let first = scene.enqueue("a", Some(1));
    for _ in 0..4 {
        scene.pump();
        match scene.in_flight.is_empty() {
            false => scene.answer(0),
            true => scene.now = scene.producer.poll_timeout().unwrap().0,
        }
    }
    let second = scene.enqueue("a", Some(1));
    scene.fake.locked_keys.clear();
    scene.finish();
    assert_eq!(scene.told[&first], Ok(Enqueued::Inserted(scene.asked[&first].id)));
    assert_eq!(scene.told[&second], Ok(Enqueued::Existing(scene.asked[&first].id, State::Pending)));
}

#[test]
fn enqueues_go_on_while_holders_of_keys_are_asked_for() {
    let mut scene = Scene::new();
    for _ in 0..2 {
        scene.enqueue("a", Some(1));
        scene.pump();
        scene.in_flight.len().checked_sub(1).into_iter().for_each(|place| scene.answer(place));
        scene.pump();
    }
    assert!(scene.place_of(StatementId::KeyHolder).is_some());
    let other = scene.enqueue("a", Some(1));
    scene.pump();
    let place = scene.place_of(StatementId::EnqueueKeyed).expect("it need not wait");
    scene.answer(place);
    // The scene sees to it that the second question waits for the answer to the first.
    scene.enqueue("a", Some(2));
    scene.pump();
    let place = scene.place_of(StatementId::KeyHolder).unwrap();
    scene.fail(place, Failure::no_reply("cut"));
    scene.finish();
    assert!(matches!(scene.told[&other], Ok(Enqueued::Existing(..))));
    assert_eq!(scene.fake.jobs.len(), 2);
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
    let (one, present, sleeping, queue) =
        (1i64.to_be_bytes(), 2i16.to_be_bytes(), 3i16.to_be_bytes(), 4i32.to_be_bytes());
    producer.enqueue(job(1, "x"), now);
    let first = producer.poll_request(now, &mut entropy).expect("it is sent");
    let cells = [Some(&one[..]), Some(&present), None, Some(&one), Some(&sleeping), Some(&queue)];
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
    let mut scene = Scene::new();
    scene.enqueue("a", Some(1));
    scene.enqueue("a", Some(1));
    scene.pump();
    scene.answer(0);
    scene.pump();
    scene.enqueue("a", Some(2));
    scene.pump();
    scene.fail(scene.place_of(StatementId::KeyHolder).unwrap(), Failure::not_sent("refused"));
    scene.enqueue("a", Some(3));
    scene.now = scene.now + ms(1_000);
    scene.pump();
    scene.finish();
    assert!(scene.told.values().all(Result::is_ok));
}

#[test]
fn a_reply_that_names_a_place_twice_is_survived() {
    for outcomes in [[1, 1, 2], [1, 2, 2], [2, 1, 1], [2, 2, 1], [2, 2, 2], [1, 1, 1]] {
        for places in [[1, 1, 2], [1, 2, 2], [2, 2, 2], [2, 1, 2], [1, 1, 1]] {
            let mut scene = Scene::new();
            scene.enqueue("a", None);
            scene.enqueue("a", None);
            scene.pump();
            let row = |(place, outcome)| vec![Value::Int8(place), Value::Int2(outcome), Value::Int4(1)];
            scene.in_flight[0].1 = Some(rows_of(3, places.into_iter().zip(outcomes).map(row)));
            scene.answer(0);
            scene.finish();
            assert_eq!(scene.told.len(), 2);
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

fn apply(scene: &mut Scene, step: Step) {
    let count = scene.in_flight.len();
    match step {
        Step::Wait(for_ms) => scene.now = scene.now + ms(for_ms),
        Step::Enqueue { queue, key } => {
            scene.enqueue(if queue { "a" } else { "nowhere" }, key);
        }
        Step::EndJob(which) => {
            let ids: Vec<Uuid> = scene.fake.jobs.keys().copied().collect();
            if !ids.is_empty() {
                scene.fake.jobs.entry(*which.get(&ids)).and_modify(|job| job.state = super::fake::FINISHED);
            }
        }
        _ if count == 0 => {}
        Step::Run(which) => scene.run(which.index(count)),
        Step::Answer(which) => scene.answer(which.index(count)),
        Step::Lock(queue, key) => {
            // At most one of each, now and then.
            scene.fake.locked_queues = queue.then(|| "a".to_owned()).into_iter().collect();
            scene.fake.locked_keys = key.map(|key| key.to_string()).into_iter().collect();
        }
        Step::Fail(which, how) => {
            // What has run already cannot be refused any more.
            let how = if scene.in_flight[which.index(count)].1.is_some() { 3 } else { how };
            let failure = match how {
                0 => Failure::not_sent("refused"),
                1 => Failure::reported("55P03", None, "locked"),
                2 => Failure::reported("22021", None, "never"),
                _ => Failure::no_reply("cut"),
            };
            scene.fail(which.index(count), failure);
        }
        Step::LoseReply(which) => {
            scene.run(which.index(count));
            scene.fail(which.index(count), Failure::no_reply("cut"));
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_every_enqueue_has_one_true_answer(steps in prop::collection::vec(step(), 0..120)) {
        let mut scene = Scene::new();
        for step in steps {
            apply(&mut scene, step);
            scene.pump();
        }
        scene.fake.locked_queues.clear();
        scene.fake.locked_keys.clear();
        scene.finish();
        prop_assert!(scene.producer.is_empty());
        prop_assert_eq!(scene.told.len(), scene.asked.len());
        for (ticket, outcome) in &scene.told {
            let id = scene.asked[ticket].id;
            match outcome {
                Ok(Enqueued::Inserted(inserted)) => {
                    prop_assert_eq!(*inserted, id);
                    prop_assert!(scene.fake.jobs.contains_key(&id));
                }
                Ok(existing) => {
                    prop_assert!(existing.id() != id && scene.fake.jobs.contains_key(&existing.id()));
                    prop_assert!(!scene.fake.jobs.contains_key(&id));
                }
                Err(Trouble::Refused(Error::QueueNotFound(name))) => prop_assert_eq!(name, "nowhere"),
                // It may have gone in all the same: that is what an unknown outcome means.
                Err(Trouble::Unknown(_)) => {}
                // It says that the job is not in, and is not going to be.
                Err(Trouble::Failed(_)) => prop_assert!(!scene.fake.jobs.contains_key(&id)),
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert!(scene.fake.jobs.values().all(|job| job.state >= PENDING));
    }
}
