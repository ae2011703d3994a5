//! Which Sidecar holds for a workload, and which hosts it lets the workload see (semantics.md 29).
//!
//! Of the Sidecars of a namespace the oldest whose selector selects the workload holds, else the oldest without a
//! selector, else the oldest without a selector of the root namespace. They never add up. Gateways have none.
//!
//! A Sidecar narrows what a workload may *name*: hosts, addresses and DNS names. Where a VirtualService that it sees leads
//! is reached all the same, as in Istio. So roots are looked up through [`Sight`], and closures are not filtered. It is
//! no boundary: what is hidden behaves as a host that nobody declares.

use std::collections::HashMap;

use mesh_core::model::{HostPattern, Root};

use super::catalog::Service;
use super::scope::{Client, Scope, covers};
use super::sidecar;
use crate::api::meta::{StringMap, selects};
use crate::api::networking::{Sidecar, SidecarEgress, VirtualService};
use crate::api::{Item, Key};
use crate::world::World;

/// Who looks for services: a namespace, and the Sidecar that narrows what it sees.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// To which services must be exported.
    pub namespace: &'a str,
    /// Without one everything that is exported is seen.
    pub sidecar: Option<&'a Visibility>,
}

impl<'a> From<&'a str> for Sight<'a> {
    fn from(namespace: &'a str) -> Self {
        Self { namespace, sidecar: None }
    }
}

impl Sight<'_> {
    /// Whether the Sidecar shows a port of a service; any of its ports where none is named.
    pub fn shows(&self, service: &Service, port: Option<u16>) -> bool {
        self.sidecar.is_none_or(|sidecar| match port {
            Some(port) => sidecar.shows(service, port, self.namespace),
            None if service.ports.is_empty() => sidecar.shows(service, 0, self.namespace),
            None => service.ports.iter().any(|port| sidecar.shows(service, port.number, self.namespace)),
        })
    }

    /// Whether the Sidecar shows a VirtualService to those who dial a port.
    pub fn shows_rules(&self, item: &Item<'_, VirtualService>, port: u16) -> bool {
        self.sidecar.is_none_or(|sidecar| sidecar.shows_rules(item, port, self.namespace))
    }
}

/// All Sidecars by namespace, those with a selector first, the oldest of each first.
#[derive(Debug, Default)]
pub struct Sidecars {
    by_namespace: HashMap<String, Vec<Visibility>>,
    root: String,
}

impl Sidecars {
    /// Collects the Sidecars of a world.
    pub fn new(world: &World) -> Self {
        let mut by_namespace: HashMap<String, Vec<Visibility>> = HashMap::new();
        for item in world.oldest_first::<Sidecar>() {
            by_namespace.entry(item.namespace().to_owned()).or_default().push(Visibility::new(&item));
        }
        by_namespace.values_mut().for_each(|list| list.sort_by_key(|sidecar| sidecar.selector.is_empty()));
        Self { by_namespace, root: world.mesh_config().root_namespace.clone() }
    }

    /// The one that holds for a workload.
    pub fn of(&self, namespace: &str, labels: &StringMap) -> Option<&Visibility> {
        let of = |namespace: &str| self.by_namespace.get(namespace).into_iter().flatten();
        of(namespace)
            .find(|sidecar| selects(&sidecar.selector, labels))
            .or_else(|| of(&self.root).find(|sidecar| sidecar.selector.is_empty()))
    }
}

/// What one Sidecar shows.
#[derive(Debug)]
pub struct Visibility {
    /// The object.
    pub key: Key,
    selector: StringMap,
    /// Everything is shown when empty.
    listeners: Vec<Listener>,
}

/// Hosts that are shown to those who dial a port, or any port that no other listener names.
#[derive(Debug)]
struct Listener {
    port: Option<u16>,
    shown: Vec<Hosts>,
    hidden: Vec<Hosts>,
}

/// Hosts of one namespace or of all.
#[derive(Debug, Clone, PartialEq)]
struct Hosts {
    namespace: Namespace,
    host: HostPattern,
}

#[derive(Debug, Clone, PartialEq)]
enum Namespace {
    Any,
    /// The client's, which for the mesh's default is not the Sidecar's.
    Own,
    Named(String),
}

/// An entry of `egress.hosts`.
#[derive(Debug, Clone, PartialEq)]
enum Entry {
    Show(Hosts),
    Hide(Hosts),
    /// `~/*`
    Nothing,
}

impl Visibility {
    fn new(item: &Item<'_, Sidecar>) -> Self {
        let selector = item.spec.workload_selector.as_ref().map(|selector| selector.labels.clone());
        Self {
            key: item.object.key.clone(),
            selector: selector.unwrap_or_default(),
            listeners: item.spec.egress.iter().map(Listener::new).collect(),
        }
    }

    fn shows(&self, service: &Service, port: u16, client: &str) -> bool {
        self.allows(port, |hosts| {
            hosts.namespace.is(&service.namespace, client) && covers(&hosts.host, &service.host)
        })
    }

    /// Rules are shown when one of their hosts has anything in common with what is shown, as in Istio.
    fn shows_rules(&self, item: &Item<'_, VirtualService>, port: u16, client: &str) -> bool {
        let patterns =
            item.spec.hosts.iter().filter_map(|host| super::scope::pattern(host, item.namespace()));
        let patterns: Vec<HostPattern> = patterns.collect();
        let meets = |hosts: &Hosts| {
            let common = |host: &HostPattern| covers(&hosts.host, host) || covers(host, &hosts.host);
            hosts.namespace.is(item.namespace(), client) && patterns.iter().any(common)
        };
        let hides = |hosts: &Hosts| {
            hosts.namespace.is(item.namespace(), client)
                && patterns.iter().all(|host| covers(&hosts.host, host))
        };
        self.listeners.is_empty()
            || self
                .of_port(port)
                .any(|listener| listener.shown.iter().any(meets) && !listener.hidden.iter().any(hides))
    }

