//! Access logs.

use std::collections::{BTreeMap, BTreeSet};

use mesh_core::model::{AccessLog, AccessLogFormat, Expression, Label, Side, Template};
use serde_json::Value;

use super::{SIDES, matches};
use crate::api::MeshConfig;
use crate::api::mesh_config::{AccessLogEncoding, FileAccessLog};
use crate::api::telemetry::{AccessLogging, LogFilter, ProviderRef, Telemetry};

/// The log of the mesh configuration as a provider: Istio defines it under this name.
pub(super) const BUILT_IN: &str = "envoy";
/// Where the access log goes when nobody says.
const STANDARD_OUTPUT: &str = "/dev/stdout";

/// The logs of a workload: one for each provider and filter.
pub(super) fn merged(config: &MeshConfig, levels: &[&Telemetry]) -> Vec<AccessLog> {
    let [client, server] = SIDES.map(|side| providers(config, levels, side));
    let mut logs = Vec::new();
    for (name, filter) in &client {
        let side = if server.get(name) == Some(filter) { Side::Both } else { Side::Client };
        logs.extend(log(config, name, *filter, side));
    }
    for (name, filter) in server.iter().filter(|(name, filter)| client.get(*name) != Some(filter)) {
        logs.extend(log(config, name, *filter, Side::Server));
    }
    logs
}

type Providers<'a> = BTreeMap<&'a str, Option<&'a LogFilter>>;

/// The providers of a side and their filters, as Istio's `mergeLogs` has them.
fn providers<'a>(config: &'a MeshConfig, levels: &[&'a Telemetry], side: Side) -> Providers<'a> {
    let defaults = defaults(config);
    let entries = || levels.iter().flat_map(|level| &level.access_logging);
    let on_side =
        |entry: &AccessLogging| matches(entry.matches.as_ref().map(|it| it.mode).unwrap_or_default(), side);
    // Who only turns things off has not asked for less anywhere else.
    let only_less = entries().all(|entry| entry.disabled == Some(true));
    let mut result: Providers<'a> = defaults.iter().filter(|_| only_less).map(|&name| (name, None)).collect();

    let mut in_scope: BTreeSet<&str> = defaults.iter().copied().collect();
    for level in levels {
        let named: BTreeSet<&str> = level
            .access_logging
            .iter()
            .filter(|it| on_side(it))
            .flat_map(|it| names(&it.providers))
            .collect();
        if !named.is_empty() {
            in_scope = named;
        }
    }
    let mut parents = defaults;
    for entry in entries() {
        let own: Vec<&str> = names(&entry.providers).collect();
        if !own.is_empty() {
            parents = own;
        }
        for &provider in parents.iter().filter(|name| in_scope.contains(**name) && on_side(entry)) {
            if entry.disabled == Some(true) {
                result.remove(provider);
            } else {
                result.insert(provider, entry.filter.as_ref());
            }
        }
    }
    result
}

fn names(providers: &[ProviderRef]) -> impl Iterator<Item = &str> {
    providers.iter().map(|provider| provider.name.as_str())
}

fn defaults(config: &MeshConfig) -> Vec<&str> {
    let named = &config.default_providers.access_logging;
    if named.is_empty() { vec![BUILT_IN] } else { named.iter().map(String::as_str).collect() }
}

/// Whether a provider writes to a file: the built-in one, or one that the mesh configuration defines so.
pub(super) fn is_file(config: &MeshConfig, name: &str) -> bool {
    match config.extension_providers.iter().find(|it| it.name == name) {
        Some(defined) => defined.envoy_file_access_log.is_some(),
        None => name == BUILT_IN,
    }
}

/// A provider's log; none for a provider that does not exist or is no file.
fn log(config: &MeshConfig, provider: &str, filter: Option<&LogFilter>, side: Side) -> Option<AccessLog> {
    let defined = config.extension_providers.iter().find(|it| it.name == provider);
    let (path, format) = match defined {
        Some(defined) => of_file(defined.envoy_file_access_log.as_ref()?),
        None if provider == BUILT_IN => built_in(config),
        None => return None,
    };
    let filter = filter.and_then(|filter| condition(&filter.expression).ok());
    Some(AccessLog { path, format, side, filter })
}

/// The log that the mesh configuration itself describes.
fn built_in(config: &MeshConfig) -> (String, AccessLogFormat) {
    let written = Some(config.access_log_format.as_str()).filter(|format| !format.is_empty());
    let format = match config.access_log_encoding {
        AccessLogEncoding::Text => AccessLogFormat::Text(written.map(|text| Template::read(text).0)),
        AccessLogEncoding::Json => {
            written.and_then(json_format).map_or(AccessLogFormat::Json, |labels| self::labels(&labels))
        }
    };
    (path(&config.access_log_file), format)
}

/// The labels of a JSON log that are written as JSON themselves.
pub(super) fn json_format(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().filter(Value::is_object)
}

fn of_file(file: &FileAccessLog) -> (String, AccessLogFormat) {
    let format = file.log_format.as_ref();
    let text = || format.and_then(|format| format.text.as_ref()).map(|text| Template::read(text).0);
    let labels = format.and_then(|format| format.labels.as_ref());
    // Labels without any are Istio's own.
    let format = match labels {
        Some(Value::Object(fields)) if fields.is_empty() => AccessLogFormat::Json,
        Some(fields) => self::labels(fields),
        None => AccessLogFormat::Text(text()),
    };
    (path(&file.path), format)
}

fn path(path: &str) -> String {
    if path.is_empty() { STANDARD_OUTPUT.to_owned() } else { path.to_owned() }
}

fn labels(fields: &Value) -> AccessLogFormat {
    match label(fields) {
        Label::Object(labels) => AccessLogFormat::Labels(labels),
        Label::Text(_) | Label::List(_) => AccessLogFormat::Json,
    }
}

fn label(value: &Value) -> Label {
    match value {
        Value::Object(fields) => {
            Label::Object(fields.iter().map(|(name, value)| (name.clone(), label(value))).collect())
        }
        Value::Array(values) => Label::List(values.iter().map(label).collect()),
        Value::String(text) => Label::Text(Template::read(text).0),
        other => Label::Text(Template::read(&other.to_string()).0),
    }
}

/// A filter's expression, which must be a condition.
pub(super) fn condition(text: &str) -> Result<Expression, String> {
    let expression: Expression = text.parse().map_err(|error| format!("{error}"))?;
    match expression.is_condition() {
        true => Ok(expression),
        false => Err("not a condition: it must hold or not, as response.code >= 400 does".to_owned()),
    }
}
