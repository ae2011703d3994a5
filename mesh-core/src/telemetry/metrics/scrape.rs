//! What a scrape shows: all workers' series added up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::series::{BUCKETS, ConnectionSeries, Histogram, RequestSeries, Table};
use super::{COUNTERS, Metrics};
use crate::model::Metric;

/// All workers' series added up, in the order of their labels.
#[derive(Default)]
pub(super) struct Sums {
    requests: Added<RequestSum>,
    connections: Added<ConnectionSum>,
}

/// Sums by the names and then the values of their labels.
type Added<S> = BTreeMap<Vec<Box<str>>, BTreeMap<Vec<Box<str>>, S>>;

impl Sums {
    pub(super) fn of(metrics: &Metrics) -> Self {
        let mut sums = Self::default();
        let workers = metrics.workers.lock().unwrap_or_else(PoisonError::into_inner);
        for worker in workers.iter() {
            let tables = worker.lock().unwrap_or_else(PoisonError::into_inner);
            add(&mut sums.requests, &tables.requests);
            add(&mut sums.connections, &tables.connections);
        }
        sums
    }

    #[cfg(test)]
    pub(super) fn requests(&self) -> usize {
        self.requests.values().map(BTreeMap::len).sum()
    }
}

/// What series of one kind add up to.
trait Sum: Default {
    type Series;

    fn add(&mut self, series: &Self::Series, metrics: &[Metric]);

    /// The metrics that are shown of it.
    fn shown(&self) -> &BTreeSet<Metric>;
}

fn add<S: Sum>(sums: &mut Added<S>, table: &Table<S::Series>) {
    for (scheme, labels, series) in table {
        if !sums.contains_key(scheme.names()) {
            sums.insert(scheme.names().to_vec(), BTreeMap::new());
        }
        let named = sums.get_mut(scheme.names()).expect("inserted above when it was missing");
        let sum = named.entry(labels.0.clone()).or_default();
        sum.add(series, scheme.metrics());
    }
}

/// The labels and sums of which a metric is shown.
fn shown<S: Sum>(sums: &Added<S>, metric: Metric) -> impl Iterator<Item = (Vec<(&str, &str)>, &S)> {
    sums.iter().flat_map(move |(names, series)| {
        let series = series.iter().filter(move |(_, sum)| sum.shown().contains(&metric));
        series.map(|(values, sum)| {
            let pairs = names.iter().zip(values).map(|(name, value)| (&**name, &**value));
            (pairs.collect(), sum)
        })
    })
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
    shown: BTreeSet<Metric>,
    total: u64,
    duration: HistogramSum,
    request: HistogramSum,
    response: HistogramSum,
}

impl Sum for RequestSum {
    type Series = RequestSeries;

    fn shown(&self) -> &BTreeSet<Metric> {
        &self.shown
    }

    fn add(&mut self, series: &RequestSeries, metrics: &[Metric]) {
        self.shown.extend(metrics);
        self.total += series.total.read();
        self.duration.add(&series.duration);
        self.request.add(&series.request);
        self.response.add(&series.response);
    }
}

#[derive(Default)]
struct ConnectionSum {
    shown: BTreeSet<Metric>,
    opened: u64,
    closed: u64,
    received: u64,
    sent: u64,
}

impl Sum for ConnectionSum {
    type Series = ConnectionSeries;

    fn shown(&self) -> &BTreeSet<Metric> {
        &self.shown
    }

    fn add(&mut self, series: &ConnectionSeries, metrics: &[Metric]) {
        self.shown.extend(metrics);
        self.opened += series.opened.read();
        self.closed += series.closed.read();
        self.received += series.received.read();
        self.sent += series.sent.read();
    }
}

type RequestHistogram = (Metric, &'static str, &'static str, fn(&RequestSum) -> &HistogramSum);
type ConnectionCounter = (Metric, &'static str, &'static str, fn(&ConnectionSum) -> u64);

const REQUEST_HISTOGRAMS: [RequestHistogram; 3] = [
    (Metric::RequestDuration, "istio_request_duration_milliseconds", "Duration of requests", |sum| {
        &sum.duration
    }),
    (Metric::RequestSize, "istio_request_bytes", "Body sizes of requests", |sum| &sum.request),
    (Metric::ResponseSize, "istio_response_bytes", "Body sizes of responses", |sum| &sum.response),
];

const CONNECTION_COUNTERS: [ConnectionCounter; 4] = [
    (Metric::ConnectionsOpened, "istio_tcp_connections_opened", "Connections opened", |sum| sum.opened),
    (Metric::ConnectionsClosed, "istio_tcp_connections_closed", "Connections closed", |sum| sum.closed),
    (Metric::BytesReceived, "istio_tcp_received_bytes", "Bytes received from the client", |sum| sum.received),
    (Metric::BytesSent, "istio_tcp_sent_bytes", "Bytes sent to the client", |sum| sum.sent),
];

/// What one scrape shows.
pub(super) struct Scrape(pub(super) Arc<Metrics>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sums = Sums::of(&self.0);
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
    let counted: Vec<_> = shown(&sums.requests, Metric::RequestCount).collect();
    if !counted.is_empty() {
        let mut metric =
            encoder.encode_descriptor("istio_requests", "Requests handled", None, MetricType::Counter)?;
        for (labels, sum) in counted {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&sum.total, None)?;
        }
    }
    for (which, name, help, pick) in REQUEST_HISTOGRAMS {
        let observed: Vec<_> = shown(&sums.requests, which).collect();
        if observed.is_empty() {
            continue;
        }
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, sum) in observed {
            encode_histogram(&mut metric.encode_family(&labels)?, pick(sum))?;
        }
    }
    Ok(())
}

fn encode_connections(encoder: &mut DescriptorEncoder<'_>, sums: &Sums) -> Result<(), fmt::Error> {
    for (which, name, help, pick) in CONNECTION_COUNTERS {
        let counted: Vec<_> = shown(&sums.connections, which).collect();
        if counted.is_empty() {
            continue;
        }
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, sum) in counted {
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&pick(sum), None)?;
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

#[expect(clippy::cast_precision_loss, reason = "OpenMetrics sums are floating point")]
fn encode_histogram(metric: &mut MetricEncoder<'_>, histogram: &HistogramSum) -> Result<(), fmt::Error> {
    let bounds = BUCKETS.iter().copied().chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(histogram.buckets).collect();
    let count = histogram.buckets.iter().sum();
    metric.encode_histogram::<NoLabelSet>(histogram.sum as f64 / 1000.0, count, &buckets, None)
}
