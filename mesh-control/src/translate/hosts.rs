//! Names of services and who may see what.

use mesh_core::model::{Host, HostPattern};

use crate::api::Item;
use crate::api::core::Service;
use crate::world::World;

/// The domain of the cluster's services.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// The fully qualified host of a service.
pub fn service_host(service: &Item<'_, Service>) -> String {
    format!("{}.{}.svc.{CLUSTER_DOMAIN}", service.name(), service.namespace())
}

/// The host that a rule in `namespace` means: short names are the rule's own namespace's (semantics 19).
pub fn resolve(host: &str, namespace: &str) -> String {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host.contains('.') || host.contains('*') {
        host
    } else {
        format!("{host}.{namespace}.svc.{CLUSTER_DOMAIN}")
    }
}

/// The service that a host names, seen from `namespace`: `svc`, `svc.ns`, `svc.ns.svc` or fully qualified.
pub fn service<'w>(world: &'w World, host: &str, namespace: &str) -> Option<Item<'w, Service>> {
    let local = host.strip_suffix(CLUSTER_DOMAIN).map_or(host, |rest| rest.trim_end_matches('.'));
    let mut labels = local.split('.');
    let name = labels.next()?;
    let owner = labels.next().unwrap_or(namespace);
    match (labels.next(), labels.next()) {
        (None | Some("svc"), None) => world.get::<Service>(owner, name),
        _ => None,
    }
}

/// Every form in which a client in `namespace` may write a service's host.
pub fn forms(service: &Item<'_, Service>, namespace: &str) -> Vec<HostPattern> {
    let (name, owner) = (service.name(), service.namespace());
    let mut forms = vec![
        format!("{name}.{owner}.svc.{CLUSTER_DOMAIN}"),
        format!("{name}.{owner}.svc"),
        format!("{name}.{owner}"),
    ];
    if owner == namespace {
        forms.push(name.to_owned());
    }
    forms.iter().filter_map(|form| Host::parse(form).ok()).map(HostPattern::Exact).collect()
}

/// Whether an object of `owner` with this `exportTo` is visible in `namespace` (semantics 18).
pub fn is_exported(export_to: &[String], owner: &str, namespace: &str) -> bool {
    export_to.is_empty()
        || export_to.iter().any(|to| match to.as_str() {
            "*" => true,
            "." => owner == namespace,
            "~" => false,
            other => other == namespace,
        })
}

/// Whether a pattern of a rule, resolved already, covers a host.
pub fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

/// How specific a pattern is: exact before wildcards, longer wildcards first.
pub fn specificity(pattern: &str) -> (bool, usize) {
    (!pattern.starts_with('*'), pattern.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Semantics 18 and 19.
    #[test]
    fn names_belong_to_the_rules_namespace_and_are_seen_where_exported() {
        assert_eq!(resolve("reviews", "shop"), "reviews.shop.svc.cluster.local");
        assert_eq!(resolve("Reviews.Default.", "shop"), "reviews.default");
        let list = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect::<Vec<_>>();
        assert!(is_exported(&[], "a", "b"));
        assert!(is_exported(&list(&["."]), "a", "a") && !is_exported(&list(&["."]), "a", "b"));
        assert!(!is_exported(&list(&["~"]), "a", "a"));
        assert!(is_exported(&list(&["b"]), "a", "b"));
        assert!(covers("*.example.com", "a.example.com") && !covers("*.example.com", "example.com"));
    }
}
