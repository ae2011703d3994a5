//! What a gateway listens on, and the route tables behind its listeners.
//!
//! A table is named by its listener: `http.80` for cleartext, `https.443.N` for the N-th server of a TLS port. The same
//! functions make listeners and tables, so that a listener never names a table that is not there.

use std::collections::BTreeMap;

use mesh_core::model::{
    HostPattern, Listener, ListenerProtocol, Origin, Role, Routes, Rule, Server, ServerTls, TlsMode,
    VirtualHost,
};

use super::rules::{Place, rules};
use super::{cluster, hosts, ingress, own, tcp};
use crate::api::Item;
use crate::api::core::Pod;
use crate::api::meta::selects;
use crate::api::networking::{Gateway, Server as ApiServer, ServerTlsMode, VirtualService};
use crate::world::World;

/// A gateway's listeners with the tables they name.
#[derive(Debug, Default)]
pub struct Plan {
    /// One per port.
    pub listeners: Vec<Listener>,
    /// Route tables by name.
    pub tables: BTreeMap<String, Routes>,
}

/// The listeners of a gateway's pod.
pub fn listeners(world: &World, pod: &Item<'_, Pod>, role: Role) -> Vec<Listener> {
    plan(world, pod, role).listeners
}

/// Everything a gateway's pod serves: Gateways that select it, oldest first, and for the ingress gateway the Ingresses.
pub fn plan(world: &World, pod: &Item<'_, Pod>, role: Role) -> Plan {
    let mut building = Building { world, pod, ports: BTreeMap::new() };
    for gateway in world.oldest_first::<Gateway>() {
        if selects(&gateway.selector, cluster::labels(pod)) {
            let servers = gateway.servers.iter().enumerate();
            servers.for_each(|(at, server)| building.add(&gateway, at, server));
        }
    }
    if own::is_ingress_gateway(pod, role) {
        ingress::add(world, &mut building);
    }
    building.finish()
}

/// One port while it is put together.
#[derive(Default)]
pub(super) struct Port {
    /// Virtual hosts of cleartext HTTP; `None` when nobody speaks HTTP in the clear here.
    pub(super) http: Option<Vec<VirtualHost>>,
    /// Servers of TLS with their virtual hosts, when they carry HTTP.
    pub(super) tls: Vec<(Server, Option<Vec<VirtualHost>>)>,
    /// Routes of cleartext TCP.
    tcp: Option<Vec<mesh_core::model::TcpRoute>>,
}

pub(super) struct Building<'w> {
    world: &'w World,
    pod: &'w Item<'w, Pod>,
    pub(super) ports: BTreeMap<u16, Port>,
}

