//! Counters and histograms: every metric name of the data plane is in this file, and in `docs/metrics.md`.
//!
//! Each worker writes series of its own; a scrape adds them up. The number of series is bounded: past the bound new
//! label sets go to one series labelled `overflow`, so that a client who invents hosts cannot fill the memory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::labels::{Borrowed, COUNT, Labels, NAMES, TCP_COUNT, values};
use super::record::{Record, RequestProtocol};

/// Label sets one worker holds at most.
const MAX_SERIES: usize = 10_000;

/// Upper bounds of the histograms' buckets, in milliseconds and in bytes (Envoy's defaults, so that dashboards and
/// recorded quantiles go on).
pub const BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident => $text:literal, $help:literal;)+) => {
        /// A count of the proxy's own, without labels.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter { $($(#[$doc])* $name,)+ }

        const COUNTERS: &[(&str, &str)] = &[$(($text, $help),)+];
    };
}

counters! {
    /// Connections accepted.
    Connections => "mesh_downstream_connections", "Connections accepted";
    /// Connections refused since the limit is reached.
    ConnectionsRefused => "mesh_downstream_connections_refused", "Connections refused at the connection limit";
    /// Cleartext connections refused where mesh TLS is demanded.
    PlaintextRefused => "mesh_plaintext_refused", "Cleartext connections refused under STRICT mutual TLS";
    /// Handshakes that failed, either side.
    HandshakesFailed => "mesh_tls_handshakes_failed", "TLS handshakes that failed";
    /// Connections made to upstreams.
    UpstreamConnections => "mesh_upstream_connections", "Connections made to upstreams";
    /// Attempts after the first.
    Retries => "mesh_upstream_retries", "Attempts after the first";
    /// Retries forgone since the budget was used up.
    RetriesOverBudget => "mesh_upstream_retries_over_budget", "Retries forgone since the budget was used up";
    /// Endpoints ejected.
    Ejections => "mesh_upstream_ejections", "Endpoints ejected by outlier detection";
    /// Requests about which an external authorizer was asked.
    Checks => "mesh_authorization_checks", "Requests about which an external authorizer was asked";
    /// Checks that failed.
    ChecksFailed => "mesh_authorization_checks_failed", "Checks by external authorizers that failed";
    /// Requests that policies in dry run would have denied.
    DryRunDenied => "mesh_authorization_dry_run_denied", "Requests that policies in dry run would have denied";
    /// Requests refused by rate limits.
    RateLimited => "mesh_rate_limited", "Requests refused by local rate limits";
    /// Configuration taken into use.
    ConfigUpdates => "mesh_config_updates", "Configuration updates taken into use";
    /// Resources refused.
    ConfigRefused => "mesh_config_refused", "Resources refused";
    /// Lookups the control plane did not answer in time.
    DiscoveryTimeouts => "mesh_discovery_timeouts", "Lookups that the control plane did not answer in time";
    /// Times the stream to the control plane was lost.
    StreamsLost => "mesh_control_streams_lost", "Times the stream to the control plane was lost";
    /// Certificates taken into use.
    Certificates => "mesh_certificates_issued", "Certificates taken into use";
    /// Log lines dropped since the writer was behind.
    LogDropped => "mesh_access_log_dropped_lines", "Access log lines dropped since the writer was behind";
    /// Spans dropped since the exporter was behind.
    SpansDropped => "mesh_spans_dropped", "Spans dropped since the exporter was behind";
}

/// All counts of a process.
#[derive(Default)]
pub struct Metrics {
    workers: Mutex<Vec<Arc<Mutex<Tables>>>>,
    counters: [AtomicU64; COUNTERS.len()],
    connected: AtomicU64,
    blocked: Mutex<BTreeMap<String, u64>>,
}

/// Blocked hosts told apart at most; the rest is `other`.
const MAX_BLOCKED: usize = 1_000;

impl Metrics {
    /// Adds one.
    pub fn count(&self, counter: Counter) {
        self.counters[counter as usize].fetch_add(1, Relaxed);
    }

    /// A counter's value.
    pub fn value(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Relaxed)
    }

    /// Says whether the stream to the control plane is up.
    pub fn set_connected(&self, connected: bool) {
        self.connected.store(u64::from(connected), Relaxed);
    }

    /// Counts traffic to a host that egress policy blocks.
    pub fn count_blocked(&self, host: &str) {
        let mut blocked = self.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        let host = if blocked.contains_key(host) || blocked.len() < MAX_BLOCKED { host } else { "other" };
        *blocked.entry(host.to_owned()).or_default() += 1;
    }

    /// The exposition in OpenMetrics text.
    ///
    /// # Errors
    /// Never in practice: only when the text buffer fails.
    pub fn expose(self: &Arc<Self>) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape(Arc::clone(self))));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }

    #[cfg(test)]
    pub(super) fn request_series(&self) -> usize {
        self.summed().requests.len()
    }

    fn summed(&self) -> Sums {
        let mut sums = Sums::default();
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        for worker in workers.iter() {
            let tables = worker.lock().unwrap_or_else(PoisonError::into_inner);
            for (labels, series) in &tables.requests {
                sums.requests.entry(labels.0.clone()).or_default().add(series);
            }
            for (labels, series) in &tables.connections {
                sums.connections.entry(labels.0.clone()).or_default().add(series);
            }
        }
        sums
    }
}

