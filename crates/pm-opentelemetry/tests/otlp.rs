//! What a collector receives: the SDK exports by OTLP over HTTP, and a small receiver reads it.

#![allow(clippy::unwrap_used)]

use async_trait::async_trait;
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use pm_driver_memory::runtime::Tokio;
use pm_driver_memory::{
    ConnectOptions, Database, EnqueueOptions, Outcome, Queue, RunOptions, SettingsChange, StreamOptions,
};
use pm_opentelemetry::{MessagingMetrics, TraceContexts};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::{Instrument, info_span};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;

/// What a request carried.
enum Export {
    Spans(Vec<Span>),
    Metrics(Vec<Metric>),
}

/// A collector, with a thread that serves one request after the other until the test ends.
struct Collector {
    address: SocketAddr,
    exports: Receiver<Export>,
}

impl Collector {
    fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, exports) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &sender);
            }
        });
        Collector { address, exports }
    }

    fn endpoint(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns what has arrived.
    fn received(&self) -> (Vec<Span>, Vec<Metric>) {
        let (mut spans, mut metrics) = (Vec::new(), Vec::new());
        for export in self.exports.try_iter() {
            match export {
                Export::Spans(more) => spans.extend(more),
                // Later exports include the counts of earlier ones.
                Export::Metrics(newer) => metrics = newer,
            }
        }
        (spans, metrics)
    }
}

/// Reads one request, decodes it by its path, and answers it.
fn serve(stream: TcpStream, exports: &Sender<Export>) {
    let mut reader = BufReader::new(stream);
    let (path, headers) = head(&mut reader);
    assert_eq!(headers.get("content-type").map(String::as_str), Some("application/x-protobuf"));
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let export = match path.as_str() {
        "POST /v1/traces HTTP/1.1" => {
            let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
            let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            Export::Spans(scopes.flat_map(|scope| scope.spans).collect())
        }
        "POST /v1/metrics HTTP/1.1" => {
            let request = ExportMetricsServiceRequest::decode(&body[..]).unwrap();
            let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
            Export::Metrics(scopes.flat_map(|scope| scope.metrics).collect())
        }
        other => panic!("a request for {other}"),
    };
    // The test may have ended.
    exports.send(export).unwrap_or_default();
    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
}

/// Returns the first line and the headers of a request or a response.
fn head(reader: &mut impl BufRead) -> (String, BTreeMap<String, String>) {
    let mut lines = reader.lines().map(Result::unwrap);
    let first = lines.next().unwrap();
    let headers = lines.take_while(|line| !line.is_empty()).map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_lowercase(), value.to_owned())
    });
    (first, headers.collect())
}

/// A client of HTTP that blocks, as the threads of the SDK may.
#[derive(Debug)]
struct Client;

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (uri, body) = (request.uri(), request.body());
        let host = uri.authority().unwrap().as_str();
        let mut message = format!("{} {} HTTP/1.1\r\nhost: {host}\r\n", request.method(), uri.path()).into_bytes();
        for (name, value) in request.headers() {
            message.extend_from_slice(format!("{name}: {}\r\n", value.to_str()?).as_bytes());
        }
        message.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        message.extend_from_slice(body);
        let mut stream = TcpStream::connect(host)?;
        stream.write_all(&message)?;
        let (status, _) = head(&mut BufReader::new(stream));
        assert_eq!(status, "HTTP/1.1 200 OK");
        Ok(Response::new(Bytes::new()))
    }
}

/// The SDK of a program, and its queue.
struct Program {
    collector: Collector,
    tracers: SdkTracerProvider,
    meters: SdkMeterProvider,
    queue: Queue,
}

