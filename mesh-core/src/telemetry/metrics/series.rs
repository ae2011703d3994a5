//! The series that one worker writes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use super::Metrics;
use super::recent::Recent;
use super::scheme::Scheme;
use crate::model::{Metric, MetricChange, Side};
use crate::telemetry::labels::{Borrowed, COUNT, Labels, TCP_COUNT, values};
use crate::telemetry::record::{Record, RequestProtocol};

/// Label sets that one worker holds at most of each scheme.
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

/// One worker's series. Locked by the worker only to add a series, and by a scrape.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) requests: Table<RequestSeries>,
    pub(super) connections: Table<ConnectionSeries>,
}

/// Series, each with the scheme of its labels.
pub(super) type Table<S> = Vec<(Arc<Scheme>, Labels, Arc<S>)>;

/// A number that one thread writes and others read: an add is a load and a store.
#[derive(Debug, Default)]
pub(super) struct Owned(AtomicU64);

impl Owned {
    pub(super) fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    pub(super) fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[derive(Debug, Default)]
pub(super) struct Histogram {
    pub(super) buckets: [Owned; BUCKETS.len() + 1],
    /// In thousandths, so that a plain add sums fractions of a millisecond.
    pub(super) sum: Owned,
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
pub(super) struct RequestSeries {
    pub(super) total: Owned,
    pub(super) duration: Histogram,
    pub(super) request: Histogram,
    pub(super) response: Histogram,
}

impl RequestSeries {
    fn observe(&self, record: &Record) {
        self.total.add(1);
        self.duration.observe(u64::try_from(record.duration.as_micros()).unwrap_or(u64::MAX));
        self.request.observe(record.received.saturating_mul(1000));
        self.response.observe(record.sent.saturating_mul(1000));
    }
}

#[derive(Debug, Default)]
pub(super) struct ConnectionSeries {
    pub(super) opened: Owned,
    pub(super) closed: Owned,
    pub(super) received: Owned,
    pub(super) sent: Owned,
}

/// The worker's own index of its series.
pub(in crate::telemetry) struct SeriesCache {
    tables: Arc<Mutex<Tables>>,
    changes: Vec<MetricChange>,
    /// While nothing is changed: labels that settings add may depend on anything.
    recent: Recent<RequestSeries>,
    requests: Groups<RequestSeries>,
    connections: Groups<ConnectionSeries>,
}

const REQUESTS: [Metric; 4] =
    [Metric::RequestCount, Metric::RequestDuration, Metric::RequestSize, Metric::ResponseSize];
const CONNECTIONS: [Metric; 4] =
    [Metric::ConnectionsOpened, Metric::ConnectionsClosed, Metric::BytesSent, Metric::BytesReceived];

impl SeriesCache {
    pub(in crate::telemetry) fn new(metrics: &Metrics) -> Self {
        let tables = Arc::<Mutex<Tables>>::default();
        metrics.workers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&tables));
        let requests = Groups::new(&REQUESTS, COUNT, &[]);
        let connections = Groups::new(&CONNECTIONS, TCP_COUNT, &[]);
        Self { tables, changes: Vec::new(), recent: Recent::new(), requests, connections }
    }

    /// Takes other changes of the standard into use. Series of schemes that go are no longer shown.
    pub(in crate::telemetry) fn follow(&mut self, changes: &[MetricChange]) {
        if self.changes == changes {
            return;
        }
        self.changes = changes.to_vec();
        self.recent.clear();
        self.requests.replace(Groups::new(&REQUESTS, COUNT, changes));
        self.connections.replace(Groups::new(&CONNECTIONS, TCP_COUNT, changes));
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.requests.retain(|(scheme, ..)| self.requests.knows(scheme));
        tables.connections.retain(|(scheme, ..)| self.connections.knows(scheme));
    }

