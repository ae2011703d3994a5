//! Clusters with their endpoints: a service's port or one of its subsets, and the DestinationRules that apply.

use std::net::SocketAddr;

use mesh_core::identity::SpiffeId;
use mesh_core::model::{
    Cluster, ClusterTls, ConnectionPool, ConsistentHash, Endpoint, EndpointAddress, Endpoints, HashKey, Host,
    LoadBalancer, Locality, Millis, MtlsMode, Origin, OutlierDetection, PerMillion, Protocol, Transport,
    Weight, Workload,
};

use super::{hosts, own};
use crate::api::core::{Pod, Service, ServicePort};
use crate::api::meta::{StringMap, selects};
use crate::api::networking::{
    ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, DestinationRule, LoadBalancerSettings,
    OutlierDetection as Outliers, SimpleLoadBalancer, TrafficPolicy,
};
use crate::api::{Duration, Item};
use crate::world::{PodEndpoint, World, service_protocol, target_port};

/// Kubernetes' name for the one cluster there is, as metrics label it.
const CLUSTER: &str = "Kubernetes";

/// The name of a cluster, as Istio forms it.
pub fn name(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// A service's port, or one subset of it, as a client in `namespace` reaches it. `None` when no rule defines the subset.
pub fn of_service(
    world: &World,
    service: &Item<'_, Service>,
    port: &ServicePort,
    subset: &str,
    namespace: &str,
) -> Option<(Cluster, Endpoints)> {
    let host = hosts::service_host(service);
    let rules = destination_rules(world, &host, service.namespace(), namespace);
    let chosen = rules.iter().flat_map(|rule| &rule.subsets).find(|candidate| candidate.name == subset);
    if !subset.is_empty() && chosen.is_none() {
        return None;
    }
    let top = rules.iter().find_map(|rule| rule.traffic_policy.as_ref());
    let policy = Policy::of(top, chosen.and_then(|subset| subset.traffic_policy.as_ref()), port.port);
    let labels = chosen.map(|subset| &subset.labels);
    let name = name(port.port, subset, &host);
    let members = world.endpoints_of(service, port);
    let endpoints = members
        .iter()
        .filter(|member| labels.is_none_or(|labels| selects(labels, member.labels())))
        .map(|member| endpoint(world, member))
        .collect();
    let cluster = Cluster {
        name: name.clone(),
        service: Host::parse(&host).ok()?,
        service_name: service.name().to_owned(),
        service_namespace: service.namespace().to_owned(),
        port: port.port,
        subset: (!subset.is_empty()).then(|| subset.to_owned()),
        protocol: service_protocol(port)?,
        external: false,
        load_balancer: policy.load_balancer.map(load_balancer).unwrap_or_default(),
        pool: policy.pool.map(pool).unwrap_or_default(),
        outlier: policy.outliers.map(outlier_detection),
        tls: policy.tls.map(tls).unwrap_or_default(),
        origin: rules.first().map(|rule| origin(rule)),
    };
    Some((cluster, Endpoints { cluster: name, endpoints }))
}

/// One pod by its own address, as clients of headless services and of single pods dial it.
pub fn of_pod(world: &World, pod: &Item<'_, Pod>, address: SocketAddr) -> Option<(Cluster, Endpoints)> {
    let service = world.services_of(pod).find(|service| port_of(service, pod.spec, address.port()).is_some());
    let (host, protocol) = match &service {
        Some(service) => {
            let port = port_of(service, pod.spec, address.port())?;
            (hosts::service_host(service), service_protocol(port)?)
        }
        None => (address.ip().to_string(), Protocol::Detect),
    };
    let name = name(address.port(), "", &address.ip().to_string());
    let member = PodEndpoint { pod: *pod, address: address.ip(), port: address.port(), ready: true };
    let cluster = Cluster {
        name: name.clone(),
        service: Host::parse(&host).ok()?,
        service_name: service.as_ref().map_or(pod.name(), Item::name).to_owned(),
        service_namespace: pod.namespace().to_owned(),
        port: address.port(),
        subset: None,
        protocol,
        external: false,
        load_balancer: LoadBalancer::default(),
        pool: ConnectionPool::default(),
        outlier: None,
        tls: ClusterTls::Auto,
        origin: None,
    };
    Some((cluster, Endpoints { cluster: name, endpoints: vec![endpoint(world, &member)] }))
}

/// The port of a service that leads to this port of a pod.
pub fn port_of<'w>(service: &Item<'w, Service>, pod: &Pod, number: u16) -> Option<&'w ServicePort> {
    service.spec.ports.iter().find(|port| target_port(port, pod) == Some(number))
}

