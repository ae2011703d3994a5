//! What sidecars ask for: how a host is routed, what stands behind an address, which addresses a name has.

mod address;
mod name;

use mesh_core::model::{
    Action, Backend, HeaderEdits, Host, HostPattern, Protocol, Routes, Rule, VirtualHost, Weight,
};

pub use address::{address, pod_cluster};
pub use name::{name, pod, pods};

use super::catalog::{Service, expansions};
use super::http::{Binding, MESH, default_retries, rules};
use super::scope::{Scope, breadth, covers, forms, pattern, specificity, spellings};
use super::{cluster, origin};
use crate::api::Item;
use crate::api::networking::VirtualService;

/// More specific hosts that are delivered together with a wildcard, at most.
const MAX_BELOW: usize = 1000;

/// The tables for requests to a host on a port: its own first; for a wildcard also those of the more specific hosts
/// below it, since a proxy that holds the wildcard will not ask for them. `None` when nobody declares the host.
pub fn routes(scope: &Scope<'_>, asked: &Host, port: u16) -> Option<Vec<Routes>> {
    let named = match asked.as_str().parse() {
        Ok(address) => scope.catalog.host_at(address)?,
        Err(_) => asked,
    };
    let (pattern, table) =
        expansions(named, scope.client.namespace).iter().find_map(|host| table(scope, host, port))?;
    let mut tables = vec![table];
    if !matches!(pattern, HostPattern::Exact(_)) {
        tables.extend(below(scope, &pattern, port));
    }
    Some(tables)
}

/// The table of a fully qualified host, with the pattern it is for.
fn table(scope: &Scope<'_>, host: &Host, port: u16) -> Option<(HostPattern, Routes)> {
    let service = scope.catalog.find_port(host, port, scope.sight());
    let service = service.filter(|(_, port)| may_be_http(port.protocol)).map(|(service, _)| service);
    let selected = select(scope, host, port);
    let pattern = match (service.map(|service| service.host.clone()), selected.as_ref()) {
        (Some(service), Some((rule, _))) if specificity(rule) > specificity(&service) => rule.clone(),
        (Some(service), _) => service,
        (None, Some((rule, item))) if !item.spec.http.is_empty() && !is_other_port(scope, host) => {
            rule.clone()
        }
        (None, _) => return None,
    };
    let mut rules = selected.as_ref().map_or_else(Vec::new, |(_, item)| {
        rules(scope, item, Binding { gateway: MESH, port }, &mut Vec::new())
    });
    let has_http = selected.as_ref().is_some_and(|(_, item)| !item.spec.http.is_empty());
    if let Some(service) = service.filter(|_| !has_http) {
        rules.push(default_rule(scope, service, port));
    }
    let name = format!("{pattern}:{port}");
    let hosts = hosts(scope, &pattern, service);
    let host = VirtualHost { name: name.clone(), hosts, rules, https_redirect: false };
    Some((pattern, Routes { name, virtual_hosts: vec![host] }))
}

/// Whether a service has the host, but not on the port that was asked for.
fn is_other_port(scope: &Scope<'_>, host: &Host) -> bool {
    scope.catalog.find(host, scope.sight()).is_some()
}

const fn may_be_http(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Detect)
}

/// Every form in which clients may name the host (semantics.md 19).
fn hosts(scope: &Scope<'_>, pattern: &HostPattern, service: Option<&Service>) -> Vec<HostPattern> {
    let Some(service) = service.filter(|service| service.is_kubernetes() && service.host == *pattern) else {
        return vec![pattern.clone()];
    };
    let names = forms(&service.name, &service.namespace, scope.client.namespace);
    let addresses = service.addresses.iter().filter_map(|address| Host::parse(&address.to_string()).ok());
    names.into_iter().chain(addresses).map(HostPattern::Exact).collect()
}

/// The VirtualService that holds for a host in sidecars. They do not merge: the most specific host wins, then the one
/// that is exported most narrowly, then the oldest (semantics.md 17).
pub fn select<'w>(
    scope: &Scope<'w>,
    host: &Host,
    port: u16,
) -> Option<(HostPattern, Item<'w, VirtualService>)> {
    let exact = HostPattern::Exact(host.clone());
    bound_of(scope, port, scope.world.routes_naming(spellings(host.as_str())))
        .filter_map(|item| {
            let patterns = item.spec.hosts.iter().filter_map(|host| pattern(host, item.namespace()));
            let best = patterns.filter(|pattern| covers(pattern, &exact)).max_by_key(specificity)?;
            Some((best, item))
        })
        // Of equals the last counts for `max_by_key`; the oldest come first.
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .max_by_key(|(pattern, item)| (specificity(pattern), std::cmp::Reverse(rank(scope, item))))
}

