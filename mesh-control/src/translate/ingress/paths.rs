//! The paths of Ingresses by host, in the order in which they are tried.

use std::collections::BTreeMap;

use mesh_core::model::{HostPattern, PathMatch, RetryPolicy};

use super::canary::Canary;
use crate::api::Item;
use crate::api::ingress::{Ingress, IngressBackend, PathType};
use crate::problem::Problem;
use crate::translate::scope::Scope;
use crate::translate::{cluster, http};

/// Services that are our own gateway: requests for them go on in the Gateway's table.
const GATEWAY_SERVICE: &str = "istio-ingressgateway";

/// One path with its backend.
#[derive(Debug, Clone)]
pub(super) struct Path<'w> {
    pub(super) ingress: Item<'w, Ingress>,
    /// Where in the Ingress.
    pub(super) field: String,
    /// `None` takes every path.
    pub(super) matching: Option<PathMatch>,
    length: usize,
    exact: bool,
    /// The backend's cluster; empty when its port cannot be told, which is answered with 500.
    pub(super) cluster: String,
    /// The port of our own gateway, if that is the backend.
    pub(super) to_gateway: Option<u16>,
    pub(super) canary: Option<Canary<'w>>,
    pub(super) retry: RetryPolicy,
}

/// All paths.
#[derive(Debug, Default)]
pub(super) struct Sorted<'w> {
    /// By host, in the order in which they are tried.
    pub(super) hosts: BTreeMap<HostPattern, Vec<Path<'w>>>,
    /// Of the oldest Ingress with a default backend.
    pub(super) fallback: Option<Path<'w>>,
}

/// A host of a rule; the star stands for one label, and no host means any.
pub(super) fn host(text: &str) -> Option<HostPattern> {
    match HostPattern::parse(if text.is_empty() { "*" } else { text }).ok()? {
        HostPattern::Suffix(suffix) => Some(HostPattern::OneLabel(suffix)),
        other => Some(other),
    }
}

/// Collects and sorts the paths; canaries join the path they are a canary of.
pub(super) fn collect<'w>(
    scope: &Scope<'w>,
    ours: &[Item<'w, Ingress>],
    report: &mut Vec<Problem>,
) -> Sorted<'w> {
    let mut sorted = Sorted::default();
    let (canaries, plain): (Vec<Item<'w, Ingress>>, Vec<_>) =
        ours.iter().copied().partition(|ingress| Canary::is_one(ingress));
    for ingress in &plain {
        let mut tell = |problem: Problem| report.push(ingress.object.blame(problem));
        for (pattern, path) in of_ingress(scope, ingress, &mut tell) {
            let paths = sorted.hosts.entry(pattern).or_default();
            if paths.iter().all(|other| other.matching != path.matching) {
                paths.push(path);
            } else {
                tell(Problem::warning(
                    path.field,
                    "an older Ingress has this host and path, and comes first",
                ));
            }
        }
        if sorted.fallback.is_none()
            && let Some(backend) = &ingress.spec.default_backend
        {
            let path =
                new(scope, ingress, backend, "spec.defaultBackend".to_owned(), (None, 0, false), &mut tell);
            sorted.fallback = path;
        }
    }
    for ingress in &canaries {
        let mut tell = |problem: Problem| report.push(ingress.object.blame(problem));
        for (pattern, path) in of_ingress(scope, ingress, &mut tell) {
            let main = sorted
                .hosts
                .get_mut(&pattern)
                .into_iter()
                .flatten()
                .find(|main| main.matching == path.matching);
            match main {
                Some(main) if main.canary.is_none() => {
                    main.canary = Some(Canary::new(*ingress, path.cluster))
                }
                Some(_) => tell(Problem::warning(
                    path.field,
                    "the path has a canary already; this one has no effect",
                )),
                None => tell(Problem::warning(
                    path.field,
                    "there is no Ingress with this host and path to be a canary of",
                )),
            }
        }
    }
    if sorted.fallback.is_some() {
        sorted.hosts.entry(HostPattern::Any).or_default();
    }
    for paths in sorted.hosts.values_mut() {
        paths.sort_by_key(|path| (std::cmp::Reverse(path.length), !path.exact));
    }
    sorted
}

