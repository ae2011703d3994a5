//! What a gateway listens on and how it routes: Gateways that select its pod, VirtualServices bound to them, and, at the
//! way in, Ingresses (semantics.md 22 to 24).

mod hosts;
mod server;
pub(super) mod termination;

use std::collections::BTreeMap;

use mesh_core::model::{HostPattern, Listener, ListenerProtocol, RateLimit, Routes, Server, TcpRoute};

pub(crate) use hosts::Hosts;

use super::http::Binding;
use super::ingress;
use super::scope::{Scope, is_exported};
use super::tcp;
use crate::api::Item;
use crate::api::core::Pod;
use crate::api::meta::selects;
use crate::api::networking::{Gateway, VirtualService};
use crate::problem::Problem;
use crate::world::target_port;
use server::Kind;

/// A gateway's listeners with their route tables.
#[derive(Debug, Default, PartialEq)]
pub struct Built {
    /// In order of their ports.
    pub listeners: Vec<Listener>,
    /// In order of their names.
    pub tables: Vec<Routes>,
    /// Limits that the tables' rules name.
    pub limits: Vec<RateLimit>,
}

/// One port while it is put together.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) protocol: ListenerProtocol,
    /// Hosts of cleartext HTTP.
    pub(crate) http: Hosts,
    /// Servers of TLS, with the hosts of the HTTP inside.
    pub(crate) servers: Vec<(Server, Option<Hosts>)>,
    tcp_routes: Vec<TcpRoute>,
}

impl Port {
    pub(crate) fn new(protocol: ListenerProtocol) -> Self {
        Self { protocol, http: Hosts::default(), servers: Vec::new(), tcp_routes: Vec::new() }
    }

    /// Whether a server for some of these names is there already.
    pub(crate) fn serves(&self, hosts: &[HostPattern]) -> bool {
        self.servers.iter().flat_map(|(server, _)| &server.hosts).any(|host| hosts.contains(host))
    }
}

/// Ports by the number on which the gateway's process listens.
pub(crate) type Ports = BTreeMap<u16, Port>;

/// What a gateway's pod listens on. `report` is told about the objects named with each problem.
pub fn build(scope: &Scope<'_>, pod: &Item<'_, Pod>, is_ingress: bool, report: &mut Vec<Problem>) -> Built {
    let mut ports = Ports::new();
    for gateway in scope.world.oldest_first::<Gateway>() {
        if selects(&gateway.spec.selector, &pod.object.meta.labels) {
            add_gateway(scope, pod, &gateway, &mut ports, report);
        }
    }
    let mut limits = Vec::new();
    // Ingresses bring the certificates of all namespaces.
    if is_ingress && scope.is_shared_gateway() {
        limits = ingress::add(scope, pod, &mut ports, report);
    }
    Built { limits, ..finish(ports) }
}

fn add_gateway(
    scope: &Scope<'_>,
    pod: &Item<'_, Pod>,
    gateway: &Item<'_, Gateway>,
    ports: &mut Ports,
    report: &mut Vec<Problem>,
) {
    let name = format!("{}/{}", gateway.namespace(), gateway.name());
    for (at, declared) in gateway.spec.servers.iter().enumerate() {
        let mut tell = |problem: Problem| report.push(gateway.object.blame(problem));
        let field = format!("spec.servers[{at}]");
        server::unsupported(declared, &field, &mut tell);
        let mut lacking = Vec::new();
        let kind = server::kind(scope, declared, gateway.namespace(), &mut lacking);
        for (name, message) in lacking {
            tell(Problem::error(format!("{field}.{name}"), message));
        }
        let kind = match kind {
            Ok(kind) => kind,
            Err(message) => {
                tell(Problem::error(format!("{field}.{}", message.0), message.1));
                continue;
            }
        };
        let number = declared.port.number;
        let port =
            ports.entry(listener_port(scope, pod, number)).or_insert_with(|| Port::new(kind.protocol()));
        if port.protocol != kind.protocol() {
            let message =
                format!("port {number} speaks another protocol in an older server; this one is left out");
            tell(Problem::error(format!("{field}.port"), message));
            continue;
        }
        let context = Context { scope, gateway, binding: Binding { gateway: &name, port: number } };
        context.add(port, declared, kind, &field, &mut tell);
    }
}

/// The port on which a gateway's process listens for a server's port: where its Service sends it (Istio's rule).
pub(crate) fn listener_port(scope: &Scope<'_>, pod: &Item<'_, Pod>, number: u16) -> u16 {
    let mut services: Vec<_> = scope.world.services_of(pod).collect();
    services.sort_by(|left, right| left.name().cmp(right.name()));
    let port = services.iter().flat_map(|service| &service.spec.ports).find(|port| port.port == number);
    port.and_then(|port| target_port(port, pod.spec)).unwrap_or(number)
}

