//! What one proxy may see: the answer to each root it subscribes to, encoded once per world and shared.
//!
//! An answer depends on the root and on what the proxy is, never on when it asks. Proxies of one namespace with equal
//! labels share every answer but their own configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dashmap::DashMap;
use mesh_core::model::{
    Action, Address, Destination, DnsName, Host, Resource, Role, Root, Routes, Secret, TcpRoute, Workload,
};
use mesh_core::wire::{Encoded, encode};

use crate::api::Item;
use crate::api::core::{Pod, Service, ServicePort};
use crate::api::meta::StringMap;
use crate::problem::Problem;
use crate::translate::rules::Place;
use crate::translate::{cluster, gateway, hosts, http, own, tcp, unsupported};
use crate::world::{ServiceAddress, World, service_protocol};

/// How long applications may keep a virtual address, and the members of a headless service, in seconds.
const VIRTUAL_TTL: u32 = 30;
const HEADLESS_TTL: u32 = 5;

/// A proxy, as far as what it sees depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Proxy {
    /// What it is.
    pub role: Role,
    /// Its pod's namespace.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Its pod's service account.
    pub service_account: String,
}

type Closure = Option<Vec<Arc<Encoded>>>;
/// Namespace and labels: what the answers to all roots but `Own` depend on.
type Class = (String, StringMap);

/// One world, with the answers given so far.
#[derive(Default)]
pub struct View {
    world: World,
    generation: u64,
    problems: Vec<Problem>,
    answers: DashMap<(Class, Root), Closure>,
}

impl View {
    /// A view of `world`.
    pub fn new(world: World, generation: u64) -> Self {
        let problems = unsupported::problems(&world);
        Self { world, generation, problems, answers: DashMap::new() }
    }