impl Building<'_> {
    fn add(&mut self, gateway: &Item<'_, Gateway>, at: usize, server: &ApiServer) {
        let number = server.port.number;
        let protocol = server.port.protocol.to_ascii_uppercase();
        let mode = server.tls.as_ref().map(|tls| tls.mode);
        let origin = Origin {
            kind: "Gateway".to_owned(),
            namespace: gateway.namespace().to_owned(),
            name: gateway.name().to_owned(),
            field: format!("spec.servers[{at}]"),
        };
        match (protocol.as_str(), mode) {
            ("HTTP" | "HTTP2" | "GRPC", _) => {
                let fresh = self.virtual_hosts(gateway, server);
                let port = self.ports.entry(number).or_default();
                merge(port.http.get_or_insert_default(), fresh);
            }
            ("HTTPS", Some(mode)) if terminated(mode).is_some() => {
                let fresh = self.virtual_hosts(gateway, server);
                let Some(entry) = self.tls_server(gateway, server, mode, origin) else { return };
                self.add_tls(number, entry, Some(fresh));
            }
            ("TLS" | "HTTPS", mode) => {
                let Some(mut entry) = self.tls_server(gateway, server, mode.unwrap_or_default(), origin)
                else {
                    return;
                };
                entry.tcp_routes = self.tcp_routes(gateway, server);
                self.add_tls(number, entry, None);
            }
            _ => {
                let routes = self.tcp_routes(gateway, server);
                self.ports.entry(number).or_default().tcp.get_or_insert_default().extend(routes);
            }
        }
    }

    /// Servers of one port merge; a later one whose hosts are all taken is left out (semantics 23).
    fn add_tls(&mut self, number: u16, mut server: Server, routes: Option<Vec<VirtualHost>>) {
        let port = self.ports.entry(number).or_default();
        server.hosts.retain(|host| !port.tls.iter().any(|(held, _)| held.hosts.contains(host)));
        if !server.hosts.is_empty() {
            port.tls.push((server, routes));
        }
    }

    fn tls_server(
        &self,
        gateway: &Item<'_, Gateway>,
        server: &ApiServer,
        mode: ServerTlsMode,
        origin: Origin,
    ) -> Option<Server> {
        let credential = server.tls.as_ref().map(|tls| tls.credential_name.as_str()).unwrap_or_default();
        let secret = match terminated(mode) {
            None | Some(TlsMode::Mesh) => None,
            Some(_) => Some(self.secret(gateway, credential)),
        };
        let hosts = server.hosts.iter().filter_map(|host| HostPattern::parse(dns_name(host)).ok()).collect();
        let names = server.tls.as_ref().map(|tls| tls.subject_alt_names.clone()).unwrap_or_default();
        let tls = ServerTls {
            mode: terminated(mode).unwrap_or(TlsMode::Passthrough),
            secret,
            subject_alt_names: names,
        };
        Some(Server { hosts, tls, routes: None, tcp_routes: Vec::new(), origin })
    }

    /// A credential is looked for in the gateway pod's namespace, as Istio does; then beside the Gateway, where users of
    /// one namespace put it.
    fn secret(&self, gateway: &Item<'_, Gateway>, credential: &str) -> String {
        let here = self.pod.namespace();
        let found = self.world.tls_secret(here, credential).is_ok();
        let namespace = if found { here } else { gateway.namespace() };
        format!("{namespace}/{credential}")
    }

    /// The VirtualServices bound to this gateway, intersected with the server's hosts; the VirtualService's host is kept
    /// (semantics 22). With `httpsRedirect` every declared host redirects, routes or not (semantics 24).
    fn virtual_hosts(&self, gateway: &Item<'_, Gateway>, server: &ApiServer) -> Vec<VirtualHost> {
        let here = format!("{}/{}", gateway.namespace(), gateway.name());
        let redirects = server.tls.as_ref().is_some_and(|tls| tls.https_redirect);
        let mut found = Vec::new();
        if redirects {
            let declared = server.hosts.iter().filter_map(|host| HostPattern::parse(dns_name(host)).ok());
            found.extend(declared.map(|host| virtual_host(host, Vec::new(), true)));
        }
        let place = self.place(&here, server.port.number);
        for service in self.world.oldest_first::<VirtualService>() {
            if !place.is_among(&service.gateways, service.namespace())
                || !hosts::is_exported(&service.export_to, service.namespace(), gateway.namespace())
            {
                continue;
            }
            let rules = rules(self.world, &service, place);
            for host in &service.hosts {
                if let Some(pattern) = admitted(host, &service, gateway, server) {
                    merge(&mut found, vec![virtual_host(pattern, rules.clone(), redirects)]);
                }
            }
        }
        found
    }

    fn tcp_routes(&self, gateway: &Item<'_, Gateway>, server: &ApiServer) -> Vec<mesh_core::model::TcpRoute> {
        let here = format!("{}/{}", gateway.namespace(), gateway.name());
        let place = self.place(&here, server.port.number);
        self.world
            .oldest_first::<VirtualService>()
            .iter()
            .filter(|service| place.is_among(&service.gateways, service.namespace()))
            .filter(|service| {
                service.hosts.iter().any(|host| admitted(host, service, gateway, server).is_some())
            })
            .flat_map(|service| tcp::of_service(self.world, service, place))
            .collect()
    }

    fn place<'a>(&'a self, gateway: &'a str, port: u16) -> Place<'a> {
        Place {
            gateway: Some(gateway),
            port,
            namespace: self.pod.namespace(),
            labels: cluster::labels(self.pod),
        }
    }

    fn finish(self) -> Plan {
        let mut plan = Plan::default();
        for (number, port) in self.ports {
            plan.add(number, port);
        }
        plan
    }
}

