//! The spans and events of the feature `tracing`.

#![allow(clippy::unwrap_used)]

use futures_util::StreamExt;
use pm_driver_memory::{
    Database, EnqueueOptions, JobStream, RunOptions, StreamOptions, Uuid, VirtualTime, queue_on, runtime,
};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Instrument, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// Fields with their values as text.
#[derive(Debug, Default, Clone)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

/// Collects the spans that have ended, and the events, as texts like `INFO pm.job attempt=1`.
#[derive(Default)]
struct Collector {
    open: Mutex<BTreeMap<u64, (String, Fields)>>,
    ended: Mutex<Vec<String>>,
}

impl Collector {
    fn add(&self, name: &str, fields: &Fields) {
        let fields: Vec<_> = fields.0.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        self.ended.lock().unwrap().push(format!("{name}{}", fields.concat()));
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.ended.lock().unwrap())
    }
}

#[derive(Clone)]
struct Collecting(Arc<Collector>);

impl<S: Subscriber> Layer<S> for Collecting {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let metadata = attributes.metadata();
        assert_eq!(metadata.target(), "pm");
        let name = format!("{} {}", metadata.level(), metadata.name());
        self.0.open.lock().unwrap().insert(id.into_u64(), (name, fields));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _context: Context<'_, S>) {
        values.record(&mut self.0.open.lock().unwrap().get_mut(&id.into_u64()).unwrap().1);
    }

    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let message = fields.0.remove("message").unwrap_or_default();
        self.0.add(&format!("{} {message}", event.metadata().level()), &fields);
    }

    fn on_close(&self, id: Id, _context: Context<'_, S>) {
        let (name, fields) = self.0.open.lock().unwrap().remove(&id.into_u64()).unwrap();
        self.0.add(&name, &fields);
    }
}

fn stream(queue: &pm_driver_memory::Queue) -> JobStream<String> {
    let second = Duration::from_secs(1);
    queue.try_stream_jobs_with("mails", StreamOptions::default().listen(false).reaper(false).poll(second, second))
}

#[tokio::test]
async fn a_job_has_spans_for_its_enqueue_claim_processing_and_settlement() {
    let collector = Arc::new(Collector::default());
    let subscriber = tracing_subscriber::registry().with(Collecting(collector.clone()));
    let _guard = tracing::subscriber::set_default(subscriber);
    let queue = pm_driver_memory::queue();
    queue.create_queue("mails", false).await.unwrap();
    let id = queue.enqueue("mails", "topsecret", EnqueueOptions::default().key("secret key")).await.unwrap();
    let job = stream(&queue).next().await.unwrap().unwrap();
    job.span().in_scope(|| tracing::info!(target: "pm", "the handler"));
    let handler = async { tokio::task::yield_now().await }.instrument(job.span());
    handler.await;
    job.into_parts().1.soft_fail("secret reason").await.unwrap();
    drop(queue);
    tokio::task::yield_now().await;
    let expected = [
        "DEBUG pm.enqueue jobs=1 outcome=inserted queue=mails".to_owned(),
        "DEBUG pm.claim ok=true".to_owned(),
        "DEBUG jobs claimed jobs=1 queue=mails took_ms=0".to_owned(),
        "INFO the handler".to_owned(),
        format!("INFO pm.job attempt=1 job={id} outcome=soft_failed queue=mails"),
        "DEBUG pm.settle jobs=1 ok=true".to_owned(),
    ];
    let collected = collector.take();
    assert_eq!(collected, expected);
    assert!(collector.open.lock().unwrap().is_empty(), "all spans have ended");
    assert!(!collected.iter().any(|text| text.contains("secret")), "neither payload nor key nor reason is recorded");
}

#[tokio::test]
async fn trouble_is_reported_as_events() {
    let collector = Arc::new(Collector::default());
    let subscriber = tracing_subscriber::registry().with(Collecting(collector.clone()));
    let _guard = tracing::subscriber::set_default(subscriber);
    let time = VirtualTime::new();
    let database = Database::with_clock(time.clone());
    let queue = queue_on(database, Arc::new(time.on(runtime::Tokio::current())));
    queue.create_queue("mails", false).await.unwrap();
    let id = queue.enqueue("mails", 7, EnqueueOptions::default()).await.unwrap();
    let mut jobs = stream(&queue);
    let error = time.pass(Duration::from_millis(1), jobs.next()).await.unwrap().unwrap_err();
    let ack = error.take_ack().unwrap();
    queue.finish_jobs(&[id]).await.unwrap();
    time.pass(Duration::from_secs(1), ack.lost()).await;
    ack.commit().await.unwrap_err();
    let warnings: Vec<_> = collector.take().into_iter().filter(|text| text.starts_with("WARN")).collect();
    let of_job = |message: &str, id: Uuid, more: &str| format!("WARN {message} attempt=1 job={id}{more} queue=mails");
    let expected = [
        of_job("payload refused", id, ""),
        of_job("lease lost", id, ""),
        of_job("settlement not applied", id, " outcome=lease_lost"),
    ];
    assert_eq!(warnings, expected);
}

#[tokio::test]
async fn the_runner_runs_the_handler_in_the_span_of_its_job() {
    let subscriber = tracing_subscriber::registry().with(Collecting(Arc::default()));
    let _guard = tracing::subscriber::set_default(subscriber);
    let queue = pm_driver_memory::queue();
    queue.create_queue("mails", false).await.unwrap();
    queue.enqueue("mails", "hello", EnqueueOptions::default()).await.unwrap();
    let (sender, mut receiver) = futures_channel::mpsc::unbounded();
    let running = queue.run("mails", RunOptions::default(), move |_mail: String, _job| {
        let sender = sender.clone();
        async move {
            let span = tracing::Span::current().metadata().map(|metadata| metadata.name());
            sender.unbounded_send(span).unwrap();
            Ok::<_, std::io::Error>(())
        }
    });
    let (running, received) = (std::pin::pin!(running), receiver.next());
    match futures_util::future::select(running, received).await {
        futures_util::future::Either::Right((span, _)) => assert_eq!(span, Some(Some("pm.job"))),
        futures_util::future::Either::Left(_) => panic!("the runner ended"),
    }
}
