//! Replies are untrusted input: the machines neither panic nor loop on any rows.

use super::database::rows_of;
use super::rig::{Rig, Seeded, kind_of, ms, options};
use pm_core::machine::{Entropy, Machine, Producer, ProducerEvent, WorkerOptions};
use pm_core::{
    Catalog, EnqueueOptions, Instant, NewJob, QueueName, Reason, Rows, SchemaName, StatementId, TakenJob, Timestamp,
    Type, Value, Verdict,
};
use proptest::prelude::*;
use uuid::Uuid;

const NUMBERS: [i64; 12] = [0, 1, 2, 3, 4, 7, 100, 500, -1, i64::MAX, i64::MIN + 1, 60_000];
const TEXTS: [&str; 4] = ["a", "b", "", "w"];

/// Generates cells of a type, most of them valid.
struct Cells {
    entropy: Seeded,
}

impl Cells {
    fn pick(&mut self, below: usize) -> usize {
        (self.entropy.next_u64() % below as u64) as usize
    }

    fn number(&mut self) -> i64 {
        NUMBERS[self.pick(NUMBERS.len())]
    }

    fn cell(&mut self, ty: Type) -> Value<'static> {
        let number = self.number();
        match (self.pick(20), ty) {
            (0, _) => Value::Null(ty),
            (1, _) => Value::Bytes(&[0, 0, 0, 1, 255, 255, 255][..self.pick(8)]),
            (_, Type::Bool) => Value::Bool(number % 2 == 0),
            (_, Type::Int2) => Value::Int2(number as i16),
            (_, Type::Int4) => Value::Int4(number as i32),
            (_, Type::Int8) => Value::Int8(number),
            (_, Type::Text) => Value::Text(TEXTS[self.pick(TEXTS.len())]),
            (_, Type::Uuid) => Value::Uuid(Uuid::from_u128(number as u8 as u128)),
            (_, Type::Timestamp) => Value::Timestamp(Timestamp::from_unix_us(number)),
            (_, Type::Int4Array) => Value::Int4Array((0..number.clamp(0, 200)).map(|n| Some(n as i32)).collect()),
            (_, Type::Int8Array) => Value::Int8Array((0..number.clamp(0, 70)).map(|_| Some(self.number())).collect()),
            (_, _) => Value::Bytes(b"odd"),
        }
    }

    /// Generates a reply to a statement, sometimes with the wrong number of columns.
    fn rows(&mut self, catalog: &Catalog, statement: StatementId) -> Rows {
        let mut columns: Vec<_> = catalog.statement(statement).columns.iter().map(|column| column.ty).collect();
        match self.pick(12) {
            0 => columns.push(Type::Int8),
            1 => drop(columns.pop()),
            _ => {}
        }
        let rows: Vec<_> = (0..self.pick(6)).map(|_| columns.iter().map(|ty| self.cell(*ty)).collect()).collect();
        rows_of(columns.len(), rows.into_iter())
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Wait(u64),
    Answer(usize),
    AnswerOddly(usize),
    AddJob,
    Next,
    Settle(u8),
    Extend,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..200u64).prop_map(Step::Wait),
        8 => (0..9usize).prop_map(Step::Answer),
        8 => (0..9usize).prop_map(Step::AnswerOddly),
        4 => Just(Step::AddJob),
        6 => Just(Step::Next),
        4 => (0..3u8).prop_map(Step::Settle),
        2 => Just(Step::Extend),
    ]
}

fn apply(rig: &mut Rig, taken_jobs: &mut Vec<TakenJob>, cells: &mut Cells, catalog: &Catalog, step: Step) {
    match step {
        Step::Wait(for_ms) => rig.now = rig.now + ms(for_ms),
        Step::Answer(_) | Step::AnswerOddly(_) if rig.in_flight.is_empty() => {}
        Step::Answer(which) => rig.answer(which % rig.in_flight.len()),
        Step::AnswerOddly(which) => {
            let index = which % rig.in_flight.len();
            rig.in_flight[index].ran = Some(cells.rows(catalog, kind_of(&rig.in_flight[index])));
            rig.answer(index);
        }
        Step::AddJob => {
            rig.add_jobs(1);
        }
        Step::Next => taken_jobs.extend(rig.worker.next_job(rig.now)),
        Step::Settle(verdict) => {
            let verdicts = [Verdict::Commit, Verdict::Release, Verdict::SoftFail(Reason::new("no"))];
            if let Some(taken) = taken_jobs.pop() {
                rig.settle(&taken, verdicts[usize::from(verdict)].clone());
            }
        }
        Step::Extend => {
            let _request_id = taken_jobs.last().map(|taken| rig.worker.extend(taken.job.lease));
        }
    }
}

proptest! {
    #[test]
    fn no_rows_make_a_worker_panic_or_loop(steps in prop::collection::vec(step(), 1..120), seed: u64) {
        let queues = ["a", "b"].map(|name| QueueName::new(name).expect("a valid name"));
        let mut rig = Rig::new(WorkerOptions { queues: queues.into(), heartbeat: Some(ms(9_000)), ..options() });
        rig.database.add_queue("b");
        rig.answers_oddly = true;
        let catalog = Catalog::new(&SchemaName::default());
        let mut cells = Cells { entropy: Seeded(seed) };
        let mut taken_jobs = Vec::new();
        rig.pump();
        for step in steps {
            apply(&mut rig, &mut taken_jobs, &mut cells, &catalog, step);
            rig.pump();
        }
        rig.worker.shut_down(rig.now);
        rig.pump();
        prop_assert!(rig.worker.is_draining());
    }

    #[test]
    fn no_rows_make_a_producer_panic(batches in prop::collection::vec(0usize..5, 1..40), seed: u64) {
        let catalog = Catalog::new(&SchemaName::default());
        let mut cells = Cells { entropy: Seeded(seed) };
        let mut producer = Producer::new(&SchemaName::default());
        let mut now = Instant::default();
        for count in batches {
            for n in 0..count {
                let id = Uuid::from_u128(n as u128);
                let queue = QueueName::new("a").expect("a valid name");
                let payload = (&b"{}"[..]).into();
                producer.enqueue(NewJob { id, queue, payload, options: EnqueueOptions::default() }, now);
            }
            now = now + ms(10);
            while let Some(request) = producer.poll_request(now, &mut cells.entropy) {
                let statement = pm_core::machine::Request::plan(&request).statement;
                let rows = cells.rows(&catalog, statement);
                producer.handle_reply(request, Ok(rows), now, &mut cells.entropy);
                now = now + ms(1);
            }
        }
    }
}

#[test]
fn an_ordinal_of_i64_min_is_refused() {
    let mut producer = Producer::new(&SchemaName::default());
    let queue = QueueName::new("a").expect("a valid name");
    let (id, payload) = (Uuid::from_u128(1), (&b"{}"[..]).into());
    let now = Instant::default();
    producer.enqueue(NewJob { id, queue, payload, options: EnqueueOptions::default() }, now);
    let request = producer.poll_request(now, &mut Seeded(1)).expect("it is sent at once");
    let row = vec![Value::Int8(i64::MIN), Value::Int2(1), Value::Null(Type::Int4)];
    producer.handle_reply(request, Ok(rows_of(3, [row].into_iter())), now, &mut Seeded(1));
    assert!(matches!(producer.poll_event(), Some(ProducerEvent::Enqueued { outcome: Err(_), .. })));
}
