//! Tracing.

use std::collections::BTreeMap;

use mesh_core::model::{PerMillion, Side, SpanTag, Template, Tracing};

use super::{SIDES, matches};
use crate::api::mesh_config::{ExtensionProvider, ProxyTracing, TraceProvider};
use crate::api::telemetry::{CustomTag, Telemetry};
use crate::translate::cluster;
use crate::translate::scope::{Scope, qualify};

/// Share of traces when nobody says, in percent (Istio's).
const SAMPLING: f64 = 1.0;

/// What the levels say of one side; later ones over earlier ones, field by field.
#[derive(Default)]
struct Said<'a> {
    provider: Option<&'a str>,
    disabled: bool,
    sampling: Option<f64>,
    tags: Option<&'a BTreeMap<String, CustomTag>>,
    by_request_id: Option<bool>,
    istio_tags: Option<bool>,
    keep_headers: bool,
}

/// How a workload traces: the same on both sides, or one of each; `defaults` are its proxy's configuration.
pub(super) fn merged(
    scope: &Scope<'_>,
    levels: &[&Telemetry],
    defaults: Option<&ProxyTracing>,
) -> Vec<Tracing> {
    let sides = SIDES.map(|side| tracing(scope, &said(scope, levels, side), defaults, side));
    match sides {
        [Some(client), Some(server)] if (Tracing { side: server.side, ..client.clone() }) == server => {
            vec![Tracing { side: Side::Both, ..client }]
        }
        sides => sides.into_iter().flatten().collect(),
    }
}

fn said<'a>(scope: &Scope<'a>, levels: &[&'a Telemetry], side: Side) -> Said<'a> {
    let defaults = &scope.world.mesh_config().default_providers.tracing;
    let mut said = Said { provider: defaults.first().map(String::as_str), ..Said::default() };
    for entry in levels.iter().flat_map(|level| &level.tracing) {
        if !matches(entry.matches.as_ref().map(|it| it.mode).unwrap_or_default(), side) {
            continue;
        }
        // One provider for each side, as in Istio.
        said.provider = entry.providers.first().map(|provider| provider.name.as_str()).or(said.provider);
        said.disabled = entry.disable_span_reporting.unwrap_or(said.disabled);
        said.sampling = entry.random_sampling_percentage.or(said.sampling);
        said.tags = Some(&entry.custom_tags).filter(|tags| !tags.is_empty()).or(said.tags);
        said.by_request_id = entry.use_request_id_for_trace_sampling.or(said.by_request_id);
        said.istio_tags = entry.enable_istio_tags.or(said.istio_tags);
        said.keep_headers = entry.disable_context_propagation.unwrap_or(said.keep_headers);
    }
    said
}

/// Nothing when there is nothing to say: no spans, and headers as usual.
fn tracing(
    scope: &Scope<'_>,
    said: &Said<'_>,
    defaults: Option<&ProxyTracing>,
    side: Side,
) -> Option<Tracing> {
    let config = scope.world.mesh_config();
    let named = config.extension_providers.iter().find(|it| Some(it.name.as_str()) == said.provider);
    let provider = named.and_then(receiver).filter(|_| !said.disabled);
    if provider.is_none() && !said.keep_headers {
        return None;
    }
    let percent = said.sampling.or_else(|| defaults.and_then(|tracing| tracing.sampling)).unwrap_or(SAMPLING);
    let tags = said.tags.or_else(|| defaults.map(|tracing| &tracing.custom_tags));
    let longest = provider.and_then(|provider| provider.max_tag_length);
    Some(Tracing {
        side,
        endpoint: provider
            .map(|provider| format!("http://{}", address(scope, &provider.service, provider.port))),
        // Nobody takes the spans of this side, so none are recorded on its account.
        sampling: if provider.is_some() { PerMillion::percent(percent) } else { PerMillion::NEVER },
        by_request_id: said.by_request_id.unwrap_or(true),
        keep_headers: said.keep_headers,
        istio_tags: said.istio_tags.unwrap_or(true),
        longest_path: longest.or_else(|| defaults.and_then(|tracing| tracing.max_path_tag_length)),
        tags: tags
            .into_iter()
            .flatten()
            .filter_map(|(name, tag)| Some((name.clone(), span_tag(tag)?)))
            .collect(),
    })
}

/// Where a provider takes spans, if it is one that we can send to.
pub(super) fn receiver(provider: &ExtensionProvider) -> Option<&TraceProvider> {
    provider.opentelemetry.as_ref().filter(|receiver| receiver.http.is_none())
}

fn span_tag(tag: &CustomTag) -> Option<SpanTag> {
    let default = |value: &String| Some(value.clone()).filter(|value| !value.is_empty());
    if let Some(literal) = &tag.literal {
        return Some(SpanTag::Text(literal.value.clone()));
    }
    if let Some(format) = &tag.formatter {
        return Some(SpanTag::Format(Template::read(&format.value).0));
    }
    if let Some(variable) = &tag.environment {
        return Some(SpanTag::Environment(variable.name.clone(), default(&variable.default_value)));
    }
    let header = tag.header.as_ref()?;
    let name = header.name.to_ascii_lowercase();
    let shown = !mesh_core::model::template::is_credential(&name);
    shown.then(|| SpanTag::Header(name, default(&header.default_value)))
}

/// Where a provider's service is: one of its pods, since proxies dial it without the help of a service address; else its
/// name as it is written, `namespace/host` or `host`.
fn address(scope: &Scope<'_>, service: &str, port: u16) -> String {
    let host = service.split_once('/').map_or(service, |(_, host)| host);
    let cluster = cluster::name(port, "", &qualify(host, scope.root_namespace()));
    let endpoints = cluster::by_name(scope, &cluster).map(|(_, endpoints)| endpoints.endpoints);
    match endpoints.unwrap_or_default().first().map(|endpoint| &endpoint.address) {
        Some(mesh_core::model::EndpointAddress::Socket(address)) => address.to_string(),
        _ => format!("{host}:{port}"),
    }
}
