//! Every service of the mesh by its host, whether Kubernetes or a ServiceEntry declared it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use mesh_core::model::{ALLOTTED, Host, HostPattern, Protocol};
use xxhash_rust::xxh3::xxh3_64;

use super::scope::{CLUSTER_DOMAIN, is_exported, specificity};
use super::visibility::{Sidecars, Sight};
use crate::api::core::Service as KubernetesService;
use crate::api::networking::{DestinationRule, Location, ServiceEntry, VirtualService};
use crate::api::{Item, Key};
use crate::world::{ServiceAddress, World, entry_protocol, service_protocol};

/// Addresses for hosts that have none.
const RANGE: u32 = u32::from_be_bytes(ALLOTTED.octets());
const SIZE: u32 = 1 << 16;

/// A service.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its host; a pattern for ServiceEntries of wildcards.
    pub host: HostPattern,
    /// Its short name, as metrics call it.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its TCP ports.
    pub ports: Vec<Port>,
    /// The object that declares it.
    pub key: Key,
    /// Whether it stands outside the mesh.
    pub external: bool,
    /// Addresses that applications dial for it.
    pub addresses: Vec<IpAddr>,
    /// Networks of which every address is its (ServiceEntry `addresses` in CIDR form).
    pub networks: Vec<IpNet>,
    /// It has no address of its own: applications dial its pods.
    pub headless: bool,
    export_to: Vec<String>,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The number that clients dial.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// What it carries.
    pub protocol: Protocol,
}

impl Service {
    /// A port by number.
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// The host as clusters are named by, `*.example.com` for patterns.
    pub fn host_text(&self) -> String {
        self.host.to_string()
    }

    /// Whether clients of a namespace may see it.
    pub fn is_visible_to(&self, namespace: &str, fallback: &[String]) -> bool {
        is_exported(&self.export_to, fallback, &self.namespace, namespace)
    }

    /// Whether Kubernetes declared it.
    pub fn is_kubernetes(&self) -> bool {
        self.key.kind == crate::api::Kind::Service
    }
}

/// All services by host, the Sidecars that narrow who sees which, and the labels of clients that objects look at.
///
/// Lookups take who looks: a namespace sees all that is exported to it, [`Sight`] may see less.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Those of one host, the oldest first.
    exact: BTreeMap<Host, Vec<Service>>,
    wildcards: Vec<Service>,
    addresses: HashMap<IpAddr, HostPattern>,
    /// The narrowest first.
    networks: Vec<(IpNet, HostPattern)>,
    export_to: Vec<String>,
    labels: BTreeSet<String>,
    sidecars: Sidecars,
}

impl Catalog {
    /// Collects the services of a world.
    pub fn new(world: &World) -> Self {
        let export_to = world.mesh_config().default_service_export_to.clone();
        let (labels, sidecars) = (client_labels(world), Sidecars::new(world));
        let mut catalog = Self { export_to, labels, sidecars, ..Self::default() };
        for service in world.oldest_first::<KubernetesService>() {
            catalog.add(kubernetes(world, &service));
        }
        let mut allotted = BTreeSet::new();
        for entry in world.all::<ServiceEntry>() {
            for service in entry_services(&entry, &mut allotted) {
                catalog.add(service);
            }
        }
        catalog
    }

    fn add(&mut self, service: Option<Service>) {
        let Some(service) = service else { return };
        for address in &service.addresses {
            self.addresses.entry(*address).or_insert_with(|| service.host.clone());
        }
        self.networks.extend(service.networks.iter().map(|network| (*network, service.host.clone())));
        self.networks.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        match &service.host {
            HostPattern::Exact(host) => {
                self.exact.entry(host.clone()).or_default().push(service);
            }
            _ => {
                self.wildcards.push(service);
                self.wildcards.sort_by_key(|service| std::cmp::Reverse(specificity(&service.host)));
            }
        }
    }

