//! What observers are asked about traces.

#![allow(clippy::unwrap_used)]

use futures_util::StreamExt;
use pm_driver_memory::observe::{Event, Observer};
use pm_driver_memory::runtime::Tokio;
use pm_driver_memory::{ConnectOptions, Database, EnqueueOptions, JobTrace, Queue, Schedule, TraceContext, Uuid};
use std::sync::{Arc, Mutex};

const ANSWER: &str = "00-11111111111111111111111111111111-2222222222222222-01";
const OTHER: &str = "00-33333333333333333333333333333333-4444444444444444-00";

/// Answers with a span, or with none, and keeps what it was asked, in which span of `tracing`.
#[derive(Default)]
struct Traces {
    answer: Option<&'static str>,
    enqueues: Mutex<u32>,
    asked: Mutex<Vec<Option<&'static str>>>,
    related: Mutex<Vec<(Option<tracing::Id>, Option<JobTrace>)>>,
}

impl Observer for Traces {
    fn observe(&self, _event: &Event<'_>) {}

    fn trace_context(&self) -> Option<TraceContext> {
        self.asked.lock().unwrap().push(tracing::Span::current().metadata().map(|metadata| metadata.name()));
        self.answer.map(context)
    }

    fn enqueue_span(&self, span: &tracing::Span) {
        assert_eq!(span.metadata().map(|metadata| metadata.name()), Some("pm.enqueue"));
        *self.enqueues.lock().unwrap() += 1;
    }

    fn job_span(&self, span: &tracing::Span, trace: Option<&JobTrace>) {
        assert_eq!(span.metadata().map(|metadata| metadata.name()), Some("pm.job"));
        self.related.lock().unwrap().push((span.id(), trace.cloned()));
    }
}

/// Has a bug wherever it is asked.
struct Panics;

impl Observer for Panics {
    fn observe(&self, _event: &Event<'_>) {}

    fn trace_context(&self) -> Option<TraceContext> {
        panic!("a bug of the observer")
    }

    fn enqueue_span(&self, _span: &tracing::Span) {
        panic!("a bug of the observer")
    }

    fn job_span(&self, _span: &tracing::Span, _trace: Option<&JobTrace>) {
        panic!("a bug of the observer")
    }
}

fn context(traceparent: &str) -> TraceContext {
    TraceContext::new(traceparent, None).unwrap()
}

struct World {
    database: Database,
    queue: Queue,
    observer: Arc<Traces>,
    /// It is behind the other, so it is not asked when that has an answer.
    second: Arc<Traces>,
}

impl World {
    async fn new(answer: Option<&'static str>) -> World {
        let observer = Arc::new(Traces { answer, ..Traces::default() });
        let second = Arc::new(Traces { answer: Some(OTHER), ..Traces::default() });
        let database = Database::new();
        let options = ConnectOptions::default().check_schema(false).observer(Arc::new(Panics));
        let options = options.observer(observer.clone()).observer(second.clone());
        let queue = Queue::open(Arc::new(database.clone()), Arc::new(Tokio::current()), &options).await.unwrap();
        queue.create_queue("mails", false).await.unwrap();
        World { database, queue, observer, second }
    }

    fn stored(&self, id: Uuid) -> Option<String> {
        self.database.look(|tables| tables.job[&id].trace.clone())
    }

    fn asked(&self) -> usize {
        std::mem::take(&mut *self.observer.asked.lock().unwrap()).len()
    }
}

#[tokio::test]
async fn each_call_that_enqueues_asks_once_unless_the_options_give_a_span() {
    let world = World::new(Some(ANSWER)).await;
    let (queue, plain) = (&world.queue, EnqueueOptions::default);
    let one = queue.enqueue("mails", 1, plain()).await.unwrap();
    assert_eq!((world.stored(one).as_deref(), world.asked()), (Some(ANSWER), 1));
    let jobs = [(1, plain()), (2, plain().trace(context(OTHER))), (3, plain().key("k"))];
    let many: Vec<_> = queue.enqueue_many("mails", jobs.clone()).await.unwrap().iter().map(|one| one.id()).collect();
    let stored: Vec<_> = many.iter().map(|id| world.stored(*id).unwrap()).collect();
    assert_eq!((stored, world.asked()), ([ANSWER, OTHER, ANSWER].map(str::to_owned).to_vec(), 1));
    let transaction = world.database.begin();
    let [inside, _, _] = queue.enqueue_many_in(&transaction, "mails", jobs).await.unwrap()[..] else { panic!() };
    transaction.commit().unwrap();
    assert_eq!((world.stored(inside.id()).as_deref(), world.asked()), (Some(ANSWER), 1));
    let own = queue.enqueue("mails", 1, plain().trace(context(OTHER))).await.unwrap();
    assert_eq!((world.stored(own).as_deref(), world.asked()), (Some(OTHER), 0));
    let copy = queue.copy_job(own, "mails", plain()).await.unwrap();
    assert_eq!((world.stored(copy), world.asked()), (Some(format!("link {OTHER}")), 0));
    queue.set_schedule("nightly", Schedule::new("mails", "0 3 * * *"), 1).await.unwrap();
    assert_eq!(world.asked(), 0);
    assert!(world.second.asked.lock().unwrap().is_empty(), "the first one had an answer");
}

#[tokio::test]
async fn an_observer_without_an_answer_leaves_it_to_the_next() {
    let world = World::new(None).await;
    let id = world.queue.enqueue("mails", 1, EnqueueOptions::default()).await.unwrap();
    assert_eq!(world.stored(id).as_deref(), Some(OTHER));
}

#[tokio::test]
async fn observers_are_asked_in_the_span_of_the_enqueue_and_relate_that_of_the_job() {
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry());
    let world = World::new(Some(ANSWER)).await;
    world.queue.enqueue("mails", 1, EnqueueOptions::default()).await.unwrap();
    world.queue.enqueue_many("mails", [(1, EnqueueOptions::default())]).await.unwrap();
    let transaction = world.database.begin();
    world.queue.enqueue_in(&transaction, "mails", 1, EnqueueOptions::default()).await.unwrap();
    drop(transaction);
    assert_eq!(*world.observer.asked.lock().unwrap(), [Some("pm.enqueue"); 3]);
    assert_eq!(*world.observer.enqueues.lock().unwrap(), 3);
    let mut jobs = world.queue.try_stream_jobs::<u32>("mails");
    for _ in 0..2 {
        let job = jobs.next().await.unwrap().unwrap();
        let related = world.observer.related.lock().unwrap().pop().unwrap();
        assert_eq!(related, (job.span().id(), Some(JobTrace::Parent(context(ANSWER)))));
        assert_eq!(job.metadata().trace, related.1);
        job.into_parts().1.commit().await.unwrap();
    }
    drop(jobs);
    // A job of a schedule, for example.
    let untraced = world.queue.enqueue("mails", 1, EnqueueOptions::default()).await.unwrap();
    world.database.change(|tables| tables.job.get_mut(&untraced).unwrap().trace = None);
    let job = world.queue.fetch_job::<u32>(untraced).await.unwrap().unwrap();
    assert_eq!(world.observer.related.lock().unwrap().pop().unwrap(), (job.span().id(), None));
    assert_eq!(job.metadata().trace, None);
    job.into_parts().1.commit().await.unwrap();
}
