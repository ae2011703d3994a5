//! What a proxy itself is: identity, inbound ports, mutual TLS, settings.

use mesh_core::identity::SpiffeId;
use mesh_core::model::{
    AccessLog, AccessLogFormat, Host, InboundPort, MeshSettings, Millis, MtlsMode, OutboundPolicy, Own,
    PathNormalization, PerMillion, Role, Tracing, Workload,
};

use super::{authz, cluster, gateway, hosts};
use crate::api::Item;
use crate::api::core::{Pod, Service};
use crate::api::mesh_config::{AccessLogEncoding, NormalizationType, TraceProvider};
use crate::api::meta::selects;
use crate::api::networking::{OutboundMode, Sidecar};
use crate::api::security::{MtlsMode as Mode, PeerAuthentication};
use crate::api::telemetry::Telemetry;
use crate::view::Proxy;
use crate::world::{PodEndpoint, World, service_protocol, target_port};

/// Says that a pod runs our sidecar: written by the injector and by `mesh up`.
const INJECTED: &str = "sidecar.istio.io/status";

/// Whether a pod has a proxy that speaks mesh TLS.
pub fn is_meshed(pod: &Item<'_, Pod>) -> bool {
    let containers = pod.spec.spec.containers.iter().chain(&pod.spec.spec.init_containers);
    pod.object.meta.annotation(INJECTED).is_some()
        || containers.map(|c| &c.name).any(|name| name == "istio-proxy")
}

/// A proxy's own configuration; `None` while its pod is not known.
pub fn own(world: &World, proxy: &Proxy) -> Option<Own> {
    let pod = world.get::<Pod>(&proxy.namespace, &proxy.pod)?;
    let trust_domain = &world.mesh_config().trust_domain;
    Some(Own {
        role: proxy.role,
        identity: SpiffeId::new(trust_domain, &proxy.namespace, &proxy.service_account).ok()?,
        workload: workload(&pod),
        mesh: settings(world),
        inbound: if proxy.role.is_gateway() { Vec::new() } else { inbound(world, &pod) },
        default_mtls: mtls_mode(world, &pod, 0),
        authorization: authz::policies(world, &pod),
        listeners: if proxy.role.is_gateway() {
            gateway::listeners(world, &pod, proxy.role)
        } else {
            Vec::new()
        },
        outbound_policy: outbound_policy(world, &pod),
    })
}

/// A pod's facts.
pub fn workload(pod: &Item<'_, Pod>) -> Workload {
    let address = pod.status.pod_ip.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into());
    cluster::workload(&PodEndpoint { pod: *pod, address, port: 0, ready: true })
}

fn inbound(world: &World, pod: &Item<'_, Pod>) -> Vec<InboundPort> {
    let mut ports: Vec<InboundPort> = Vec::new();
    for service in world.services_of(pod) {
        ports.extend(service.spec.ports.iter().filter_map(|port| inbound_port(world, pod, &service, port)));
    }
    ports.sort_by(|a, b| (a.port, a.service.as_str()).cmp(&(b.port, b.service.as_str())));
    ports.dedup_by_key(|port| port.port);
    ports
}

fn inbound_port(
    world: &World,
    pod: &Item<'_, Pod>,
    service: &Item<'_, Service>,
    port: &crate::api::core::ServicePort,
) -> Option<InboundPort> {
    let number = target_port(port, pod.spec)?;
    Some(InboundPort {
        port: number,
        protocol: service_protocol(port)?,
        mtls: mtls_mode(world, pod, number),
        service: Host::parse(&hosts::service_host(service)).ok()?,
        service_name: service.name().to_owned(),
        service_namespace: service.namespace().to_owned(),
    })
}

/// Mutual TLS on a port of a workload: its own policy, then the namespace's, then the mesh's; the oldest in each;
/// `UNSET` inherits; PERMISSIVE when nobody says anything (semantics 30).
pub fn mtls_mode(world: &World, pod: &Item<'_, Pod>, port: u16) -> MtlsMode {
    let policies = world.oldest_first::<PeerAuthentication>();
    let labels = cluster::labels(pod);
    let root = &world.mesh_config().root_namespace;
    let selector = |policy: &Item<'_, PeerAuthentication>| {
        policy
            .selector
            .as_ref()
            .map(|selector| selector.match_labels.clone())
            .filter(|labels| !labels.is_empty())
    };
    let mode = |mode: Mode| match mode {
        Mode::Unset => None,
        Mode::Disable => Some(MtlsMode::Disable),
        Mode::Permissive => Some(MtlsMode::Permissive),
        Mode::Strict => Some(MtlsMode::Strict),
    };
    let whole = |policy: &Item<'_, PeerAuthentication>| policy.mtls.and_then(|mtls| mode(mtls.mode));
    let own = policies.iter().find(|policy| {
        policy.namespace() == pod.namespace()
            && selector(policy).is_some_and(|wanted| selects(&wanted, labels))
    });
    let scoped = |namespace: &str| {
        policies.iter().find(|policy| policy.namespace() == namespace && selector(policy).is_none())
    };
    own.and_then(|policy| {
        policy.port_level_mtls.get(&port).and_then(|mtls| mode(mtls.mode)).or_else(|| whole(policy))
    })
    .or_else(|| scoped(pod.namespace()).and_then(whole))
    .or_else(|| scoped(root).and_then(whole))
    .unwrap_or_default()
}