    fn allows(&self, port: u16, matches: impl Fn(&Hosts) -> bool) -> bool {
        self.listeners.is_empty()
            || self
                .of_port(port)
                .any(|listener| listener.shown.iter().any(&matches) && !listener.hidden.iter().any(&matches))
    }

    /// The listeners for a port: those that name it, else those that name none.
    fn of_port(&self, port: u16) -> impl Iterator<Item = &Listener> {
        let named = self.listeners.iter().any(|listener| listener.port == Some(port));
        let wanted = named.then_some(port);
        self.listeners.iter().filter(move |listener| listener.port == wanted)
    }
}

impl Listener {
    fn new(egress: &SidecarEgress) -> Self {
        let port = egress.port.as_ref().map(|port| port.number).filter(|port| *port != 0);
        let mut listener = Self { port, shown: Vec::new(), hidden: Vec::new() };
        for entry in egress.hosts.iter().filter_map(|text| Entry::parse(text).ok()) {
            match entry {
                Entry::Show(hosts) => listener.shown.push(hosts),
                Entry::Hide(hosts) => listener.hidden.push(hosts),
                Entry::Nothing => {}
            }
        }
        listener
    }
}

impl Namespace {
    fn is(&self, namespace: &str, client: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Own => namespace == client,
            Self::Named(name) => name == namespace,
        }
    }
}

impl Entry {
    fn parse(text: &str) -> Result<Self, String> {
        let (namespace, host) =
            text.split_once('/').ok_or("write namespace/host, such as ./* or */api.example.com")?;
        let hosts = |namespace: Namespace| {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            let host = HostPattern::parse(&host).map_err(|_| format!("{host:?} is not a host"))?;
            Ok::<_, String>(Hosts { namespace, host })
        };
        Ok(match namespace {
            "" => return Err("the namespace is missing; write . for the own one, * for any".to_owned()),
            "*" => Self::Show(hosts(Namespace::Any)?),
            "." => Self::Show(hosts(Namespace::Own)?),
            "~" => Self::Nothing,
            named => match named.strip_prefix('~') {
                Some(".") => Self::Hide(hosts(Namespace::Own)?),
                Some("*") => Self::Hide(hosts(Namespace::Any)?),
                Some(hidden) => Self::Hide(hosts(Namespace::Named(hidden.to_owned()))?),
                None => Self::Show(hosts(Namespace::Named(named.to_owned()))?),
            },
        })
    }
}

/// The Sidecar that keeps from a client what a root asks for, where it would be told of it otherwise.
pub fn hider<'a>(scope: &Scope<'a>, root: &Root) -> Option<&'a Key> {
    let hider = scope.client.sidecar?;
    let is_told = |scope: &Scope<'_>| match root {
        Root::Own => true,
        Root::Address(address) => sidecar::address(scope, *address).is_some(),
        Root::Host { host, port } => sidecar::routes(scope, host, *port).is_some(),
        Root::Name(name) => sidecar::name(scope, name).is_some(),
    };
    let unhindered = Scope { client: Client { sidecar: None, ..scope.client }, ..*scope };
    (!is_told(scope) && is_told(&unhindered)).then_some(&hider.key)
}

/// What an entry of `egress.hosts` names, for telling about it.
#[derive(Debug)]
pub struct Named {
    /// `None` for any.
    pub namespace: Option<String>,
    /// The hosts.
    pub host: HostPattern,
    /// Everything of the mesh, or of the Sidecar's own namespace, is meant: nothing need be there yet.
    pub may_be_empty: bool,
}

/// What an entry of a Sidecar of `namespace` names; nothing for `~/*`.
///
/// # Errors
/// Why it cannot be read; it shows nothing then.
pub fn check_entry(text: &str, namespace: &str) -> Result<Option<Named>, String> {
    let (Entry::Show(hosts) | Entry::Hide(hosts)) = Entry::parse(text)? else { return Ok(None) };
    let own = hosts.namespace == Namespace::Own;
    let may_be_empty = hosts.host == HostPattern::Any && (own || hosts.namespace == Namespace::Any);
    let namespace = match hosts.namespace {
        Namespace::Any => None,
        Namespace::Own => Some(namespace.to_owned()),
        Namespace::Named(name) => Some(name),
    };
    Ok(Some(Named { namespace, host: hosts.host, may_be_empty }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_name_a_namespace_and_a_host() {
        let hosts = |namespace, host: &str| Hosts { namespace, host: HostPattern::parse(host).unwrap() };
        for (text, entry) in [
            ("*/*", Entry::Show(hosts(Namespace::Any, "*"))),
            ("./*.prod.svc", Entry::Show(hosts(Namespace::Own, "*.prod.svc"))),
            ("b/API.example.com.", Entry::Show(hosts(Namespace::Named("b".into()), "api.example.com"))),
            ("~/*", Entry::Nothing),
            ("~b/*", Entry::Hide(hosts(Namespace::Named("b".into()), "*"))),
        ] {
            assert_eq!(Entry::parse(text), Ok(entry), "{text}");
        }
        for text in ["api.example.com", "/api.example.com", "b/not a host", "b/"] {
            assert!(Entry::parse(text).is_err(), "{text}");
        }
    }
}
