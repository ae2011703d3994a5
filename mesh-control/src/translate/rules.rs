//! The `http` list of a VirtualService as rules of a route table, for sidecars and for gateways alike.

use mesh_core::model::{
    AbortStatus, Action, Backend, CorsPolicy, DirectResponse, Fault, HeaderEdits, HeaderMatch, Millis,
    Mirror, Origin, PathMatch, PerMillion, Redirect, RedirectPort, RetryOn, RetryPolicy, Rewrite, RouteMatch,
    Rule, StringMatch, Weight,
};

use super::{cluster, hosts};
use crate::api::meta::{StringMap, selects};
use crate::api::networking::{
    Destination, Headers, HttpFaultInjection, HttpMatchRequest, HttpRedirect, HttpRetry, HttpRewrite,
    HttpRoute, Percent, RedirectPort as ApiRedirectPort, VirtualService,
};
use crate::api::{Duration, Item, StringMatch as ApiMatch};
use crate::world::World;

/// Where rules are evaluated: what a match's `gateways`, `port`, `sourceLabels` and `sourceNamespace` speak of.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The gateway, `namespace/name`; `None` in sidecars (`mesh`).
    pub gateway: Option<&'a str>,
    /// The listener's port.
    pub port: u16,
    /// The proxy's namespace.
    pub namespace: &'a str,
    /// The proxy's labels.
    pub labels: &'a StringMap,
}

impl Place<'_> {
    /// Whether a list of gateways, written in `owner`, names this place. An empty list means `mesh`.
    pub fn is_among(&self, gateways: &[String], owner: &str) -> bool {
        match self.gateway {
            None => gateways.is_empty() || gateways.iter().any(|gateway| gateway == "mesh"),
            Some(here) => gateways.iter().any(|gateway| qualified(gateway, owner) == here),
        }
    }
}

/// A gateway's name as `namespace/name`.
pub fn qualified(gateway: &str, owner: &str) -> String {
    if gateway.contains('/') { gateway.to_owned() } else { format!("{owner}/{gateway}") }
}

/// The rules that can match at `place`, in order; those behind the first that matches everything are left out, as
/// nothing reaches them (semantics 1).
pub fn rules(world: &World, service: &Item<'_, VirtualService>, place: Place<'_>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (at, route) in service.http.iter().enumerate() {
        let Some(matches) = matches(route, service, place) else { continue };
        let catches_all = matches.is_empty();
        rules.push(rule(world, service, route, at, matches, place));
        if catches_all {
            break;
        }
    }
    rules
}

/// The match blocks that apply here; `None` when the route has blocks but none applies.
fn matches(
    route: &HttpRoute,
    service: &Item<'_, VirtualService>,
    place: Place<'_>,
) -> Option<Vec<RouteMatch>> {
    if route.matches.is_empty() {
        return Some(Vec::new());
    }
    let applying: Vec<_> =
        route.matches.iter().filter(|block| applies(block, service, place)).map(route_match).collect();
    if applying.is_empty() {
        return None;
    }
    let all = RouteMatch::default();
    let catches_all = applying.iter().any(|block| RouteMatch { name: None, ..block.clone() } == all);
    Some(if catches_all { Vec::new() } else { applying })
}

/// `match.gateways` replaces the top-level list and skips `sourceLabels`; the port is the listener's (semantics 5).
fn applies(block: &HttpMatchRequest, service: &Item<'_, VirtualService>, place: Place<'_>) -> bool {
    let here = block.gateways.is_empty() || place.is_among(&block.gateways, service.namespace());
    let port = block.port.is_none_or(|port| port == u32::from(place.port));
    let labels = place.gateway.is_some() || selects(&block.source_labels, place.labels);
    let namespace = block.source_namespace.is_empty() || block.source_namespace == place.namespace;
    here && port && labels && namespace
}

