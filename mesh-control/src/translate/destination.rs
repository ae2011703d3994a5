//! Destinations of routes: from host, subset and port to the name of a cluster.

use mesh_core::model::{HostPattern, Weight};

use super::catalog::{Service, expansions};
use super::cluster;
use super::scope::{Scope, qualify};
use crate::api::networking::Destination;

/// The service that a rule of `namespace` means by `host`: one that the client may name itself before others, and others
/// all the same, for a rule leads where it says.
pub fn service<'a>(scope: &Scope<'a>, host: &str, namespace: &str) -> Option<&'a Service> {
    match HostPattern::parse(&qualify(host, namespace)).ok()? {
        HostPattern::Exact(host) => {
            let hosts = expansions(&host, namespace);
            let find = |host| {
                let named = scope.catalog.find(host, scope.sight());
                named.or_else(|| scope.catalog.find(host, scope.client.namespace))
            };
            hosts.iter().find_map(find)
        }
        pattern => scope.catalog.find_pattern(&pattern, scope.client.namespace),
    }
}

/// The cluster of a destination: the port it names, else the service's only one, else the port of the listener.
///
/// A destination that nobody declares gets a name all the same; a proxy answers 503 (`NC`) for it (D6).
pub fn cluster_name(scope: &Scope<'_>, destination: &Destination, namespace: &str, listener: u16) -> String {
    let service = service(scope, &destination.host, namespace);
    let only = service.and_then(|service| match service.ports.as_slice() {
        [port] => Some(port.number),
        _ => None,
    });
    let named = destination.port.map(|port| port.number).filter(|number| *number != 0);
    let port = named.or(only).unwrap_or(listener);
    let host = service.map_or_else(|| qualify(&destination.host, namespace), Service::host_text);
    cluster::name(port, &destination.subset, &host)
}

/// The weights of destinations: one ignores its own, of several those of 0 are left out (semantics.md 6).
pub fn weights(weights: impl ExactSizeIterator<Item = i32>) -> Vec<Option<Weight>> {
    if weights.len() == 1 {
        return vec![Some(Weight(1))];
    }
    weights.map(|weight| u32::try_from(weight).ok().filter(|weight| *weight > 0).map(Weight)).collect()
}
