//! Routes for connections: the `tcp` and `tls` lists of VirtualServices.

use mesh_core::model::{HostPattern, Origin, TcpRoute, Weight};

use super::hosts;
use super::rules::{Place, destination};
use crate::api::Item;
use crate::api::meta::{StringMap, selects};
use crate::api::networking::{RouteDestination, VirtualService};
use crate::world::World;

/// Routes of every VirtualService that covers `host` at `place`, oldest first.
pub fn routes(world: &World, host: &str, place: Place<'_>) -> Vec<TcpRoute> {
    let services = world.oldest_first::<VirtualService>();
    services
        .iter()
        .filter(|service| hosts::is_exported(&service.export_to, service.namespace(), place.namespace))
        .filter(|service| place.is_among(&service.gateways, service.namespace()))
        .filter(|service| {
            service
                .hosts
                .iter()
                .any(|pattern| hosts::covers(&hosts::resolve(pattern, service.namespace()), host))
        })
        .flat_map(|service| of_service(world, service, place))
        .collect()
}

/// The connection routes of one VirtualService that apply at `place`: those by server name first.
pub fn of_service(world: &World, service: &Item<'_, VirtualService>, place: Place<'_>) -> Vec<TcpRoute> {
    let owner = service.namespace();
    let here = |gateways: &[String], port: Option<u32>, labels: &StringMap, namespace: &str| {
        (gateways.is_empty() || place.is_among(gateways, owner))
            && port.is_none_or(|port| port == u32::from(place.port))
            && (place.gateway.is_some() || selects(labels, place.labels))
            && (namespace.is_empty() || namespace == place.namespace)
    };
    let mut routes = Vec::new();
    for (at, route) in service.tls.iter().enumerate() {
        let matching = route
            .matches
            .iter()
            .filter(|block| here(&block.gateways, block.port, &block.source_labels, &block.source_namespace));
        let names =
            matching.flat_map(|block| &block.sni_hosts).filter_map(|host| HostPattern::parse(host).ok());
        let sni_hosts: Vec<_> = names.collect();
        if !sni_hosts.is_empty() {
            routes.push(tcp_route(world, service, &route.route, sni_hosts, format!("spec.tls[{at}]"), place));
        }
    }
    for (at, route) in service.tcp.iter().enumerate() {
        let applies = route.matches.is_empty()
            || route.matches.iter().any(|block| {
                here(&block.gateways, block.port, &block.source_labels, &block.source_namespace)
            });
        if applies {
            routes.push(tcp_route(
                world,
                service,
                &route.route,
                Vec::new(),
                format!("spec.tcp[{at}]"),
                place,
            ));
        }
    }
    routes
}

fn tcp_route(
    world: &World,
    service: &Item<'_, VirtualService>,
    to: &[RouteDestination],
    sni_hosts: Vec<HostPattern>,
    field: String,
    place: Place<'_>,
) -> TcpRoute {
    let several = to.len() > 1;
    let weight = |to: &RouteDestination| if several { u32::try_from(to.weight).unwrap_or(0) } else { 1 };
    let backends = to
        .iter()
        .filter(|to| weight(to) > 0)
        .map(|to| (destination(world, &to.destination, service.namespace(), place.port), Weight(weight(to))))
        .collect();
    let origin = Origin {
        kind: "VirtualService".to_owned(),
        namespace: service.namespace().to_owned(),
        name: service.name().to_owned(),
        field,
    };
    TcpRoute { sni_hosts, backends, origin }
}