fn route_match(block: &HttpMatchRequest) -> RouteMatch {
    let fields = |map: &std::collections::BTreeMap<String, ApiMatch>, lower: bool| {
        map.iter()
            .map(|(name, value)| HeaderMatch {
                name: if lower { name.to_ascii_lowercase() } else { name.clone() },
                value: string_match(value),
            })
            .collect()
    };
    RouteMatch {
        name: (!block.name.is_empty()).then(|| block.name.clone()),
        path: block.uri.as_ref().and_then(path_match),
        ignore_path_case: block.ignore_uri_case,
        method: block.method.as_ref().map(string_match),
        scheme: block.scheme.as_ref().map(string_match),
        authority: block.authority.as_ref().map(string_match),
        headers: fields(&block.headers, true),
        without_headers: fields(&block.without_headers, true),
        query: fields(&block.query_params, false),
        port: None,
    }
}

/// An empty value, and the regular expression `*`, mean that the value is there at all (semantics 3).
fn string_match(value: &ApiMatch) -> StringMatch {
    match value {
        ApiMatch::Exact(text) => StringMatch::Exact(text.clone()),
        ApiMatch::Prefix(text) => StringMatch::Prefix(text.clone()),
        ApiMatch::Regex(text) if text == "*" => StringMatch::Present,
        ApiMatch::Regex(text) => StringMatch::Regex(text.clone()),
        ApiMatch::Present => StringMatch::Present,
    }
}

fn path_match(value: &ApiMatch) -> Option<PathMatch> {
    match value {
        ApiMatch::Exact(text) => Some(PathMatch::Exact(text.clone())),
        // Every path has this prefix.
        ApiMatch::Prefix(text) if text == "/" => None,
        ApiMatch::Prefix(text) => Some(PathMatch::Prefix(text.clone())),
        ApiMatch::Regex(text) if text == "*" => None,
        ApiMatch::Regex(text) => Some(PathMatch::Regex(text.clone())),
        ApiMatch::Present => None,
    }
}

fn rule(
    world: &World,
    service: &Item<'_, VirtualService>,
    route: &HttpRoute,
    at: usize,
    matches: Vec<RouteMatch>,
    place: Place<'_>,
) -> Rule {
    let (request_headers, response_headers) = edits(route.headers.as_ref());
    let owner = service.namespace();
    Rule {
        name: route.name.clone(),
        matches,
        action: action(world, route, owner, place),
        request_headers,
        response_headers,
        rewrite: route.rewrite.as_ref().map(rewrite),
        // Zero switches the timeout off.
        timeout: route.timeout.map(millis).filter(|timeout| *timeout != Millis::new(0)),
        retry: retry(route.retries.as_ref().or(world.mesh_config().default_http_retry_policy.as_ref())),
        fault: route.fault.as_ref().map(fault),
        mirrors: mirrors(world, route, owner, place),
        cors: route.cors_policy.as_ref().map(cors),
        origin: Origin {
            kind: "VirtualService".to_owned(),
            namespace: owner.to_owned(),
            name: service.name().to_owned(),
            field: format!("spec.http[{at}]"),
        },
    }
}

fn action(world: &World, route: &HttpRoute, owner: &str, place: Place<'_>) -> Action {
    if let Some(to) = &route.redirect {
        return Action::Redirect(redirect(to));
    }
    if let Some(answer) = &route.direct_response {
        let body = answer.body.as_ref().and_then(|body| body.string.clone()).unwrap_or_default();
        return Action::Respond(DirectResponse { status: u16::try_from(answer.status).unwrap_or(500), body });
    }
    // A single destination takes everything, whatever its weight; of several, those without weight nothing (6).
    let several = route.route.len() > 1;
    let share = |weight: i32| u32::try_from(weight).unwrap_or(0);
    let backends = route
        .route
        .iter()
        .filter(|to| !several || share(to.weight) > 0)
        .map(|to| {
            let (request_headers, response_headers) = edits(to.headers.as_ref());
            Backend {
                cluster: destination(world, &to.destination, owner, place.port),
                weight: Weight(if several { share(to.weight) } else { 1 }),
                request_headers,
                response_headers,
            }
        })
        .collect();
    Action::Forward(backends)
}