    /// The service of a fully qualified host; exact before wildcards.
    pub fn find<'s>(&self, host: &Host, sight: impl Into<Sight<'s>>) -> Option<&Service> {
        let sight = sight.into();
        self.candidates(host, sight.namespace).find(|service| sight.shows(service, None))
    }

    /// All services, whoever sees them.
    pub fn all(&self) -> impl Iterator<Item = &Service> {
        self.exact.values().flatten().chain(&self.wildcards)
    }

    /// The service of a host that has a port.
    pub fn find_port<'s>(
        &self,
        host: &Host,
        port: u16,
        sight: impl Into<Sight<'s>>,
    ) -> Option<(&Service, &Port)> {
        let sight = sight.into();
        let mut seen =
            self.candidates(host, sight.namespace).filter(|service| sight.shows(service, Some(port)));
        seen.find_map(|service| Some((service, service.port(port)?)))
    }

    /// As [`Catalog::find_port`], by the host as clusters are named by.
    pub fn find_text<'s>(
        &self,
        host: &str,
        port: u16,
        sight: impl Into<Sight<'s>>,
    ) -> Option<(&Service, &Port)> {
        let sight = sight.into();
        match HostPattern::parse(host).ok()? {
            HostPattern::Exact(host) => self.find_port(&host, port, sight),
            pattern => self.wildcards.iter().find_map(|service| {
                (service.host == pattern
                    && service.is_visible_to(sight.namespace, &self.export_to)
                    && sight.shows(service, Some(port)))
                .then(|| Some((service, service.port(port)?)))?
            }),
        }
    }

    /// The service of a wildcard.
    pub fn find_pattern(&self, pattern: &HostPattern, namespace: &str) -> Option<&Service> {
        let visible = |service: &&Service| service.is_visible_to(namespace, &self.export_to);
        self.wildcards.iter().filter(|service| service.host == *pattern).find(visible)
    }

    /// Of several that declare a host the namespace's own comes first.
    fn candidates(&self, host: &Host, namespace: &str) -> impl Iterator<Item = &Service> {
        let same = || self.exact.get(host).into_iter().flatten();
        let own = same().filter(move |service| service.namespace == namespace);
        let others = same().filter(move |service| service.namespace != namespace);
        let wildcards = self.wildcards.iter().filter(|service| service.host.matches(host));
        let all = own.chain(others).chain(wildcards);
        all.filter(move |service| service.is_visible_to(namespace, &self.export_to))
    }

    /// All services that someone sees.
    pub fn visible<'c>(&'c self, sight: impl Into<Sight<'c>>) -> impl Iterator<Item = &'c Service> {
        let sight = sight.into();
        self.all().filter(move |service| {
            service.is_visible_to(sight.namespace, &self.export_to) && sight.shows(service, None)
        })
    }

    /// The service and port behind an address: of the service that has it, else of the narrowest network around it.
    pub fn at<'s>(
        &self,
        address: IpAddr,
        port: u16,
        sight: impl Into<Sight<'s>>,
    ) -> Option<(&Service, &Port)> {
        let sight = sight.into();
        let around = self.networks.iter().filter(|(network, _)| network.contains(&address));
        let mut hosts = self.addresses.get(&address).into_iter().chain(around.map(|(_, host)| host));
        hosts.find_map(|host| match host {
            HostPattern::Exact(host) => self.find_port(host, port, sight),
            pattern => self.find_text(&pattern.to_string(), port, sight),
        })
    }

    /// The host whose service has an address.
    pub fn host_at(&self, address: IpAddr) -> Option<&Host> {
        match self.addresses.get(&address)? {
            HostPattern::Exact(host) => Some(host),
            _ => None,
        }
    }

    /// The fully qualified host that a name means to clients of a namespace, if a service has it: the name itself, or
    /// with what a resolver would append (semantics.md 19).
    pub fn canonical<'s>(&self, name: &Host, sight: impl Into<Sight<'s>>) -> Option<Host> {
        let sight = sight.into();
        expansions(name, sight.namespace).into_iter().find(|host| self.find(host, sight).is_some())
    }

    /// The Sidecars, for finding the one that holds for a workload.
    pub const fn sidecars(&self) -> &Sidecars {
        &self.sidecars
    }

    /// How many services there are.
    pub fn len(&self) -> usize {
        self.exact.values().map(Vec::len).sum::<usize>() + self.wildcards.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names of labels by which objects tell clients apart; others need not tell views apart.
    pub const fn client_labels(&self) -> &BTreeSet<String> {
        &self.labels
    }
}

