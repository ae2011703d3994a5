//! The mesh's settings as they hold for one workload: mesh configuration, with Telemetry over it.

use mesh_core::model::{
    AccessLog, AccessLogFormat, MeshSettings, Millis, OutboundPolicy, PathNormalization, PerMillion, Role,
    Tracing,
};

use super::proxy_config;
use super::scope::Scope;
use crate::api::Item;
use crate::api::core::Pod;
use crate::api::mesh_config::{AccessLogEncoding, NormalizationType, ProxyConfig};
use crate::api::meta::selects;
use crate::api::networking::{OutboundMode, Sidecar};
use crate::api::telemetry::{AccessLogging, Telemetry};
use crate::world::World;

/// Where the access log goes when nobody says.
const STANDARD_OUTPUT: &str = "/dev/stdout";
/// How long a drain waits when nobody says (Istio's `terminationDrainDuration`).
const DRAIN: Millis = Millis::seconds(5);
/// Share of traces when nobody says, in percent (Istio's).
const SAMPLING: f64 = 1.0;

/// The settings for a pod's proxy.
pub fn of(scope: &Scope<'_>, pod: &Item<'_, Pod>, role: Role) -> MeshSettings {
    let config = scope.world.mesh_config();
    let proxy = proxy_config::of(config, pod);
    let telemetries = telemetries(scope.world, pod);
    let topology = &proxy.gateway_topology;
    MeshSettings {
        trust_domain: config.trust_domain.clone(),
        trust_domain_aliases: config.trust_domain_aliases.clone(),
        access_log: access_log(scope.world, &telemetries),
        tracing: tracing(scope, &proxy, &telemetries),
        path_normalization: match config.path_normalization.normalization {
            NormalizationType::Default | NormalizationType::Base => PathNormalization::Base,
            NormalizationType::None => PathNormalization::None,
            NormalizationType::MergeSlashes => PathNormalization::MergeSlashes,
            NormalizationType::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
        },
        trusted_proxies: u8::try_from(topology.num_trusted_proxies).unwrap_or(u8::MAX),
        proxy_protocol: role.is_gateway() && topology.proxy_protocol.is_some(),
        headers: proxy_config::headers(&proxy, role),
        drain_timeout: proxy.termination_drain_duration.map_or(DRAIN, |time| time.get().into()),
    }
}

/// What becomes of traffic to undeclared destinations: the workload's Sidecar says, else the mesh configuration.
pub fn outbound_policy(scope: &Scope<'_>) -> OutboundPolicy {
    let sidecar = scope.client.sidecar.and_then(|sidecar| {
        scope.world.get::<Sidecar>(&sidecar.key.namespace, &sidecar.key.name).map(|item| item.spec)
    });
    let own = sidecar.and_then(|sidecar| sidecar.outbound_traffic_policy.as_ref());
    let policy = own.or_else(|| scope.world.mesh_config().outbound_traffic_policy.as_ref());
    match policy.and_then(|policy| policy.mode) {
        Some(OutboundMode::RegistryOnly) => OutboundPolicy::RegistryOnly,
        Some(OutboundMode::AllowAny) | None => OutboundPolicy::AllowAny,
    }
}

/// Telemetry objects for a pod: the mesh's, the namespace's, the workload's; one of each, the oldest.
fn telemetries<'w>(world: &'w World, pod: &Item<'_, Pod>) -> Vec<Item<'w, Telemetry>> {
    let all = world.oldest_first::<Telemetry>();
    let find = |namespace: &str, workload: bool| {
        all.iter().copied().find(|telemetry| {
            let selector =
                telemetry.spec.selector.as_ref().filter(|selector| !selector.match_labels.is_empty());
            // What is meant for a gateway or service alone must not become everybody's.
            let targeted = telemetry.spec.target_ref.is_some() || !telemetry.spec.target_refs.is_empty();
            telemetry.namespace() == namespace
                && !targeted
                && selector.map_or(!workload, |selector| {
                    workload && selects(&selector.match_labels, &pod.object.meta.labels)
                })
        })
    };
    let root = &world.mesh_config().root_namespace;
    let namespace = (pod.namespace() != root).then(|| find(pod.namespace(), false)).flatten();
    [find(root, false), namespace, find(pod.namespace(), true)].into_iter().flatten().collect()
}

fn access_log(world: &World, telemetries: &[Item<'_, Telemetry>]) -> Option<AccessLog> {
    let config = world.mesh_config();
    let narrowest = telemetries.iter().rev().find_map(|telemetry| telemetry.spec.access_logging.first());
    if narrowest.is_some_and(|logging| logging.disabled == Some(true)) {
        return None;
    }
    if let Some(log) = narrowest.and_then(|logging| provided_log(world, logging)) {
        return Some(log);
    }
    let format = match config.access_log_encoding {
        AccessLogEncoding::Json => AccessLogFormat::Json,
        AccessLogEncoding::Text => {
            AccessLogFormat::Text(Some(config.access_log_format.clone()).filter(|format| !format.is_empty()))
        }
    };
    let path = if config.access_log_file.is_empty() { STANDARD_OUTPUT } else { &config.access_log_file };
    Some(AccessLog { path: path.to_owned(), format })
}

fn provided_log(world: &World, logging: &AccessLogging) -> Option<AccessLog> {
    let providers = &world.mesh_config().extension_providers;
    let named =
        logging.providers.iter().find_map(|named| providers.iter().find(|it| it.name == named.name))?;
    let file = named.envoy_file_access_log.as_ref()?;
    let format = match &file.log_format {
        Some(format) if format.labels.is_some() => AccessLogFormat::Json,
        Some(format) => AccessLogFormat::Text(format.text.clone()),
        None => AccessLogFormat::Text(None),
    };
    Some(AccessLog { path: file.path.clone(), format })
}

fn tracing(scope: &Scope<'_>, proxy: &ProxyConfig, telemetries: &[Item<'_, Telemetry>]) -> Option<Tracing> {
    let config = scope.world.mesh_config();
    let levels = || telemetries.iter().rev().flat_map(|telemetry| telemetry.spec.tracing.first());
    if levels().find_map(|level| level.disable_span_reporting) == Some(true) {
        return None;
    }
    let named = levels().find_map(|level| level.providers.first()).map(|provider| provider.name.as_str());
    let name = named.or_else(|| config.default_providers.tracing.first().map(String::as_str))?;
    let provider = config.extension_providers.iter().find(|provider| provider.name == name)?;
    let service = provider.opentelemetry.as_ref()?;
    let percent = levels().find_map(|level| level.random_sampling_percentage);
    let percent = percent.or_else(|| proxy.tracing.as_ref().and_then(|tracing| tracing.sampling));
    Some(Tracing {
        endpoint: format!("http://{}", provider_address(scope, &service.service, service.port)),
        sampling: PerMillion::percent(percent.unwrap_or(SAMPLING)),
    })
}

/// Where a provider's service is: one of its pods, since proxies dial it without the help of a service address; else its
/// name as it is written, `namespace/host` or `host`.
fn provider_address(scope: &Scope<'_>, service: &str, port: u16) -> String {
    let host = service.split_once('/').map_or(service, |(_, host)| host);
    let cluster = super::cluster::name(port, "", &super::scope::qualify(host, scope.root_namespace()));
    let endpoints = super::cluster::by_name(scope, &cluster).map(|(_, endpoints)| endpoints.endpoints);
    match endpoints.unwrap_or_default().first().map(|endpoint| &endpoint.address) {
        Some(mesh_core::model::EndpointAddress::Socket(address)) => address.to_string(),
        _ => format!("{host}:{port}"),
    }
}