/// The cluster that a destination names. The port is the one given, else the service's only one, else the listener's.
pub fn destination(world: &World, to: &Destination, owner: &str, port: u16) -> String {
    let host = hosts::resolve(&to.host, owner);
    let service = hosts::service(world, &host, owner);
    let host = service.as_ref().map_or(host, hosts::service_host);
    let only = service.as_ref().and_then(|service| match service.spec.ports.as_slice() {
        [only] => Some(only.port),
        _ => None,
    });
    let port = to.port.map(|port| port.number).or(only).unwrap_or(port);
    cluster::name(port, &to.subset, &host)
}

fn edits(headers: Option<&Headers>) -> (HeaderEdits, HeaderEdits) {
    let Some(headers) = headers else { return Default::default() };
    let edit = |operations: &crate::api::networking::HeaderOperations| {
        let is_authority = |name: &str| name.eq_ignore_ascii_case("host") || name == ":authority";
        let plain = |map: &StringMap| {
            let kept = map.iter().filter(|(name, _)| !is_authority(name) && !name.starts_with(':'));
            kept.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
        };
        let authority = operations.set.iter().chain(&operations.add).find(|(name, _)| is_authority(name));
        HeaderEdits {
            remove: operations.remove.iter().map(|name| name.to_ascii_lowercase()).collect(),
            set: plain(&operations.set),
            add: plain(&operations.add),
            authority: authority.map(|(_, value)| value.clone()),
        }
    };
    (edit(&headers.request), edit(&headers.response))
}

fn rewrite(rewrite: &HttpRewrite) -> Rewrite {
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    Rewrite {
        path: given(&rewrite.uri),
        authority: given(&rewrite.authority),
        regex: rewrite.uri_regex_rewrite.as_ref().map(|regex| (regex.pattern.clone(), regex.rewrite.clone())),
        ..Rewrite::default()
    }
}

fn redirect(to: &HttpRedirect) -> Redirect {
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    let port = match (to.port, to.derive_port) {
        (Some(port), _) => u16::try_from(port).map_or(RedirectPort::Unchanged, RedirectPort::Exactly),
        (None, Some(ApiRedirectPort::FromProtocolDefault)) => RedirectPort::SchemeDefault,
        (None, Some(ApiRedirectPort::FromRequestPort)) => RedirectPort::Listener,
        (None, None) => RedirectPort::Unchanged,
    };
    let status = match to.redirect_code {
        0 => 301,
        code => u16::try_from(code).unwrap_or(301),
    };
    Redirect {
        status,
        scheme: given(&to.scheme),
        authority: given(&to.authority),
        port,
        path: given(&to.uri),
        prefix: given(&to.prefix_rewrite),
    }
}

/// Istio's default without a policy; `attempts: 0` switches retries off (semantics 14 and 15).
fn retry(policy: Option<&HttpRetry>) -> RetryPolicy {
    let Some(policy) = policy else { return RetryPolicy::default() };
    let default = RetryPolicy::default();
    let mut on = Vec::new();
    let mut statuses = Vec::new();
    for word in policy.retry_on.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match (retry_on(word), word.parse()) {
            (Some(condition), _) => on.push(condition),
            (None, Ok(status)) => statuses.push(status),
            (None, Err(_)) => {}
        }
    }
    if !statuses.is_empty() && !on.contains(&RetryOn::RetriableStatus) {
        on.push(RetryOn::RetriableStatus);
    }
    RetryPolicy {
        attempts: u32::try_from(policy.attempts).unwrap_or(0),
        per_try_timeout: policy.per_try_timeout.map(millis).filter(|limit| *limit != Millis::new(0)),
        on: if policy.retry_on.is_empty() { default.on } else { on },
        statuses,
        backoff: policy.backoff.map_or(default.backoff, millis),
    }
}