fn outbound_policy(world: &World, pod: &Item<'_, Pod>) -> OutboundPolicy {
    let root = &world.mesh_config().root_namespace;
    let sidecars = world.oldest_first::<Sidecar>();
    let applies = |sidecar: &&Item<'_, Sidecar>, namespace: &str| {
        let selected =
            sidecar.workload_selector.as_ref().is_none_or(|s| selects(&s.labels, cluster::labels(pod)));
        sidecar.namespace() == namespace && selected
    };
    let sidecar = sidecars
        .iter()
        .filter(|sidecar| applies(sidecar, pod.namespace()))
        .min_by_key(|sidecar| sidecar.workload_selector.is_none())
        .or_else(|| sidecars.iter().find(|sidecar| applies(sidecar, root)));
    let policy = sidecar
        .and_then(|sidecar| sidecar.outbound_traffic_policy.as_ref())
        .or(world.mesh_config().outbound_traffic_policy.as_ref());
    match policy.and_then(|policy| policy.mode) {
        Some(OutboundMode::RegistryOnly) => OutboundPolicy::RegistryOnly,
        _ => OutboundPolicy::AllowAny,
    }
}

fn settings(world: &World) -> MeshSettings {
    let config = world.mesh_config();
    let drain =
        config.default_config.termination_drain_duration.map_or(Millis::seconds(5), |d| d.get().into());
    MeshSettings {
        trust_domain: config.trust_domain.clone(),
        trust_domain_aliases: config.trust_domain_aliases.clone(),
        access_log: Some(access_log(world)),
        tracing: tracing(world),
        path_normalization: match config.path_normalization.normalization {
            NormalizationType::None => PathNormalization::None,
            NormalizationType::Default | NormalizationType::Base => PathNormalization::Base,
            NormalizationType::MergeSlashes => PathNormalization::MergeSlashes,
            NormalizationType::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
        },
        trusted_proxies: u8::try_from(config.default_config.gateway_topology.num_trusted_proxies)
            .unwrap_or(u8::MAX),
        drain_timeout: drain,
    }
}

/// To standard output unless MeshConfig names a file, as Istio's demo profile does.
fn access_log(world: &World) -> AccessLog {
    let config = world.mesh_config();
    let path = if config.access_log_file.is_empty() { "/dev/stdout" } else { &config.access_log_file };
    let template = (!config.access_log_format.is_empty()).then(|| config.access_log_format.clone());
    let format = match config.access_log_encoding {
        AccessLogEncoding::Json => AccessLogFormat::Json,
        AccessLogEncoding::Text => AccessLogFormat::Text(template),
    };
    AccessLog { path: path.to_owned(), format }
}

/// The provider that a mesh-wide Telemetry names, else MeshConfig's default; 1 % unless somebody says another share.
fn tracing(world: &World) -> Option<Tracing> {
    let config = world.mesh_config();
    let root = &config.root_namespace;
    let telemetries = world.oldest_first::<Telemetry>();
    let wide =
        telemetries.iter().filter(|telemetry| telemetry.namespace() == root && telemetry.selector.is_none());
    let tracing = wide.flat_map(|telemetry| &telemetry.spec.tracing).next();
    if tracing.is_some_and(|tracing| tracing.disable_span_reporting == Some(true)) {
        return None;
    }
    let named = tracing.and_then(|tracing| tracing.providers.first()).map(|provider| &provider.name);
    let name = named.or(config.default_providers.tracing.first())?;
    let provider = config.extension_providers.iter().find(|provider| provider.name == *name)?;
    let endpoint = reach(world, provider.opentelemetry.as_ref()?)?;
    let share = tracing.and_then(|tracing| tracing.random_sampling_percentage);
    let default = config.default_config.tracing.as_ref().and_then(|tracing| tracing.sampling);
    Some(Tracing { endpoint, sampling: PerMillion::percent(share.or(default).unwrap_or(1.0)) })
}

/// Proxies dial a ready pod of the provider themselves: their own traffic is not captured. Another host is dialled by
/// name.
fn reach(world: &World, provider: &TraceProvider) -> Option<String> {
    let host = provider.service.rsplit('/').next()?;
    let Some(service) = hosts::service(world, host, &world.mesh_config().root_namespace) else {
        return Some(format!("http://{host}:{}", provider.port));
    };
    let port = service.spec.ports.iter().find(|port| port.port == provider.port)?;
    let endpoint = world.endpoints_of(&service, port).into_iter().next()?;
    Some(format!("http://{}:{}", endpoint.address, endpoint.port))
}

/// Whether a role is played by this pod: gateways are told by their labels (D9).
pub fn is_ingress_gateway(pod: &Item<'_, Pod>, role: Role) -> bool {
    role == Role::Ingress && cluster::labels(pod).get("istio").is_some_and(|value| value == "ingressgateway")
}
