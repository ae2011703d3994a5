//! Ingresses on the way in: hosts and paths, certificates, canaries, and their place beside Gateways.
//!
//! Paths are sorted by precedence here, so that proxies take the first that matches: the longest first, of equals the
//! exact one, of those the oldest Ingress. For one host and port a Gateway with VirtualServices beats an Ingress, unless
//! the Ingress names our gateway as a backend: then its own rules come first, and where it sends requests to the gateway
//! stand the Gateway's rules, without another hop.

mod affinity;
mod annotations;
mod authentication;
mod canary;
mod class;
mod limits;
mod mirror;
mod origination;
mod passthrough;
mod paths;
mod policy;
mod rules;
pub(super) mod upstream;

use std::collections::{BTreeMap, BTreeSet};

use mesh_core::model::{
    Admission, HostPattern, ListenerProtocol, RateLimit, Rule, Server, ServerTls, TlsMode,
};

use super::gateway::termination::meanwhile;
use super::gateway::{Hosts, Port, Ports, listener_port};
use super::scope::Scope;
use crate::api::Item;
use crate::api::core::Pod;
use crate::api::ingress::{Ingress, IngressTls};
use crate::problem::Problem;

pub use class::is_ours;
use rules::Place;

/// The ports of Ingresses.
const HTTP: u16 = 80;
const HTTPS: u16 = 443;

/// Adds what the Ingresses say to a gateway's ports; the limits are those that their rules name.
pub(crate) fn add(
    scope: &Scope<'_>,
    pod: &Item<'_, Pod>,
    ports: &mut Ports,
    report: &mut Vec<Problem>,
) -> Vec<RateLimit> {
    let ours: Vec<_> = scope
        .world
        .oldest_first::<Ingress>()
        .into_iter()
        .filter(|ingress| is_ours(scope.world, ingress))
        .collect();
    if ours.is_empty() {
        return Vec::new();
    }
    for ingress in &ours {
        annotations::unsupported(ingress, report);
    }
    let (http, https) = (listener_port(scope, pod, HTTP), listener_port(scope, pod, HTTPS));
    let gateway_hosts = |ports: &Ports, number: u16| {
        let port = ports.get(&listener_port(scope, pod, number));
        port.map(|port| port.http.clone()).unwrap_or_default()
    };
    let behind = |number: u16| gateway_hosts(ports, number);
    let sorted = paths::collect(scope, &ours, report);
    let passed = passthrough::servers(scope, &sorted, report);
    let mut secured = secured(&ours);
    secured.extend(passed.keys().cloned());
    let plain = virtual_hosts(&sorted, &behind, &secured, false);
    let secure = virtual_hosts(&sorted, &behind, &secured, true);
    let port = ports.entry(http).or_insert_with(|| Port::new(ListenerProtocol::Http));
    if port.protocol == ListenerProtocol::Http {
        put(&mut port.http, plain, &sorted, report);
    }
    let servers = terminated(scope, &ours, secure, &passed, report);
    passthrough::add(scope, https, passed.into_values(), ports, report);
    add_tls(https, servers, ports);
    sorted.limits
}

/// Hosts that are meant for HTTPS. A Secret that is missing takes nothing back of that: its hosts would be served in the
/// clear until somebody sees it.
fn secured(ours: &[Item<'_, Ingress>]) -> BTreeSet<HostPattern> {
    let hosts = |ingress: &Item<'_, Ingress>| -> Vec<_> {
        ingress.spec.tls.iter().flat_map(|tls| tls_hosts(ingress, tls)).collect()
    };
    ours.iter().flat_map(hosts).collect()
}

/// The hosts of a certificate; those of all rules when it names none.
fn tls_hosts(ingress: &Item<'_, Ingress>, tls: &IngressTls) -> Vec<HostPattern> {
    if tls.hosts.is_empty() {
        return ingress.spec.rules.iter().filter_map(|rule| paths::host(&rule.host)).collect();
    }
    tls.hosts.iter().filter_map(|host| paths::host(host)).collect()
}

/// Rules by host. A host's own default backend comes last; hosts of wildcards stand for one label.
fn virtual_hosts(
    sorted: &paths::Sorted<'_>,
    behind: &dyn Fn(u16) -> Hosts,
    secured: &BTreeSet<HostPattern>,
    is_tls: bool,
) -> BTreeMap<HostPattern, Vec<Rule>> {
    let mut hosts = BTreeMap::new();
    for (pattern, paths) in &sorted.hosts {
        let place = Place { pattern, behind, is_tls, is_secured: secured.contains(pattern) };
        let rules = paths.iter().flat_map(|path| path.rules(&place));
        let fallback = sorted.fallback.iter().flat_map(|path| path.rules(&place));
        hosts.insert(pattern.clone(), rules.chain(fallback).collect());
    }
    for (pattern, paths) in &sorted.hosts {
        let Some((other, rule)) = paths.iter().find_map(|path| from_or_to_www(pattern, path)) else {
            continue;
        };
        hosts.entry(other).or_insert_with(|| vec![rule]);
    }
    hosts
}

