//! Ingresses on the ingress gateway: port 80 always, port 443 where certificates are named.
//!
//! For one host and port a Gateway with its VirtualServices beats an Ingress. An Ingress whose backend is our own gateway
//! is not dialled: its host is served by the Gateway's own table, on 443 as well.

use mesh_core::model::{
    Backend, HeaderEdits, HostPattern, Origin, PathMatch, RouteMatch, Rule, Server, ServerTls, TlsMode,
    VirtualHost, Weight,
};

use super::gateway::{Building, virtual_host};
use super::{cluster, hosts, http};
use crate::api::Item;
use crate::api::core::Service;
use crate::api::ingress::{Ingress, IngressBackend, IngressClass, PathType};
use crate::world::World;

/// Our controller's name, in IngressClasses.
pub const CONTROLLER: &str = "minimesh.io/gateway";
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const CANARY: &str = "nginx.ingress.kubernetes.io/canary";
/// Names by which manifests call our own gateway (D9).
const OWN_GATEWAY: &str = "istio-ingressgateway";
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// Adds every Ingress that is ours, oldest first.
pub(super) fn add(world: &World, building: &mut Building<'_>) {
    let ours: Vec<_> = world.oldest_first::<Ingress>().into_iter().filter(|i| is_ours(world, i)).collect();
    if ours.is_empty() {
        return;
    }
    let mut fresh: Vec<VirtualHost> = Vec::new();
    let gateway = building.ports.entry(HTTP).or_default().http.get_or_insert_default();
    for ingress in ours.iter().filter(|ingress| !is_canary(ingress)) {
        for (host, rules) in host_rules(world, ingress) {
            match fresh.iter_mut().find(|known| known.hosts[0] == host) {
                Some(known) => known.rules.extend(rules),
                None => fresh.push(virtual_host(host, rules, false)),
            }
        }
    }
    fresh.iter_mut().for_each(|host| host.rules.sort_by_key(precedence));
    fresh.retain(|host| !gateway.iter().any(|held| held.hosts == host.hosts));
    gateway.extend(fresh);
    let table = gateway.clone();
    for ingress in &ours {
        for (at, tls) in ingress.tls.iter().enumerate() {
            let server = server(ingress, at, &tls.hosts, &tls.secret_name);
            let served = |host: &VirtualHost| server.hosts.iter().any(|name| covers(name, &host.hosts[0]));
            let hosts = table.iter().filter(|host| served(host)).cloned().collect();
            let port = building.ports.entry(HTTPS).or_default();
            if !port.tls.iter().any(|(held, _)| held.hosts.iter().any(|host| server.hosts.contains(host))) {
                port.tls.push((server, Some(hosts)));
            }
        }
    }
}

fn covers(name: &HostPattern, host: &HostPattern) -> bool {
    match (name, host) {
        (HostPattern::Any, _) => true,
        (name, HostPattern::Exact(host)) => name.matches(host),
        (name, host) => name == host,
    }
}

/// Without a class an Ingress is ours; with one it must be `mesh`, `nginx` or a class of our controller.
pub fn is_ours(world: &World, ingress: &Item<'_, Ingress>) -> bool {
    let class =
        ingress.ingress_class_name.as_deref().or_else(|| ingress.object.meta.annotation(CLASS_ANNOTATION));
    match class {
        None | Some("mesh" | "nginx") => true,
        Some(name) => world.get::<IngressClass>("", name).is_some_and(|class| class.controller == CONTROLLER),
    }
}

/// Canary Ingresses say how another's traffic is divided; by themselves they route nothing.
pub fn is_canary(ingress: &Item<'_, Ingress>) -> bool {
    ingress.object.meta.annotation(CANARY) == Some("true")
}

fn server(ingress: &Item<'_, Ingress>, at: usize, names: &[String], secret: &str) -> Server {
    let mut hosts: Vec<_> = names.iter().filter_map(|name| pattern(name)).collect();
    if hosts.is_empty() {
        hosts.push(HostPattern::Any);
    }
    let secret = Some(format!("{}/{secret}", ingress.namespace()));
    let tls = ServerTls { mode: TlsMode::Simple, secret, subject_alt_names: Vec::new() };
    Server {
        hosts,
        tls,
        routes: None,
        tcp_routes: Vec::new(),
        origin: origin(ingress, format!("spec.tls[{at}]")),
    }
}

