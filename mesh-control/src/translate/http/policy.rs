//! What holds while a request is forwarded: retries, faults, mirrors, cross-origin rules.

use mesh_core::model::{AbortStatus, CorsPolicy, Fault, Millis, Mirror, PerMillion, RetryOn, RetryPolicy};

use super::string_match;
use crate::api;
use crate::api::networking::{self, HttpFaultInjection, HttpRetry, HttpRoute};
use crate::problem::Problem;
use crate::translate::destination::cluster_name;
use crate::translate::scope::Scope;

/// First back-off when nobody says (Envoy).
const BACKOFF: Millis = Millis::new(25);

/// The retries of a rule; the mesh's where it says nothing.
pub(super) fn retries(
    scope: &Scope<'_>,
    retries: Option<&HttpRetry>,
    field: &str,
    report: &mut Vec<Problem>,
) -> RetryPolicy {
    match retries {
        None => default_retries(scope),
        Some(retries) => translate(retries, field, report),
    }
}

/// The mesh's retries; Istio's where the mesh configuration says nothing.
pub fn default_retries(scope: &Scope<'_>) -> RetryPolicy {
    let policy = scope.world.mesh_config().default_http_retry_policy.as_ref();
    policy.map_or_else(RetryPolicy::default, |policy| translate(policy, "", &mut Vec::new()))
}

fn translate(retries: &HttpRetry, field: &str, report: &mut Vec<Problem>) -> RetryPolicy {
    let mut policy = RetryPolicy {
        attempts: u32::try_from(retries.attempts).unwrap_or_default(),
        per_try_timeout: retries
            .per_try_timeout
            .map(|timeout| timeout.get())
            .filter(|t| !t.is_zero())
            .map(Into::into),
        backoff: retries.backoff.map_or(BACKOFF, |backoff| backoff.get().into()),
        same_endpoints: retries.retry_ignore_previous_hosts == Some(false),
        other_localities: retries.retry_remote_localities == Some(true),
        ..RetryPolicy::default()
    };
    if retries.retry_on.trim().is_empty() {
        return policy;
    }
    policy.on.clear();
    for word in retries.retry_on.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        // HTTP/3 is not spoken to destinations, so nothing ever fails after a connection of it.
        if word == "http3-post-connect-failure" {
            continue;
        }
        if word == "retriable-headers" {
            let field = format!("{field}.retryOn");
            report.push(Problem::warning(field, "retriable-headers is not supported; has no effect"));
        }
        match (RetryOn::named(word), word.parse()) {
            (Some(condition), _) => policy.on.push(condition),
            (None, Ok(status)) => policy.statuses.push(status),
            (None, Err(_)) => {
                let message = format!("{word:?} is not a condition for retries; it is left out");
                report.push(Problem::warning(format!("{field}.retryOn"), message));
            }
        }
    }
    if !policy.statuses.is_empty() && !policy.on.contains(&RetryOn::RetriableStatus) {
        policy.on.push(RetryOn::RetriableStatus);
    }
    policy
}

/// Faults; without a percentage none is injected (semantics.md 11).
pub(super) fn fault(fault: &HttpFaultInjection, field: &str, report: &mut Vec<Problem>) -> Option<Fault> {
    let mut tell = |set: bool, name: &str| {
        if set {
            report.push(Problem::warning(format!("{field}.{name}"), "not supported; has no effect"));
        }
    };
    let share = |percentage: Option<networking::Percent>| {
        percentage.map_or(PerMillion::NEVER, |p| PerMillion::percent(p.value))
    };
    let delay = fault.delay.as_ref().and_then(|delay| {
        tell(delay.exponential_delay.is_some(), "delay.exponentialDelay");
        let whole = delay.percent.map(|percent| networking::Percent { value: percent.into() });
        Some((delay.fixed_delay?.get().into(), share(delay.percentage.or(whole))))
    });
    let abort = fault.abort.as_ref().and_then(|abort| {
        tell(abort.http2_error.is_some(), "abort.http2Error");
        let http = abort.http_status.and_then(|status| u16::try_from(status).ok()).map(AbortStatus::Http);
        let grpc = abort.grpc_status.as_deref().and_then(grpc_status).map(AbortStatus::Grpc);
        Some((http.or(grpc)?, share(abort.percentage)))
    });
    (delay.is_some() || abort.is_some()).then_some(Fault { delay, abort })
}

/// A gRPC status by name or number.
fn grpc_status(text: &str) -> Option<u8> {
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
    let number = NAMES.iter().position(|name| *name == text).and_then(|at| u8::try_from(at).ok());
    number.or_else(|| text.parse().ok())
}

/// Mirrors; without a percentage everything is mirrored (semantics.md 12).
pub(super) fn mirrors(scope: &Scope<'_>, route: &HttpRoute, namespace: &str, port: u16) -> Vec<Mirror> {
    let share = |percentage: Option<networking::Percent>| {
        percentage.map_or(PerMillion::ALWAYS, |p| PerMillion::percent(p.value))
    };
    let whole = route.mirror_percent.map(|percent| networking::Percent { value: percent.into() });
    let single = route.mirror.as_ref().map(|to| (to, share(route.mirror_percentage.or(whole))));
    let several = route.mirrors.iter().map(|mirror| (&mirror.destination, share(mirror.percentage)));
    single
        .into_iter()
        .chain(several)
        .filter(|(_, share)| *share != PerMillion::NEVER)
        .map(|(to, share)| Mirror::of_all(cluster_name(scope, to, namespace, port), share))
        .collect()
}

/// Cross-origin rules.
pub(super) fn cors(cors: &networking::CorsPolicy, field: &str, report: &mut Vec<Problem>) -> CorsPolicy {
    if cors.unmatched_preflights == Some(networking::UnmatchedPreflights::Ignore) {
        let field = format!("{field}.unmatchedPreflights");
        report.push(Problem::warning(field, "not supported; has no effect"));
    }
    let deprecated = cors.allow_origin.iter().map(|origin| match origin.as_str() {
        "*" => mesh_core::model::StringMatch::Present,
        origin => mesh_core::model::StringMatch::Exact(origin.to_owned()),
    });
    let origin = |test: &api::StringMatch| match test {
        api::StringMatch::Exact(text) if text == "*" => mesh_core::model::StringMatch::Present,
        test => string_match(test),
    };
    CorsPolicy {
        allow_origins: cors.allow_origins.iter().map(origin).chain(deprecated).collect(),
        allow_methods: cors.allow_methods.clone(),
        allow_headers: cors.allow_headers.clone(),
        expose_headers: cors.expose_headers.clone(),
        max_age: cors.max_age.map(|age| age.get().into()),
        allow_credentials: cors.allow_credentials == Some(true),
    }
}
