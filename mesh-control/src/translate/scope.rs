//! What a translation may look at: the world, its services, and who asks.

use mesh_core::model::{Host, HostPattern};

use super::Catalog;
use super::visibility::{Sight, Visibility};
use crate::api::meta::StringMap;
use crate::world::World;

/// The workload whose proxy asks.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Its namespace: what it may see depends on it.
    pub namespace: &'a str,
    /// Its labels, for `sourceLabels` and workload selectors.
    pub labels: &'a StringMap,
    /// The Sidecar that narrows what it sees; none at gateways.
    pub sidecar: Option<&'a Visibility>,
}

impl<'a> Client<'a> {
    /// A client of a namespace of whom nothing else is known.
    pub const fn of_namespace(namespace: &'a str, labels: &'a StringMap) -> Self {
        Self { namespace, labels, sidecar: None }
    }
}

/// What a translation may look at.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// All objects.
    pub world: &'a World,
    /// All services, by host.
    pub catalog: &'a Catalog,
    /// Who asks.
    pub client: Client<'a>,
}

impl<'a> Scope<'a> {
    /// What the client may name.
    pub const fn sight(&self) -> Sight<'a> {
        Sight { namespace: self.client.namespace, sidecar: self.client.sidecar }
    }

    /// The root namespace, whose objects are for all.
    pub fn root_namespace(&self) -> &str {
        &self.world.mesh_config().root_namespace
    }

    /// Whether the client's pod serves all tenants: only who rules the root namespace can start one there. Any pod can
    /// call itself a gateway and carry its labels, so elsewhere one is given its own namespace's keys only (TN-02).
    pub fn is_shared_gateway(&self) -> bool {
        self.client.namespace == self.root_namespace()
    }

    /// Whether the client may see an object of `namespace` with this `exportTo` (semantics.md 18). `fallback` is the
    /// mesh's default for objects that say nothing.
    pub fn sees(&self, export_to: &[String], fallback: &[String], namespace: &str) -> bool {
        is_exported(export_to, fallback, namespace, self.client.namespace)
    }
}

/// Whether an object of `namespace` is exported to the namespace `to`.
pub fn is_exported(export_to: &[String], fallback: &[String], namespace: &str, to: &str) -> bool {
    let list = if export_to.is_empty() { fallback } else { export_to };
    list.is_empty()
        || list.iter().any(|entry| match entry.as_str() {
            "*" => true,
            "." => namespace == to,
            "~" => false,
            named => named == to,
        })
}

/// How an object of `namespace` comes to be seen in `to`: as the namespace's own affair (0), because its list names the
/// namespace (1), or like by everybody (2). For objects that [`is_exported`] there (semantics.md 17).
pub fn breadth(export_to: &[String], fallback: &[String], namespace: &str, to: &str) -> u8 {
    let list = if export_to.is_empty() { fallback } else { export_to };
    if list.is_empty() || list.iter().any(|entry| entry == "*") { 2 } else { u8::from(namespace != to) }
}

/// The domain of the cluster's services.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// A host as written in an object: a name without dots is a service of the object's namespace (semantics.md 19).
pub fn qualify(host: &str, namespace: &str) -> String {
    if host.contains('.') || host.starts_with('*') || host.is_empty() {
        host.trim_end_matches('.').to_ascii_lowercase()
    } else {
        format!("{}.{namespace}.svc.{CLUSTER_DOMAIN}", host.to_ascii_lowercase())
    }
}

/// How objects may write a host, wildcards apart: as it is, or, in its own namespace, by its first label. The other way
/// round than [`qualify`]; may have more than there are.
pub fn spellings(host: &str) -> [&str; 2] {
    [host, host.split('.').next().unwrap_or_default()]
}

/// [`qualify`], as a pattern; `None` when it is not a host.
pub fn pattern(host: &str, namespace: &str) -> Option<HostPattern> {
    HostPattern::parse(&qualify(host, namespace)).ok()
}

/// Whether every host of `inner` is one of `outer`.
pub fn covers(outer: &HostPattern, inner: &HostPattern) -> bool {
    match (outer, inner) {
        (HostPattern::Any, _) => true,
        (_, HostPattern::Any) => false,
        (_, HostPattern::Exact(host)) => outer.matches(host),
        (HostPattern::Suffix(outer), HostPattern::Suffix(inner) | HostPattern::OneLabel(inner)) => {
            outer == inner || HostPattern::Suffix(outer.clone()).matches(inner)
        }
        (HostPattern::OneLabel(outer), HostPattern::OneLabel(inner)) => outer == inner,
        _ => false,
    }
}

/// How specific a pattern is: the greater, the more.
pub fn specificity(pattern: &HostPattern) -> (u8, usize) {
    match pattern {
        HostPattern::Exact(host) => (3, host.as_str().len()),
        HostPattern::OneLabel(suffix) => (2, suffix.as_str().len()),
        HostPattern::Suffix(suffix) => (1, suffix.as_str().len()),
        HostPattern::Any => (0, 0),
    }
}

/// The forms in which a client of `namespace` may name a service of the cluster, the fully qualified first.
pub fn forms(name: &str, service_namespace: &str, client_namespace: &str) -> Vec<Host> {
    let mut forms = vec![
        format!("{name}.{service_namespace}.svc.{CLUSTER_DOMAIN}"),
        format!("{name}.{service_namespace}.svc"),
        format!("{name}.{service_namespace}"),
    ];
    if service_namespace == client_namespace {
        forms.push(name.to_owned());
    }
    forms.iter().filter_map(|form| Host::parse(form).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s18_exports_follow_the_list() {
        let list = |entries: &[&str]| entries.iter().map(|&entry| entry.to_owned()).collect::<Vec<_>>();
        for (export_to, own, other) in [
            (list(&[]), true, true),
            (list(&["*"]), true, true),
            (list(&["."]), true, false),
            (list(&["~"]), false, false),
            (list(&["b"]), false, true),
        ] {
            assert_eq!(is_exported(&export_to, &[], "a", "a"), own, "{export_to:?}");
            assert_eq!(is_exported(&export_to, &[], "a", "b"), other, "{export_to:?}");
        }
        assert!(
            !is_exported(&[], &list(&["."]), "a", "b"),
            "the mesh's default counts where nothing is said"
        );
    }

    #[test]
    fn patterns_cover_what_lies_below_them() {
        let pattern = |text: &str| HostPattern::parse(text).unwrap();
        assert!(covers(&pattern("*"), &pattern("*.a.com")));
        assert!(covers(&pattern("*.a.com"), &pattern("b.a.com")));
        assert!(covers(&pattern("*.com"), &pattern("*.a.com")));
        assert!(!covers(&pattern("*.a.com"), &pattern("*.com")));
        assert!(!covers(&pattern("*.a.com"), &pattern("a.com")));
    }
}
