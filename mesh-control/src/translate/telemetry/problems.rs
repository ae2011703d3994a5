//! What of Telemetry and of the mesh configuration's providers is not carried out.

use mesh_core::model::Template;
use serde_json::Value;

use super::{logs, metrics, spans};
use crate::api::MeshConfig;
use crate::api::core::ConfigMap;
use crate::api::mesh_config::{AccessLogEncoding, ExtensionProvider};
use crate::api::telemetry::{CustomTag, Metrics, MetricsOverride, Telemetry, Tracing};
use crate::problem::Problem;
use crate::world::World;

/// All of it, object by object.
pub(in crate::translate) fn all(world: &World, problems: &mut Vec<Problem>) {
    let config = world.mesh_config();
    for item in world.all::<Telemetry>() {
        let mut told = Vec::new();
        telemetry(config, item.spec, &mut told);
        problems.extend(crate::problem::worst(told).into_iter().map(|problem| item.object.blame(problem)));
    }
    if let Some(map) = world.get::<ConfigMap>("istio-system", "istio") {
        let mut told = Vec::new();
        mesh_config(config, &mut told);
        problems.extend(crate::problem::worst(told).into_iter().map(|problem| map.object.blame(problem)));
    }
}

fn telemetry(config: &MeshConfig, spec: &Telemetry, told: &mut Vec<Problem>) {
    if spec.target_ref.is_some() || !spec.target_refs.is_empty() {
        told.push(Problem::error("spec.targetRefs", "not supported yet; the whole object has no effect"));
    }
    for (at, entry) in spec.access_logging.iter().enumerate() {
        let at = format!("spec.accessLogging[{at}]");
        for (p, provider) in entry.providers.iter().enumerate() {
            let defined = config.extension_providers.iter().find(|it| it.name == provider.name);
            if defined.is_some_and(|it| it.envoy_file_access_log.is_none()) {
                let message = format!("provider {:?} is no file; only files are logged to", provider.name);
                told.push(Problem::error(format!("{at}.providers[{p}].name"), message));
            }
        }
        let filter = entry.filter.as_ref().map(|filter| logs::condition(&filter.expression));
        if let Some(Err(reason)) = filter {
            let message = format!("{reason}; everything is logged");
            told.push(Problem::error(format!("{at}.filter.expression"), message));
        }
    }
    for (at, entry) in spec.tracing.iter().enumerate() {
        let before = spec.tracing[..at].iter().any(|before| modes_meet(before, entry));
        if before {
            let message = "for the same side as an entry before it; what both say, this one says";
            told.push(Problem::warning(format!("spec.tracing[{at}]"), message));
        }
        tracing(config, entry, &format!("spec.tracing[{at}]"), told);
    }
    for (at, entry) in spec.metrics.iter().enumerate() {
        of_metrics(config, entry, &format!("spec.metrics[{at}]"), told);
    }
}

/// Whether two entries are for one side.
fn modes_meet(one: &Tracing, other: &Tracing) -> bool {
    let mode = |entry: &Tracing| entry.matches.as_ref().map(|it| it.mode).unwrap_or_default();
    super::SIDES.iter().any(|&side| super::matches(mode(one), side) && super::matches(mode(other), side))
}

fn tracing(config: &MeshConfig, entry: &Tracing, at: &str, told: &mut Vec<Problem>) {
    let defined = entry
        .providers
        .first()
        .and_then(|named| config.extension_providers.iter().find(|provider| provider.name == named.name));
    if defined.is_some_and(|provider| spans::receiver(provider).is_none()) {
        let message = "spans are sent to providers of kind opentelemetry over gRPC only; none are sent";
        told.push(Problem::error(format!("{at}.providers[0].name"), message));
    }
    if entry.providers.len() > 1 {
        let message = "one provider takes spans, the first; the others have no effect";
        told.push(Problem::warning(format!("{at}.providers"), message));
    }
    custom_tags(entry.custom_tags.iter(), &format!("{at}.customTags"), told);
}

fn custom_tags<'a>(
    tags: impl Iterator<Item = (&'a String, &'a CustomTag)>,
    at: &str,
    told: &mut Vec<Problem>,
) {
    for (name, tag) in tags {
        if let Some(format) = &tag.formatter {
            template(&format.value, &format!("{at}.{name}.formatter.value"), told);
        }
        if let Some(header) = &tag.header
            && mesh_core::model::template::is_credential(&header.name)
        {
            let message = "the header carries credentials and is not put into spans";
            told.push(Problem::error(format!("{at}.{name}.header.name"), message));
        }
    }
}

fn of_metrics(config: &MeshConfig, entry: &Metrics, at: &str, told: &mut Vec<Problem>) {
    for (p, provider) in entry.providers.iter().enumerate() {
        let defined = config.extension_providers.iter().any(|it| it.name == provider.name);
        let built_in = ["envoy", "stackdriver"].contains(&provider.name.as_str());
        if (defined || built_in) && !metrics::is_prometheus(config, &provider.name) {
            let message = "metrics are for Prometheus to scrape only; no effect";
            told.push(Problem::error(format!("{at}.providers[{p}].name"), message));
        }
    }
    if entry.reporting_interval.is_some() {
        let message = "not supported; bytes of a connection are counted when it closes";
        told.push(Problem::warning(format!("{at}.reportingInterval"), message));
    }
    for (o, change) in entry.overrides.iter().enumerate() {
        metric_override(change, &format!("{at}.overrides[{o}]"), told);
    }
}

