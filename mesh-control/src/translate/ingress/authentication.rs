//! `auth-url` and its companions in ingress-nginx's words: a subrequest that decides whether the request may pass.

use mesh_core::model::{Action, Authorizer, CheckProtocol, HttpCheck, Millis, Rule, Subrequest};

use super::annotations;
use crate::api::Item;
use crate::api::ingress::Ingress;
use crate::translate::scope::qualify;
use crate::translate::{cluster, provider};

/// How long the subrequest may take (ingress-nginx's `proxy-read-timeout`).
const TIMEOUT: Millis = Millis::seconds(60);

/// The rule, asked about as the Ingress says. Redirects and answers of our own are not asked about, as in ingress-nginx.
pub(super) fn guarded(ingress: &Item<'_, Ingress>, rule: Rule) -> Rule {
    let Some(url) = annotations::get(ingress, "auth-url") else { return rule };
    match rule.action {
        Action::Forward(_) => Rule { authorizer: Some(Box::new(authorizer(ingress, url))), ..rule },
        Action::Redirect(_) | Action::Respond(_) => rule,
    }
}

/// An address that cannot be read has no cluster: everything is denied.
fn authorizer(ingress: &Item<'_, Ingress>, url: &str) -> Authorizer {
    let read = |name| annotations::get(ingress, name).map(str::to_owned);
    let (cluster, authority, path) = match address(url, ingress.namespace()) {
        Some((cluster, authority, path)) => (Some(cluster), authority, path),
        None => (None, String::new(), "/".to_owned()),
    };
    let headers: Vec<String> = read("auth-response-headers")
        .unwrap_or_default()
        .split(',')
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    let list =
        |names: &[&str]| provider::names(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
    Authorizer {
        name: format!("Ingress {}/{} auth-url", ingress.namespace(), ingress.name()),
        cluster,
        protocol: CheckProtocol::Http(Box::new(HttpCheck {
            upstream_on_allow: provider::names(&headers),
            downstream_on_allow: list(&["set-cookie"]),
            downstream_on_deny: list(&["www-authenticate", "set-cookie"]),
            subrequest: Some(Subrequest {
                authority,
                path,
                method: read("auth-method").unwrap_or_else(|| "GET".to_owned()),
                sign_in: read("auth-signin"),
            }),
            ..HttpCheck::default()
        })),
        timeout: TIMEOUT,
        fail_open: false,
        status_on_error: 500,
        body: None,
    }
}

/// Cluster, authority and path of the service that is asked. TLS to it is for a DestinationRule to say.
fn address(url: &str, namespace: &str) -> Option<(String, String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    let default = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, default),
    };
    // Variables of nginx have no meaning here.
    if host.is_empty() || url.contains('$') {
        return None;
    }
    let host = qualify(host, namespace);
    let host = match host.strip_suffix(".svc") {
        Some(_) => format!("{host}.cluster.local"),
        None => host,
    };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Some((cluster::name(port, "", &host), authority.to_owned(), path))
}
