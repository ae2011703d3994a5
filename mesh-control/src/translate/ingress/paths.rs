//! The paths of Ingresses by host, in the order in which they are tried.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use mesh_core::model::{HostPattern, PathMatch, RateLimit};

use super::annotations::get;
use super::canary::Canary;
use super::policy::Policy;
use super::upstream;
use crate::api::Item;
use crate::api::ingress::{Ingress, IngressBackend, PathType};
use crate::problem::Problem;
use crate::translate::cluster;
use crate::translate::scope::Scope;

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
    /// What is written, where it is read as an expression.
    pub(super) expression: Option<String>,
    length: usize,
    exact: bool,
    /// The cluster of the backend's service; empty when its port cannot be told, which is answered with 500.
    pub(super) service: String,
    /// The port of our own gateway, if that is the backend.
    pub(super) to_gateway: Option<u16>,
    pub(super) canary: Option<Canary<'w>>,
    pub(super) policy: Rc<Policy>,
}

/// All paths.
#[derive(Debug, Default)]
pub(super) struct Sorted<'w> {
    /// By host, in the order in which they are tried.
    pub(super) hosts: BTreeMap<HostPattern, Vec<Path<'w>>>,
    /// Of the oldest Ingress with a default backend.
    pub(super) fallback: Option<Path<'w>>,
    /// That the paths' policies name.
    pub(super) limits: Vec<RateLimit>,
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
    let expressions = with_expressions(&plain);
    for ingress in &plain {
        let mut tell = |problem: Problem| report.push(ingress.object.blame(problem));
        let (policy, limits) = Policy::of(scope, ingress, &mut tell);
        sorted.limits.extend(limits);
        let context = Context { scope, ingress, policy: Rc::new(policy), expressions: &expressions };
        let found = context.paths(&mut tell);
        let paths: Vec<_> = found.iter().map(|(_, path)| path).collect();
        upstream::tell_about(scope, ingress, &paths, &mut tell);
        for (pattern, path) in found {
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
            sorted.fallback =
                context.path(backend, "spec.defaultBackend".to_owned(), Test::default(), &mut tell);
        }
    }
    for ingress in &canaries {
        // A canary takes all but its own annotations from the Ingress that it is a canary of.
        let (policy, _) = Policy::of(scope, ingress, &mut |_| {});
        let context = Context { scope, ingress, policy: Rc::new(policy), expressions: &expressions };
        let mut tell = |problem: Problem| report.push(ingress.object.blame(problem));
        for (pattern, path) in context.paths(&mut tell) {
            let main = sorted
                .hosts
                .get_mut(&pattern)
                .into_iter()
                .flatten()
                .find(|main| main.matching == path.matching);
            match main {
                Some(main) if main.canary.is_none() => {
                    main.canary = Some(Canary::new(*ingress, path.service))
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

/// Hosts of which ingress-nginx reads all paths as expressions, since one of their Ingresses asks for it or rewrites.
fn with_expressions(plain: &[Item<'_, Ingress>]) -> BTreeSet<HostPattern> {
    let asks = |ingress: &&Item<'_, Ingress>| {
        get(ingress, "use-regex") == Some("true") || get(ingress, "rewrite-target").is_some()
    };
    plain
        .iter()
        .filter(asks)
        .flat_map(|ingress| &ingress.spec.rules)
        .filter_map(|rule| host(&rule.host))
        .collect()
}

/// One Ingress while its paths are collected.
struct Context<'a, 'w> {
    scope: &'a Scope<'w>,
    ingress: &'a Item<'w, Ingress>,
    policy: Rc<Policy>,
    expressions: &'a BTreeSet<HostPattern>,
}

impl<'w> Context<'_, 'w> {
    fn paths(&self, tell: &mut dyn FnMut(Problem)) -> Vec<(HostPattern, Path<'w>)> {
        let mut all = Vec::new();
        for (at, rule) in self.ingress.spec.rules.iter().enumerate() {
            let Some(pattern) = host(&rule.host) else {
                let message = format!("{:?} is not a host", rule.host);
                tell(Problem::error(format!("spec.rules[{at}].host"), message));
                continue;
            };
            let aliases = if rule.host.is_empty() { Vec::new() } else { self.aliases() };
            for (index, path) in rule.http.iter().flat_map(|http| http.paths.iter().enumerate()) {
                let field = format!("spec.rules[{at}].http.paths[{index}]");
                // That a missing type is read as this, the source has told (D1).
                let kind = path.path_type.unwrap_or(PathType::Prefix);
                let test = Test::new(&path.path, kind, self.expressions.contains(&pattern));
                let Some(path) = self.path(&path.backend, field, test, tell) else { continue };
                let hosts = std::iter::once(&pattern).chain(&aliases);
                all.extend(hosts.map(|host| (host.clone(), path.clone())));
            }
        }
        all
    }

    fn aliases(&self) -> Vec<HostPattern> {
        let names = get(self.ingress, "server-alias").into_iter().flat_map(|list| list.split(','));
        names.map(str::trim).filter(|name| !name.is_empty()).filter_map(host).collect()
    }

    fn path(
        &self,
        backend: &IngressBackend,
        field: String,
        test: Test,
        tell: &mut dyn FnMut(Problem),
    ) -> Option<Path<'w>> {
        let Some(service) = &backend.service else {
            tell(Problem::error(format!("{field}.backend"), "only services are supported as backends"));
            return None;
        };
        let (scope, namespace) = (self.scope, self.ingress.namespace());
        let port = port(scope, namespace, service, &field, tell);
        let host = format!("{}.{namespace}.svc.cluster.local", service.name);
        let to_gateway = is_gateway(scope, namespace, &service.name).then(|| port.unwrap_or(80));
        let service_cluster = port.map(|port| cluster::name(port, "", &host)).unwrap_or_default();
        Some(Path {
            ingress: *self.ingress,
            field,
            matching: test.matching,
            expression: test.expression,
            length: test.length,
            exact: test.exact,
            service: service_cluster,
            to_gateway,
            canary: None,
            policy: Rc::clone(&self.policy),
        })
    }
}

/// What a path takes, and its rank.
#[derive(Default)]
struct Test {
    matching: Option<PathMatch>,
    expression: Option<String>,
    length: usize,
    exact: bool,
}

impl Test {
    fn new(path: &str, kind: PathType, is_expression: bool) -> Self {
        let trimmed = path.trim_end_matches('/');
        let plain = |matching, length, exact| Self { matching, expression: None, length, exact };
        if is_expression {
            // nginx matches its expressions at the start of the path, without regard to case, whatever the type.
            let expression = if path.is_empty() { "/" } else { path };
            let all = expression == "/";
            return Self {
                matching: (!all).then(|| PathMatch::Regex(format!("(?i)(?:{expression}).*"))),
                expression: Some(expression.to_owned()),
                length: expression.len(),
                exact: false,
            };
        }
        match kind {
            PathType::Exact => plain(Some(PathMatch::Exact(path.to_owned())), path.len(), true),
            _ if trimmed.is_empty() => plain(None, 1, false),
            _ => plain(Some(PathMatch::SegmentPrefix(trimmed.to_owned())), trimmed.len(), false),
        }
    }
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
