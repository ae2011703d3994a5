//! Annotations in ingress-nginx's words: which have an effect, and which do not yet.

use crate::api::Item;
use crate::api::ingress::Ingress;
use crate::problem::Problem;

const PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// Those that have an effect.
const SUPPORTED: [&str; 20] = [
    "auth-url",
    "auth-method",
    "auth-response-headers",
    "auth-signin",
    "canary",
    "canary-weight",
    "canary-weight-total",
    "canary-by-header",
    "canary-by-header-value",
    "canary-by-header-pattern",
    "canary-by-cookie",
    "force-ssl-redirect",
    "ssl-redirect",
    "permanent-redirect",
    "temporal-redirect",
    "rewrite-target",
    "upstream-vhost",
    "use-regex",
    "service-upstream",
    "proxy-http-version",
];

/// Those whose absence makes an application less protected than its owner believes.
const PROTECTING: [&str; 11] = [
    "rate-limit",
    "limit-rps",
    "limit-rpm",
    "limit-connections",
    "whitelist-source-range",
    "denylist-source-range",
    "auth-type",
    "auth-tls-secret",
    "auth-tls-verify-client",
    "enable-modsecurity",
    "proxy-body-size",
];

/// An annotation by its name without the prefix.
pub(super) fn get<'i>(ingress: &'i Item<'_, Ingress>, name: &str) -> Option<&'i str> {
    ingress.object.meta.annotations.get(&format!("{PREFIX}{name}")).map(String::as_str)
}

/// Tells about annotations without effect; about those that protect as an error.
pub(super) fn unsupported(ingress: &Item<'_, Ingress>, report: &mut Vec<Problem>) {
    for (name, value) in &ingress.object.meta.annotations {
        let Some(short) = name.strip_prefix(PREFIX) else { continue };
        let field = format!("metadata.annotations[{name}]");
        let captures = short == "rewrite-target" && value.contains('$');
        let problem = if PROTECTING.contains(&short) {
            Problem::error(field, "not supported yet: nothing is limited or checked")
        } else if captures {
            Problem::warning(field, "captures are not supported yet; the path is not rewritten")
        } else if SUPPORTED.contains(&short) {
            continue;
        } else {
            Problem::warning(field, "not supported; has no effect")
        };
        report.push(ingress.object.blame(problem));
    }
}