/// One server of a Gateway.
struct Context<'a, 'w> {
    scope: &'a Scope<'w>,
    gateway: &'a Item<'w, Gateway>,
    binding: Binding<'a>,
}

impl<'w> Context<'_, 'w> {
    fn add(
        &self,
        port: &mut Port,
        declared: &crate::api::networking::Server,
        kind: Kind,
        field: &str,
        tell: &mut dyn FnMut(Problem),
    ) {
        let hosts = server::hosts(declared, self.gateway.namespace());
        let patterns: Vec<HostPattern> = hosts.iter().map(|host| host.pattern.clone()).collect();
        match kind {
            Kind::Http => {
                let redirect = declared.tls.as_ref().is_some_and(|tls| tls.https_redirect);
                self.route(&mut port.http, &hosts, redirect);
            }
            Kind::Tcp => port.tcp_routes.extend(self.connections(&hosts, false)),
            Kind::Tls { tls, http } => {
                if port.serves(&patterns) {
                    let message = "an older server has one of these hosts; this one is left out";
                    tell(Problem::error(format!("{field}.hosts"), message));
                    return;
                }
                let table = http.then(|| {
                    let mut table = Hosts::default();
                    self.route(&mut table, &hosts, false);
                    table
                });
                let server = Server {
                    hosts: patterns,
                    tls,
                    routes: http
                        .then(|| format!("https.{}.{}.{field}", self.binding.port, self.binding.gateway)),
                    tcp_routes: if http { Vec::new() } else { self.connections(&hosts, true) },
                    origin: super::origin(self.gateway.object, field),
                };
                port.servers.push((server, table));
            }
        }
    }

    /// Adds the rules of every VirtualService bound to the gateway, under its own hosts.
    fn route(&self, table: &mut Hosts, hosts: &[server::ServerHost], redirect: bool) {
        if redirect {
            hosts.iter().for_each(|host| table.redirect(&host.pattern));
        }
        for service in self.bound() {
            let mut rules = None;
            for pattern in server::meeting(hosts, &service) {
                let rules = rules.get_or_insert_with(|| {
                    super::http::rules(self.scope, &service, self.binding, &mut Vec::new())
                });
                if !service.spec.http.is_empty() {
                    table.add(&pattern, &service.object.key, rules, redirect);
                }
            }
        }
    }

    /// Where names are told, each VirtualService is asked about the hosts alone that the server gives it: others of the same
    /// server may be another namespace's.
    fn connections(&self, hosts: &[server::ServerHost], are_named: bool) -> Vec<TcpRoute> {
        let routes = |service: Item<'w, VirtualService>| {
            let admitted = server::meeting(hosts, &service);
            if admitted.is_empty() {
                return Vec::new();
            }
            let mut routes = tcp::tls_routes(self.scope, &service, self.binding, &admitted);
            let names =
                if are_named && !admitted.contains(&HostPattern::Any) { admitted } else { Vec::new() };
            let all = tcp::tcp_routes(self.scope, &service, self.binding, &[]);
            routes.extend(all.into_iter().map(|route| TcpRoute { sni_hosts: names.clone(), ..route }));
            routes
        };
        self.bound().flat_map(routes).collect()
    }

    /// VirtualServices that name the gateway and are exported to its namespace, the oldest first.
    fn bound(&self) -> impl Iterator<Item = Item<'w, VirtualService>> {
        let world = self.scope.world;
        let (binding, namespace) = (self.binding, self.gateway.namespace());
        world.oldest_first::<VirtualService>().into_iter().filter(move |service| {
            let fallback = &world.mesh_config().default_virtual_service_export_to;
            !service.spec.gateways.is_empty()
                && binding.is_in(&service.spec.gateways, service.namespace())
                && is_exported(&service.spec.export_to, fallback, service.namespace(), namespace)
        })
    }
}

fn finish(ports: Ports) -> Built {
    let mut built = Built::default();
    for (number, port) in ports {
        let mut listener = Listener {
            port: number,
            protocol: port.protocol,
            servers: Vec::new(),
            routes: None,
            tcp_routes: port.tcp_routes,
        };
        if port.protocol == ListenerProtocol::Http {
            let name = format!("http.{number}");
            built.tables.push(port.http.into_routes(&name));
            listener.routes = Some(name);
        }
        for (server, hosts) in port.servers {
            if let (Some(name), Some(hosts)) = (&server.routes, hosts) {
                built.tables.push(hosts.into_routes(name));
            }
            listener.servers.push(server);
        }
        built.listeners.push(listener);
    }
    built.tables.sort_by(|left, right| left.name.cmp(&right.name));
    built.tables.dedup_by(|left, right| left.name == right.name);
    built
}
