//! Delegated rules: another VirtualService, without hosts, that holds what becomes of the requests (semantics.md 16).

use std::collections::BTreeMap;

use mesh_core::model::Rule;

use super::{Binding, gateway_name};
use crate::api::Item;
use crate::api::StringMatch;
use crate::api::networking::{HttpMatchRequest, HttpRoute, VirtualService};
use crate::problem::Problem;
use crate::translate::scope::{Scope, is_exported};

/// Tests on values by name.
type Tests = BTreeMap<String, StringMatch>;

/// The delegate's rules, narrowed to the requests that `root` hands over. One level only.
pub(super) fn rules(
    scope: &Scope<'_>,
    service: &Item<'_, VirtualService>,
    root: &HttpRoute,
    field: &str,
    binding: Binding<'_>,
    report: &mut Vec<Problem>,
) -> Vec<Rule> {
    let mut tell = |message: String| report.push(Problem::error(format!("{field}.delegate"), message));
    let delegate = match find(scope, service, root) {
        Ok(delegate) => delegate,
        Err(message) => {
            tell(format!("{message}; the rule is left out"));
            return Vec::new();
        }
    };
    let name = format!("{}/{}", delegate.namespace(), delegate.name());
    let root = with_full_gateways(root, service.namespace());
    let mut rules = Vec::new();
    for (at, route) in delegate.spec.http.iter().enumerate() {
        let place = format!("spec.http[{at}]");
        if route.delegate.is_some() {
            tell(format!("{place} of VirtualService {name} delegates again; one level only"));
            continue;
        }
        match merged(&root, &with_full_gateways(route, delegate.namespace())) {
            Some(route) => rules.push((route, place)),
            None => tell(format!(
                "{place} of VirtualService {name} contradicts the rule that delegates to it; it is left out"
            )),
        }
    }
    let translated =
        |(route, place): (HttpRoute, String)| super::rule(scope, &delegate, &route, &place, binding, report);
    rules.into_iter().filter_map(translated).collect()
}

/// The VirtualService that a rule delegates to, or why that cannot be.
fn find<'w>(
    scope: &Scope<'w>,
    service: &Item<'_, VirtualService>,
    root: &HttpRoute,
) -> Result<Item<'w, VirtualService>, String> {
    let reference = root.delegate.clone().unwrap_or_default();
    let to = service.namespace();
    let namespace = if reference.namespace.is_empty() { to } else { &reference.namespace };
    let name = format!("VirtualService {namespace}/{}", reference.name);
    let delegate = scope.world.get::<VirtualService>(namespace, &reference.name);
    let delegate = delegate.ok_or_else(|| format!("{name} does not exist"))?;
    if !delegate.spec.hosts.is_empty() {
        return Err(format!("{name} has hosts, so it takes no requests from others"));
    }
    let fallback = &scope.world.mesh_config().default_virtual_service_export_to;
    if !is_exported(&delegate.spec.export_to, fallback, namespace, to) {
        return Err(format!("{name} is not exported to namespace {to}"));
    }
    Ok(delegate)
}

/// The rule with the gateways of its matches in full: merged ones are of two namespaces.
fn with_full_gateways(route: &HttpRoute, namespace: &str) -> HttpRoute {
    let mut route = route.clone();
    for gateway in route.matches.iter_mut().flat_map(|request| &mut request.gateways) {
        *gateway = gateway_name(gateway, namespace).into_owned();
    }
    route
}

/// The delegate's values win field by field; names are joined. `None` when the delegate asks for what the root does not
/// hand over.
fn merged(root: &HttpRoute, delegate: &HttpRoute) -> Option<HttpRoute> {
    let mut route = delegate.clone();
    route.name = joined(&root.name, &delegate.name);
    route.matches = matches(&root.matches, &delegate.matches)?;
    route.rewrite = route.rewrite.or_else(|| root.rewrite.clone());
    route.timeout = route.timeout.or(root.timeout);
    route.retries = route.retries.or_else(|| root.retries.clone());
    route.fault = route.fault.or_else(|| root.fault.clone());
    route.cors_policy = route.cors_policy.or_else(|| root.cors_policy.clone());
    route.headers = route.headers.or_else(|| root.headers.clone());
    route.mirror = route.mirror.or_else(|| root.mirror.clone());
    route.mirror_percentage = route.mirror_percentage.or(root.mirror_percentage);
    route.mirror_percent = route.mirror_percent.or(root.mirror_percent);
    if route.mirrors.is_empty() {
        route.mirrors.clone_from(&root.mirrors);
    }
    Some(route)
}

fn joined(outer: &str, inner: &str) -> String {
    match (outer, inner) {
        (name, "") | ("", name) => name.to_owned(),
        (outer, inner) => format!("{outer}-{inner}"),
    }
}

