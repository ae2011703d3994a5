//! The `http` rules of VirtualServices, as they hold for one gateway or for sidecars (semantics.md 1 to 15).

mod delegate;
mod edits;
mod matching;
mod policy;

use std::borrow::Cow;

use mesh_core::model::{
    Action, Backend, DirectResponse, PathMatch, Redirect, RedirectPort, RouteMatch, Rule,
};

use super::destination::{cluster_name, weights};
use super::origin;
use super::scope::Scope;
use crate::api::Item;
use crate::api::networking::{self, HttpMatchRequest, HttpRoute, VirtualService};
use crate::problem::Problem;

pub use matching::{route_match, string_match};
pub use policy::default_retries;

/// The most rules that delegates may give one VirtualService: two small objects could name each other's rules many times.
const MAX_RULES: usize = 10_000;

/// The gateway name that stands for sidecars.
pub const MESH: &str = "mesh";

/// What rules are for: sidecars, or one gateway; and the port on which requests come.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    /// `mesh`, or the gateway's `namespace/name`.
    pub gateway: &'a str,
    /// The port as applications dial it, or as the Gateway's server names it.
    pub port: u16,
}

impl Binding<'_> {
    /// Whether a list of gateways, written in `namespace`, names this one. An empty list names sidecars.
    pub fn is_in(&self, gateways: &[String], namespace: &str) -> bool {
        if gateways.is_empty() {
            return self.gateway == MESH;
        }
        gateways.iter().any(|name| *gateway_name(name, namespace) == *self.gateway)
    }
}

/// A gateway's `namespace/name` as an object of `namespace` writes it.
pub fn gateway_name<'n>(name: &'n str, namespace: &str) -> Cow<'n, str> {
    if name == MESH {
        return name.into();
    }
    match name.split_once('/') {
        Some((".", name)) => format!("{namespace}/{name}").into(),
        Some(_) => name.into(),
        // Istio's older form, `name.namespace.svc.cluster.local`, is not a name of ours.
        None => format!("{namespace}/{name}").into(),
    }
}

/// The rules of a VirtualService in their order, up to the first that takes every request.
pub fn rules(
    scope: &Scope<'_>,
    service: &Item<'_, VirtualService>,
    binding: Binding<'_>,
    report: &mut Vec<Problem>,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (at, route) in service.spec.http.iter().enumerate() {
        let field = format!("spec.http[{at}]");
        if rules.len() >= MAX_RULES && route.delegate.is_some() {
            let message = format!(
                "more than {MAX_RULES} rules with those of its delegates; this and what follows is left out"
            );
            report.push(Problem::error(field, message));
            break;
        }
        if route.delegate.is_some() {
            rules.extend(delegate::rules(scope, service, route, &field, binding, report));
        } else {
            rules.extend(rule(scope, service, route, &field, binding, report));
        }
        if rules.last().is_some_and(takes_all) {
            break;
        }
    }
    rules
}

/// Whether a rule takes every request: it has no condition, or only the prefix that all paths have.
pub fn takes_all(rule: &Rule) -> bool {
    let unconditional = |m: &RouteMatch| {
        let path = m.path.clone().filter(|path| *path != PathMatch::Prefix("/".to_owned()));
        RouteMatch { name: None, ignore_path_case: false, path, ..m.clone() } == RouteMatch::default()
    };
    rule.matches.is_empty() || rule.matches.iter().any(unconditional)
}

/// One rule; `None` when none of its matches is for this binding and client.
fn rule(
    scope: &Scope<'_>,
    service: &Item<'_, VirtualService>,
    route: &HttpRoute,
    field: &str,
    binding: Binding<'_>,
    report: &mut Vec<Problem>,
) -> Option<Rule> {
    let matches = applicable(scope, route, binding, service.namespace())?;
    let matches = matches
        .iter()
        .map(|(at, request)| route_match(request, &format!("{field}.match[{at}]"), report))
        .collect();
    let namespace = service.namespace();
    let (request_headers, response_headers) = edits::of(route.headers.as_ref());
    Some(Rule {
        name: route.name.clone(),
        matches,
        action: action(scope, route, namespace, field, binding.port, report),
        request_headers,
        response_headers,
        rewrite: route.rewrite.as_ref().map(edits::rewrite),
        timeout: route
            .timeout
            .map(|timeout| timeout.get())
            .filter(|timeout| !timeout.is_zero())
            .map(Into::into),
        retry: policy::retries(scope, route.retries.as_ref(), &format!("{field}.retries"), report),
        fault: route.fault.as_ref().and_then(|fault| policy::fault(fault, &format!("{field}.fault"), report)),
        mirrors: policy::mirrors(scope, route, namespace, binding.port),
        cors: route
            .cors_policy
            .as_ref()
            .map(|cors| policy::cors(cors, &format!("{field}.corsPolicy"), report)),
        authorizer: None,
        admission: Default::default(),
        origin: origin(service.object, field),
    })
}