    pub(in crate::telemetry) fn record_request(&mut self, record: &Record) {
        if let Some(series) = self.recent.get(record) {
            return series.observe(record);
        }
        let mut status = itoa::Buffer::new();
        let mut grpc = itoa::Buffer::new();
        let grpc = match (record.protocol, record.grpc_status) {
            (RequestProtocol::Grpc, Some(code)) => grpc.format(code),
            _ => "",
        };
        let labels = values(record, status.format(record.status), grpc);
        let tables = &self.tables;
        let publish = |scheme, labels, series| {
            tables.lock().unwrap_or_else(PoisonError::into_inner).requests.push((scheme, labels, series));
        };
        for group in self.requests.of(record.side()) {
            let series = group.series(&labels, record, publish);
            series.observe(record);
            if self.changes.is_empty() {
                self.recent.put(record, series);
            }
        }
    }

    pub(in crate::telemetry) fn record_open(&mut self, record: &Record) {
        self.each_connection(record, |series| series.opened.add(1));
    }

    pub(in crate::telemetry) fn record_close(&mut self, record: &Record) {
        self.each_connection(record, |series| {
            series.closed.add(1);
            series.received.add(record.received);
            series.sent.add(record.sent);
        });
    }

    fn each_connection(&mut self, record: &Record, write: impl Fn(&ConnectionSeries)) {
        let labels = values(record, "", "");
        let tables = &self.tables;
        let publish = |scheme, labels, series| {
            tables.lock().unwrap_or_else(PoisonError::into_inner).connections.push((scheme, labels, series));
        };
        for group in self.connections.of(record.side()) {
            write(&group.series(&labels[..TCP_COUNT], record, publish));
        }
    }
}

/// The schemes of both sides with their series: one each, unless settings change metrics.
struct Groups<S> {
    client: Vec<Group<S>>,
    server: Vec<Group<S>>,
}

struct Group<S> {
    scheme: Arc<Scheme>,
    series: HashMap<Labels, Arc<S>>,
}

impl<S: Default> Groups<S> {
    fn new(metrics: &[Metric], labels: usize, changes: &[MetricChange]) -> Self {
        let side = |side| {
            let schemes = Scheme::all(metrics, labels, side, changes).into_iter();
            schemes.map(|scheme| Group { scheme: Arc::new(scheme), series: HashMap::new() }).collect()
        };
        Self { client: side(Side::Client), server: side(Side::Server) }
    }

    fn of(&mut self, side: Side) -> &mut [Group<S>] {
        match side {
            Side::Server => &mut self.server,
            Side::Client | Side::Both => &mut self.client,
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Group<S>> {
        self.client.iter_mut().chain(&mut self.server)
    }

    /// Series of schemes that stay go on.
    fn replace(&mut self, mut next: Self) {
        for group in next.all() {
            if let Some(before) = self.all().find(|before| before.scheme == group.scheme) {
                std::mem::swap(group, before);
            }
        }
        *self = next;
    }

    fn knows(&self, scheme: &Scheme) -> bool {
        self.client.iter().chain(&self.server).any(|group| *group.scheme == *scheme)
    }
}

impl<S: Default> Group<S> {
    /// The series of a record, whose standard labels are given.
    fn series(
        &mut self,
        standard: &[&str],
        record: &Record,
        publish: impl FnOnce(Arc<Scheme>, Labels, Arc<S>),
    ) -> Arc<S> {
        let scheme = &self.scheme;
        let publish = |labels, series| publish(Arc::clone(scheme), labels, series);
        if !scheme.is_changed() {
            return find(&mut self.series, standard, publish);
        }
        let values = scheme.values(standard, record);
        let labels: Vec<&str> = values.iter().map(|value| &**value).collect();
        find(&mut self.series, &labels, publish)
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
    let overflow: Vec<&str>;
    let labels = if cache.len() >= MAX_SERIES {
        overflow = vec!["overflow"; labels.len()];
        &overflow
    } else {
        labels
    };
    if let Some(series) = cache.get(&Borrowed(labels)) {
        return Arc::clone(series);
    }
    let (owned, series) = (Borrowed(labels).to_owned(), Arc::<S>::default());
    publish(owned.clone(), Arc::clone(&series));
    cache.insert(owned, Arc::clone(&series));
    series
}