/// The host with `www.`, or without it, and the rule that sends its clients to this one.
fn from_or_to_www(pattern: &HostPattern, path: &paths::Path<'_>) -> Option<(HostPattern, Rule)> {
    let HostPattern::Exact(host) = pattern else { return None };
    if annotations::get(&path.ingress, "from-to-www-redirect") != Some("true") {
        return None;
    }
    let host = host.as_str();
    let other = host.strip_prefix("www.").map_or_else(|| format!("www.{host}"), str::to_owned);
    Some((paths::host(&other)?, rules::to_host(host, path)))
}

/// Puts the hosts into a table that may have hosts of Gateways already.
fn put(
    table: &mut Hosts,
    hosts: BTreeMap<HostPattern, Vec<Rule>>,
    sorted: &paths::Sorted<'_>,
    report: &mut Vec<Problem>,
) {
    for (pattern, mut rules) in hosts {
        let paths = sorted.hosts.get(&pattern).map(Vec::as_slice).unwrap_or_default();
        if let Some(present) = table.get(&pattern) {
            if !paths.iter().any(|path| path.to_gateway.is_some()) {
                for path in paths {
                    let message = format!(
                        "a Gateway with a VirtualService serves {pattern} on this port and comes first"
                    );
                    report.push(path.ingress.object.blame(Problem::warning(path.field.clone(), message)));
                }
                continue;
            }
            // What the Ingress has let through under its own conditions is there already.
            let unconditional = |rule: &Rule| Rule { admission: Admission::default(), ..rule.clone() };
            let reached: Vec<Rule> = rules.iter().map(unconditional).collect();
            let missing: Vec<Rule> = present.iter().filter(|rule| !reached.contains(rule)).cloned().collect();
            rules.extend(missing);
        }
        table.set(&pattern, rules);
    }
}

/// Servers that end TLS, and the table of the HTTP inside.
#[derive(Default)]
struct Terminated {
    servers: Vec<Server>,
    table: Hosts,
}

/// Servers for the hosts that are meant for HTTPS, without those whose TLS is passed on. Where the Secret is missing
/// handshakes fail.
fn terminated(
    scope: &Scope<'_>,
    ours: &[Item<'_, Ingress>],
    mut hosts: BTreeMap<HostPattern, Vec<Rule>>,
    passed: &BTreeMap<HostPattern, Server>,
    report: &mut Vec<Problem>,
) -> Terminated {
    let mut built = Terminated::default();
    for ingress in ours {
        for (at, tls) in ingress.spec.tls.iter().enumerate() {
            let field = format!("spec.tls[{at}]");
            let (not, patterns): (Vec<_>, Vec<_>) =
                tls_hosts(ingress, tls).into_iter().partition(|host| passed.contains_key(host));
            for host in &not {
                let message =
                    format!("TLS for {host} is passed through; the gateway shows no certificate for it");
                report.push(ingress.object.blame(Problem::warning(field.clone(), message)));
            }
            if !not.is_empty() && patterns.is_empty() {
                continue;
            }
            if let Some(message) = lacking(scope, ingress, &tls.secret_name) {
                report.push(ingress.object.blame(Problem::error(format!("{field}.secretName"), message)));
            }
            for pattern in &patterns {
                if let Some(rules) = hosts.remove(pattern) {
                    built.table.set(pattern, rules);
                }
            }
            let secret = Some(format!("{}/{}", ingress.namespace(), tls.secret_name));
            let tls = ServerTls::new(TlsMode::Simple, secret);
            let origin = super::origin(ingress.object, field);
            built.servers.push(Server { hosts: patterns, tls, routes: None, tcp_routes: Vec::new(), origin });
        }
    }
    built
}

/// What is wrong with the Secret that an Ingress names.
fn lacking(scope: &Scope<'_>, ingress: &Item<'_, Ingress>, name: &str) -> Option<String> {
    if name.is_empty() {
        let message =
            "no Secret is named, and gateways have no default certificate; until one is, handshakes fail";
        return Some(message.to_owned());
    }
    scope.world.tls_secret(ingress.namespace(), name).err().map(|error| meanwhile(&error))
}

/// Adds servers to the port of HTTPS. A server of a Gateway for the same name comes first.
fn add_tls(number: u16, Terminated { servers, table }: Terminated, ports: &mut Ports) {
    if servers.is_empty() {
        return;
    }
    let port = ports.entry(number).or_insert_with(|| Port::new(ListenerProtocol::Tls));
    if port.protocol != ListenerProtocol::Tls {
        return;
    }
    let name = format!("ingress.{number}");
    for mut server in servers {
        server.hosts.retain(|host| !port.serves(std::slice::from_ref(host)));
        if !server.hosts.is_empty() {
            port.servers.push((Server { routes: Some(name.clone()), ..server }, Some(table.clone())));
        }
    }
}
