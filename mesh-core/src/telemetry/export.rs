//! Spans by OTLP over gRPC.
//!
//! A span is built only for a sampled request, sent over a bounded queue, and exported in batches by a thread with a
//! runtime of its own: the SDK's batch processor blocks the thread it runs on and would stall a worker's runtime.
//! Jaeger and Zipkin users receive OTLP; their headers are understood by `trace`.

mod tags;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::metrics::{Counter, Metrics};
use super::record::{Record, Reporting};
use crate::model::{Tracing, Workload};
use tags::Tags;

/// Spans under way to the exporter.
const QUEUE: usize = 4096;
/// Spans in one call.
const BATCH: usize = 512;
/// How long spans are gathered for one call.
const LINGER: Duration = Duration::from_millis(500);
/// Deadline of one call.
const DEADLINE: Duration = Duration::from_secs(5);

/// The way to the exporter's thread.
#[derive(Clone)]
pub struct SpanSender {
    sender: Sender<SpanData>,
    metrics: Arc<Metrics>,
    tags: Arc<Tags>,
}

impl SpanSender {
    /// Starts exporting to `endpoint` (`http://host:4317`) in the name of `workload`, with the tags of `tracing`.
    ///
    /// # Errors
    /// When the endpoint is not a URL or the thread cannot be started.
    pub fn start(
        endpoint: &str,
        tracing: &Tracing,
        workload: &Workload,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ExportError> {
        let (sender, receiver) = channel(QUEUE);
        let service = format!("{}.{}", workload.app, workload.namespace);
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", service),
                KeyValue::new("service.namespace", workload.namespace.clone()),
                KeyValue::new("service.version", workload.version.clone()),
                KeyValue::new("k8s.pod.name", workload.pod.clone()),
            ])
            .build();
        let (endpoint, counts) = (endpoint.to_owned(), Arc::clone(&metrics));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(ExportError::Thread)?;
        std::thread::Builder::new()
            .name("span-export".into())
            .spawn(move || runtime.block_on(export(endpoint, resource, receiver, &counts)))
            .map_err(ExportError::Thread)?;
        Ok(Self { sender, metrics, tags: Arc::new(Tags::new(tracing)) })
    }

    /// The same exporter, for spans with other tags.
    #[must_use]
    pub fn with_tags_of(&self, tracing: &Tracing) -> Self {
        Self { tags: Arc::new(Tags::new(tracing)), ..self.clone() }
    }

    /// Queues the span of a request that has ended.
    pub(super) fn send(&self, record: &Record) {
        if self.sender.try_send(span(record, &self.tags)).is_err() {
            self.metrics.count(Counter::SpansDropped);
        }
    }
}

/// Why spans are not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// No thread or runtime.
    #[error("cannot start the span exporter's thread")]
    Thread(#[source] std::io::Error),
}

/// Runs until every sender is gone. A failed call loses its batch and is counted; the channel to the receiver
/// reconnects by itself.
async fn export(endpoint: String, resource: Resource, mut receiver: Receiver<SpanData>, metrics: &Metrics) {
    let built = SpanExporter::builder().with_tonic().with_endpoint(&endpoint).with_timeout(DEADLINE).build();
    let mut exporter = match built {
        Ok(exporter) => exporter,
        Err(error) => {
            tracing::warn!(%endpoint, %error, "spans cannot be exported");
            return;
        }
    };
    exporter.set_resource(&resource);
    let mut batch = Vec::new();
    while receiver.recv_many(&mut batch, BATCH).await > 0 {
        let more = tokio::time::timeout(LINGER, fill(&mut receiver, &mut batch)).await;
        tracing::trace!(spans = batch.len(), lingered = more.is_err(), "exporting spans");
        let count = batch.len();
        let sent = tokio::time::timeout(DEADLINE, exporter.export(std::mem::take(&mut batch))).await;
        if !matches!(sent, Ok(Ok(()))) {
            (0..count).for_each(|_| metrics.count(Counter::SpansDropped));
            tracing::debug!(%endpoint, count, "spans lost");
        }
    }
}

async fn fill(receiver: &mut Receiver<SpanData>, batch: &mut Vec<SpanData>) {
    while batch.len() < BATCH && receiver.recv_many(batch, BATCH - batch.len()).await > 0 {}
}

fn span(record: &Record, tags: &Tags) -> SpanData {
    let trace = &record.trace;
    let context = SpanContext::new(
        TraceId::from_bytes(trace.trace_id.to_be_bytes()),
        SpanId::from_bytes(trace.span_id.to_be_bytes()),
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    );
    let start_time = record.started.unwrap_or_else(SystemTime::now);
    SpanData {
        span_context: context,
        parent_span_id: SpanId::from_bytes(trace.parent_id.to_be_bytes()),
        parent_span_is_remote: trace.parent_id != 0,
        span_kind: match record.reporting {
            Reporting::Source => SpanKind::Client,
            Reporting::Destination => SpanKind::Server,
        },
        name: operation(record).into(),
        start_time,
        end_time: start_time + record.duration,
        attributes: tags::attributes(record, tags),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: if record.status >= 500 { Status::error("") } else { Status::Unset },
        instrumentation_scope: InstrumentationScope::builder("mesh")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

/// Istio's span name: the service's host, port and path pattern, `reviews.default.svc.cluster.local:9080/*`.
fn operation(record: &Record) -> String {
    match (&record.service, record.downstream_local) {
        (Some(service), Some(local)) => format!("{}:{}/*", service.host, local.port()),
        (Some(service), None) => format!("{}/*", service.host),
        (None, _) => "unknown".to_owned(),
    }
}
