//! RateLimits that select a workload or gateway. A rule that cannot be read is left out by itself.

use mesh_core::model::{self, Amount, LimitKey, LimitScope};

use super::{http, origin};
use crate::api::Item;
use crate::api::core::Pod;
use crate::api::meta::selects;
use crate::api::networking::HttpMatchRequest;
use crate::api::rate_limit::{RateLimit, RateLimitKeyType, RateLimitMatch, RateLimitRule};
use crate::problem::Problem;
use crate::world::World;

/// What a limit answers unless it says otherwise.
const TOO_MANY_REQUESTS: u16 = 429;

/// The limits for a pod: the root namespace's and its own namespace's, the oldest first.
pub fn limits(world: &World, pod: &Item<'_, Pod>) -> Vec<model::RateLimit> {
    let root = &world.mesh_config().root_namespace;
    let selects_pod = |limit: &Item<'_, RateLimit>| {
        let labels = limit.spec.selector.as_ref().map(|selector| &selector.match_labels);
        (limit.namespace() == root || limit.namespace() == pod.namespace())
            && labels.is_none_or(|labels| selects(labels, &pod.object.meta.labels))
    };
    let limits = world.oldest_first::<RateLimit>().into_iter().filter(selects_pod);
    limits.flat_map(|limit| translate(&limit, &mut Vec::new())).collect()
}

/// The rules of one object.
pub fn translate(limit: &Item<'_, RateLimit>, report: &mut Vec<Problem>) -> Vec<model::RateLimit> {
    if limit.spec.rules.is_empty() {
        report.push(Problem::warning("spec.rules", "there is none; nothing is limited"));
    }
    let rules = limit.spec.rules.iter().enumerate();
    rules.filter_map(|(at, rule)| translate_rule(limit, rule, &format!("spec.rules[{at}]"), report)).collect()
}

fn translate_rule(
    limit: &Item<'_, RateLimit>,
    rule: &RateLimitRule,
    field: &str,
    report: &mut Vec<Problem>,
) -> Option<model::RateLimit> {
    let problems = unusable(rule, field);
    if !problems.is_empty() {
        report.extend(problems);
        return None;
    }
    let matches = rule.matches.iter().enumerate();
    Some(model::RateLimit {
        name: format!("RateLimit/{}/{}/{field}", limit.namespace(), limit.name()),
        scope: LimitScope::Workload,
        matches: matches
            .map(|(at, test)| http::route_match(&request(test), &format!("{field}.match[{at}]"), report))
            .collect(),
        amount: Amount::Rate {
            requests: rule.limit.requests,
            per: rule.limit.per.get().into(),
            burst: rule.burst.unwrap_or(rule.limit.requests),
        },
        key: key(rule),
        exempt: Vec::new(),
        status: rule.status.unwrap_or(TOO_MANY_REQUESTS),
        origin: origin(limit.object, field),
    })
}

fn unusable(rule: &RateLimitRule, field: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut tell = |is_wrong: bool, part: &str, message: &str| {
        if is_wrong {
            problems
                .push(Problem::error(format!("{field}.{part}"), format!("{message}; the rule is left out")));
        }
    };
    tell(rule.limit.requests == 0, "limit.requests", "0 would let nothing in; use an AuthorizationPolicy");
    tell(rule.limit.per.is_zero(), "limit.per", "0s is no span of time");
    tell(rule.burst == Some(0), "burst", "0 would let nothing in");
    let status = rule.status.unwrap_or(TOO_MANY_REQUESTS);
    tell(!(400..600).contains(&status), "status", &format!("{status} is not from 400 to 599"));
    let nameless = |key: &crate::api::rate_limit::RateLimitKey| {
        key.key_type == RateLimitKeyType::Header && key.name.is_empty()
    };
    tell(rule.key.as_ref().is_some_and(nameless), "key.name", "missing; the header to count by");
    problems
}

fn key(rule: &RateLimitRule) -> LimitKey {
    rule.key.as_ref().map_or(LimitKey::None, |key| match key.key_type {
        RateLimitKeyType::SourceAddress => LimitKey::SourceAddress,
        RateLimitKeyType::Header => LimitKey::Header(key.name.to_ascii_lowercase()),
        RateLimitKeyType::Identity => LimitKey::Identity,
    })
}

/// Conditions are a VirtualService's, so they are read as one.
fn request(test: &RateLimitMatch) -> HttpMatchRequest {
    HttpMatchRequest {
        uri: test.uri.clone(),
        ignore_uri_case: test.ignore_uri_case,
        method: test.method.clone(),
        authority: test.authority.clone(),
        headers: test.headers.clone(),
        without_headers: test.without_headers.clone(),
        query_params: test.query_params.clone(),
        ..HttpMatchRequest::default()
    }
}
