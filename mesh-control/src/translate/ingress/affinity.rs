//! `affinity` and the `session-cookie` annotations in ingress-nginx's words: a cookie that keeps a client with a pod.
//!
//! The cookie holds a number that is hashed over the endpoints, and not an endpoint's name: it says nothing of the cluster,
//! and is good at all gateways alike. Where a canary is sticky its cookies begin with a mark, by which rules know them.

use mesh_core::model::{HeaderMatch, Millis, SessionCookie, StringMatch};

use super::annotations::{alone, field, get, literal};
use crate::api::Item;
use crate::api::ingress::Ingress;
use crate::problem::Problem;

/// The name when nobody says (ingress-nginx's).
const NAME: &str = "INGRESSCOOKIE";
/// What sessions of a canary begin with.
const CANARY: &str = "canary-";

/// The name of the cookie by which clients stay with a pod, if they are to.
pub(super) fn cookie_name<'i>(ingress: &'i Item<'_, Ingress>) -> Option<&'i str> {
    let by_cookie = get(ingress, "affinity")?.trim() == "cookie";
    let name = get(ingress, "session-cookie-name").map(str::trim).filter(|name| is_token(name));
    by_cookie.then_some(name.unwrap_or(NAME))
}

/// The cookie with its attributes.
pub(super) fn cookie(ingress: &Item<'_, Ingress>, of_canary: bool) -> Option<SessionCookie> {
    let name = cookie_name(ingress)?.to_owned();
    let text = |name: &str| get(ingress, name).map(str::trim).filter(|text| is_attribute(text));
    let lifetime =
        ["session-cookie-max-age", "session-cookie-expires"].iter().find_map(|name| seconds(ingress, name));
    let path = text("session-cookie-path").filter(|path| path.starts_with('/')).unwrap_or("/");
    let secure = get(ingress, "session-cookie-secure").map(str::trim);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let same_site = text("session-cookie-samesite").and_then(same_site).map(|word| pair("SameSite", word));
    let domain = text("session-cookie-domain").map(|domain| pair("Domain", domain));
    let secured = (secure == Some("true")).then(|| pair("Secure", ""));
    Some(SessionCookie {
        name,
        path: Some(path.to_owned()),
        ttl: Some(Millis::seconds(lifetime.unwrap_or(0))),
        attributes: same_site.into_iter().chain(domain).chain(secured).collect(),
        // As ingress-nginx: what is not said follows the request.
        secure_over_tls: !matches!(secure, Some("true" | "false")),
        mark: if of_canary { CANARY.to_owned() } else { String::new() },
    })
}

/// Tests of a request for the session that it has begun: with the canary, or at all.
pub(super) fn session_tests(name: &str) -> [HeaderMatch; 2] {
    let name = literal(name);
    let test = |value: &str| HeaderMatch {
        name: "cookie".to_owned(),
        value: StringMatch::Regex(format!("(?:.*[;,] *)?{name}={value}(?: *[;,].*)?")),
    };
    [test(&format!("\"?{}[^;,]*", literal(CANARY))), test("[^;,]*")]
}

/// Whether a canary leaves sessions alone, as ingress-nginx did before version 1.0.
pub(super) fn is_legacy(canary: &Item<'_, Ingress>) -> bool {
    get(canary, "affinity-canary-behavior").is_some_and(|word| word.trim() == "legacy")
}

fn seconds(ingress: &Item<'_, Ingress>, name: &str) -> Option<u32> {
    get(ingress, name)?.trim().parse().ok()
}

fn same_site(word: &str) -> Option<&'static str> {
    ["None", "Lax", "Strict"].into_iter().find(|known| known.eq_ignore_ascii_case(word))
}

/// A cookie's name (RFC 6265 §4.1.1).
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// What can stand in an attribute.
fn is_attribute(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b';' && byte != b',')
}

/// An annotation, what its values are, and whether a text is one.
type Value = (&'static str, &'static str, fn(&str) -> bool);

const VALUES: [Value; 6] = [
    ("session-cookie-name", "a cookie's name", is_token),
    ("session-cookie-path", "a path", |text| text.starts_with('/') && is_attribute(text)),
    ("session-cookie-domain", "a domain", is_attribute),
    ("session-cookie-samesite", "one of None, Lax, Strict", |text| same_site(text).is_some()),
    ("session-cookie-max-age", "a number of seconds", |text| text.parse::<u32>().is_ok()),
    ("session-cookie-expires", "a number of seconds", |text| text.parse::<u32>().is_ok()),
];

/// Tells of what is wrong with the annotations, or has less effect than it says.
pub(super) fn problems(ingress: &Item<'_, Ingress>, tell: &mut dyn FnMut(Problem)) {
    let Some(kind) = get(ingress, "affinity").map(str::trim) else {
        return alone(ingress, "session-cookie-", "affinity: cookie", tell);
    };
    if kind != "cookie" {
        let message = format!("{kind:?} is not supported; allowed: cookie. Sessions are not kept");
        tell(Problem::error(field("affinity"), message));
        return;
    }
    for (name, what, is_valid) in VALUES {
        if let Some(text) = get(ingress, name).filter(|text| !is_valid(text.trim())) {
            tell(Problem::error(field(name), format!("{text:?} is not {what}; has no effect")));
        }
    }
    let less = [
        (
            "affinity-mode",
            "persistent",
            "sessions of a pod that goes, and a share of others when one comes, move",
        ),
        (
            "session-cookie-change-on-failure",
            "true",
            "the cookie stays: a session comes back to its pod once that answers",
        ),
        ("session-cookie-conditional-samesite-none", "true", "SameSite is sent to all browsers alike"),
    ];
    for (name, value, message) in less {
        if get(ingress, name).is_some_and(|given| given.trim() == value) {
            tell(Problem::warning(field(name), format!("{value} is not supported: {message}")));
        }
    }
}