fn endpoint(world: &World, member: &PodEndpoint<'_>) -> Endpoint {
    let mode = own::mtls_mode(world, &member.pod, member.port);
    let meshed = own::is_meshed(&member.pod) && mode != MtlsMode::Disable;
    let trust_domain = &world.mesh_config().trust_domain;
    let identity = SpiffeId::new(trust_domain, member.pod.namespace(), member.service_account()).ok();
    let locality = member.locality();
    let mut parts = locality.split('/').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    Endpoint {
        address: EndpointAddress::Socket(SocketAddr::new(member.address, member.port)),
        weight: Weight(1),
        transport: if meshed { Transport::MeshTls } else { Transport::Plain },
        identity,
        workload: workload(member),
        locality: Locality { region: part(), zone: part(), subzone: part() },
    }
}

/// A pod's facts, as metrics label them.
pub fn workload(member: &PodEndpoint<'_>) -> Workload {
    let label = |name: &str| member.labels().get(name).cloned();
    let workload = member.workload().to_owned();
    Workload {
        pod: member.pod.name().to_owned(),
        uid: member.uid().to_owned(),
        namespace: member.pod.namespace().to_owned(),
        app: label("app").or_else(|| label("app.kubernetes.io/name")).unwrap_or_else(|| workload.clone()),
        version: label("version").unwrap_or_else(|| "latest".to_owned()),
        workload,
        cluster: CLUSTER.to_owned(),
    }
}

/// The rules for a host: of the client's namespace, else the service's, else the root namespace's; in the first that has
/// one, those with the most specific host, oldest first (semantics 25).
fn destination_rules<'w>(
    world: &'w World,
    host: &str,
    owner: &str,
    namespace: &str,
) -> Vec<Item<'w, DestinationRule>> {
    let root = &world.mesh_config().root_namespace;
    for place in [namespace, owner, root] {
        let mut rules: Vec<_> = world
            .oldest_first::<DestinationRule>()
            .into_iter()
            .filter(|rule| rule.namespace() == place && rule.workload_selector.is_none())
            .filter(|rule| hosts::is_exported(&rule.export_to, place, namespace))
            .map(|rule| (hosts::resolve(&rule.host, place), rule))
            .filter(|(pattern, _)| hosts::covers(pattern, host))
            .collect();
        let Some(best) = rules.iter().map(|(pattern, _)| hosts::specificity(pattern)).max() else { continue };
        rules.retain(|(pattern, _)| hosts::specificity(pattern) == best);
        return rules.into_iter().map(|(_, rule)| rule).collect();
    }
    Vec::new()
}

/// The policy blocks that hold for one port of one subset.
#[derive(Default)]
struct Policy<'w> {
    load_balancer: Option<&'w LoadBalancerSettings>,
    pool: Option<&'w ConnectionPoolSettings>,
    outliers: Option<&'w Outliers>,
    tls: Option<&'w ClientTlsSettings>,
}

impl<'w> Policy<'w> {
    /// A subset inherits block by block; port-level settings replace everything at their level (semantics 26).
    fn of(top: Option<&'w TrafficPolicy>, subset: Option<&'w TrafficPolicy>, port: u16) -> Self {
        let (top, subset) = (Self::at(top, port), Self::at(subset, port));
        Self {
            load_balancer: subset.load_balancer.or(top.load_balancer),
            pool: subset.pool.or(top.pool),
            outliers: subset.outliers.or(top.outliers),
            tls: subset.tls.or(top.tls),
        }
    }

    fn at(policy: Option<&'w TrafficPolicy>, port: u16) -> Self {
        let Some(policy) = policy else { return Self::default() };
        match policy.port_level_settings.iter().find(|level| level.port.number == port) {
            Some(level) => Self {
                load_balancer: level.load_balancer.as_ref(),
                pool: level.connection_pool.as_ref(),
                outliers: level.outlier_detection.as_ref(),
                tls: level.tls.as_ref(),
            },
            None => Self {
                load_balancer: policy.load_balancer.as_ref(),
                pool: policy.connection_pool.as_ref(),
                outliers: policy.outlier_detection.as_ref(),
                tls: policy.tls.as_ref(),
            },
        }
    }
}

fn load_balancer(settings: &LoadBalancerSettings) -> LoadBalancer {
    if let Some(hash) = &settings.consistent_hash {
        return consistent_hash(hash).map_or(LoadBalancer::Random, LoadBalancer::ConsistentHash);
    }
    match settings.simple {
        Some(SimpleLoadBalancer::RoundRobin) => LoadBalancer::RoundRobin,
        Some(SimpleLoadBalancer::Random) => LoadBalancer::Random,
        Some(SimpleLoadBalancer::Passthrough) => LoadBalancer::OriginalDestination,
        Some(
            SimpleLoadBalancer::LeastRequest
            | SimpleLoadBalancer::LeastConn
            | SimpleLoadBalancer::Unspecified,
        )
        | None => LoadBalancer::LeastRequest,
    }
}