impl Program {
    async fn start() -> Program {
        let collector = Collector::start();
        let spans = SpanExporter::builder().with_http().with_http_client(Client);
        let spans = spans.with_endpoint(collector.endpoint("/v1/traces")).build().unwrap();
        let metrics = MetricExporter::builder().with_http().with_http_client(Client);
        let metrics = metrics.with_endpoint(collector.endpoint("/v1/metrics")).build().unwrap();
        let tracers = SdkTracerProvider::builder().with_batch_exporter(spans).build();
        let meters = SdkMeterProvider::builder().with_periodic_exporter(metrics).build();
        let options = ConnectOptions::default().check_schema(false).observer(Arc::new(TraceContexts::new()));
        let options = options.observer(Arc::new(MessagingMetrics::new(&meters.meter("pm"))));
        let queue = Queue::open(Arc::new(Database::new()), Arc::new(Tokio::current()), &options).await.unwrap();
        queue.create_queue("mails", false).await.unwrap();
        let settings = SettingsChange::new().backoff(vec![Duration::ZERO]).jitter_percent(0);
        queue.set_queue_settings("mails", settings).await.unwrap();
        Program { collector, tracers, meters, queue }
    }

    /// Returns what exports the spans of `tracing` up to this level.
    fn subscriber(&self, level: LevelFilter) -> impl tracing::Subscriber + Send + Sync + use<> {
        let layer = tracing_opentelemetry::layer().with_tracer(self.tracers.tracer("program"));
        tracing_subscriber::registry().with(layer.with_filter(level))
    }

    /// Runs jobs until this many attempts have ended; the first one fails.
    async fn run(&self, attempts: usize) {
        let (stop, stopped) = futures_channel::oneshot::channel::<()>();
        let left = Arc::new(Mutex::new((attempts, Some(stop))));
        let second = Duration::from_secs(1);
        let options = RunOptions::new().stream(StreamOptions::default().poll(second / 100, second / 100));
        let options = options.stop_when(async { stopped.await.unwrap_or_default() });
        let handler = move |_: u32, _| {
            let left = left.clone();
            let handling = async move {
                let mut left = left.lock().unwrap();
                left.0 -= 1;
                if left.0 == 0 {
                    drop(left.1.take());
                }
                if left.0 + 1 == attempts { Err("no route") } else { Ok(Outcome::Done) }
            };
            handling.instrument(info_span!("send"))
        };
        self.queue.run("mails", options, handler).await.unwrap();
    }

    /// Returns what the collector received of all spans and metrics.
    fn received(&self) -> (Vec<Span>, Vec<Metric>) {
        self.tracers.force_flush().unwrap();
        self.meters.force_flush().unwrap();
        self.collector.received()
    }
}

/// Returns the spans of this name, in the order in which they began.
fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    let mut named: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    named.sort_by_key(|span| span.start_time_unix_nano);
    named
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let shown = |value: &any_value::Value| match value {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let value = |attribute: &KeyValue| attribute.value.as_ref()?.value.as_ref().map(shown);
    attributes.iter().filter_map(|it| Some((it.key.as_str(), value(it)?))).collect()
}

#[tokio::test]
async fn the_trace_of_a_request_goes_on_in_the_first_attempt_and_others_are_linked_to_it() {
    let program = Program::start().await;
    let guard = tracing::subscriber::set_default(program.subscriber(LevelFilter::DEBUG));
    let enqueueing = program.queue.enqueue("mails", 7, EnqueueOptions::default());
    let id = enqueueing.instrument(info_span!("request")).await.unwrap();
    program.run(2).await;
    program.queue.restart_jobs(&[id], false).await.unwrap();
    program.queue.copy_job(id, "mails", EnqueueOptions::default()).await.unwrap();
    program.run(3).await;
    drop(guard);
    let (spans, _) = program.received();
    let [request] = named(&spans, "request")[..] else { panic!("{spans:#?}") };
    let [enqueue] = named(&spans, "pm.enqueue")[..] else { panic!("{spans:#?}") };
    assert_eq!((&enqueue.trace_id, &enqueue.parent_span_id), (&request.trace_id, &request.span_id));
    assert_eq!(enqueue.kind, SpanKind::Producer as i32);
    let jobs = named(&spans, "pm.job");
    let attempts: Vec<_> = jobs.iter().map(|job| attributes(&job.attributes)["attempt"].clone()).collect();
    assert_eq!(attempts.len(), 5, "two, one that fails after the restart or as the copy, its retry, and the other");
    let (first, rest) = jobs.split_first().unwrap();
    assert_eq!((&first.trace_id, &first.parent_span_id), (&request.trace_id, &enqueue.span_id));
    assert!(first.links.is_empty());
    let mut traces = BTreeSet::from([&request.trace_id]);
    for job in rest {
        assert!(traces.insert(&job.trace_id), "it begins a trace");
        assert!(job.parent_span_id.is_empty(), "it has no parent");
        let [link] = &job.links[..] else { panic!("{job:#?}") };
        assert_eq!((&link.trace_id, &link.span_id), (&request.trace_id, &enqueue.span_id));
    }
    for job in &jobs {
        assert_eq!(job.kind, SpanKind::Consumer as i32);
        assert_eq!(attributes(&job.attributes)["messaging.system"], "pm");
        let sent = named(&spans, "send");
        assert!(sent.iter().any(|sent| (&sent.trace_id, &sent.parent_span_id) == (&job.trace_id, &job.span_id)));
    }
}

