//! The paths of Ingresses by host, in the order in which they are tried.

use std::collections::BTreeMap;

use mesh_core::model::{
    Action, Backend, DirectResponse, HeaderEdits, HostPattern, PathMatch, Redirect, RedirectPort, RouteMatch,
    Rule, Weight,
};

use super::canary::Canary;
use super::narrowed;
use crate::api::Item;
use crate::api::ingress::{Ingress, IngressBackend, PathType};
use crate::problem::Problem;
use crate::translate::gateway::Hosts;
use crate::translate::scope::Scope;
use crate::translate::{cluster, http, origin};

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
    cluster: String,
    /// The port of our own gateway, if that is the backend.
    pub(super) to_gateway: Option<u16>,
    canary: Option<Canary<'w>>,
    retry: mesh_core::model::RetryPolicy,
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
        // A port that cannot be found makes a reference that is answered with 500.
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

impl Path<'_> {
    /// The rules for the path at a host, in their order.
    pub(super) fn rules(
        &self,
        pattern: &HostPattern,
        behind: &dyn Fn(u16) -> Hosts,
        is_tls: bool,
    ) -> Vec<Rule> {
        let forced = self.annotation("force-ssl-redirect") == Some("true")
            || self.annotation("ssl-redirect") == Some("true") && !self.ingress.spec.tls.is_empty();
        if forced && !is_tls {
            return vec![self.rule(Action::Redirect(to_https()))];
        }
        if let Some((status, target)) = self.redirect() {
            return vec![self.rule(Action::Redirect(redirect(status, target)))];
        }
        if let Some(port) = self.to_gateway {
            let hosts = behind(port);
            return match hosts.covering(pattern) {
                Some(rules) => narrowed(rules, self),
                None => vec![self.rule(Action::Respond(DirectResponse { status: 404, body: String::new() }))],
            };
        }
        let main = backend(&self.cluster, 1);
        match &self.canary {
            None => vec![self.rule(Action::Forward(vec![main]))],
            Some(canary) => canary.rules(&self.cluster, |action| self.rule(action)),
        }
    }

    fn rule(&self, action: Action) -> Rule {
        let path = self.matching.clone();
        let full_path = self.annotation("rewrite-target").filter(|path| !path.contains('$'));
        let authority = self.annotation("upstream-vhost");
        let rewrite = mesh_core::model::Rewrite {
            full_path: full_path.map(str::to_owned),
            authority: authority.map(str::to_owned),
            ..Default::default()
        };
        Rule {
            name: format!("{}/{}", self.ingress.namespace(), self.ingress.name()),
            matches: path
                .map(|path| RouteMatch { path: Some(path), ..RouteMatch::default() })
                .into_iter()
                .collect(),
            action,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            rewrite: (rewrite != Default::default()).then_some(rewrite),
            timeout: None,
            retry: self.retry.clone(),
            fault: None,
            mirrors: Vec::new(),
            cors: None,
            origin: origin(self.ingress.object, self.field.clone()),
        }
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        super::annotations::get(&self.ingress, name)
    }

    fn redirect(&self) -> Option<(u16, &str)> {
        let permanent = self.annotation("permanent-redirect").map(|target| (301, target));
        permanent.or_else(|| self.annotation("temporal-redirect").map(|target| (302, target)))
    }
}

/// A backend with a weight.
pub(super) fn backend(cluster: &str, weight: u32) -> Backend {
    Backend {
        cluster: cluster.to_owned(),
        weight: Weight(weight),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
    }
}

fn to_https() -> Redirect {
    Redirect {
        status: 308,
        scheme: Some("https".to_owned()),
        authority: None,
        port: RedirectPort::SchemeDefault,
        path: None,
        prefix: None,
    }
}

/// A redirect to a whole address.
fn redirect(status: u16, target: &str) -> Redirect {
    let (scheme, rest) =
        target.split_once("://").map_or((None, target), |(scheme, rest)| (Some(scheme), rest));
    let at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    Redirect {
        status,
        scheme: scheme.map(str::to_owned),
        authority: Some(authority.to_owned()).filter(|authority| !authority.is_empty()),
        port: RedirectPort::Unchanged,
        path: Some(if path.is_empty() { "/" } else { path }.to_owned()),
        prefix: None,
    }
}

/// The narrower of an Ingress's path and a rule's; `None` when no path meets both, or it cannot be told.
pub(super) fn both(outer: &PathMatch, inner: Option<&PathMatch>) -> Option<PathMatch> {
    let within = |prefix: &str, path: &str| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match (outer, inner) {
        (outer, None) => Some(outer.clone()),
        (PathMatch::Exact(path), Some(PathMatch::Exact(other))) => (path == other).then(|| outer.clone()),
        (PathMatch::Exact(path), Some(PathMatch::Prefix(prefix))) => {
            path.starts_with(prefix.as_str()).then(|| outer.clone())
        }
        (PathMatch::Exact(path), Some(PathMatch::SegmentPrefix(prefix))) => {
            within(prefix, path).then(|| outer.clone())
        }
        (PathMatch::SegmentPrefix(prefix), Some(PathMatch::Exact(path) | PathMatch::SegmentPrefix(path))) => {
            within(prefix, path).then(|| inner.cloned())?
        }
        (PathMatch::SegmentPrefix(prefix), Some(PathMatch::Prefix(other))) => {
            if within(prefix, other) {
                inner.cloned()
            } else {
                prefix.starts_with(other.as_str()).then(|| outer.clone())
            }
        }
        _ => None,
    }
}
