//! Redirects: by a route, and from cleartext to HTTPS.

use bytes::Bytes;

use super::rewrite::replace_segments;
use super::route::FoundRule;
use super::{Answer, Reason};
use crate::message::{RequestHead, Scheme};
use crate::model::{Redirect, RedirectPort};
use crate::snapshot::matcher::CompiledMatch;

/// The answer of a redirecting rule (semantics.md 9, Gateway API HTTPRequestRedirectFilter).
pub(super) fn by_rule(redirect: &Redirect, head: &RequestHead, port: u16, found: &FoundRule<'_>) -> Answer {
    let scheme = redirect.scheme.as_deref().unwrap_or(head.scheme.as_str());
    let authority = match &redirect.authority {
        Some(authority) => with_port(authority.as_bytes(), redirect.port, scheme, port),
        None => {
            let (host, given) = split_port(&head.authority);
            match redirect.port {
                RedirectPort::Unchanged => kept_port(host, given, scheme, head.scheme),
                other => with_port(host, other, scheme, port),
            }
        }
    };
    let matched = found.matched.rule.matches.get(found.matched.index).and_then(CompiledMatch::prefix);
    let path = match (&redirect.path, &redirect.prefix, matched) {
        (Some(path), ..) | (None, Some(path), None) => path.as_bytes().to_vec(),
        (None, Some(new), Some((prefix, true))) => replace_segments(&head.path, prefix, new.as_bytes()),
        (None, Some(new), Some((prefix, false))) => {
            [new.as_bytes(), head.path.get(prefix.len()..).unwrap_or_default()].concat()
        }
        (None, None, _) => head.path.to_vec(),
    };
    let mut answer = answer(redirect.status, scheme, &authority, &path, head).on(found);
    found.matched.rule.response_edits.apply(&mut answer.headers);
    answer
}

/// The answer to a cleartext request for a host that is served over HTTPS only (semantics.md 24).
pub(super) fn to_https(head: &RequestHead) -> Answer {
    let (host, given) = split_port(&head.authority);
    let authority = kept_port(host, given, "https", Scheme::Http);
    answer(301, "https", &authority, &head.path, head)
}

fn answer(status: u16, scheme: &str, authority: &[u8], path: &[u8], head: &RequestHead) -> Answer {
    let mut location = [scheme.as_bytes(), b"://", authority, path].concat();
    // A path with a query of its own replaces the request's.
    if let Some(query) = head.query.as_ref().filter(|_| !path.contains(&b'?')) {
        location.push(b'?');
        location.extend_from_slice(query);
    }
    let mut answer = Answer::new(status, Bytes::new(), Reason::Redirect);
    answer.headers.append("location", location);
    answer
}

/// The authority's own port, unless it is the default of the scheme, or was the default of the scheme before.
fn kept_port(host: &[u8], given: Option<u16>, scheme: &str, before: Scheme) -> Vec<u8> {
    let default = [default_port(scheme), default_port(before.as_str())];
    match given.filter(|port| !default.contains(&Some(*port))) {
        Some(port) => join(host, port),
        None => host.to_vec(),
    }
}

fn with_port(host: &[u8], rule: RedirectPort, scheme: &str, listener: u16) -> Vec<u8> {
    let port = match rule {
        RedirectPort::Unchanged | RedirectPort::SchemeDefault => None,
        RedirectPort::Listener => Some(listener),
        RedirectPort::Exactly(port) => Some(port),
    };
    match port.filter(|&port| default_port(scheme) != Some(port)) {
        Some(port) => join(host, port),
        None => host.to_vec(),
    }
}

fn join(host: &[u8], port: u16) -> Vec<u8> {
    [host, b":", itoa::Buffer::new().format(port).as_bytes()].concat()
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// An authority's host and port. The codec has checked its shape.
fn split_port(authority: &[u8]) -> (&[u8], Option<u16>) {
    let colon = authority.iter().rposition(|&b| b == b':');
    let split = colon.and_then(|at| {
        let port = std::str::from_utf8(&authority[at + 1..]).ok()?.parse().ok()?;
        Some((&authority[..at], Some(port)))
    });
    split.unwrap_or((authority, None))
}