/// The vocabulary of `retryOn`; `None` for words we do not know, which the lint names.
pub fn retry_on(word: &str) -> Option<RetryOn> {
    Some(match word {
        "5xx" => RetryOn::Any5xx,
        "gateway-error" => RetryOn::GatewayError,
        "reset" => RetryOn::Reset,
        "reset-before-request" => RetryOn::ResetBeforeRequest,
        "connect-failure" => RetryOn::ConnectFailure,
        "refused-stream" => RetryOn::RefusedStream,
        "retriable-4xx" => RetryOn::Retriable4xx,
        "retriable-status-codes" => RetryOn::RetriableStatus,
        "envoy-ratelimited" => RetryOn::EnvoyRatelimited,
        "cancelled" => RetryOn::GrpcCancelled,
        "deadline-exceeded" => RetryOn::GrpcDeadlineExceeded,
        "internal" => RetryOn::GrpcInternal,
        "resource-exhausted" => RetryOn::GrpcResourceExhausted,
        "unavailable" => RetryOn::GrpcUnavailable,
        _ => return None,
    })
}

/// An absent percentage is 0 % for faults (semantics 11).
fn fault(fault: &HttpFaultInjection) -> Fault {
    let share =
        |percentage: Option<Percent>| percentage.map_or(PerMillion::NEVER, |p| PerMillion::percent(p.value));
    let delay = fault.delay.as_ref().and_then(|delay| {
        let legacy = delay.percent.map(|percent| PerMillion::percent(percent.into()));
        let share = delay.percentage.map(|p| PerMillion::percent(p.value)).or(legacy);
        Some((millis(delay.fixed_delay?), share.unwrap_or(PerMillion::NEVER)))
    });
    let abort = fault.abort.as_ref().and_then(|abort| {
        let http = abort.http_status.and_then(|status| u16::try_from(status).ok()).map(AbortStatus::Http);
        let grpc = abort.grpc_status.as_deref().and_then(grpc_status).map(AbortStatus::Grpc);
        Some((http.or(grpc)?, share(abort.percentage)))
    });
    Fault { delay, abort }
}

/// The names of gRPC's status codes (google.golang.org/grpc/codes).
fn grpc_status(name: &str) -> Option<u8> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let code = NAMES.iter().position(|known| *known == name)?;
    u8::try_from(code).ok()
}

/// An absent percentage is 100 % for mirrors, zero is none (semantics 12).
fn mirrors(world: &World, route: &HttpRoute, owner: &str, place: Place<'_>) -> Vec<Mirror> {
    let mirror = |to: &Destination, share: Option<Percent>| Mirror {
        cluster: destination(world, to, owner, place.port),
        share: share.map_or(PerMillion::ALWAYS, |share| PerMillion::percent(share.value)),
    };
    let legacy = route.mirror_percent.map(|percent| Percent { value: percent.into() });
    let one = route.mirror.iter().map(|to| mirror(to, route.mirror_percentage.or(legacy)));
    let many = route.mirrors.iter().map(|policy| mirror(&policy.destination, policy.percentage));
    one.chain(many).filter(|mirror| mirror.share != PerMillion::NEVER).collect()
}

fn cors(policy: &crate::api::networking::CorsPolicy) -> CorsPolicy {
    let legacy = policy.allow_origin.iter().map(|origin| match origin.as_str() {
        "*" => StringMatch::Present,
        origin => StringMatch::Exact(origin.to_owned()),
    });
    CorsPolicy {
        allow_origins: policy.allow_origins.iter().map(string_match).chain(legacy).collect(),
        allow_methods: policy.allow_methods.clone(),
        allow_headers: policy.allow_headers.clone(),
        expose_headers: policy.expose_headers.clone(),
        max_age: policy.max_age.map(millis),
        allow_credentials: policy.allow_credentials == Some(true),
    }
}

fn millis(duration: Duration) -> Millis {
    duration.get().into()
}