/// Each of the delegate's matches with each of the root's that it lies within. One that lies within none contradicts, and
/// with it the whole rule.
fn matches(root: &[HttpMatchRequest], delegate: &[HttpMatchRequest]) -> Option<Vec<HttpMatchRequest>> {
    if root.is_empty() || delegate.is_empty() {
        return Some(if root.is_empty() { delegate.to_vec() } else { root.to_vec() });
    }
    let mut both = Vec::new();
    for inner in delegate {
        let before = both.len();
        both.extend(root.iter().filter_map(|outer| narrowed(outer, inner)));
        if both.len() == before {
            return None;
        }
    }
    Some(both)
}

/// A match that holds where both do; `None` where the inner one does not lie within the outer.
fn narrowed(outer: &HttpMatchRequest, inner: &HttpMatchRequest) -> Option<HttpMatchRequest> {
    let ignore_uri_case = match (&outer.uri, &inner.uri) {
        (Some(_), Some(_)) if outer.ignore_uri_case != inner.ignore_uri_case => return None,
        (Some(_), None) => outer.ignore_uri_case,
        _ => inner.ignore_uri_case,
    };
    let mut source_labels = outer.source_labels.clone();
    for (name, value) in &inner.source_labels {
        same(outer.source_labels.get(name), Some(value))?;
        source_labels.insert(name.clone(), value.clone());
    }
    let stated = |text| Some(text).filter(|text: &&String| !text.is_empty());
    let namespace = same(stated(&outer.source_namespace), stated(&inner.source_namespace))?;
    Some(HttpMatchRequest {
        name: joined(&outer.name, &inner.name),
        uri: narrower(outer.uri.as_ref(), inner.uri.as_ref())?,
        ignore_uri_case,
        method: narrower(outer.method.as_ref(), inner.method.as_ref())?,
        scheme: narrower(outer.scheme.as_ref(), inner.scheme.as_ref())?,
        authority: narrower(outer.authority.as_ref(), inner.authority.as_ref())?,
        headers: all_narrower(&outer.headers, &inner.headers)?,
        // What a request must not say grows where the match shrinks.
        without_headers: all_narrower(&inner.without_headers, &outer.without_headers)
            .map(|merged| with_all(merged, &inner.without_headers))?,
        query_params: all_narrower(&outer.query_params, &inner.query_params)?,
        port: same(outer.port.as_ref(), inner.port.as_ref())?.copied(),
        source_labels,
        source_namespace: namespace.cloned().unwrap_or_default(),
        gateways: gateways(&outer.gateways, &inner.gateways)?,
        stat_prefix: inner.stat_prefix.clone(),
    })
}

/// [`narrower`], name by name.
fn all_narrower(outer: &Tests, inner: &Tests) -> Option<Tests> {
    let mut both = inner.clone();
    for (name, test) in outer {
        both.extend(narrower(Some(test), inner.get(name))?.map(|test| (name.clone(), test)));
    }
    Some(both)
}

fn with_all(mut tests: Tests, winning: &Tests) -> Tests {
    tests.extend(winning.clone());
    tests
}

/// The inner list, if it names no gateway that the outer does not; an empty one names none in particular.
fn gateways(outer: &[String], inner: &[String]) -> Option<Vec<String>> {
    if inner.is_empty() {
        return Some(outer.to_vec());
    }
    (outer.is_empty() || inner.iter().all(|each| outer.contains(each))).then(|| inner.to_vec())
}

/// The value that either asks for; `None` if they differ.
#[expect(clippy::option_option, reason = "no conflict and no value is a case of its own")]
fn same<'v, T: PartialEq>(outer: Option<&'v T>, inner: Option<&'v T>) -> Option<Option<&'v T>> {
    let differ = outer.zip(inner).is_some_and(|(outer, inner)| outer != inner);
    (!differ).then(|| inner.or(outer))
}

/// The inner test if it is within the outer; `None` for a conflict. Expressions are within nothing, as nothing is within
/// them.
#[expect(clippy::option_option, reason = "no conflict and no test is a case of its own")]
fn narrower(outer: Option<&StringMatch>, inner: Option<&StringMatch>) -> Option<Option<StringMatch>> {
    use StringMatch::{Exact, Prefix, Present, Regex};
    let within = match (outer, inner) {
        (None, _) | (_, None) => true,
        (Some(Regex(_)), _) | (_, Some(Regex(_))) => false,
        (Some(outer), Some(inner)) if outer == inner => true,
        (Some(Present), Some(_)) => true,
        (Some(Prefix(prefix)), Some(Exact(text) | Prefix(text))) => text.starts_with(prefix.as_str()),
        _ => false,
    };
    within.then(|| inner.or(outer).cloned())
}
