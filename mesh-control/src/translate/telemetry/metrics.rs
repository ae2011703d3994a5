//! Changes to metrics.

use std::collections::BTreeMap;

use mesh_core::model::{Expression, Metric, MetricChange, Side};

use super::{SIDES, matches};
use crate::api::MeshConfig;
use crate::api::telemetry::{Metrics, MetricsOverride, TagOperation, TagOverride, Telemetry};

/// What the levels say of one metric on one side.
#[derive(Default)]
struct Said<'a> {
    disabled: bool,
    tags: BTreeMap<&'a str, &'a TagOverride>,
}

/// How a workload's metrics differ from the standard; Istio's `mergeMetrics`.
pub(super) fn merged(config: &MeshConfig, levels: &[&Telemetry]) -> Vec<MetricChange> {
    let mut said = BTreeMap::<(Metric, Side), Said<'_>>::new();
    let mut ours = by_default(config);
    for metrics in levels.iter().flat_map(|level| &level.metrics) {
        ours = is_ours(config, metrics).unwrap_or(ours);
        for change in metrics.overrides.iter().filter(|_| ours) {
            for key in keys(change) {
                let said = said.entry(key).or_default();
                said.disabled = change.disabled.unwrap_or(said.disabled);
                said.tags.extend(change.tag_overrides.iter().map(|(name, tag)| (name.as_str(), tag)));
            }
        }
    }
    let changes = said.into_iter().map(|((metric, side), said)| MetricChange {
        metric,
        side,
        disabled: said.disabled,
        labels: said
            .tags
            .into_iter()
            .filter_map(|(name, tag)| Some((name.to_owned(), label(name, tag).ok()?)))
            .collect(),
    });
    changes.filter(|change| change.disabled || !change.labels.is_empty()).collect()
}

fn by_default(config: &MeshConfig) -> bool {
    let defaults = &config.default_providers.metrics;
    defaults.is_empty() || defaults.iter().any(|name| is_prometheus(config, name))
}

/// Whether an entry is for the metrics that we expose; nothing when it names no provider.
fn is_ours(config: &MeshConfig, metrics: &Metrics) -> Option<bool> {
    let named = &metrics.providers;
    (!named.is_empty()).then(|| named.iter().any(|provider| is_prometheus(config, &provider.name)))
}

/// Whether a provider is scraped: Istio's `prometheus`, or one that the mesh configuration defines so.
pub(super) fn is_prometheus(config: &MeshConfig, name: &str) -> bool {
    match config.extension_providers.iter().find(|it| it.name == name) {
        Some(defined) => defined.prometheus.is_some(),
        None => name == "prometheus",
    }
}

fn keys(change: &MetricsOverride) -> impl Iterator<Item = (Metric, Side)> {
    let selector = change.matches.as_ref();
    let mode = selector.map(|selector| selector.mode).unwrap_or_default();
    let none = selector.is_some_and(|selector| selector.custom_metric.is_some());
    let metrics = match selector.and_then(|selector| selector.metric.as_deref()) {
        _ if none => Vec::new(),
        None | Some("ALL_METRICS") => Metric::ALL.to_vec(),
        Some(name) => metric(name).into_iter().collect(),
    };
    let of_sides = move |metric| {
        SIDES.into_iter().filter(move |&side| matches(mode, side)).map(move |side| (metric, side))
    };
    metrics.into_iter().flat_map(of_sides)
}

/// The metric of this name of the API.
pub(super) fn metric(name: &str) -> Option<Metric> {
    Some(match name {
        "REQUEST_COUNT" => Metric::RequestCount,
        "REQUEST_DURATION" => Metric::RequestDuration,
        "REQUEST_SIZE" => Metric::RequestSize,
        "RESPONSE_SIZE" => Metric::ResponseSize,
        "TCP_OPENED_CONNECTIONS" => Metric::ConnectionsOpened,
        "TCP_CLOSED_CONNECTIONS" => Metric::ConnectionsClosed,
        "TCP_SENT_BYTES" => Metric::BytesSent,
        "TCP_RECEIVED_BYTES" => Metric::BytesReceived,
        _ => return None,
    })
}

/// What becomes of a label: an expression's value, or nothing. The error says why it stays as it is.
pub(super) fn label(name: &str, tag: &TagOverride) -> Result<Option<Expression>, String> {
    let plain = |(at, byte): (usize, u8)| {
        byte == b'_' || byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit())
    };
    if name.is_empty() || !name.bytes().enumerate().all(plain) || name.starts_with("__") || name == "le" {
        return Err("not a name that a label may have".to_owned());
    }
    match tag.operation {
        TagOperation::Remove => Ok(None),
        TagOperation::Upsert => tag.value.parse().map(Some).map_err(|error| format!("{error}")),
    }
}
