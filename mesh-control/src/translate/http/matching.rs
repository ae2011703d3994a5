//! Conditions on requests.

use std::collections::BTreeMap;

use mesh_core::model::{ClaimMatch, HeaderMatch, PathMatch, RouteMatch, StringMatch};

use crate::api;
use crate::api::networking::HttpMatchRequest;
use crate::problem::Problem;

/// A match. Port, gateways and sources have been looked at already.
pub fn route_match(request: &HttpMatchRequest, field: &str, report: &mut Vec<Problem>) -> RouteMatch {
    if !request.stat_prefix.is_empty() {
        report.push(Problem::warning(format!("{field}.statPrefix"), "not supported; has no effect"));
    }
    let (mut headers, claims) = split(&request.headers);
    let (without_headers, without_claims) = split(&request.without_headers);
    let pseudo = take_pseudo(&mut headers);
    RouteMatch {
        name: Some(request.name.clone()).filter(|name| !name.is_empty()),
        path: request.uri.as_ref().or_else(|| request.headers.get(":path")).and_then(path),
        ignore_path_case: request.ignore_uri_case,
        method: request.method.as_ref().map(string_match).or(pseudo.method),
        scheme: request.scheme.as_ref().map(string_match).or(pseudo.scheme),
        authority: request.authority.as_ref().map(string_match).or(pseudo.authority),
        headers,
        without_headers,
        claims,
        without_claims,
        query: named(&request.query_params, str::to_owned),
        port: None,
    }
}

/// Headers, and claims of the token that are written among them.
fn split(tests: &BTreeMap<String, api::StringMatch>) -> (Vec<HeaderMatch>, Vec<ClaimMatch>) {
    let mut claims = Vec::new();
    let mut headers = named(tests, str::to_owned);
    headers.retain_mut(|header| match claim_path(&header.name) {
        Some(path) => {
            claims.push(ClaimMatch { path, value: header.value.clone() });
            false
        }
        None => {
            header.name.make_ascii_lowercase();
            true
        }
    });
    (headers, claims)
}

/// `@request.auth.claims.a.b`, or `@request.auth.claims[a][b]` for names with dots. Claims keep their case.
fn claim_path(key: &str) -> Option<Vec<String>> {
    let rest = key.strip_prefix("@request.auth.claims")?;
    let path: Vec<String> = match rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.split("][").map(str::to_owned).collect(),
        None => rest.strip_prefix('.')?.split('.').map(str::to_owned).collect(),
    };
    path.iter().all(|name| !name.is_empty()).then_some(path)
}

/// What is written among the headers but is not a header.
#[derive(Default)]
struct Pseudo {
    method: Option<StringMatch>,
    scheme: Option<StringMatch>,
    authority: Option<StringMatch>,
}

fn take_pseudo(headers: &mut Vec<HeaderMatch>) -> Pseudo {
    let mut pseudo = Pseudo::default();
    headers.retain(|header| {
        let place = match header.name.as_str() {
            ":method" => &mut pseudo.method,
            ":scheme" => &mut pseudo.scheme,
            ":authority" => &mut pseudo.authority,
            ":path" => return false,
            _ => return true,
        };
        *place = Some(header.value.clone());
        false
    });
    pseudo
}

fn named(tests: &BTreeMap<String, api::StringMatch>, spell: impl Fn(&str) -> String) -> Vec<HeaderMatch> {
    let test = |(name, value): (&String, &api::StringMatch)| HeaderMatch {
        name: spell(name),
        value: string_match(value),
    };
    tests.iter().map(test).collect()
}

/// A test on a string. The expression `*` means "there at all" (semantics.md 3).
pub fn string_match(test: &api::StringMatch) -> StringMatch {
    match test {
        api::StringMatch::Exact(text) => StringMatch::Exact(text.clone()),
        api::StringMatch::Prefix(text) => StringMatch::Prefix(text.clone()),
        api::StringMatch::Regex(text) if text == "*" => StringMatch::Present,
        api::StringMatch::Regex(text) => StringMatch::Regex(text.clone()),
        api::StringMatch::Present => StringMatch::Present,
    }
}

fn path(test: &api::StringMatch) -> Option<PathMatch> {
    match test {
        api::StringMatch::Exact(text) => Some(PathMatch::Exact(text.clone())),
        api::StringMatch::Prefix(text) if text.is_empty() => None,
        api::StringMatch::Prefix(text) => Some(PathMatch::Prefix(text.clone())),
        api::StringMatch::Regex(text) if text == "*" => None,
        api::StringMatch::Regex(text) => Some(PathMatch::Regex(text.clone())),
        api::StringMatch::Present => None,
    }
}