/// An Ingress's wildcard stands for exactly one label (semantics 20).
fn pattern(host: &str) -> Option<HostPattern> {
    match HostPattern::parse(host).ok()? {
        HostPattern::Suffix(suffix) => Some(HostPattern::OneLabel(suffix)),
        other => Some(other),
    }
}

fn host_rules(world: &World, ingress: &Item<'_, Ingress>) -> Vec<(HostPattern, Vec<Rule>)> {
    let mut found = Vec::new();
    for (r, rule) in ingress.rules.iter().enumerate() {
        let host = if rule.host.is_empty() { Some(HostPattern::Any) } else { pattern(&rule.host) };
        let Some(host) = host else { continue };
        let paths = rule.http.iter().flat_map(|http| http.paths.iter().enumerate());
        let rules: Vec<_> = paths
            .filter_map(|(p, path)| {
                let field = format!("spec.rules[{r}].http.paths[{p}]");
                let matches = route_match(&path.path, path.path_type).into_iter().collect();
                Some(http::forward(
                    vec![backend(world, ingress, &path.backend)?],
                    matches,
                    origin(ingress, field),
                ))
            })
            .collect();
        if !rules.is_empty() {
            found.push((host, rules));
        }
    }
    if let Some(default) = &ingress.spec.default_backend
        && let Some(backend) = backend(world, ingress, default)
    {
        let rule =
            http::forward(vec![backend], Vec::new(), origin(ingress, "spec.defaultBackend".to_owned()));
        found.push((HostPattern::Any, vec![rule]));
    }
    found
}

/// `None` for `/`, which every path has. A missing type is read as Prefix (D1).
fn route_match(path: &str, path_type: Option<PathType>) -> Option<RouteMatch> {
    let path = match path_type {
        Some(PathType::Exact) => PathMatch::Exact(path.to_owned()),
        Some(PathType::Prefix | PathType::ImplementationSpecific) | None => {
            let segments = path.trim_end_matches('/');
            if segments.is_empty() {
                return None;
            }
            PathMatch::SegmentPrefix(segments.to_owned())
        }
    };
    Some(RouteMatch { path: Some(path), ..RouteMatch::default() })
}

/// The longest path first, exact before prefix where they tie; what matches everything last.
fn precedence(rule: &Rule) -> (std::cmp::Reverse<usize>, bool) {
    match rule.matches.first().and_then(|block| block.path.as_ref()) {
        Some(PathMatch::Exact(path)) => (std::cmp::Reverse(path.len()), false),
        Some(PathMatch::SegmentPrefix(path) | PathMatch::Prefix(path) | PathMatch::Regex(path)) => {
            (std::cmp::Reverse(path.len()), true)
        }
        None => (std::cmp::Reverse(0), true),
    }
}

/// `None` when the backend is our own gateway: then the Gateway's table serves the host.
fn backend(world: &World, ingress: &Item<'_, Ingress>, backend: &IngressBackend) -> Option<Backend> {
    let service = backend.service.as_ref()?;
    if service.name == OWN_GATEWAY {
        return None;
    }
    let found = world.get::<Service>(ingress.namespace(), &service.name);
    let port = found.as_ref().and_then(|found| port(found, service.port.as_ref()));
    let number = service.port.as_ref().and_then(|port| port.number);
    let host = found
        .as_ref()
        .map_or_else(|| hosts::resolve(&service.name, ingress.namespace()), hosts::service_host);
    Some(Backend {
        cluster: cluster::name(port.or(number).unwrap_or(0), "", &host),
        weight: Weight(1),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    })
}

/// By number or name; a missing one is the service's only port (D1).
fn port(
    service: &Item<'_, Service>,
    wanted: Option<&crate::api::ingress::ServiceBackendPort>,
) -> Option<u16> {
    let mut ports = service.spec.ports.iter();
    let found = match wanted.map(|wanted| (wanted.number, wanted.name.as_deref())) {
        Some((Some(number), _)) => ports.find(|port| port.port == number),
        Some((None, Some(name))) => ports.find(|port| port.name == name),
        _ => ports.next().filter(|_| service.spec.ports.len() == 1),
    };
    found.map(|port| port.port)
}

fn origin(ingress: &Item<'_, Ingress>, field: String) -> Origin {
    Origin {
        kind: "Ingress".to_owned(),
        namespace: ingress.namespace().to_owned(),
        name: ingress.name().to_owned(),
        field,
    }
}