/// What a name may stand for, in the order in which it is tried.
pub fn expansions(name: &Host, namespace: &str) -> Vec<Host> {
    let name = name.as_str();
    let candidates = [
        Some(name.to_owned()),
        (!name.contains('.')).then(|| format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}")),
        (name.matches('.').count() == 1).then(|| format!("{name}.svc.{CLUSTER_DOMAIN}")),
        name.ends_with(".svc").then(|| format!("{name}.{CLUSTER_DOMAIN}")),
    ];
    candidates.into_iter().flatten().filter_map(|candidate| Host::parse(&candidate).ok()).collect()
}

fn kubernetes(world: &World, service: &Item<'_, KubernetesService>) -> Option<Service> {
    let (name, namespace) = (service.name(), service.namespace());
    let port = |port: &crate::api::core::ServicePort| {
        Some(Port { number: port.port, name: port.name.clone(), protocol: service_protocol(port)? })
    };
    let address = world.address_of(service);
    let annotation = service.object.meta.annotation("networking.istio.io/exportTo").unwrap_or_default();
    let export_to = annotation.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    Some(Service {
        host: HostPattern::Exact(Host::parse(&format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}")).ok()?),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        ports: service.ports.iter().filter_map(port).collect(),
        key: service.object.key.clone(),
        external: address == ServiceAddress::External,
        addresses: match address {
            ServiceAddress::Virtual(address) => vec![address],
            _ => Vec::new(),
        },
        networks: Vec::new(),
        headless: address == ServiceAddress::Headless,
        export_to: export_to.map(str::to_owned).collect(),
    })
}

fn entry_services<'e>(
    entry: &'e Item<'_, ServiceEntry>,
    allotted: &'e mut BTreeSet<u32>,
) -> impl Iterator<Item = Option<Service>> + use<'e> {
    let ports: Vec<_> = entry
        .ports
        .iter()
        .map(|port| Port { number: port.number, name: port.name.clone(), protocol: entry_protocol(port) })
        .collect();
    let given: Vec<IpAddr> = entry.addresses.iter().filter_map(|address| address.parse().ok()).collect();
    let networks: Vec<IpNet> = entry.addresses.iter().filter_map(|network| network.parse().ok()).collect();
    entry.hosts.iter().map(move |text| {
        let host = HostPattern::parse(text).ok()?;
        let addresses = match &host {
            // Names below a wildcard answer with its address too: what is dialled is then told by Host or server name.
            HostPattern::Exact(_) | HostPattern::Suffix(_) | HostPattern::OneLabel(_) if given.is_empty() => {
                vec![allot(allotted, entry.namespace(), text)]
            }
            _ => given.clone(),
        };
        Some(Service {
            name: host.to_string(),
            host,
            namespace: entry.namespace().to_owned(),
            ports: ports.clone(),
            key: entry.object.key.clone(),
            external: entry.location == Location::MeshExternal,
            addresses,
            networks: networks.clone(),
            headless: false,
            export_to: entry.export_to.clone(),
        })
    })
}

/// The first free address from the one that namespace and host hash to.
fn allot(allotted: &mut BTreeSet<u32>, namespace: &str, host: &str) -> IpAddr {
    let hash = xxh3_64(format!("{namespace}/{host}").as_bytes());
    let start = u32::try_from(hash % u64::from(SIZE)).unwrap_or_default();
    let free =
        (0..SIZE).map(|step| (start + step) % SIZE).find(|offset| *offset != 0 && allotted.insert(*offset));
    IpAddr::V4(Ipv4Addr::from(RANGE + free.unwrap_or(start)))
}

/// The labels that `sourceLabels` and workload selectors name.
fn client_labels(world: &World) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    for service in world.all::<VirtualService>() {
        let http = service.http.iter().flat_map(|route| &route.matches).flat_map(|m| m.source_labels.keys());
        let tls = service.tls.iter().flat_map(|route| &route.matches).flat_map(|m| m.source_labels.keys());
        let tcp = service.tcp.iter().flat_map(|route| &route.matches).flat_map(|m| m.source_labels.keys());
        labels.extend(http.chain(tls).chain(tcp).cloned());
    }
    for selector in world.all::<DestinationRule>().filter_map(|rule| rule.spec.workload_selector.as_ref()) {
        labels.extend(selector.match_labels.keys().cloned());
        labels.extend(selector.match_expressions.iter().map(|requirement| requirement.key.clone()));
    }
    labels
}