/// The matches that this client can meet at this binding, with their places; `None` when there are matches but none is.
fn applicable<'r>(
    scope: &Scope<'_>,
    route: &'r HttpRoute,
    binding: Binding<'_>,
    namespace: &str,
) -> Option<Vec<(usize, &'r HttpMatchRequest)>> {
    let applies = |(_, request): &(usize, &HttpMatchRequest)| {
        let here = request.gateways.is_empty() || binding.is_in(&request.gateways, namespace);
        let port = request.port.is_none_or(|port| port == u32::from(binding.port));
        here && port && is_from_client(scope, request, binding)
    };
    let matches: Vec<_> = route.matches.iter().enumerate().filter(applies).collect();
    (route.matches.is_empty() || !matches.is_empty()).then_some(matches)
}

/// A match that names gateways says nothing of its sources (semantics.md 5), and neither does one at a gateway.
fn is_from_client(scope: &Scope<'_>, request: &HttpMatchRequest, binding: Binding<'_>) -> bool {
    if binding.gateway != MESH || !request.gateways.is_empty() {
        return true;
    }
    let namespace = &request.source_namespace;
    crate::api::meta::selects(&request.source_labels, scope.client.labels)
        && (namespace.is_empty() || namespace == scope.client.namespace)
}

fn action(
    scope: &Scope<'_>,
    route: &HttpRoute,
    namespace: &str,
    field: &str,
    port: u16,
    report: &mut Vec<Problem>,
) -> Action {
    if let Some(redirect) = &route.redirect {
        return Action::Redirect(translate_redirect(redirect, field, report));
    }
    if let Some(response) = &route.direct_response {
        return Action::Respond(translate_response(response, field, report));
    }
    let backends: Vec<Backend> = weights(route.route.iter().map(|destination| destination.weight))
        .into_iter()
        .zip(&route.route)
        .filter_map(|(weight, destination)| {
            let (request_headers, response_headers) = edits::of(destination.headers.as_ref());
            let cluster = cluster_name(scope, &destination.destination, namespace, port);
            Some(Backend { cluster, weight: weight?, request_headers, response_headers })
        })
        .collect();
    if backends.is_empty() {
        report.push(Problem::error(field, "the rule has no destination; its requests are answered with 503"));
        return Action::Respond(DirectResponse { status: 503, body: String::new() });
    }
    Action::Forward(backends)
}

fn translate_redirect(
    redirect: &networking::HttpRedirect,
    field: &str,
    report: &mut Vec<Problem>,
) -> Redirect {
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let status = match redirect.redirect_code {
        0 => 301,
        code @ (301 | 302 | 303 | 307 | 308) => u16::try_from(code).unwrap_or(301),
        code => {
            let message = format!("{code} is not a redirect; 301 is used. Allowed: 301, 302, 303, 307, 308");
            report.push(Problem::error(format!("{field}.redirect.redirectCode"), message));
            301
        }
    };
    let number = redirect.port.and_then(|port| u16::try_from(port).ok());
    let port = match (number, redirect.derive_port) {
        (Some(port), _) => RedirectPort::Exactly(port),
        (None, Some(networking::RedirectPort::FromProtocolDefault)) => RedirectPort::SchemeDefault,
        (None, Some(networking::RedirectPort::FromRequestPort)) => RedirectPort::Listener,
        (None, None) => RedirectPort::Unchanged,
    };
    Redirect {
        status,
        scheme: given(&redirect.scheme),
        authority: given(&redirect.authority),
        port,
        path: given(&redirect.uri),
        prefix: given(&redirect.prefix_rewrite),
    }
}

fn translate_response(
    response: &networking::HttpDirectResponse,
    field: &str,
    report: &mut Vec<Problem>,
) -> DirectResponse {
    let status = u16::try_from(response.status).ok().filter(|status| (200..600).contains(status));
    if status.is_none() {
        let message = format!("{} is not a status; 500 is used. Allowed: 200 to 599", response.status);
        report.push(Problem::error(format!("{field}.directResponse.status"), message));
    }
    let body = response.body.as_ref().map(edits::body).unwrap_or_default();
    DirectResponse { status: status.unwrap_or(500), body }
}
