//! Delegated rules: another VirtualService, without hosts, that holds what becomes of the requests (semantics.md 16).

use mesh_core::model::Rule;

use super::Binding;
use crate::api::Item;
use crate::api::StringMatch;
use crate::api::networking::{HttpMatchRequest, HttpRoute, VirtualService};
use crate::problem::Problem;
use crate::translate::scope::Scope;

/// The delegate's rules, narrowed to the requests that `root` hands over. One level only.
pub(super) fn rules(
    scope: &Scope<'_>,
    service: &Item<'_, VirtualService>,
    root: &HttpRoute,
    field: &str,
    binding: Binding<'_>,
    report: &mut Vec<Problem>,
) -> Vec<Rule> {
    let Some(reference) = &root.delegate else { return Vec::new() };
    let namespace = if reference.namespace.is_empty() { service.namespace() } else { &reference.namespace };
    let Some(delegate) = scope.world.get::<VirtualService>(namespace, &reference.name) else {
        let message =
            format!("VirtualService {namespace}/{} does not exist; the rule is left out", reference.name);
        report.push(Problem::error(format!("{field}.delegate"), message));
        return Vec::new();
    };
    let mut rules = Vec::new();
    for (at, route) in delegate.spec.http.iter().enumerate() {
        let place = format!("spec.http[{at}]");
        match merged(root, route) {
            Some(route) => rules.extend(super::rule(scope, &delegate, &route, &place, binding, report)),
            None => {
                let message = format!(
                    "{place} of VirtualService {namespace}/{} contradicts the rule that delegates to it",
                    reference.name
                );
                report.push(Problem::error(format!("{field}.delegate"), message));
            }
        }
    }
    rules
}

/// The delegate's values win field by field; names are joined. `None` when no request can meet both matches.
fn merged(root: &HttpRoute, delegate: &HttpRoute) -> Option<HttpRoute> {
    if delegate.delegate.is_some() {
        return None;
    }
    let mut route = delegate.clone();
    route.name = match (root.name.as_str(), delegate.name.as_str()) {
        (name, "") | ("", name) => name.to_owned(),
        (root, delegate) => format!("{root}-{delegate}"),
    };
    route.matches = matches(&root.matches, &delegate.matches)?;
    route.rewrite = route.rewrite.or_else(|| root.rewrite.clone());
    route.timeout = route.timeout.or(root.timeout);
    route.retries = route.retries.or_else(|| root.retries.clone());
    route.fault = route.fault.or_else(|| root.fault.clone());
    route.cors_policy = route.cors_policy.or_else(|| root.cors_policy.clone());
    route.headers = route.headers.or_else(|| root.headers.clone());
    route.mirror = route.mirror.or_else(|| root.mirror.clone());
    route.mirror_percentage = route.mirror_percentage.or(root.mirror_percentage);
    if route.mirrors.is_empty() {
        route.mirrors.clone_from(&root.mirrors);
    }
    Some(route)
}

fn matches(root: &[HttpMatchRequest], delegate: &[HttpMatchRequest]) -> Option<Vec<HttpMatchRequest>> {
    if root.is_empty() || delegate.is_empty() {
        return Some(if root.is_empty() { delegate.to_vec() } else { root.to_vec() });
    }
    let both = root.iter().flat_map(|outer| delegate.iter().filter_map(|inner| narrowed(outer, inner)));
    Some(both.collect::<Vec<_>>()).filter(|matches| !matches.is_empty())
}

/// A match that holds where both do; the inner one may only narrow the outer.
fn narrowed(outer: &HttpMatchRequest, inner: &HttpMatchRequest) -> Option<HttpMatchRequest> {
    let mut both = inner.clone();
    both.uri = narrower(outer.uri.as_ref(), inner.uri.as_ref())?;
    both.method = narrower(outer.method.as_ref(), inner.method.as_ref())?;
    both.scheme = narrower(outer.scheme.as_ref(), inner.scheme.as_ref())?;
    both.authority = narrower(outer.authority.as_ref(), inner.authority.as_ref())?;
    for (from, to) in [
        (&outer.headers, &mut both.headers),
        (&outer.without_headers, &mut both.without_headers),
        (&outer.query_params, &mut both.query_params),
    ] {
        for (name, test) in from {
            if let Some(test) = narrower(Some(test), to.get(name))? {
                to.insert(name.clone(), test);
            }
        }
    }
    both.port = inner.port.or(outer.port);
    both.ignore_uri_case |= outer.ignore_uri_case;
    both.source_labels.extend(outer.source_labels.clone());
    if both.gateways.is_empty() {
        both.gateways.clone_from(&outer.gateways);
    }
    if both.source_namespace.is_empty() {
        both.source_namespace.clone_from(&outer.source_namespace);
    }
    Some(both)
}

/// The inner test if it is within the outer; `None` for a conflict.
#[expect(clippy::option_option, reason = "no conflict and no test is a case of its own")]
fn narrower(outer: Option<&StringMatch>, inner: Option<&StringMatch>) -> Option<Option<StringMatch>> {
    let within = match (outer, inner) {
        (None, _) | (_, None) => true,
        (Some(outer), Some(inner)) if outer == inner => true,
        (Some(StringMatch::Present), Some(_)) => true,
        (Some(StringMatch::Prefix(prefix)), Some(StringMatch::Exact(text) | StringMatch::Prefix(text))) => {
            text.starts_with(prefix.as_str())
        }
        _ => false,
    };
    within.then(|| inner.or(outer).cloned())
}
