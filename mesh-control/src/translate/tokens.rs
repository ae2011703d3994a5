//! RequestAuthentications that select a workload (semantics.md 36): which tokens it takes. Nothing is fetched here: keys
//! that are not there yet make a rule under which no token is good.

use mesh_core::model::{ClaimHeader, TokenHeader, TokenRule};

use super::origin;
use crate::api::Item;
use crate::api::core::Pod;
use crate::api::meta::selects;
use crate::api::security::{JwtRule, RequestAuthentication};
use crate::problem::Problem;
use crate::world::{KeySource, World};

/// Rules of one workload; further ones are left out, and their tokens refused.
const MOST_RULES: usize = 63;
/// What `timeout` means when absent, as in Istio; keys are fetched in that time whatever it says.
const USUAL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
/// Largest set of keys, in bytes.
pub const LARGEST_KEYS: usize = 64 * 1024;

/// The rules for a pod: the root namespace's and its own namespace's add up, the oldest first.
pub fn rules(world: &World, pod: &Item<'_, Pod>) -> Vec<TokenRule> {
    let root = &world.mesh_config().root_namespace;
    let selects_pod = |item: &Item<'_, RequestAuthentication>| {
        let labels = item.spec.selector.as_ref().map(|selector| &selector.match_labels);
        (item.namespace() == root || item.namespace() == pod.namespace())
            && !is_attached(item.spec)
            && labels.is_none_or(|labels| selects(labels, &pod.object.meta.labels))
    };
    let items = world.oldest_first::<RequestAuthentication>().into_iter().filter(selects_pod);
    items.flat_map(|item| translate(world, &item, &mut Vec::new())).take(MOST_RULES).collect()
}

/// Where keys have to be fetched from, of all rules.
pub fn key_sources(world: &World) -> impl Iterator<Item = KeySource> {
    world.all::<RequestAuthentication>().flat_map(|item| &item.spec.jwt_rules).filter_map(key_source)
}

/// Policies attached to other objects are not for pods.
const fn is_attached(spec: &RequestAuthentication) -> bool {
    spec.target_ref.is_some() || !spec.target_refs.is_empty()
}

/// The rules of one object.
pub fn translate(
    world: &World,
    item: &Item<'_, RequestAuthentication>,
    report: &mut Vec<Problem>,
) -> Vec<TokenRule> {
    if is_attached(item.spec) {
        report.push(
            Problem::error("spec.targetRefs", "not supported; has no effect: tokens are not checked")
                .with_fix("use selector"),
        );
    }
    let rules = item.spec.jwt_rules.iter().enumerate();
    rules
        .map(|(at, rule)| {
            let field = format!("spec.jwtRules[{at}]");
            let keys = keys(world, rule, &field, report);
            if rule.issuer.is_empty() {
                let message = "missing: no token is good under this rule";
                report.push(Problem::error(format!("{field}.issuer"), message));
            }
            report.extend(time_without_effect(rule, &field));
            TokenRule { origin: origin(item.object, field.as_str()), keys, ..one(rule) }
        })
        .collect()
}

/// Nobody's request waits while keys are fetched, so there is nothing to keep short.
fn time_without_effect(rule: &JwtRule, field: &str) -> Option<Problem> {
    let is_other = rule.timeout.is_some_and(|timeout| timeout.get() != USUAL_TIMEOUT);
    let message = "has no effect: keys are fetched beforehand, in at most 5 s, and no request waits for them";
    is_other.then(|| Problem::warning(format!("{field}.timeout"), message))
}

/// A rule without origin and keys.
fn one(rule: &JwtRule) -> TokenRule {
    let lower = |text: &String| text.to_ascii_lowercase();
    let header = |header: &crate::api::security::JwtHeader| TokenHeader {
        name: lower(&header.name),
        prefix: header.prefix.clone(),
    };
    let mut translated = TokenRule {
        origin: mesh_core::model::Origin::default(),
        issuer: rule.issuer.clone(),
        audiences: rule.audiences.clone(),
        keys: None,
        headers: rule.from_headers.iter().map(header).collect(),
        parameters: rule.from_params.clone(),
        cookies: rule.from_cookies.clone(),
        forward: rule.forward_original_token,
        payload_header: Some(lower(&rule.output_payload_to_header)).filter(|name| !name.is_empty()),
        claim_headers: rule
            .output_claim_to_headers
            .iter()
            .map(|each| ClaimHeader { header: lower(&each.header), claim: each.claim.clone() })
            .collect(),
        spaced_claims: rule.space_delimited_claims.clone(),
    };
    if translated.headers.is_empty() && translated.parameters.is_empty() && translated.cookies.is_empty() {
        translated.headers = vec![TokenHeader { name: "authorization".into(), prefix: "Bearer ".into() }];
        translated.parameters = vec!["access_token".into()];
    }
    translated
}

/// Written keys come before those to be fetched.
fn key_source(rule: &JwtRule) -> Option<KeySource> {
    if !rule.jwks.is_empty() {
        None
    } else if !rule.jwks_uri.is_empty() {
        Some(KeySource::Uri(rule.jwks_uri.clone()))
    } else {
        Some(KeySource::Issuer(rule.issuer.clone())).filter(|_| !rule.issuer.is_empty())
    }
}

fn keys(world: &World, rule: &JwtRule, field: &str, report: &mut Vec<Problem>) -> Option<String> {
    let Some(source) = key_source(rule) else {
        let problem = check(&rule.jwks).err();
        let refused = problem.is_some();
        report.extend(problem.map(|problem| Problem::error(format!("{field}.jwks"), problem)));
        return (!refused && !rule.jwks.is_empty()).then(|| rule.jwks.clone());
    };
    let known = world.key_set(&source);
    let keys = known.and_then(|known| known.keys.clone());
    let why = known.and_then(|known| known.failure.as_deref());
    match (&keys, why) {
        (Some(_), None) => {}
        (Some(_), Some(why)) => {
            let message = format!("{why}; the last good keys stay in use");
            report.push(Problem::warning(format!("{field}.jwksUri"), message));
        }
        (None, why) => {
            let why = why.unwrap_or("the keys have not been fetched yet");
            let message = format!("{why}; until then the issuer's tokens are refused with 401");
            report.push(Problem::warning(format!("{field}.jwksUri"), message));
        }
    }
    keys
}

/// Whether a text is a JWK set with at least one key, and not too large.
///
/// # Errors
/// With what is wrong.
pub fn check(text: &str) -> Result<(), String> {
    if text.len() > LARGEST_KEYS {
        return Err(format!("larger than {} KiB; no token of the issuer is good", LARGEST_KEYS / 1024));
    }
    let set: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| format!("not JSON ({error}); no token of the issuer is good"))?;
    match set.get("keys").and_then(serde_json::Value::as_array) {
        Some(keys) if !keys.is_empty() => Ok(()),
        _ => Err("not a JWK set with keys (RFC 7517 §5); no token of the issuer is good".to_owned()),
    }
}
