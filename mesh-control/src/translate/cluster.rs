//! Clusters: a service's port or subset with the policy for reaching it.

mod balancing;
mod unsupported;

use mesh_core::model::{
    Cluster, ClusterTls, ConnectionPool, HostPattern, Keepalive, LoadBalancer, Millis, OutlierDetection,
    PerMillion,
};

use super::catalog::{Port, Service};
use super::destination_rule::{Effective, Merged, for_service};
use super::endpoints;
use super::scope::Scope;
use crate::api::networking::{
    self, ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, H2UpgradePolicy, LoadBalancerSettings,
    Resolution, ServiceEntry, SimpleLoadBalancer,
};

pub use unsupported::unsupported;

/// The name of a cluster, as Istio's.
pub fn name(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// The parts of a cluster's name: port, subset and host.
pub fn parts(name: &str) -> Option<(u16, &str, &str)> {
    let mut parts = name.strip_prefix("outbound|")?.splitn(3, '|');
    let port = parts.next()?.parse().ok()?;
    Some((port, parts.next()?, parts.next()?))
}

/// The cluster of a name with its endpoints, if its service, port and subset exist and the client may see them.
pub fn by_name(scope: &Scope<'_>, name: &str) -> Option<(Cluster, mesh_core::model::Endpoints)> {
    if !name.starts_with("outbound|") {
        return super::ingress::upstream::by_name(scope, name);
    }
    let (port, subset, host) = parts(name)?;
    let named = scope.catalog.find_text(host, port, scope.sight());
    // Where a rule leads is reached even if the client may not name it.
    let found = named.or_else(|| scope.catalog.find_text(host, port, scope.client.namespace));
    let Some((service, port)) = found else {
        return super::sidecar::pod_cluster(scope, name);
    };
    let merged = for_service(scope, service);
    let subset = match subset {
        "" => None,
        named => Some(merged.subset(named)?),
    };
    let labels = subset.map(|subset| &subset.labels);
    let cluster = build(scope, service, port, subset, &merged);
    let mut endpoints = endpoints::of_port(scope, service, port, labels);
    endpoints::keep_labels(&mut endpoints, &cluster);
    Some((cluster, mesh_core::model::Endpoints { cluster: name.to_owned(), endpoints }))
}

fn build(
    scope: &Scope<'_>,
    service: &Service,
    port: &Port,
    subset: Option<&networking::Subset>,
    merged: &Merged<'_>,
) -> Cluster {
    let policy = merged.policy_for(subset, port.number);
    let subset = subset.map(|subset| subset.name.clone());
    Cluster {
        name: name(port.number, subset.as_deref().unwrap_or_default(), &service.host_text()),
        service: host(service),
        service_name: service.name.clone(),
        service_namespace: service.namespace.clone(),
        port: port.number,
        subset,
        protocol: port.protocol,
        external: service.external,
        load_balancer: load_balancer(policy.load_balancer, resolution(scope, service)),
        locality: balancing::locality(scope, &policy),
        warm_up: balancing::warm_up(policy.load_balancer),
        pool: pool(scope, policy.connection_pool),
        outlier: policy.outlier_detection.map(outlier),
        tls: tls(scope, service, &policy),
        origin: merged.origin.clone(),
    }
}

/// The host of a service; of a wildcard the part below the star.
pub(super) fn host(service: &Service) -> mesh_core::model::Host {
    match &service.host {
        HostPattern::Exact(host) | HostPattern::Suffix(host) | HostPattern::OneLabel(host) => host.clone(),
        HostPattern::Any => mesh_core::model::Host::parse("any").expect("a plain word is a host"),
    }
}

fn resolution(scope: &Scope<'_>, service: &Service) -> Option<Resolution> {
    if service.is_kubernetes() {
        return None;
    }
    let entry = scope.world.get::<ServiceEntry>(&service.namespace, &service.key.name)?;
    Some(entry.resolution)
}

fn load_balancer(settings: Option<&LoadBalancerSettings>, resolution: Option<Resolution>) -> LoadBalancer {
    if matches!(resolution, Some(Resolution::None | Resolution::DynamicDns)) {
        return LoadBalancer::OriginalDestination;
    }
    let Some(settings) = settings else { return LoadBalancer::default() };
    if let Some(hash) = settings.consistent_hash.as_ref().and_then(balancing::consistent_hash) {
        return LoadBalancer::ConsistentHash(hash);
    }
    match settings.simple {
        Some(SimpleLoadBalancer::RoundRobin) => LoadBalancer::RoundRobin,
        Some(SimpleLoadBalancer::Random) => LoadBalancer::Random,
        Some(SimpleLoadBalancer::Passthrough) => LoadBalancer::OriginalDestination,
        Some(
            SimpleLoadBalancer::Unspecified
            | SimpleLoadBalancer::LeastRequest
            | SimpleLoadBalancer::LeastConn,
        )
        | None => LoadBalancer::LeastRequest,
    }
}

/// Numbers that are zero or less mean no limit.
fn limit(number: Option<i32>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0)
}

