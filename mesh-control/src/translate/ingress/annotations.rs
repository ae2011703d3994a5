//! Annotations in ingress-nginx's words: what each does here. `docs/ingress.md` shows the same table.

use mesh_core::model::StringMatch;

use super::canary::Canary;
use super::passthrough;
use crate::api::Item;
use crate::api::ingress::Ingress;
use crate::problem::Problem;

const PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// What an annotation does here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// What it does in ingress-nginx; with what is to be known.
    Works(&'static str),
    /// Nothing is needed for it.
    Needless(&'static str),
    /// Nothing, and an application is less protected than its owner believes.
    Unprotected,
    /// Nothing.
    None,
}

use Effect::{Needless, None as Nothing, Unprotected, Works};

/// Every annotation of which anything is known.
const TABLE: &[(&str, Effect)] = &[
    ("affinity", Works("`cookie`: clients stay with a pod")),
    (
        "affinity-canary-behavior",
        Works(
            "of the canary: `sticky` if not set, where a session beats all of the canary's conditions; or `legacy`",
        ),
    ),
    ("affinity-mode", Works("`balanced`; `persistent` is warned about")),
    ("allowlist-source-range", Works("the same as `whitelist-source-range`")),
    ("app-root", Works("302 from `/`")),
    ("auth-method", Works("")),
    ("auth-response-headers", Works("")),
    ("auth-signin", Works("302 to it, with `rd` naming where the client wanted to go")),
    ("auth-tls-secret", Unprotected),
    ("auth-tls-verify-client", Unprotected),
    ("auth-type", Unprotected),
    ("auth-url", Works("2xx lets in, 401 and 403 refuse, anything else is 500")),
    (
        "backend-protocol",
        Works("`HTTP`, `HTTPS`, `GRPC`, `GRPCS` and `AUTO_HTTP`, not `FCGI`; see [below](#tls-to-backends)"),
    ),
    ("canary", Works("the other annotations of a canary have no effect")),
    ("canary-by-cookie", Works("`always` and `never`; after the header, before the weight")),
    ("canary-by-header", Works("`always` and `never`")),
    (
        "canary-by-header-pattern",
        Works("found anywhere in the value; ignored beside `canary-by-header-value`"),
    ),
    ("canary-by-header-value", Works("then `always` and `never` mean nothing")),
    ("canary-weight", Works("")),
    ("canary-weight-total", Works("100 if not set")),
    ("connection-proxy-header", Needless("upgrades of WebSockets are always passed on")),
    ("cors-allow-credentials", Works("true if not set")),
    ("cors-allow-headers", Works("")),
    ("cors-allow-methods", Works("")),
    ("cors-allow-origin", Works("a list; `*` alone for any, `https://*.example.com` for one level of names")),
    ("cors-expose-headers", Works("")),
    ("cors-max-age", Works("1,728,000 seconds if not set")),
    ("custom-headers", Works("the data of a ConfigMap, `namespace/name` or `name`; set on responses")),
    ("custom-http-errors", Nothing),
    ("default-backend", Nothing),
    ("denylist-source-range", Works("403")),
    ("enable-cors", Works("preflights get 200")),
    ("enable-modsecurity", Unprotected),
    ("force-ssl-redirect", Works("308 to HTTPS, also of hosts that no `tls` names")),
    ("from-to-www-redirect", Works("308 between `www.` and the bare name")),
    ("global-rate-limit", Unprotected),
    ("limit-burst-multiplier", Works("5 if not set")),
    ("limit-connections", Works("requests under way from one address; 503")),
    ("limit-rate", Nothing),
    ("limit-rate-after", Nothing),
    ("limit-rpm", Works("by client address; limit × multiplier + 1 at once; 503")),
    ("limit-rps", Works("by client address; limit × multiplier + 1 at once; 503")),
    ("limit-whitelist", Works("")),
    ("mirror-host", Works("the target's host if not set")),
    ("mirror-request-body", Works("")),
    (
        "mirror-target",
        Works(
            "a Service or ServiceEntry, and a fixed path or `$request_uri`; `https` is verified; others are an error",
        ),
    ),
    ("modsecurity-snippet", Unprotected),
    ("permanent-redirect", Works("")),
    ("permanent-redirect-code", Works("301 if not set")),
    ("proxy-body-size", Works("413; without it there is no limit, where nginx has 1m")),
    ("proxy-buffering", Nothing),
    ("proxy-connect-timeout", Nothing),
    ("proxy-http-version", Needless("requests travel in the version in which they came")),
    ("proxy-next-upstream", Works("`off`, and `error timeout`; statuses have no effect")),
    ("proxy-next-upstream-tries", Works("")),
    ("proxy-read-timeout", Works("seconds until the response begins, for each try")),
    ("proxy-send-timeout", Nothing),
    ("proxy-ssl-ciphers", Nothing),
    ("proxy-ssl-name", Works("the Service's full name if not set")),
    ("proxy-ssl-protocols", Nothing),
    (
        "proxy-ssl-secret",
        Works("`namespace/name` or `name`, in the Ingress's namespace; anything else is answered with 503"),
    ),
    ("proxy-ssl-server-name", Needless("the server's name is always sent")),
    ("proxy-ssl-verify", Works("`off` if not set; without a `ca.crt` the system's authorities count")),
    ("proxy-ssl-verify-depth", Nothing),
    ("rate-limit", Works("not of ingress-nginx; read as `limit-rps`")),
    ("rewrite-target", Works("with captures; makes all paths of its hosts expressions")),
    ("server-alias", Works("")),
    ("service-upstream", Needless("endpoints are always chosen by the mesh")),
    ("session-cookie-change-on-failure", Works("`false`; `true` is warned about")),
    ("session-cookie-conditional-samesite-none", Works("`false`; `true` is warned about")),
    ("session-cookie-domain", Works("")),
    ("session-cookie-expires", Works("seconds; as `session-cookie-max-age`, which counts before it")),
    ("session-cookie-max-age", Works("seconds; until the browser ends if not set")),
    ("session-cookie-name", Works("`INGRESSCOOKIE` if not set")),
    ("session-cookie-path", Works("`/` if not set, where ingress-nginx takes the Ingress's path")),
    ("session-cookie-samesite", Works("`None`, `Lax` or `Strict`")),
    ("session-cookie-secure", Works("what came over TLS gets a secure cookie if not set")),
    (
        "ssl-passthrough",
        Works(
            "TLS for the host goes to the backend of its path `/`, by server name; nothing else of the host holds for it",
        ),
    ),
    (
        "ssl-redirect",
        Works("308 to HTTPS of hosts that a `tls` names, unless it is `false`; see [below](#certificates)"),
    ),
    ("temporal-redirect", Works("")),
    ("temporal-redirect-code", Works("302 if not set")),
    ("upstream-hash-by", Nothing),
    ("upstream-vhost", Works("")),
    ("use-regex", Works("makes all paths of its hosts expressions")),
    ("whitelist-source-range", Works("others get 403")),
    ("x-forwarded-prefix", Works("")),
];

/// What a canary's own annotations begin with.
const OF_CANARIES: [&str; 2] = ["canary", "affinity-canary-behavior"];

/// What protects, and cannot do so on TLS that is passed through.
const PROTECTING: [&str; 8] = [
    "allowlist-source-range",
    "auth-url",
    "denylist-source-range",
    "limit-connections",
    "limit-rpm",
    "limit-rps",
    "rate-limit",
    "whitelist-source-range",
];

/// What has its effect beside TLS that is passed through: which hosts, and what becomes of cleartext.
const BESIDE_PASSTHROUGH: [&str; 5] =
    ["backend-protocol", "force-ssl-redirect", "server-alias", "ssl-passthrough", "ssl-redirect"];

/// An annotation by its name without the prefix.
pub(super) fn get<'i>(ingress: &'i Item<'_, Ingress>, name: &str) -> Option<&'i str> {
    ingress.object.meta.annotations.get(&format!("{PREFIX}{name}")).map(String::as_str)
}

/// Where an annotation stands, for problems.
pub(super) fn field(name: &str) -> String {
    format!("metadata.annotations[\"{PREFIX}{name}\"]")
}

/// Tells of annotations beginning with `prefix` that say more of something that the Ingress does not ask for.
pub(super) fn alone(ingress: &Item<'_, Ingress>, prefix: &str, wanted: &str, tell: &mut dyn FnMut(Problem)) {
    let names = ingress.object.meta.annotations.keys().filter_map(|name| name.strip_prefix(PREFIX));
    let works = |short: &&str| TABLE.iter().any(|(name, effect)| name == short && matches!(effect, Works(_)));
    for short in names.filter(|short| short.starts_with(prefix)).filter(works) {
        tell(Problem::warning(field(short), format!("has no effect without {wanted}")));
    }
}

/// Tells about annotations without effect; about those that protect as an error.
pub(super) fn unsupported(ingress: &Item<'_, Ingress>, report: &mut Vec<Problem>) {
    let is_canary = Canary::is_one(ingress);
    let is_passed = passthrough::is_asked(ingress);
    for name in ingress.object.meta.annotations.keys() {
        let Some(short) = name.strip_prefix(PREFIX) else { continue };
        let effect = TABLE.iter().find(|(known, _)| *known == short).map_or(Nothing, |(_, effect)| *effect);
        let problem = match effect {
            Unprotected => Problem::error(field(short), "not supported yet: nothing is limited or checked"),
            Nothing => Problem::warning(field(short), "not supported; has no effect"),
            Works(_) if is_canary && !OF_CANARIES.iter().any(|own| short.starts_with(own)) => {
                Problem::warning(field(short), "a canary takes it from the Ingress that it is a canary of")
            }
            Works(_) if is_passed && PROTECTING.contains(&short) => Problem::error(
                field(short),
                "TLS is passed through (ssl-passthrough): there, nothing is limited or checked",
            ),
            Works(_) if is_passed && !BESIDE_PASSTHROUGH.contains(&short) => Problem::warning(
                field(short),
                "TLS is passed through (ssl-passthrough): there, it has no effect",
            ),
            Works(_) | Needless(_) => continue,
        };
        report.push(ingress.object.blame(problem));
    }
}

/// An origin as `cors-allow-origin` writes it; its star stands for one level of names.
pub(super) fn origin(text: &str) -> StringMatch {
    if text == "*" {
        return StringMatch::Present;
    }
    match text.split_once('*') {
        None => StringMatch::Exact(text.to_owned()),
        Some((before, after)) => {
            StringMatch::Regex(format!("{}[A-Za-z0-9-]+{}", literal(before), literal(after)))
        }
    }
}

/// An expression for a text as it is.
pub(super) fn literal(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_ascii_alphanumeric() { vec![c] } else { vec!['\\', c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(TABLE.is_sorted_by(|left, right| left.0 < right.0));
    }

    /// `UPDATE=1` rewrites the table.
    #[test]
    fn the_page_shows_the_table() {
        let row = |(name, effect): &(&str, Effect)| match effect {
            Works("") => format!("| `{name}` | as in ingress-nginx |"),
            Works(note) | Needless(note) => format!("| `{name}` | {note} |"),
            Unprotected => format!("| `{name}` | not yet; an error, since it protects |"),
            Nothing => format!("| `{name}` | no effect; a warning |"),
        };
        let expected: Vec<_> = TABLE.iter().map(row).collect();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ingress.md");
        let page = std::fs::read_to_string(path).unwrap();
        let table: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).collect();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, page.replace(&table.join("\n"), &expected.join("\n"))).unwrap();
        } else {
            assert_eq!(
                table, expected,
                "UPDATE=1 cargo test -p mesh-control --lib ingress rewrites the table"
            );
        }
    }
}
