//! What an SDK of OpenTelemetry exports.

#![allow(clippy::unwrap_used)]

use futures_util::StreamExt;
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, SdkMeterProvider};
use pm_driver_memory::runtime::Tokio;
use pm_driver_memory::{ConnectOptions, Database, EnqueueOptions, Queue};
use pm_opentelemetry::MessagingMetrics;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// An SDK that exports into memory.
struct Sdk {
    provider: SdkMeterProvider,
    exporter: InMemoryMetricExporter,
}

impl Sdk {
    fn new() -> Self {
        let exporter = InMemoryMetricExporter::default();
        let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter.clone()).build();
        Sdk { provider, exporter }
    }

    fn metrics(&self) -> Arc<MessagingMetrics> {
        Arc::new(MessagingMetrics::new(&self.provider.meter("pm")))
    }

    /// Returns the counts of the last export by metric and attributes, sorted, without `messaging.`.
    fn exported(&self) -> BTreeMap<String, u64> {
        self.provider.force_flush().unwrap();
        let exports = self.exporter.get_finished_metrics().unwrap();
        let scopes = exports.last().unwrap().scope_metrics();
        let mut counts = BTreeMap::new();
        for metric in scopes.flat_map(|scope| scope.metrics()) {
            let name = metric.name();
            match metric.data() {
                AggregatedMetrics::U64(MetricData::Sum(sum)) => {
                    assert_eq!(metric.unit(), "{message}");
                    counts.extend(sum.data_points().map(|point| (series(name, point.attributes()), point.value())));
                }
                AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
                    assert_eq!(metric.unit(), "s");
                    let points = histogram.data_points();
                    counts.extend(points.map(|point| (series(name, point.attributes()), point.count())));
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        counts
    }
}

fn series<'a>(name: &str, attributes: impl Iterator<Item = &'a KeyValue>) -> String {
    let mut attributes: Vec<_> = attributes.map(|it| format!(" {}={}", it.key, it.value)).collect();
    attributes.sort();
    format!("{name}{}", attributes.concat()).replace("messaging.", "")
}

#[tokio::test]
async fn jobs_are_counted_by_the_conventions() {
    let sdk = Sdk::new();
    let options = ConnectOptions::default().check_schema(false).observer(sdk.metrics());
    let queue = Queue::open(Arc::new(Database::new()), Arc::new(Tokio::current()), &options).await.unwrap();
    queue.create_queue("mails", false).await.unwrap();
    for number in 0..4 {
        queue.enqueue("mails", number, EnqueueOptions::default()).await.unwrap();
    }
    queue.enqueue("none", 0, EnqueueOptions::default()).await.unwrap_err();
    let mut jobs = queue.try_stream_jobs::<u32>("mails");
    for number in 0..4 {
        let (_, ack) = jobs.next().await.unwrap().unwrap().into_parts();
        match number {
            0 => ack.commit().await.unwrap(),
            1 => ack.soft_fail("no route").await.unwrap(),
            2 => ack.snooze(Duration::from_secs(60)).await.unwrap(),
            _ => ack.hard_fail("no address").await.unwrap(),
        }
    }
    let exported = sdk.exported();
    for (series, count) in [
        ("client.sent.messages destination.name=mails operation.name=enqueue operation.type=send system=pm", 4),
        ("client.consumed.messages destination.name=mails operation.name=claim operation.type=receive system=pm", 4),
        ("process.duration destination.name=mails operation.name=process operation.type=process system=pm", 2),
        ("client.operation.duration operation.name=settle operation.type=settle system=pm", 4),
    ] {
        assert_eq!(exported.get(series), Some(&count), "{series} in {exported:#?}");
    }
    for (metric, queue, operation, error) in [
        ("client.sent.messages", "none", "enqueue operation.type=send", "failed"),
        ("process.duration", "mails", "process operation.type=process", "soft_failed"),
        ("process.duration", "mails", "process operation.type=process", "failed"),
    ] {
        let series =
            format!("{metric} error.type={error} destination.name={queue} operation.name={operation} system=pm");
        assert_eq!(exported.get(&series), Some(&1), "{series} in {exported:#?}");
    }
    assert!(exported.contains_key("client.operation.duration operation.name=enqueue operation.type=send system=pm"));
}

#[tokio::test]
async fn of_many_queues_500_are_named() {
    let sdk = Sdk::new();
    let options = ConnectOptions::default().check_schema(false).observer(sdk.metrics());
    let queue = Queue::open(Arc::new(Database::new()), Arc::new(Tokio::current()), &options).await.unwrap();
    for number in 0..510 {
        queue.enqueue(&format!("queue {number}"), 0, EnqueueOptions::default()).await.unwrap_err();
    }
    let sent: Vec<_> = sdk.exported().into_iter().filter(|(series, _)| series.starts_with("client.sent")).collect();
    assert_eq!(sent.len(), 501);
    let others = sent.iter().find(|(series, _)| series.contains("name=_other"));
    assert_eq!(others.map(|(_, count)| *count), Some(10));
}