fn consistent_hash(hash: &crate::api::networking::ConsistentHash) -> Option<ConsistentHash> {
    let key = if let Some(header) = &hash.http_header_name {
        HashKey::Header(header.to_ascii_lowercase())
    } else if let Some(cookie) = &hash.http_cookie {
        HashKey::Cookie {
            name: cookie.name.clone(),
            path: (!cookie.path.is_empty()).then(|| cookie.path.clone()),
            ttl: cookie.ttl.map(millis),
        }
    } else if hash.use_source_ip == Some(true) {
        HashKey::SourceAddress
    } else {
        HashKey::QueryParameter(hash.http_query_parameter_name.clone()?)
    };
    let ring = hash.ring_hash.map(|ring| ring.minimum_ring_size.unwrap_or(1024));
    let size = |size: u64| u32::try_from(size).unwrap_or(u32::MAX);
    let minimum_ring_size = match (hash.maglev, ring.or(hash.minimum_ring_size)) {
        (Some(_), _) => None,
        (None, ring) => Some(size(ring.unwrap_or(1024))),
    };
    Some(ConsistentHash { key, minimum_ring_size })
}

fn millis(duration: Duration) -> Millis {
    duration.get().into()
}

fn pool(settings: &ConnectionPoolSettings) -> ConnectionPool {
    let limit =
        |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok()).filter(|&value| value > 0);
    let mut pool = ConnectionPool::default();
    if let Some(tcp) = &settings.tcp {
        pool.max_connections = limit(tcp.max_connections);
        pool.connect_timeout = tcp.connect_timeout.map_or(pool.connect_timeout, millis);
        pool.idle_timeout = tcp.idle_timeout.map_or(pool.idle_timeout, millis);
    }
    if let Some(http) = &settings.http {
        pool.max_pending_requests = limit(http.http1_max_pending_requests);
        pool.max_requests = limit(http.http2_max_requests);
        pool.max_requests_per_connection = limit(http.max_requests_per_connection);
        pool.max_retries = limit(http.max_retries);
        pool.idle_timeout = http.idle_timeout.map_or(pool.idle_timeout, millis);
    }
    pool
}

/// Istio's defaults, and D4: the deprecated `consecutiveErrors` stands for both counts that are not given.
fn outlier_detection(outliers: &Outliers) -> OutlierDetection {
    let deprecated = outliers.consecutive_errors.and_then(|count| u32::try_from(count).ok());
    let percent = |value: Option<i32>, default: f64| PerMillion::percent(value.map_or(default, f64::from));
    OutlierDetection {
        consecutive_5xx: outliers.consecutive_5xx_errors.or(deprecated).unwrap_or(5),
        consecutive_gateway_errors: outliers.consecutive_gateway_errors.or(deprecated).unwrap_or(0),
        interval: outliers.interval.map_or(Millis::seconds(10), millis),
        base_ejection_time: outliers.base_ejection_time.map_or(Millis::seconds(30), millis),
        max_ejection: percent(outliers.max_ejection_percent, 10.0),
        min_health: percent(outliers.min_health_percent, 0.0),
    }
}

/// A rule's TLS always wins over auto mTLS (semantics 31).
fn tls(settings: &ClientTlsSettings) -> ClusterTls {
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    match settings.mode {
        ClientTlsMode::Disable => ClusterTls::Disabled,
        ClientTlsMode::IstioMutual => ClusterTls::Mesh,
        ClientTlsMode::Simple | ClientTlsMode::Mutual => ClusterTls::Originate {
            sni: given(&settings.sni),
            subject_alt_names: settings.subject_alt_names.clone(),
            trust_anchors: given(&settings.credential_name).or_else(|| given(&settings.ca_certificates)),
            client_certificate: given(&settings.credential_name)
                .or_else(|| given(&settings.client_certificate)),
            insecure_skip_verify: settings.insecure_skip_verify == Some(true),
        },
    }
}

fn origin(rule: &Item<'_, DestinationRule>) -> Origin {
    Origin {
        kind: "DestinationRule".to_owned(),
        namespace: rule.namespace().to_owned(),
        name: rule.name().to_owned(),
        field: String::new(),
    }
}

/// The labels of a pod, which selectors look at.
pub fn labels<'w>(pod: &Item<'w, Pod>) -> &'w StringMap {
    &pod.object.meta.labels
}