fn pool(scope: &Scope<'_>, settings: Option<&ConnectionPoolSettings>) -> ConnectionPool {
    let mut pool = ConnectionPool::default();
    if let Some(timeout) = scope.world.mesh_config().connect_timeout {
        pool.connect_timeout = timeout.get().into();
    }
    let Some(settings) = settings else { return pool };
    if let Some(tcp) = &settings.tcp {
        pool.max_connections = limit(tcp.max_connections);
        pool.connect_timeout =
            tcp.connect_timeout.map_or(pool.connect_timeout, |timeout| timeout.get().into());
        pool.tcp_idle_timeout =
            tcp.idle_timeout.map_or(pool.tcp_idle_timeout, |timeout| timeout.get().into());
        pool.max_connection_duration = tcp.max_connection_duration.map(|time| time.get().into());
        pool.keepalive = tcp.tcp_keepalive.as_ref().map(|keepalive| Keepalive {
            probes: keepalive.probes,
            time: keepalive.time.map(|time| time.get().into()),
            interval: keepalive.interval.map(|time| time.get().into()),
        });
    }
    if let Some(http) = &settings.http {
        pool.max_pending_requests = limit(http.http1_max_pending_requests);
        pool.max_requests = limit(http.http2_max_requests);
        pool.max_requests_per_connection = limit(http.max_requests_per_connection);
        pool.max_retries = limit(http.max_retries);
        pool.max_concurrent_streams = limit(http.max_concurrent_streams);
        pool.upgrade = http.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade);
        pool.use_client_protocol = http.use_client_protocol == Some(true);
        pool.idle_timeout = http.idle_timeout.map_or(pool.idle_timeout, |timeout| timeout.get().into());
    }
    pool
}

/// D4: the deprecated `consecutiveErrors` sets both counts unless they are given.
fn outlier(settings: &networking::OutlierDetection) -> OutlierDetection {
    let deprecated = settings.consecutive_errors.and_then(|errors| u32::try_from(errors).ok());
    let percent =
        |percent: Option<i32>, fallback: i32| PerMillion::percent(percent.unwrap_or(fallback).into());
    OutlierDetection {
        consecutive_5xx: settings.consecutive_5xx_errors.or(deprecated).unwrap_or(5),
        consecutive_gateway_errors: settings.consecutive_gateway_errors.or(deprecated).unwrap_or(0),
        interval: settings.interval.map_or(Millis::seconds(10), |interval| interval.get().into()),
        base_ejection_time: settings.base_ejection_time.map_or(Millis::seconds(30), |time| time.get().into()),
        max_ejection: percent(settings.max_ejection_percent, 10),
        min_health: percent(settings.min_health_percent, 0),
        local_origin_failures: (settings.split_external_local_origin_errors == Some(true))
            .then(|| settings.consecutive_local_origin_failures.unwrap_or(5)),
    }
}

/// A rule's `tls` wins always; without one mesh TLS is used where the endpoint offers it (semantics.md 31).
fn tls(scope: &Scope<'_>, service: &Service, policy: &Effective<'_>) -> ClusterTls {
    let Some(settings) = policy.tls else {
        let auto = scope.world.mesh_config().enable_auto_mtls;
        return if auto { ClusterTls::Auto } else { ClusterTls::Disabled };
    };
    match settings.mode {
        ClientTlsMode::Disable => ClusterTls::Disabled,
        ClientTlsMode::IstioMutual => ClusterTls::Mesh { sni: given(&settings.sni) },
        ClientTlsMode::Simple | ClientTlsMode::Mutual => originate(scope, service, settings),
    }
}

fn given(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

/// A rule that lists no names takes those of the ServiceEntry.
fn originate(scope: &Scope<'_>, service: &Service, settings: &ClientTlsSettings) -> ClusterTls {
    let given = |text: &str| given(text).filter(|text| text != "system");
    let secret = given(&settings.credential_name)
        .map(|name| format!("{}/{}", scope.client.namespace, name.trim_start_matches("kubernetes://")));
    let mutual = settings.mode == ClientTlsMode::Mutual;
    let file = |text: &str| given(text).filter(|_| mutual && secret.is_none());
    let entry = || scope.world.get::<ServiceEntry>(&service.namespace, &service.key.name);
    let names = match settings.subject_alt_names.as_slice() {
        [] if !service.is_kubernetes() => {
            entry().map(|entry| entry.subject_alt_names.clone()).unwrap_or_default()
        }
        names => names.to_vec(),
    };
    ClusterTls::Originate {
        sni: given(&settings.sni),
        subject_alt_names: names,
        trust_anchors: secret.clone().or_else(|| given(&settings.ca_certificates)),
        client_certificate: secret.clone().filter(|_| mutual).or_else(|| file(&settings.client_certificate)),
        private_key: file(&settings.private_key),
        insecure_skip_verify: settings.insecure_skip_verify == Some(true),
    }
}

/// Whether the rule that made a cluster's policy is for chosen workloads only, of which the client is one.
pub fn is_for_selected(scope: &Scope<'_>, cluster: &Cluster) -> bool {
    let Some(origin) = &cluster.origin else { return false };
    let rule = scope.world.get::<networking::DestinationRule>(&origin.namespace, &origin.name);
    rule.is_some_and(|rule| rule.spec.workload_selector.is_some())
}

/// The secrets a cluster's TLS names.
pub fn secrets(cluster: &Cluster) -> impl Iterator<Item = &str> {
    let (anchors, certificate) = match &cluster.tls {
        ClusterTls::Originate { trust_anchors, client_certificate, .. } => {
            (trust_anchors.as_deref(), client_certificate.as_deref())
        }
        _ => (None, None),
    };
    anchors.into_iter().chain(certificate).filter(|name| !name.starts_with('/'))
}