/// One worker's series. Locked by the worker only to add a series, and by a scrape.
#[derive(Default)]
struct Tables {
    requests: Vec<(Labels, Arc<RequestSeries>)>,
    connections: Vec<(Labels, Arc<ConnectionSeries>)>,
}

/// A number that one thread writes and others read: an add is a load and a store.
#[derive(Debug, Default)]
struct Owned(AtomicU64);

impl Owned {
    fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [Owned; BUCKETS.len() + 1],
    /// In thousandths, so that a plain add sums fractions of a millisecond.
    sum: Owned,
}

impl Histogram {
    fn observe(&self, thousandths: u64) {
        #[expect(clippy::cast_precision_loss, reason = "only the bucket is chosen by it")]
        let value = thousandths as f64 / 1000.0;
        self.buckets[BUCKETS.partition_point(|bound| *bound < value)].add(1);
        self.sum.add(thousandths);
    }
}

#[derive(Debug, Default)]
struct RequestSeries {
    total: Owned,
    duration: Histogram,
    request: Histogram,
    response: Histogram,
}

#[derive(Debug, Default)]
struct ConnectionSeries {
    opened: Owned,
    closed: Owned,
    received: Owned,
    sent: Owned,
}

/// The worker's own index of its series.
pub(super) struct SeriesCache {
    tables: Arc<Mutex<Tables>>,
    requests: HashMap<Labels, Arc<RequestSeries>>,
    connections: HashMap<Labels, Arc<ConnectionSeries>>,
}

impl SeriesCache {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let tables = Arc::<Mutex<Tables>>::default();
        metrics.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&tables));
        Self { tables, requests: HashMap::new(), connections: HashMap::new() }
    }

    pub(super) fn record_request(&mut self, record: &Record) {
        let mut status = itoa::Buffer::new();
        let mut grpc = itoa::Buffer::new();
        let grpc = match (record.protocol, record.grpc_status) {
            (RequestProtocol::Grpc, Some(code)) => grpc.format(code),
            _ => "",
        };
        let labels = values(record, status.format(record.status), grpc);
        let tables = &self.tables;
        let series = find(&mut self.requests, &labels, |labels, series| {
            tables.lock().unwrap_or_else(PoisonError::into_inner).requests.push((labels, series));
        });
        series.total.add(1);
        series.duration.observe(u64::try_from(record.duration.as_micros()).unwrap_or(u64::MAX));
        series.request.observe(record.received.saturating_mul(1000));
        series.response.observe(record.sent.saturating_mul(1000));
    }

    pub(super) fn record_open(&mut self, record: &Record) {
        self.connection(record).opened.add(1);
    }

    pub(super) fn record_close(&mut self, record: &Record) {
        let series = self.connection(record);
        series.closed.add(1);
        series.received.add(record.received);
        series.sent.add(record.sent);
    }

    fn connection(&mut self, record: &Record) -> Arc<ConnectionSeries> {
        let labels = values(record, "", "");
        let tables = &self.tables;
        find(&mut self.connections, &labels[..TCP_COUNT], |labels, series| {
            tables.lock().unwrap_or_else(PoisonError::into_inner).connections.push((labels, series));
        })
    }
}

/// The series of these labels, made if it is new and there is room.
fn find<S: Default>(
    cache: &mut HashMap<Labels, Arc<S>>,
    labels: &[&str],
    publish: impl FnOnce(Labels, Arc<S>),
) -> Arc<S> {
    // Nearly always there, and then looked up once: the hash goes over all values.
    if let Some(series) = cache.get(&Borrowed(labels)) {
        return Arc::clone(series);
    }
    let overflow = ["overflow"; COUNT];
    let labels = if cache.len() >= MAX_SERIES { &overflow[..labels.len()] } else { labels };
    if let Some(series) = cache.get(&Borrowed(labels)) {
        return Arc::clone(series);
    }
    let (owned, series) = (Borrowed(labels).to_owned(), Arc::<S>::default());
    publish(owned.clone(), Arc::clone(&series));
    cache.insert(owned, Arc::clone(&series));
    series
}

/// All workers' series added up, in the order of their labels.
#[derive(Default)]
struct Sums {
    requests: BTreeMap<Vec<Box<str>>, RequestSum>,
    connections: BTreeMap<Vec<Box<str>>, ConnectionSum>,
}

#[derive(Default)]
struct HistogramSum {
    buckets: [u64; BUCKETS.len() + 1],
    sum: u64,
}

impl HistogramSum {
    fn add(&mut self, histogram: &Histogram) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum += bucket.read();
        }
        self.sum += histogram.sum.read();
    }
}

