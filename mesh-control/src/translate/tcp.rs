//! The `tcp` and `tls` rules of VirtualServices: routes for connections.

use ipnet::IpNet;
use mesh_core::model::{HostPattern, TcpRoute, Weight};

use super::destination::{cluster_name, weights};
use super::http::{Binding, MESH};
use super::origin;
use super::scope::{Scope, covers, pattern};
use crate::api::Item;
use crate::api::meta::{StringMap, selects};
use crate::api::networking::{L4MatchAttributes, RouteDestination, TlsMatchAttributes, VirtualService};
use crate::problem::Problem;

/// What a connection's match says of where it comes from and goes to.
struct Side<'m> {
    port: Option<u32>,
    gateways: &'m [String],
    source_labels: &'m StringMap,
    source_namespace: &'m str,
    destination_subnets: &'m [String],
}

impl<'m> Side<'m> {
    fn of_tls(m: &'m TlsMatchAttributes) -> Self {
        Self {
            port: m.port,
            gateways: &m.gateways,
            source_labels: &m.source_labels,
            source_namespace: &m.source_namespace,
            destination_subnets: &m.destination_subnets,
        }
    }

    fn of_tcp(m: &'m L4MatchAttributes) -> Self {
        Self {
            port: m.port,
            gateways: &m.gateways,
            source_labels: &m.source_labels,
            source_namespace: &m.source_namespace,
            destination_subnets: &m.destination_subnets,
        }
    }

    /// Whether this client can meet it at this binding, with a destination among `addresses`.
    fn applies(
        &self,
        scope: &Scope<'_>,
        binding: Binding<'_>,
        namespace: &str,
        addresses: &[std::net::IpAddr],
    ) -> bool {
        let here = self.gateways.is_empty() || binding.is_in(self.gateways, namespace);
        let port = self.port.is_none_or(|port| port == u32::from(binding.port));
        let from = binding.gateway != MESH
            || selects(self.source_labels, scope.client.labels)
                && (self.source_namespace.is_empty() || self.source_namespace == scope.client.namespace);
        let within = |subnet: &String| {
            let net = subnet
                .parse::<IpNet>()
                .ok()
                .or_else(|| Some(subnet.parse::<std::net::IpAddr>().ok()?.into()));
            net.is_some_and(|net| addresses.iter().any(|address| net.contains(address)))
        };
        let to = self.destination_subnets.is_empty() || self.destination_subnets.iter().any(within);
        here && port && from && to
    }
}

/// Routes by server name, from the `tls` list, as far as the names are `admitted`: a VirtualService is asked about its own
/// hosts, and at a gateway about those that the server gives it (semantics.md 21).
pub fn tls_routes(
    scope: &Scope<'_>,
    service: &Item<'_, VirtualService>,
    binding: Binding<'_>,
    admitted: &[HostPattern],
) -> Vec<TcpRoute> {
    let namespace = service.namespace();
    let mut routes = Vec::new();
    for (at, route) in service.spec.tls.iter().enumerate() {
        let sni_hosts: Vec<HostPattern> = route
            .matches
            .iter()
            .filter(|m| Side::of_tls(m).applies(scope, binding, namespace, &[]))
            .flat_map(|m| &m.sni_hosts)
            .filter_map(|host| HostPattern::parse(host).ok())
            .flat_map(|host| within(admitted, host))
            .collect();
        if !sni_hosts.is_empty() {
            routes.push(TcpRoute {
                sni_hosts,
                backends: backends(scope, &route.route, namespace, binding.port),
                origin: origin(service.object, format!("spec.tls[{at}]")),
            });
        }
    }
    routes
}

/// The part of a name that is admitted.
fn within(admitted: &[HostPattern], host: HostPattern) -> Vec<HostPattern> {
    if admitted.iter().any(|outer| covers(outer, &host)) {
        return vec![host];
    }
    admitted.iter().filter(|inner| covers(&host, inner)).cloned().collect()
}

/// The hosts of a VirtualService, in full.
pub fn own_hosts(service: &Item<'_, VirtualService>) -> Vec<HostPattern> {
    service.spec.hosts.iter().filter_map(|host| pattern(host, service.namespace())).collect()
}

/// Tells of server names that are not among the VirtualService's hosts.
pub fn problems(service: &Item<'_, VirtualService>, report: &mut Vec<Problem>) {
    let own = own_hosts(service);
    for (at, route) in service.spec.tls.iter().enumerate() {
        let matches = route.matches.iter().enumerate();
        let names =
            matches.flat_map(|(m, tls)| tls.sni_hosts.iter().enumerate().map(move |(n, name)| (m, n, name)));
        for (m, n, name) in names {
            let is_own =
                HostPattern::parse(name).is_ok_and(|name| own.iter().any(|outer| covers(outer, &name)));
            if !is_own {
                let message = format!(
                    "{name} is not within the hosts of the VirtualService; what is not has no effect"
                );
                report.push(Problem::error(format!("spec.tls[{at}].match[{m}].sniHosts[{n}]"), message));
            }
        }
    }
}

/// Routes for all bytes, from the `tcp` list.
pub fn tcp_routes(
    scope: &Scope<'_>,
    service: &Item<'_, VirtualService>,
    binding: Binding<'_>,
    addresses: &[std::net::IpAddr],
) -> Vec<TcpRoute> {
    let namespace = service.namespace();
    let applies = |m: &L4MatchAttributes| Side::of_tcp(m).applies(scope, binding, namespace, addresses);
    let routes = service.spec.tcp.iter().enumerate();
    routes
        .filter(|(_, route)| route.matches.is_empty() || route.matches.iter().any(applies))
        .map(|(at, route)| TcpRoute {
            sni_hosts: Vec::new(),
            backends: backends(scope, &route.route, namespace, binding.port),
            origin: origin(service.object, format!("spec.tcp[{at}]")),
        })
        .collect()
}

fn backends(
    scope: &Scope<'_>,
    destinations: &[RouteDestination],
    namespace: &str,
    port: u16,
) -> Vec<(String, Weight)> {
    weights(destinations.iter().map(|destination| destination.weight))
        .into_iter()
        .zip(destinations)
        .filter_map(|(weight, to)| Some((cluster_name(scope, &to.destination, namespace, port), weight?)))
        .collect()
}