fn metric_override(change: &MetricsOverride, at: &str, told: &mut Vec<Problem>) {
    let selector = change.matches.as_ref();
    if selector.is_some_and(|selector| selector.custom_metric.is_some()) {
        let message = "there are no metrics beside the standard ones; the override has no effect";
        told.push(Problem::error(format!("{at}.match.customMetric"), message));
    }
    if let Some(name) = selector.and_then(|selector| selector.metric.as_deref())
        && name != "ALL_METRICS"
        && metrics::metric(name).is_none()
    {
        let message = format!("metric {name} is not reported; the override has no effect");
        told.push(Problem::error(format!("{at}.match.metric"), message));
    }
    for (name, tag) in &change.tag_overrides {
        if let Err(reason) = metrics::label(name, tag) {
            let message = format!("{reason}; the label stays as it is");
            told.push(Problem::error(format!("{at}.tagOverrides.{name}"), message));
        }
    }
}

fn mesh_config(config: &MeshConfig, told: &mut Vec<Problem>) {
    let format = &config.access_log_format;
    let at = "data.mesh.accessLogFormat";
    match config.access_log_encoding {
        _ if format.is_empty() => {}
        AccessLogEncoding::Text => template(format, at, told),
        AccessLogEncoding::Json => match logs::json_format(format) {
            Some(labels) => templates(&labels, at, told),
            None => told.push(Problem::error(at, "not a JSON object; the default keys are written")),
        },
    }
    for (p, provider) in config.extension_providers.iter().enumerate() {
        of_provider(provider, &format!("data.mesh.extensionProviders[{p}]"), told);
    }
    if let Some(tracing) = &config.default_config.tracing {
        custom_tags(tracing.custom_tags.iter(), "data.mesh.defaultConfig.tracing.customTags", told);
    }
    for (d, name) in config.default_providers.tracing.iter().enumerate() {
        let defined = config.extension_providers.iter().find(|provider| provider.name == *name);
        if defined.and_then(spans::receiver).is_none() {
            let message = "not a provider of kind opentelemetry over gRPC; no spans are sent";
            told.push(Problem::error(format!("data.mesh.defaultProviders.tracing[{d}]"), message));
        }
    }
    for (d, name) in config.default_providers.metrics.iter().enumerate() {
        if !metrics::is_prometheus(config, name) {
            let message = "not a provider of kind prometheus; no metrics are for it";
            told.push(Problem::error(format!("data.mesh.defaultProviders.metrics[{d}]"), message));
        }
    }
    for (d, name) in config.default_providers.access_logging.iter().enumerate() {
        if !logs::is_file(config, name) {
            let message = "not a provider of kind envoyFileAccessLog; nothing is logged for it";
            told.push(Problem::error(format!("data.mesh.defaultProviders.accessLogging[{d}]"), message));
        }
    }
}

fn of_provider(provider: &ExtensionProvider, at: &str, told: &mut Vec<Problem>) {
    if let Some(format) = provider.envoy_file_access_log.as_ref().and_then(|file| file.log_format.as_ref()) {
        if let Some(text) = &format.text {
            template(text, &format!("{at}.envoyFileAccessLog.logFormat.text"), told);
        }
        if let Some(labels) = &format.labels {
            templates(labels, &format!("{at}.envoyFileAccessLog.logFormat.labels"), told);
        }
    }
    let spans = provider.opentelemetry.as_ref();
    let unsupported = [
        (provider.zipkin.is_some(), "zipkin", "send spans to an opentelemetry provider"),
        (provider.envoy_otel_als.is_some(), "envoyOtelAls", "logs go to files only"),
        (spans.is_some_and(|spans| spans.http.is_some()), "opentelemetry.http", "spans are sent over gRPC"),
        (spans.is_some_and(|spans| !spans.path.is_empty()), "opentelemetry.path", "gRPC has one path"),
        (
            spans.is_some_and(|spans| spans.resource_detectors.is_some()),
            "opentelemetry.resourceDetectors",
            "the workload's own facts are sent",
        ),
    ];
    for (_, field, instead) in unsupported.into_iter().filter(|(set, ..)| *set) {
        let message = format!("not supported; {instead}");
        told.push(Problem::warning(format!("{at}.{field}"), message));
    }
}

fn templates(labels: &Value, at: &str, told: &mut Vec<Problem>) {
    match labels {
        Value::String(text) => template(text, at, told),
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| templates(value, &format!("{at}.{name}"), told));
        }
        Value::Array(values) => {
            let each = |(index, value): (usize, &Value)| templates(value, &format!("{at}[{index}]"), told);
            values.iter().enumerate().for_each(each);
        }
        _ => {}
    }
}

fn template(text: &str, at: &str, told: &mut Vec<Problem>) {
    for unsupported in Template::read(text).1 {
        told.push(Problem::warning(at, format!("{}: {}", unsupported.command, unsupported.reason)));
    }
}
