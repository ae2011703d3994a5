//! What the annotations of one Ingress ask of every request for its paths, and do to it.

use mesh_core::model::{Admission, CorsPolicy, HeaderEdits, Millis, Mirror, RateLimit, RetryPolicy};

use super::annotations::{field, get, origin};
use super::{affinity, limits, mirror, origination};
use crate::api::Item;
use crate::api::core::ConfigMap;
use crate::api::ingress::Ingress;
use crate::problem::Problem;
use crate::translate::http;
use crate::translate::scope::Scope;

const CORS_METHODS: &str = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
const CORS_HEADERS: &str = "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,\
                            Content-Type,Range,Authorization";
const CORS_MAX_AGE: u32 = 1_728_000;

/// The policy of one Ingress.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) admission: Admission,
    pub(super) cors: Option<CorsPolicy>,
    pub(super) request_headers: HeaderEdits,
    pub(super) response_headers: HeaderEdits,
    pub(super) retry: RetryPolicy,
    pub(super) mirror: Option<Mirror>,
}

impl Policy {
    /// Reads the annotations; the limits are those that the admission names.
    pub(super) fn of(
        scope: &Scope<'_>,
        ingress: &Item<'_, Ingress>,
        tell: &mut dyn FnMut(Problem),
    ) -> (Self, Vec<RateLimit>) {
        let limits = limits::of(ingress, tell);
        let policy = Self {
            admission: admission(ingress, &limits, tell),
            cors: (get(ingress, "enable-cors") == Some("true")).then(|| cors(ingress, tell)),
            request_headers: forwarded_prefix(ingress),
            response_headers: custom_headers(scope, ingress, tell),
            retry: retry(scope, ingress, tell),
            mirror: mirror::of(scope, ingress, tell),
        };
        origination::problems(scope.world, ingress, tell);
        affinity::problems(ingress, tell);
        (policy, limits)
    }
}

fn admission(ingress: &Item<'_, Ingress>, limits: &[RateLimit], tell: &mut dyn FnMut(Problem)) -> Admission {
    let names = ["whitelist-source-range", "allowlist-source-range"];
    let given = names.into_iter().find(|name| get(ingress, name).is_some_and(|list| !list.trim().is_empty()));
    Admission {
        limits: limits.iter().map(|limit| limit.name.clone()).collect(),
        // A list of which nothing can be read lets nobody in.
        allow: given.map(|name| limits::blocks(ingress, name, tell)),
        deny: limits::blocks(ingress, "denylist-source-range", tell),
        max_body: parsed(ingress, "proxy-body-size", "a size, such as 8m", size, tell)
            .filter(|size| *size > 0),
    }
}

/// An annotation's value; tells where it is not `what`.
fn parsed<T>(
    ingress: &Item<'_, Ingress>,
    name: &str,
    what: &str,
    parse: impl Fn(&str) -> Option<T>,
    tell: &mut dyn FnMut(Problem),
) -> Option<T> {
    let text = get(ingress, name)?;
    let value = parse(text.trim());
    if value.is_none() {
        tell(Problem::error(field(name), format!("{text:?} is not {what}; has no effect")));
    }
    value
}

/// Bytes as nginx writes them: `8m`, `512k`, `1g`, `1000`.
fn size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, shift) = match lower.strip_suffix(['k', 'm', 'g']) {
        Some(digits) if lower.ends_with('k') => (digits, 10),
        Some(digits) if lower.ends_with('m') => (digits, 20),
        Some(digits) => (digits, 30),
        None => (lower.as_str(), 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn cors(ingress: &Item<'_, Ingress>, tell: &mut dyn FnMut(Problem)) -> CorsPolicy {
    let list = |name: &str, default: &str| -> Vec<String> {
        let texts = get(ingress, name).unwrap_or(default).split(',').map(str::trim);
        texts.filter(|text| !text.is_empty()).map(str::to_owned).collect()
    };
    let age = parsed(ingress, "cors-max-age", "a number of seconds", |text| text.parse().ok(), tell);
    CorsPolicy {
        allow_origins: list("cors-allow-origin", "*").iter().map(|text| origin(text)).collect(),
        allow_methods: list("cors-allow-methods", CORS_METHODS),
        allow_headers: list("cors-allow-headers", CORS_HEADERS),
        expose_headers: list("cors-expose-headers", ""),
        max_age: Some(Millis::seconds(age.unwrap_or(CORS_MAX_AGE))),
        allow_credentials: get(ingress, "cors-allow-credentials") != Some("false"),
    }
}

/// As in ingress-nginx, only beside a rewrite.
fn forwarded_prefix(ingress: &Item<'_, Ingress>) -> HeaderEdits {
    let prefix = get(ingress, "x-forwarded-prefix").filter(|_| get(ingress, "rewrite-target").is_some());
    let set = prefix.map(|prefix| ("x-forwarded-prefix".to_owned(), prefix.to_owned()));
    HeaderEdits { set: set.into_iter().collect(), ..HeaderEdits::default() }
}

fn custom_headers(
    scope: &Scope<'_>,
    ingress: &Item<'_, Ingress>,
    tell: &mut dyn FnMut(Problem),
) -> HeaderEdits {
    let Some(reference) = get(ingress, "custom-headers") else { return HeaderEdits::default() };
    let (namespace, name) = reference.split_once('/').unwrap_or_else(|| (ingress.namespace(), reference));
    let Some(map) = scope.world.get::<ConfigMap>(namespace, name) else {
        let message = format!("ConfigMap {namespace}/{name} does not exist; no header is set");
        tell(Problem::error(field("custom-headers"), message));
        return HeaderEdits::default();
    };
    let set = map.spec.data.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    HeaderEdits { set: set.collect(), ..HeaderEdits::default() }
}

fn retry(scope: &Scope<'_>, ingress: &Item<'_, Ingress>, tell: &mut dyn FnMut(Problem)) -> RetryPolicy {
    let mut retry = http::default_retries(scope);
    let number = |text: &str| text.parse::<u32>().ok();
    let tries = parsed(ingress, "proxy-next-upstream-tries", "a whole number", number, tell);
    // Zero is no limit of nginx's own; ours stays.
    if let Some(tries) = tries.filter(|tries| *tries > 0) {
        retry.attempts = tries - 1;
    }
    let words = get(ingress, "proxy-next-upstream").unwrap_or_default();
    if words.trim() == "off" {
        retry.attempts = 0;
    }
    for word in words.split_whitespace().filter(|word| !["off", "error", "timeout"].contains(word)) {
        tell(Problem::warning(
            field("proxy-next-upstream"),
            format!("{word} is not supported; has no effect"),
        ));
    }
    let seconds = |text: &str| text.strip_suffix('s').unwrap_or(text).parse().ok();
    let read = parsed(ingress, "proxy-read-timeout", "a number of seconds", seconds, tell);
    retry.per_try_timeout = read.filter(|read| *read > 0).map(Millis::seconds).or(retry.per_try_timeout);
    retry
}