#[tokio::test]
async fn without_the_span_of_the_enqueue_the_callers_span_is_the_parent() {
    let program = Program::start().await;
    let guard = tracing::subscriber::set_default(program.subscriber(LevelFilter::INFO));
    let jobs = [(1, EnqueueOptions::default()), (2, EnqueueOptions::default())];
    program.queue.enqueue_many("mails", jobs).instrument(info_span!("request")).await.unwrap();
    program.queue.enqueue("mails", 3, EnqueueOptions::default()).await.unwrap();
    program.run(4).await;
    drop(guard);
    let (spans, _) = program.received();
    let [request] = named(&spans, "request")[..] else { panic!("{spans:#?}") };
    let jobs = named(&spans, "pm.job");
    let parents: Vec<_> = jobs.iter().map(|job| job.parent_span_id == request.span_id).collect();
    assert_eq!(parents.iter().filter(|is_parent| **is_parent).count(), 2);
    let alone = jobs.iter().filter(|job| job.parent_span_id.is_empty() && job.links.is_empty());
    assert_eq!(alone.count(), 1, "the job that was enqueued in no span");
}

#[tokio::test]
async fn the_metrics_arrive_with_their_attributes() {
    let program = Program::start().await;
    for number in 0..2 {
        program.queue.enqueue("mails", number, EnqueueOptions::default()).await.unwrap();
    }
    program.run(3).await;
    let (_, metrics) = program.received();
    let mut counts = BTreeMap::new();
    for metric in &metrics {
        let points: Vec<_> = match metric.data.as_ref().unwrap() {
            metric::Data::Sum(sum) => {
                assert!(sum.is_monotonic && metric.unit == "{message}");
                sum.data_points.iter().map(|point| &point.attributes).collect()
            }
            metric::Data::Histogram(histogram) => {
                assert_eq!(metric.unit, "s");
                histogram.data_points.iter().map(|point| &point.attributes).collect()
            }
            other => panic!("{other:?}"),
        };
        for point in points {
            let attributes = attributes(point);
            assert_eq!(attributes["messaging.system"], "pm");
            let names =
                ["operation.name", "operation.type", "destination.name"].map(|name| format!("messaging.{name}"));
            let names = names.iter().map(String::as_str).chain(["error.type"]);
            let values: Vec<_> = names.map(|name| attributes.get(name).map_or("-", String::as_str)).collect();
            *counts.entry(format!("{} {}", metric.name, values.join(" "))).or_insert(0) += 1;
        }
    }
    for series in [
        "messaging.client.sent.messages enqueue send mails -",
        "messaging.client.consumed.messages claim receive mails -",
        "messaging.client.operation.duration settle settle - -",
        "messaging.process.duration process process mails -",
        "messaging.process.duration process process mails soft_failed",
    ] {
        assert_eq!(counts.get(series), Some(&1), "{series} in {counts:#?}");
    }
}