/// VirtualServices for sidecars that name a pattern or hosts below it, each with the host it names.
fn in_sidecars<'w>(
    scope: &Scope<'w>,
    outer: &HostPattern,
    port: u16,
) -> Vec<(HostPattern, Item<'w, VirtualService>)> {
    let named = bound(scope, port).flat_map(|item| {
        let patterns = item.spec.hosts.iter().filter_map(|host| pattern(host, item.namespace()));
        patterns.map(|pattern| (pattern, item)).collect::<Vec<_>>()
    });
    named.filter(|(pattern, _)| covers(outer, pattern)).collect()
}

/// VirtualServices for sidecars that the client sees when it dials a port, the oldest first.
fn bound<'w>(scope: &Scope<'w>, port: u16) -> impl Iterator<Item = Item<'w, VirtualService>> {
    bound_of(scope, port, scope.world.oldest_first::<VirtualService>())
}

/// Those among some.
fn bound_of<'w>(
    scope: &Scope<'w>,
    port: u16,
    items: Vec<Item<'w, VirtualService>>,
) -> impl Iterator<Item = Item<'w, VirtualService>> {
    let (world, sight) = (scope.world, scope.sight());
    let mesh = |item: &Item<'w, VirtualService>| {
        item.spec.gateways.is_empty() || item.spec.gateways.iter().any(|gateway| gateway == MESH)
    };
    items.into_iter().filter(mesh).filter(move |item| {
        let fallback = &world.mesh_config().default_virtual_service_export_to;
        super::scope::is_exported(&item.spec.export_to, fallback, item.namespace(), sight.namespace)
            && sight.shows_rules(item, port)
    })
}

/// What is for the client's namespace only comes first, then what is exported to it by name, then what is for all.
fn rank(scope: &Scope<'_>, item: &Item<'_, VirtualService>) -> u8 {
    let fallback = &scope.world.mesh_config().default_virtual_service_export_to;
    breadth(&item.spec.export_to, fallback, item.namespace(), scope.client.namespace)
}

fn default_rule(scope: &Scope<'_>, service: &Service, port: u16) -> Rule {
    let object = scope.world.object(&service.key);
    let cluster = cluster::name(port, "", &service.host_text());
    let backend = Backend {
        cluster,
        weight: Weight(1),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    };
    Rule {
        name: "default".to_owned(),
        matches: Vec::new(),
        action: Action::Forward(vec![backend]),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        rewrite: None,
        timeout: None,
        retry: default_retries(scope),
        fault: None,
        mirrors: Vec::new(),
        cors: None,
        authorizer: None,
        admission: Default::default(),
        origin: object.map(|object| origin(object, "")).unwrap_or_default(),
    }
}

/// Tables of the more specific hosts below a wildcard.
fn below(scope: &Scope<'_>, wildcard: &HostPattern, port: u16) -> Vec<Routes> {
    let services = scope.catalog.visible(scope.sight()).map(|service| service.host.clone());
    let rules = bound(scope, port).flat_map(|item| {
        let hosts = item.spec.hosts.iter().filter_map(|host| pattern(host, item.namespace()));
        hosts.collect::<Vec<_>>()
    });
    let mut hosts: Vec<Host> = services
        .chain(rules)
        .filter(|pattern| pattern != wildcard && covers(wildcard, pattern))
        .filter_map(|pattern| match pattern {
            HostPattern::Exact(host) => Some(host),
            // One host of the narrower wildcard leads to its table.
            HostPattern::Suffix(suffix) | HostPattern::OneLabel(suffix) => {
                Host::parse(&format!("x.{suffix}")).ok()
            }
            HostPattern::Any => None,
        })
        .collect();
    hosts.sort();
    hosts.dedup();
    hosts.truncate(MAX_BELOW);
    let mut tables: Vec<Routes> =
        hosts.iter().filter_map(|host| table(scope, host, port)).map(|(_, table)| table).collect();
    tables.sort_by(|left, right| left.name.cmp(&right.name));
    tables.dedup_by(|left, right| left.name == right.name);
    tables.retain(|table| table.name != format!("{wildcard}:{port}"));
    tables
}
