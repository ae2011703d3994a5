//! `ssl-passthrough`: TLS for a host goes on to the backend as it is, chosen by server name.
//!
//! As in ingress-nginx it holds for the whole host and goes to the backend of its path `/`: nothing else of what Ingresses
//! say of the host can be done on TLS that is not ended here.

use std::collections::BTreeMap;

use mesh_core::model::{HostPattern, ListenerProtocol, Server, ServerTls, TcpRoute, TlsMode, Weight};

use super::annotations::{field, get};
use super::paths::{Path, Sorted};
use crate::api::Item;
use crate::api::ingress::Ingress;
use crate::problem::Problem;
use crate::translate::cluster;
use crate::translate::gateway::{Port, Ports};
use crate::translate::origin;
use crate::translate::scope::Scope;

const NAME: &str = "ssl-passthrough";

/// Whether an Ingress asks for it.
pub(super) fn is_asked(ingress: &Item<'_, Ingress>) -> bool {
    get(ingress, NAME).is_some_and(|word| word.trim() == "true")
}

/// The servers of hosts whose TLS is passed on, by host.
pub(super) fn servers(
    scope: &Scope<'_>,
    sorted: &Sorted<'_>,
    report: &mut Vec<Problem>,
) -> BTreeMap<HostPattern, Server> {
    let mut servers = BTreeMap::new();
    for (pattern, paths) in &sorted.hosts {
        let Some(asking) = paths.iter().find(|path| is_asked(&path.ingress)) else { continue };
        match root(pattern, paths) {
            Ok(root) => {
                tell_about(scope, pattern, root, paths, report);
                servers.insert(pattern.clone(), server(pattern, root));
            }
            Err(why) => {
                let message = format!("{why}; TLS for {pattern} is not passed through");
                report.push(asking.ingress.object.blame(Problem::error(field(NAME), message)));
            }
        }
    }
    servers
}

/// Adds the servers to the port of HTTPS, unless a Gateway has it for something else.
pub(super) fn add(
    scope: &Scope<'_>,
    number: u16,
    servers: impl Iterator<Item = Server>,
    ports: &mut Ports,
    report: &mut Vec<Problem>,
) {
    for server in servers {
        let port = ports.entry(number).or_insert_with(|| Port::new(ListenerProtocol::Tls));
        if port.protocol == ListenerProtocol::Tls && !port.serves(&server.hosts) {
            port.servers.push((server, None));
            continue;
        }
        let Some(ingress) = scope.world.get::<Ingress>(&server.origin.namespace, &server.origin.name) else {
            continue;
        };
        let message = format!("a Gateway serves {} on port {number} and comes first", server.hosts[0]);
        report.push(ingress.object.blame(Problem::warning(server.origin.field, message)));
    }
}

/// The path whose backend gets the bytes.
fn root<'p, 'w>(pattern: &HostPattern, paths: &'p [Path<'w>]) -> Result<&'p Path<'w>, &'static str> {
    if *pattern == HostPattern::Any {
        return Err("it needs a host");
    }
    let root = paths.iter().find(|path| path.matching.is_none()).ok_or("the host has no path /")?;
    if root.to_gateway.is_some() || root.service.is_empty() {
        return Err("the backend of the host's path / is no service that bytes can be sent to");
    }
    Ok(root)
}

fn server(pattern: &HostPattern, root: &Path<'_>) -> Server {
    let origin = origin(root.ingress.object, root.field.clone());
    let route = TcpRoute {
        sni_hosts: vec![pattern.clone()],
        backends: vec![(root.service.clone(), Weight(1))],
        origin: origin.clone(),
    };
    let tls = ServerTls::new(TlsMode::Passthrough, None);
    Server { hosts: vec![pattern.clone()], tls, routes: None, tcp_routes: vec![route], origin }
}

/// Other paths of the host, and a port that sidecars would read as HTTP.
fn tell_about(
    scope: &Scope<'_>,
    pattern: &HostPattern,
    root: &Path<'_>,
    paths: &[Path<'_>],
    report: &mut Vec<Problem>,
) {
    for path in paths.iter().filter(|path| path.matching.is_some()) {
        let message =
            format!("TLS for {pattern} is passed through to the backend of its path /; this path gets none");
        report.push(path.ingress.object.blame(Problem::warning(path.field.clone(), message)));
    }
    let declared = cluster::by_name(scope, &root.service).map(|(cluster, _)| cluster.protocol);
    if declared.is_some_and(|protocol| protocol.is_http()) {
        let message = "the port is declared as HTTP and gets TLS: a sidecar of the backend refuses it";
        let problem = Problem::warning(format!("{}.backend", root.field), message);
        let problem = problem.with_fix("name the Service's port https or tls");
        report.push(root.ingress.object.blame(problem));
    }
}
