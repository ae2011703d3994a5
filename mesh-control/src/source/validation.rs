//! What Istio's validation refuses. Such an object is refused here too, and its last good version stays in effect.
//!
//! For kinds of policy, what can be kept is kept instead (security kinds fail closed rule by rule), and Kubernetes' own
//! kinds are their API server's to judge: of both, values out of range are told about only.

use mesh_core::snapshot::text::Regex;

use crate::api::networking::{HttpMatchRequest, HttpRoute, VirtualService};
use crate::api::{Kind, Spec, StringMatch};
use crate::problem::Problem;

/// Why an object is refused, if it is; `out_of_range` are its values that are not what they must be.
pub(super) fn refusal(kind: Kind, spec: &Spec, out_of_range: &[(String, String)]) -> Option<Problem> {
    if let Some(((field, message), others)) =
        out_of_range.split_first().filter(|_| kind.refuses_out_of_range())
    {
        let more = if others.is_empty() { String::new() } else { format!(" (and {} more)", others.len()) };
        return Some(Problem::error(field, format!("{message}{more}")));
    }
    let Spec::VirtualService(service) = spec else { return None };
    too_extensive(service).or_else(|| {
        let mut routes = service.http.iter().enumerate();
        routes.find_map(|(at, route)| bad_expression(route, &format!("spec.http[{at}]")))
    })
}

/// How often the rules of one VirtualService may count, over all its hosts and gateways.
const MAX_EXTENT: usize = 50_000;

/// Rules are held once for each host and gateway that they are for, so a few lists in one small object multiply.
fn too_extensive(service: &VirtualService) -> Option<Problem> {
    let http = service.http.iter().map(|route| route.matches.len().max(1) + route.route.len()).sum::<usize>();
    let rules = http + service.tls.len() + service.tcp.len();
    let extent =
        rules.saturating_mul(service.hosts.len().max(1)).saturating_mul(service.gateways.len().max(1));
    (extent > MAX_EXTENT).then(|| {
        let message = format!(
            "its hosts times gateways times matches and destinations are {extent}, more than {MAX_EXTENT}; not used"
        );
        Problem::error("spec", message).with_fix("split it into several VirtualServices")
    })
}

/// The first expression of a rule that is none.
fn bad_expression(route: &HttpRoute, field: &str) -> Option<Problem> {
    let mut matches = route.matches.iter().enumerate();
    let in_matches = matches.find_map(|(at, request)| in_match(request, &format!("{field}.match[{at}]")));
    let in_rewrite = || {
        let rewrite = route.rewrite.as_ref()?.uri_regex_rewrite.as_ref()?;
        wrong(&rewrite.pattern)
            .map(|why| Problem::error(format!("{field}.rewrite.uriRegexRewrite.match"), why))
    };
    let in_cors = || {
        let mut origins = route.cors_policy.iter().flat_map(|cors| &cors.allow_origins).enumerate();
        origins.find_map(|(at, origin)| {
            in_string(origin)
                .map(|why| Problem::error(format!("{field}.corsPolicy.allowOrigins[{at}].regex"), why))
        })
    };
    in_matches.or_else(in_rewrite).or_else(in_cors)
}

fn in_match(request: &HttpMatchRequest, field: &str) -> Option<Problem> {
    let texts = [
        ("uri", &request.uri),
        ("scheme", &request.scheme),
        ("method", &request.method),
        ("authority", &request.authority),
    ];
    let maps = [
        ("headers", &request.headers),
        ("withoutHeaders", &request.without_headers),
        ("queryParams", &request.query_params),
    ];
    let mut texts = texts.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)));
    let in_text = texts.find_map(|(name, text)| {
        in_string(text).map(|why| Problem::error(format!("{field}.{name}.regex"), why))
    });
    in_text.or_else(|| {
        let mut named =
            maps.into_iter().flat_map(|(part, map)| map.iter().map(move |(name, text)| (part, name, text)));
        named.find_map(|(part, name, text)| {
            in_string(text).map(|why| Problem::error(format!("{field}.{part}.{name}.regex"), why))
        })
    })
}

/// `*` alone means "there at all" (semantics.md 3).
fn in_string(text: &StringMatch) -> Option<String> {
    match text {
        StringMatch::Regex(pattern) if pattern != "*" => wrong(pattern),
        _ => None,
    }
}

fn wrong(pattern: &str) -> Option<String> {
    // What is too large once compiled is for the proxy to say: compiling takes long where it takes much.
    Regex::check(pattern).err().map(|error| error.to_string())
}
