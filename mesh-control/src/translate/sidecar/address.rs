//! What stands behind an address: a service's virtual address, or a single pod.

use std::net::{IpAddr, SocketAddr};

use mesh_core::model::{
    Address, Cluster, ClusterTls, ConnectionPool, Destination, Endpoints, Host, HostPattern, LoadBalancer,
    Protocol, TcpRoute,
};

use super::{in_sidecars, select};
use crate::api::Item;
use crate::api::core::Pod;
use crate::translate::catalog::{Port, Service};
use crate::translate::http::{Binding, MESH};
use crate::translate::scope::{Scope, specificity};
use crate::translate::{cluster, endpoints, tcp, workload};
use crate::world::{ServiceEndpoint, service_protocol};

/// What stands behind an address; `None` when nobody declares it.
pub fn address(scope: &Scope<'_>, address: SocketAddr) -> Option<Address> {
    let behind = scope.catalog.at(address.ip(), address.port(), scope.sight());
    let destination = match behind {
        Some((service, port)) => of_service(scope, service, port, address.ip())?,
        None => of_pod(scope, address)?,
    };
    Some(Address { address, destination })
}

fn of_service(scope: &Scope<'_>, service: &Service, port: &Port, ip: IpAddr) -> Option<Destination> {
    let tcp_routes = match &service.host {
        HostPattern::Exact(host) => connection_routes(scope, host, port.number, ip),
        pattern => below(scope, pattern, port.number, ip),
    };
    Some(Destination {
        service: cluster::host(service),
        protocol: port.protocol,
        cluster: cluster::name(port.number, "", &service.host_text()),
        tcp_routes,
    })
}

/// The routes of every VirtualService for the wildcard, or for hosts below it: those tell by server name.
fn below(scope: &Scope<'_>, pattern: &HostPattern, port: u16, ip: IpAddr) -> Vec<TcpRoute> {
    let binding = Binding { gateway: MESH, port };
    let mut items = in_sidecars(scope, pattern, port);
    items.sort_by_key(|(host, _)| std::cmp::Reverse(specificity(host)));
    let routes = items.into_iter().flat_map(|(host, item)| {
        let mut routes = tcp::tls_routes(scope, &item, binding, &tcp::own_hosts(&item));
        if host == *pattern {
            routes.extend(tcp::tcp_routes(scope, &item, binding, &[ip]));
        }
        routes
    });
    routes.collect()
}

fn connection_routes(scope: &Scope<'_>, host: &Host, port: u16, ip: IpAddr) -> Vec<TcpRoute> {
    let Some((_, item)) = select(scope, host, port) else { return Vec::new() };
    let binding = Binding { gateway: MESH, port };
    let mut routes = tcp::tls_routes(scope, &item, binding, &tcp::own_hosts(&item));
    routes.extend(tcp::tcp_routes(scope, &item, binding, &[ip]));
    routes
}

/// A pod dialled by its own address: one workload, under the name of a service it belongs to that the client sees.
fn of_pod(scope: &Scope<'_>, address: SocketAddr) -> Option<Destination> {
    let pod = endpoints::pod_at(scope, address.ip())?;
    let sees = |host: &Host, port: u16| scope.catalog.find_port(host, port, scope.sight()).is_some();
    let port = declared(scope, &pod, address.port(), sees)?;
    Some(Destination {
        service: port.host,
        protocol: port.protocol,
        cluster: cluster::name(address.port(), "", &address.ip().to_string()),
        tcp_routes: Vec::new(),
    })
}

/// What a service says of a pod's port.
struct Declared {
    host: Host,
    name: String,
    protocol: Protocol,
}

fn declared(
    scope: &Scope<'_>,
    pod: &Item<'_, Pod>,
    number: u16,
    sees: impl Fn(&Host, u16) -> bool,
) -> Option<Declared> {
    let mut services: Vec<_> = scope.world.services_of(pod).collect();
    services.sort_by(|left, right| left.name().cmp(right.name()));
    services.iter().find_map(|service| {
        let host =
            Host::parse(&format!("{}.{}.svc.cluster.local", service.name(), service.namespace())).ok()?;
        let port = service.spec.ports.iter().find(|port| {
            let endpoints = scope.world.endpoints_of(service, port);
            let mut pods = endpoints.iter().filter_map(ServiceEndpoint::pod);
            pods.any(|it| it.pod.object.key == pod.object.key && it.port == number) && sees(&host, port.port)
        })?;
        Some(Declared { host, name: service.name().to_owned(), protocol: service_protocol(port)? })
    })
}

/// The cluster of a single pod's port, `outbound|PORT||ADDRESS`.
pub fn pod_cluster(scope: &Scope<'_>, name: &str) -> Option<(Cluster, Endpoints)> {
    let (port, subset, ip) = cluster::parts(name)?;
    let pod = endpoints::pod_at(scope, ip.parse().ok()?).filter(|_| subset.is_empty())?;
    let declared = declared(scope, &pod, port, |_, _| true)?;
    let mut endpoint = workload::endpoint(pod)?;
    endpoint.port = port;
    let auto = scope.world.mesh_config().enable_auto_mtls;
    let cluster = Cluster {
        name: name.to_owned(),
        service: declared.host,
        service_name: declared.name,
        service_namespace: pod.namespace().to_owned(),
        port,
        subset: None,
        protocol: declared.protocol,
        external: false,
        load_balancer: LoadBalancer::default(),
        locality: None,
        warm_up: None,
        pool: ConnectionPool::default(),
        outlier: None,
        tls: if auto { ClusterTls::Auto } else { ClusterTls::Disabled },
        origin: None,
    };
    let mut endpoint = endpoints::of_pod(scope, &endpoint);
    endpoint.locality.labels.clear();
    let endpoints = Endpoints { cluster: name.to_owned(), endpoints: vec![endpoint] };
    Some((cluster, endpoints))
}