impl Plan {
    /// One protocol per port: TLS where any server has it, else HTTP, else TCP (semantics 23).
    fn add(&mut self, number: u16, port: Port) {
        let mut listener = Listener {
            port: number,
            protocol: ListenerProtocol::Tcp,
            servers: Vec::new(),
            routes: None,
            tcp_routes: port.tcp.unwrap_or_default(),
        };
        if !port.tls.is_empty() {
            listener.protocol = ListenerProtocol::Tls;
            for (at, (mut server, hosts)) in port.tls.into_iter().enumerate() {
                server.routes = hosts.map(|hosts| self.table(format!("https.{number}.{at}"), hosts));
                listener.servers.push(server);
            }
        } else if let Some(hosts) = port.http {
            listener.protocol = ListenerProtocol::Http;
            listener.routes = Some(self.table(format!("http.{number}"), hosts));
        }
        self.listeners.push(listener);
    }

    fn table(&mut self, name: String, virtual_hosts: Vec<VirtualHost>) -> String {
        self.tables.insert(name.clone(), Routes { name: name.clone(), virtual_hosts });
        name
    }
}

/// Several VirtualServices for one host are merged on gateways: rules in order of age, those that catch everything last
/// (semantics 1 and 17).
pub(super) fn merge(held: &mut Vec<VirtualHost>, fresh: Vec<VirtualHost>) {
    for host in fresh {
        match held.iter_mut().find(|known| known.hosts == host.hosts) {
            Some(known) => {
                known.https_redirect |= host.https_redirect;
                known.rules.extend(host.rules);
                known.rules.sort_by_key(|rule| rule.matches.is_empty());
            }
            None => held.push(host),
        }
    }
}

pub(super) fn virtual_host(host: HostPattern, rules: Vec<Rule>, https_redirect: bool) -> VirtualHost {
    VirtualHost { name: host.to_string(), hosts: vec![host], rules, https_redirect }
}

/// The host of a VirtualService as a server of a gateway admits it: its own when the server's covers it, the server's
/// when that is the narrower.
fn admitted(
    host: &str,
    service: &Item<'_, VirtualService>,
    gateway: &Item<'_, Gateway>,
    server: &ApiServer,
) -> Option<HostPattern> {
    // Gateway hosts are written as they are dialled: short names are not completed.
    let host = host.to_ascii_lowercase();
    server.hosts.iter().find_map(|declared| {
        let owner = match declared.split_once('/') {
            Some((".", _)) => Some(gateway.namespace()),
            Some(("*", _)) | None => None,
            Some((namespace, _)) => Some(namespace),
        };
        if owner.is_some_and(|owner| owner != service.namespace()) {
            return None;
        }
        let declared = dns_name(declared).to_ascii_lowercase();
        let narrower = if declared == "*" || hosts::covers(&declared, &host) {
            Some(host.as_str())
        } else if host == "*" || hosts::covers(&host, &declared) {
            Some(declared.as_str())
        } else {
            None
        };
        narrower.and_then(|narrower| HostPattern::parse(narrower).ok())
    })
}

/// The DNS part of `namespace/host`.
fn dns_name(host: &str) -> &str {
    host.split_once('/').map_or(host, |(_, name)| name)
}

/// How a mode terminates TLS; `None` when it does not.
fn terminated(mode: ServerTlsMode) -> Option<TlsMode> {
    match mode {
        ServerTlsMode::Simple => Some(TlsMode::Simple),
        ServerTlsMode::Mutual => Some(TlsMode::Mutual),
        ServerTlsMode::OptionalMutual => Some(TlsMode::OptionalMutual),
        ServerTlsMode::IstioMutual => Some(TlsMode::Mesh),
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => None,
    }
}
