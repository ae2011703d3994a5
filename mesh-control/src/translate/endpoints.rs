//! The endpoints of a service's port, of one of its subsets, or of a single pod.

use std::net::{IpAddr, SocketAddr};

use mesh_core::identity::SpiffeId;
use mesh_core::model::{
    Cluster, Endpoint, EndpointAddress, Host, HostPattern, Locality, MtlsMode, Transport, Weight, Workload,
};

use super::catalog::{Port, Service};
use super::scope::Scope;
use super::{peer, workload};
use crate::api::Item;
use crate::api::core::{Pod, Service as KubernetesService};
use crate::api::meta::{StringMap, selects};
use crate::api::networking::{Location, Resolution, ServiceEntry};
use crate::world::{EntryEndpoint, PodEndpoint, ServiceEndpoint, SliceEndpoint, WrittenEndpoint, preferred};

/// The endpoints of a port whose labels a subset selects and that get requests, in order of their addresses.
pub fn of_port(
    scope: &Scope<'_>,
    service: &Service,
    port: &Port,
    subset: Option<&StringMap>,
) -> Vec<Endpoint> {
    let wanted = |labels: &StringMap| subset.is_none_or(|subset| selects(subset, labels));
    let mut endpoints = if service.is_kubernetes() {
        of_kubernetes(scope, service, port, &wanted)
    } else {
        of_entry(scope, service, port, &wanted)
    };
    endpoints.sort_by_key(|endpoint| order(&endpoint.address));
    endpoints
}

/// Leaves endpoints only the labels by which the cluster's policy tells near from far.
pub fn keep_labels(endpoints: &mut [Endpoint], cluster: &Cluster) {
    let named = cluster.locality.as_ref().map(|policy| policy.labels.as_slice()).unwrap_or_default();
    for endpoint in endpoints {
        endpoint.locality.labels.retain(|name, _| named.iter().any(|label| label.name == *name));
    }
}

fn order(address: &EndpointAddress) -> (Option<SocketAddr>, String) {
    match address {
        EndpointAddress::Socket(address) => (Some(*address), String::new()),
        EndpointAddress::Name(host, port) => (None, format!("{host}:{port}")),
    }
}

fn of_kubernetes(
    scope: &Scope<'_>,
    service: &Service,
    port: &Port,
    wanted: &dyn Fn(&StringMap) -> bool,
) -> Vec<Endpoint> {
    let Some(item) = scope.world.get::<KubernetesService>(&service.namespace, &service.key.name) else {
        return Vec::new();
    };
    if let Some(name) = item.spec.external_name.as_deref().filter(|_| service.external) {
        return Host::parse(name).map(|host| vec![named(host, port.number)]).unwrap_or_default();
    }
    let Some(declared) = item.spec.ports.iter().find(|declared| declared.port == port.number) else {
        return Vec::new();
    };
    let mut endpoints = scope.world.endpoints_of(&item, declared);
    endpoints.retain(|endpoint| match endpoint {
        ServiceEndpoint::Pod(pod) => wanted(pod.labels()),
        ServiceEndpoint::Written(written, _) => wanted(&written.labels()),
        ServiceEndpoint::Slice(_) => wanted(&StringMap::new()),
    });
    let endpoint = |endpoint: &ServiceEndpoint<'_>| match endpoint {
        ServiceEndpoint::Pod(pod) => Some(of_pod(scope, pod)),
        ServiceEndpoint::Written(written, _) => of_written(scope, &service.namespace, true, written),
        ServiceEndpoint::Slice(slice) => Some(of_slice(slice, &service.namespace)),
    };
    preferred(endpoints, ServiceEndpoint::readiness).iter().filter_map(endpoint).collect()
}

/// An address of which nothing is known is spoken to as it is: nobody says whose identity it would have to show.
fn of_slice(slice: &SliceEndpoint<'_>, namespace: &str) -> Endpoint {
    Endpoint {
        address: EndpointAddress::Socket(SocketAddr::new(slice.address, slice.port)),
        weight: Weight(1),
        transport: Transport::Plain,
        identity: None,
        workload: Workload { namespace: namespace.to_owned(), ..Workload::default() },
        locality: workload::locality(&slice.locality()),
    }
}