    /// Counts the worlds.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The world.
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// The mesh's trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.world.mesh_config().trust_domain
    }

    /// Everything to tell users: problems of the source and of the translation.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.world.problems().chain(&self.problems)
    }

    /// A pod's facts, for its certificate.
    pub fn workload(&self, namespace: &str, pod: &str) -> Option<Workload> {
        self.world.get::<Pod>(namespace, pod).map(|pod| own::workload(&pod))
    }

    /// Everything a root needs, encoded; `None` when there is nothing.
    pub fn closure(&self, proxy: &Proxy, root: &Root) -> Closure {
        let labels =
            self.world.get::<Pod>(&proxy.namespace, &proxy.pod).map(|pod| cluster::labels(&pod).clone());
        let labels = labels.unwrap_or_default();
        if *root == Root::Own {
            return Some(self.own(proxy)?.iter().map(|resource| Arc::new(encode(resource))).collect());
        }
        let key = ((proxy.namespace.clone(), labels), root.clone());
        if let Some(answer) = self.answers.get(&key) {
            return answer.clone();
        }
        let place = Place { gateway: None, port: 0, namespace: &proxy.namespace, labels: &key.0.1 };
        let resources = self.resources(place, root);
        let answer: Closure = resources.map(|all| all.iter().map(|one| Arc::new(encode(one))).collect());
        self.answers.insert(key, answer.clone());
        answer
    }

    /// The resources a sidecar at `place` needs for a root.
    pub fn resources(&self, place: Place<'_>, root: &Root) -> Option<Vec<Resource>> {
        match root {
            Root::Own => None,
            Root::Address(address) => self.address(place, *address),
            Root::Host { host, port } => {
                let routes = http::routes(&self.world, host.as_str(), Place { port: *port, ..place })?;
                Some(self.with_clusters(place.namespace, vec![routes]))
            }
            Root::Name(name) => self.name(place, name).map(|name| vec![Resource::Name(name)]),
        }
    }

    /// A proxy's own configuration; for gateways with all tables, clusters and secrets that it names.
    pub fn own(&self, proxy: &Proxy) -> Option<Vec<Resource>> {
        let own = own::own(&self.world, proxy)?;
        if !proxy.role.is_gateway() {
            return Some(vec![Resource::Own(Box::new(own))]);
        }
        let pod = self.world.get::<Pod>(&proxy.namespace, &proxy.pod)?;
        let plan = gateway::plan(&self.world, &pod, proxy.role);
        let servers = || plan.listeners.iter().flat_map(|listener| &listener.servers);
        let secrets: BTreeSet<_> = servers().filter_map(|server| server.tls.secret.clone()).collect();
        let connections = plan.listeners.iter().flat_map(|listener| &listener.tcp_routes);
        let connections = connections.chain(servers().flat_map(|server| &server.tcp_routes));
        let mut clusters: BTreeSet<_> = connections.flat_map(tcp_clusters).collect();
        clusters.extend(plan.tables.values().flat_map(route_clusters));
        let mut resources = vec![Resource::Own(Box::new(own))];
        resources.extend(secrets.iter().filter_map(|name| self.secret(name)).map(Resource::Secret));
        resources.extend(plan.tables.into_values().map(Resource::Routes));
        resources.extend(clusters.iter().flat_map(|name| self.cluster(name, &proxy.namespace)));
        Some(resources)
    }

    fn secret(&self, name: &str) -> Option<Secret> {
        let (namespace, secret) = name.split_once('/')?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
        let found = self.world.tls_secret(namespace, secret).ok()?;
        // A separate Secret NAME-cacert may hold the anchors, as Istio has it.
        let anchors =
            found.roots.or_else(|| self.world.ca_secret(namespace, &format!("{secret}-cacert")).ok());
        Some(Secret {
            name: name.to_owned(),
            certificates: text(found.certificates)?,
            private_key: text(found.key)?,
            trust_anchors: anchors.and_then(text).unwrap_or_default(),
        })
    }

    fn with_clusters(&self, namespace: &str, tables: Vec<Routes>) -> Vec<Resource> {
        let names: BTreeSet<_> = tables.iter().flat_map(route_clusters).collect();
        let mut resources: Vec<_> = tables.into_iter().map(Resource::Routes).collect();
        resources.extend(names.iter().flat_map(|name| self.cluster(name, namespace)));
        resources
    }

    /// A cluster by name, with its endpoints; nothing when nobody defines it.
    fn cluster(&self, name: &str, namespace: &str) -> Vec<Resource> {
        let mut parts = name.splitn(4, '|').skip(1);
        let (Some(port), Some(subset), Some(host)) = (parts.next(), parts.next(), parts.next()) else {
            return Vec::new();
        };
        let found = port.parse().ok().and_then(|number: u16| {
            let service = hosts::service(&self.world, host, namespace)?;
            let port = service.spec.ports.iter().find(|port| port.port == number)?;
            cluster::of_service(&self.world, &service, port, subset, namespace)
        });
        found
            .map(|(cluster, endpoints)| {
                vec![Resource::Cluster(Box::new(cluster)), Resource::Endpoints(endpoints)]
            })
            .unwrap_or_default()
    }

    fn address(&self, place: Place<'_>, address: SocketAddr) -> Option<Vec<Resource>> {
        let place = Place { port: address.port(), ..place };
        if let Some((service, port)) = self.service_at(address) {
            return self.service_address(place, address, &service, port);
        }
        let pod = self.pod_at(address.ip())?;
        let (cluster, endpoints) = cluster::of_pod(&self.world, &pod, address)?;
        let destination = Destination {
            service: cluster.service.clone(),
            protocol: cluster.protocol,
            cluster: cluster.name.clone(),
            tcp_routes: Vec::new(),
        };
        Some(vec![
            Resource::Address(Address { address, destination }),
            Resource::Cluster(Box::new(cluster)),
            Resource::Endpoints(endpoints),
        ])
    }

    fn service_address(
        &self,
        place: Place<'_>,
        address: SocketAddr,
        service: &Item<'_, Service>,
        port: &ServicePort,
    ) -> Option<Vec<Resource>> {
        let host = hosts::service_host(service);
        let tcp_routes = tcp::routes(&self.world, &host, place);
        let name = cluster::name(port.port, "", &host);
        let mut clusters: BTreeSet<_> = tcp_routes.iter().flat_map(tcp_clusters).collect();
        clusters.insert(name.clone());
        let destination = Destination {
            service: Host::parse(&host).ok()?,
            protocol: service_protocol(port)?,
            cluster: name,
            tcp_routes,
        };
        let mut resources = vec![Resource::Address(Address { address, destination })];
        resources.extend(clusters.iter().flat_map(|name| self.cluster(name, place.namespace)));
        Some(resources)
    }

    fn service_at(&self, address: SocketAddr) -> Option<(Item<'_, Service>, &ServicePort)> {
        self.world.all::<Service>().find_map(|service| {
            if self.world.address_of(&service) != ServiceAddress::Virtual(address.ip()) {
                return None;
            }
            let port = service.spec.ports.iter().find(|port| port.port == address.port())?;
            Some((service, port))
        })
    }

    fn pod_at(&self, address: IpAddr) -> Option<Item<'_, Pod>> {
        self.world.all::<Pod>().find(|pod| pod.status.pod_ip == Some(address))
    }

    fn name(&self, place: Place<'_>, name: &Host) -> Option<DnsName> {
        let service = hosts::service(&self.world, name.as_str(), place.namespace)?;
        let (addresses, ttl) = match self.world.address_of(&service) {
            ServiceAddress::Virtual(address) => (vec![address], VIRTUAL_TTL),
            ServiceAddress::Headless => (self.members(&service), HEADLESS_TTL),
            ServiceAddress::External | ServiceAddress::None => return None,
        };
        Some(DnsName { name: name.clone(), addresses, ttl })
    }

    /// The addresses of a service's ready pods.
    pub fn members(&self, service: &Item<'_, Service>) -> Vec<IpAddr> {
        let endpoints = service.spec.ports.iter().flat_map(|port| self.world.endpoints_of(service, port));
        endpoints.map(|endpoint| endpoint.address).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Every object with its number of problems, for `mesh status`.
    pub fn objects(&self) -> BTreeMap<String, usize> {
        let counted = |key: &crate::api::Key| {
            let named = crate::problem::ObjectRef::from(key);
            self.problems().filter(|problem| problem.object.as_deref() == Some(&named)).count()
        };
        self.world.objects().map(|object| (object.key.to_string(), counted(&object.key))).collect()
    }
}

fn tcp_clusters(route: &TcpRoute) -> impl Iterator<Item = String> {
    route.backends.iter().map(|(cluster, _)| cluster.clone())
}

fn route_clusters(routes: &Routes) -> Vec<String> {
    let rules = routes.virtual_hosts.iter().flat_map(|host| &host.rules);
    let mut names = Vec::new();
    for rule in rules {
        if let Action::Forward(backends) = &rule.action {
            names.extend(backends.iter().map(|backend| backend.cluster.clone()));
        }
        names.extend(rule.mirrors.iter().map(|mirror| mirror.cluster.clone()));
    }
    names
}