#[derive(Default)]
struct RequestSum {
    total: u64,
    duration: HistogramSum,
    request: HistogramSum,
    response: HistogramSum,
}

impl RequestSum {
    fn add(&mut self, series: &RequestSeries) {
        self.total += series.total.read();
        self.duration.add(&series.duration);
        self.request.add(&series.request);
        self.response.add(&series.response);
    }
}

#[derive(Default)]
struct ConnectionSum {
    opened: u64,
    closed: u64,
    received: u64,
    sent: u64,
}

impl ConnectionSum {
    fn add(&mut self, series: &ConnectionSeries) {
        self.opened += series.opened.read();
        self.closed += series.closed.read();
        self.received += series.received.read();
        self.sent += series.sent.read();
    }
}

type RequestHistogram = (&'static str, &'static str, fn(&RequestSum) -> &HistogramSum);
type ConnectionCounter = (&'static str, &'static str, fn(&ConnectionSum) -> u64);

const REQUEST_HISTOGRAMS: [RequestHistogram; 3] = [
    ("istio_request_duration_milliseconds", "Duration of requests", |sum| &sum.duration),
    ("istio_request_bytes", "Body sizes of requests", |sum| &sum.request),
    ("istio_response_bytes", "Body sizes of responses", |sum| &sum.response),
];

const CONNECTION_COUNTERS: [ConnectionCounter; 4] = [
    ("istio_tcp_connections_opened", "Connections opened", |sum| sum.opened),
    ("istio_tcp_connections_closed", "Connections closed", |sum| sum.closed),
    ("istio_tcp_received_bytes", "Bytes received from the client", |sum| sum.received),
    ("istio_tcp_sent_bytes", "Bytes sent to the client", |sum| sum.sent),
];

/// What one scrape shows.
struct Scrape(Arc<Metrics>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sums = self.0.summed();
        encode_requests(&mut encoder, &sums)?;
        encode_connections(&mut encoder, &sums)?;
        for ((name, help), value) in COUNTERS.iter().zip(&self.0.counters) {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            metric.encode_counter::<NoLabelSet, _, u64>(&value.load(Relaxed), None)?;
        }
        encoder
            .encode_descriptor(
                "mesh_control_connected",
                "1 while the stream to the control plane is up",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&i64::from(self.0.connected.load(Relaxed) > 0))?;
        encode_blocked(&mut encoder, &self.0)
    }
}

fn encode_requests(encoder: &mut DescriptorEncoder<'_>, sums: &Sums) -> Result<(), fmt::Error> {
    if sums.requests.is_empty() {
        return Ok(());
    }
    let mut metric =
        encoder.encode_descriptor("istio_requests", "Requests handled", None, MetricType::Counter)?;
    for (labels, sum) in &sums.requests {
        metric.encode_family(&pairs(labels))?.encode_counter::<NoLabelSet, _, u64>(&sum.total, None)?;
    }
    for (name, help, pick) in REQUEST_HISTOGRAMS {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, sum) in &sums.requests {
            encode_histogram(&mut metric.encode_family(&pairs(labels))?, pick(sum))?;
        }
    }
    Ok(())
}

fn encode_connections(encoder: &mut DescriptorEncoder<'_>, sums: &Sums) -> Result<(), fmt::Error> {
    if sums.connections.is_empty() {
        return Ok(());
    }
    for (name, help, pick) in CONNECTION_COUNTERS {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, sum) in &sums.connections {
            metric.encode_family(&pairs(labels))?.encode_counter::<NoLabelSet, _, u64>(&pick(sum), None)?;
        }
    }
    Ok(())
}

fn encode_blocked(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> Result<(), fmt::Error> {
    let blocked = metrics.blocked.lock().unwrap_or_else(PoisonError::into_inner);
    if blocked.is_empty() {
        return Ok(());
    }
    let help = "Requests and connections to hosts that egress policy blocks";
    let mut metric = encoder.encode_descriptor("mesh_egress_blocked", help, None, MetricType::Counter)?;
    for (host, count) in blocked.iter() {
        metric
            .encode_family(&[("host", host.as_str())])?
            .encode_counter::<NoLabelSet, _, u64>(count, None)?;
    }
    Ok(())
}

fn pairs(labels: &[Box<str>]) -> Vec<(&'static str, &str)> {
    NAMES.iter().zip(labels).map(|(name, value)| (*name, &**value)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "OpenMetrics sums are floating point")]
fn encode_histogram(metric: &mut MetricEncoder<'_>, histogram: &HistogramSum) -> Result<(), fmt::Error> {
    let bounds = BUCKETS.iter().copied().chain([f64::MAX]);
    let buckets: Vec<(f64, u64)> = bounds.zip(histogram.buckets).collect();
    let count = histogram.buckets.iter().sum();
    metric.encode_histogram::<NoLabelSet>(histogram.sum as f64 / 1000.0, count, &buckets, None)
}