fn of_entry(
    scope: &Scope<'_>,
    service: &Service,
    port: &Port,
    wanted: &dyn Fn(&StringMap) -> bool,
) -> Vec<Endpoint> {
    let Some(entry) = scope.world.get::<ServiceEntry>(&service.namespace, &service.key.name) else {
        return Vec::new();
    };
    let Some(declared) = entry.spec.ports.iter().find(|declared| declared.number == port.number) else {
        return Vec::new();
    };
    let mut endpoints = scope.world.endpoints_of_entry(&entry, declared);
    if endpoints.is_empty() && entry.endpoints.is_empty() && entry.workload_selector.is_none() {
        return match (&service.host, entry.resolution) {
            (HostPattern::Exact(host), Resolution::Dns | Resolution::DnsRoundRobin) => {
                vec![named(host.clone(), declared.target_port.unwrap_or(declared.number))]
            }
            _ => Vec::new(),
        };
    }
    endpoints.retain(|endpoint| match endpoint {
        EntryEndpoint::Pod(pod) => wanted(pod.labels()),
        EntryEndpoint::Written(written) => wanted(&written.labels()),
    });
    let is_of_mesh = entry.location == Location::MeshInternal;
    let endpoint = |endpoint: &EntryEndpoint<'_>| match endpoint {
        EntryEndpoint::Pod(pod) => Some(of_pod(scope, pod)),
        EntryEndpoint::Written(written) => of_written(scope, entry.namespace(), is_of_mesh, written),
    };
    preferred(endpoints, EntryEndpoint::readiness).iter().filter_map(endpoint).collect()
}

/// A pod as an endpoint. It is reached over mesh TLS when a proxy of ours takes its traffic there.
pub fn of_pod(scope: &Scope<'_>, pod: &PodEndpoint<'_>) -> Endpoint {
    let meshed =
        workload::is_meshed(&pod.pod) && peer::modes(scope.world, &pod.pod).of(pod.port) != MtlsMode::Disable;
    Endpoint {
        address: EndpointAddress::Socket(SocketAddr::new(pod.address, pod.port)),
        weight: Weight(1),
        transport: if meshed { Transport::MeshTls } else { Transport::Plain },
        identity: workload::identity(scope.world, &pod.pod).filter(|_| meshed),
        workload: workload::facts(&pod.pod),
        locality: Locality {
            labels: pod.labels().clone().into_iter().collect(),
            ..workload::locality(&pod.locality())
        },
    }
}

/// A workload of the mesh that names its account proves it; others are spoken to as they are. What has no address that can
/// be dialled is left out, and `problems::workloads` tells.
fn of_written(
    scope: &Scope<'_>,
    namespace: &str,
    is_of_mesh: bool,
    endpoint: &WrittenEndpoint<'_>,
) -> Option<Endpoint> {
    let WrittenEndpoint { workload: written, port, .. } = *endpoint;
    let address = match written.address.parse::<IpAddr>() {
        Ok(address) => EndpointAddress::Socket(SocketAddr::new(address, port)),
        Err(_) => EndpointAddress::Name(Host::parse(&written.address).ok()?, port),
    };
    let account = Some(written.service_account.as_str()).filter(|account| !account.is_empty());
    let identity = account
        .filter(|_| is_of_mesh)
        .and_then(|account| SpiffeId::new(&scope.world.mesh_config().trust_domain, namespace, account).ok());
    Some(Endpoint {
        address,
        weight: Weight(written.weight.unwrap_or(1)),
        transport: if identity.is_some() { Transport::MeshTls } else { Transport::Plain },
        identity,
        workload: Workload { namespace: namespace.to_owned(), ..Workload::default() },
        locality: Locality {
            labels: endpoint.labels().into_owned().into_iter().collect(),
            ..workload::locality(&written.locality)
        },
    })
}

fn named(host: Host, port: u16) -> Endpoint {
    Endpoint {
        address: EndpointAddress::Name(host, port),
        weight: Weight(1),
        transport: Transport::Plain,
        identity: None,
        workload: Workload::default(),
        locality: Default::default(),
    }
}

/// The pod that has an address, if it is one of ours to see.
pub fn pod_at<'w>(scope: &Scope<'w>, address: IpAddr) -> Option<Item<'w, Pod>> {
    scope.world.pods_with(address).find(|pod| !pod.is_finished())
}