fn of_ingress<'w>(
    scope: &Scope<'w>,
    ingress: &Item<'w, Ingress>,
    tell: &mut dyn FnMut(Problem),
) -> Vec<(HostPattern, Path<'w>)> {
    let mut all = Vec::new();
    for (at, rule) in ingress.spec.rules.iter().enumerate() {
        let Some(pattern) = host(&rule.host) else {
            tell(Problem::error(format!("spec.rules[{at}].host"), format!("{:?} is not a host", rule.host)));
            continue;
        };
        for (index, path) in rule.http.iter().flat_map(|http| http.paths.iter().enumerate()) {
            let field = format!("spec.rules[{at}].http.paths[{index}]");
            let kind = path.path_type.unwrap_or_else(|| {
                let message = "pathType is missing; Prefix is taken. A cluster refuses this";
                tell(Problem::warning(field.clone(), message).with_fix("write pathType: Prefix"));
                PathType::Prefix
            });
            let regex =
                ingress.object.meta.annotation("nginx.ingress.kubernetes.io/use-regex") == Some("true");
            let test = test(&path.path, kind, regex);
            all.extend(
                new(scope, ingress, &path.backend, field, test, tell).map(|path| (pattern.clone(), path)),
            );
        }
    }
    all
}

type Test = (Option<PathMatch>, usize, bool);

fn test(path: &str, kind: PathType, regex: bool) -> Test {
    let trimmed = path.trim_end_matches('/');
    match kind {
        PathType::Exact => (Some(PathMatch::Exact(path.to_owned())), path.len(), true),
        // nginx matches its expressions at the start of the path, without regard to case.
        PathType::ImplementationSpecific if regex => {
            (Some(PathMatch::Regex(format!("(?i){path}.*"))), path.len(), false)
        }
        _ if trimmed.is_empty() => (None, 1, false),
        _ => (Some(PathMatch::SegmentPrefix(trimmed.to_owned())), trimmed.len(), false),
    }
}

fn new<'w>(
    scope: &Scope<'w>,
    ingress: &Item<'w, Ingress>,
    backend: &IngressBackend,
    field: String,
    (matching, length, exact): Test,
    tell: &mut dyn FnMut(Problem),
) -> Option<Path<'w>> {
    let Some(service) = &backend.service else {
        tell(Problem::error(format!("{field}.backend"), "only services are supported as backends"));
        return None;
    };
    let namespace = ingress.namespace();
    let port = port(scope, namespace, service, &field, tell);
    let host = format!("{}.{namespace}.svc.cluster.local", service.name);
    let to_gateway = is_gateway(scope, namespace, &service.name).then(|| port.unwrap_or(80));
    Some(Path {
        ingress: *ingress,
        field,
        matching,
        length,
        exact,
        cluster: port.map(|port| cluster::name(port, "", &host)).unwrap_or_default(),
        to_gateway,
        canary: None,
        retry: http::default_retries(scope),
    })
}

/// The port by number or name; the service's only one when none is written (D1).
fn port(
    scope: &Scope<'_>,
    namespace: &str,
    backend: &crate::api::ingress::IngressServiceBackend,
    field: &str,
    tell: &mut dyn FnMut(Problem),
) -> Option<u16> {
    let service = scope.world.get::<crate::api::core::Service>(namespace, &backend.name);
    let ports = service.as_ref().map(|service| service.spec.ports.as_slice()).unwrap_or_default();
    let field = format!("{field}.backend.service");
    let wanted = backend.port.as_ref().map(|port| (port.number, port.name.as_deref()));
    if service.is_none() && !is_gateway(scope, namespace, &backend.name) {
        tell(Problem::warning(&*field, format!("service {namespace}/{} does not exist", backend.name)));
    }
    let found = match wanted {
        Some((Some(number), _)) if number != 0 => Some(number),
        Some((_, Some(name))) => ports.iter().find(|port| port.name == name).map(|port| port.port),
        _ => match ports {
            [only] => Some(only.port),
            [] => return None,
            _ => None,
        },
    };
    if found.is_none() {
        let known: Vec<_> = ports.iter().map(|port| format!("{} ({})", port.port, port.name)).collect();
        let message = format!("the port cannot be told; the service has: {}", known.join(", "));
        tell(Problem::error(format!("{field}.port"), message).with_fix("write port.number"));
    }
    found
}

/// Whether a backend is our own way in: the gateway's service in the root namespace, or its name in a namespace that has
/// no such service of its own (D9).
fn is_gateway(scope: &Scope<'_>, namespace: &str, name: &str) -> bool {
    let own = scope.world.get::<crate::api::core::Service>(namespace, name);
    name == GATEWAY_SERVICE && (namespace == scope.root_namespace() || own.is_none())
}
