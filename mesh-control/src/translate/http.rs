//! The route table of one host and port, as a sidecar sees it.

use mesh_core::model::{
    Action, Backend, HeaderEdits, HostPattern, Origin, RetryPolicy, Routes, Rule, VirtualHost, Weight,
};

use super::rules::{Place, rules};
use super::{cluster, hosts};
use crate::api::Item;
use crate::api::core::Service;
use crate::api::networking::VirtualService;
use crate::world::World;

/// Routes for requests to `host` on `place.port`; `None` when neither a service nor a VirtualService of the mesh has that
/// host.
pub fn routes(world: &World, host: &str, place: Place<'_>) -> Option<Routes> {
    let service = hosts::service(world, host, place.namespace)
        .filter(|service| service.spec.ports.iter().any(|port| port.port == place.port));
    let full = service.as_ref().map_or_else(|| host.to_owned(), hosts::service_host);
    let chosen = virtual_service(world, &full, place);
    if service.is_none() && chosen.is_none() {
        return None;
    }
    let rules = match (&chosen, &service) {
        (Some(chosen), _) => rules(world, chosen, place),
        (None, Some(service)) => vec![default_rule(service, place.port)],
        (None, None) => Vec::new(),
    };
    let mut patterns = match &service {
        Some(service) => hosts::forms(service, place.namespace),
        None => HostPattern::parse(&full).into_iter().collect(),
    };
    if let Some(service) = &service
        && let crate::world::ServiceAddress::Virtual(address) = world.address_of(service)
    {
        patterns.extend(HostPattern::parse(&address.to_string()));
    }
    let name = format!("{full}:{}", place.port);
    let virtual_hosts =
        vec![VirtualHost { name: name.clone(), hosts: patterns, rules, https_redirect: false }];
    Some(Routes { name, virtual_hosts })
}

/// The one VirtualService that holds for a host in sidecars: they are not merged. The client's own namespace comes first,
/// then the most specific host, then the oldest (semantics 17).
fn virtual_service<'w>(world: &'w World, host: &str, place: Place<'_>) -> Option<Item<'w, VirtualService>> {
    world
        .oldest_first::<VirtualService>()
        .into_iter()
        .filter(|service| hosts::is_exported(&service.export_to, service.namespace(), place.namespace))
        .filter(|service| concerns_mesh(service, place))
        .filter_map(|service| {
            let patterns = service.hosts.iter().map(|pattern| hosts::resolve(pattern, service.namespace()));
            let best = patterns
                .filter(|pattern| hosts::covers(pattern, host))
                .map(|p| hosts::specificity(&p))
                .max()?;
            Some((service.namespace() == place.namespace, best, service))
        })
        .reduce(|first, next| if (next.0, next.1) > (first.0, first.1) { next } else { first })
        .map(|(_, _, service)| service)
}

/// Bound to `mesh` as a whole, or by one of its matches.
fn concerns_mesh(service: &Item<'_, VirtualService>, place: Place<'_>) -> bool {
    place.is_among(&service.gateways, service.namespace())
}

/// What holds for a service nobody wrote a route for: everything to it, with Istio's default retries.
pub fn default_rule(service: &Item<'_, Service>, port: u16) -> Rule {
    let backend = Backend {
        cluster: cluster::name(port, "", &hosts::service_host(service)),
        weight: Weight(1),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    };
    let origin = Origin {
        kind: "Service".to_owned(),
        namespace: service.namespace().to_owned(),
        name: service.name().to_owned(),
        field: String::new(),
    };
    forward(vec![backend], Vec::new(), origin)
}

/// A rule that forwards and does nothing else.
pub fn forward(backends: Vec<Backend>, matches: Vec<mesh_core::model::RouteMatch>, origin: Origin) -> Rule {
    Rule {
        name: if matches.is_empty() { "default".to_owned() } else { String::new() },
        matches,
        action: Action::Forward(backends),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: None,
        timeout: None,
        retry: RetryPolicy::default(),
        fault: None,
        mirrors: Vec::new(),
        cors: None,
        origin,
    }
}
