//! What a hashing balancer goes by: xxh64 of something in the request.

use bytes::Bytes;
use xxhash_rust::xxh64::xxh64;

use super::Request;
use super::client::client_address;
use crate::dice::Dice;
use crate::message::Scheme;
use crate::model::{HashKey, LoadBalancer, SessionCookie};
use crate::snapshot::Cluster;
use crate::snapshot::matcher::{query_parameter, with_joined};
use crate::snapshot::rule::CompiledBackend;
use crate::snapshot::weighted::Weighted;

/// What a hashing balancer goes by.
#[derive(Debug, Default)]
pub(super) struct Affinity {
    /// `None` when the cluster does not hash, or the request lacks what is hashed.
    pub(super) hash: Option<u64>,
    /// A `set-cookie` for the client, which will bring it back to the same endpoint.
    pub(super) cookie: Option<Bytes>,
}

/// The affinity of a request to an endpoint of a cluster.
pub(super) fn of(cluster: &Cluster, request: &Request<'_>, dice: &mut Dice) -> Affinity {
    let LoadBalancer::ConsistentHash(policy) = &cluster.model.load_balancer else {
        return Affinity::default();
    };
    let head = request.head;
    let hash = match &policy.key {
        HashKey::Header(name) => with_joined(&head.headers, name, |value| value.map(hash)),
        HashKey::Cookie(settings) => {
            let brought = head.headers.get_all("cookie").find_map(|cookies| cookie(cookies, &settings.name));
            if brought.is_none() && settings.ttl.is_some() {
                return new_cookie(settings, head.scheme, dice);
            }
            brought.map(hash)
        }
        HashKey::SourceAddress => Some(match source(request).to_canonical() {
            std::net::IpAddr::V4(address) => hash(&address.octets()),
            std::net::IpAddr::V6(address) => hash(&address.octets()),
        }),
        HashKey::QueryParameter(name) => {
            head.query.as_deref().and_then(|query| query_parameter(query, name)).map(hash)
        }
    };
    Affinity { hash, cookie: None }
}

/// The session of a request whose route is split over destinations that all go by the same key: then the session chooses
/// the destination too, so that it stays with one (docs/semantics.md, "Sessions"). `None` leaves the split to the dice.
///
/// A source address is no session: a sidecar has only one, and would send everything to one destination.
pub(super) fn of_split(
    backends: &Weighted<CompiledBackend>,
    request: &Request<'_>,
    dice: &mut Dice,
) -> Option<Affinity> {
    let [first, others @ ..] = backends.items() else { return None };
    if others.is_empty() {
        return None;
    }
    let cluster = |backend: &CompiledBackend| request.snapshot.cluster(&backend.cluster);
    let first = cluster(first)?;
    let key = session_key(first)?;
    let same = |backend| cluster(backend).is_some_and(|cluster| session_key(cluster) == Some(key));
    others.iter().all(same).then(|| of(first, request, dice))
}

fn session_key(cluster: &Cluster) -> Option<&HashKey> {
    match &cluster.model.load_balancer {
        LoadBalancer::ConsistentHash(policy) => {
            Some(&policy.key).filter(|key| **key != HashKey::SourceAddress)
        }
        _ => None,
    }
}

/// Another number from the same session: within a destination, its sessions must spread over all endpoints.
pub(super) fn spread(session: u64) -> u64 {
    xxh64(&session.to_le_bytes(), 1)
}

fn source(request: &Request<'_>) -> std::net::IpAddr {
    let trusted = request.snapshot.own().map_or(0, |own| own.model().mesh.trusted_proxies);
    client_address(request.head, request.entry, request.peer, trusted)
}

/// A cookie of our own making; a lifetime of zero makes it one for the session.
fn new_cookie(settings: &SessionCookie, scheme: Scheme, dice: &mut Dice) -> Affinity {
    let value = format!("{}{:08x}{:08x}", settings.mark, dice.roll(), dice.roll());
    let mut cookie = format!("{}=\"{value}\"", settings.name);
    let lifetime = settings.ttl.map_or(0, |ttl| ttl.milliseconds() / 1000);
    if lifetime > 0 {
        cookie.push_str(&format!("; Max-Age={lifetime}"));
    }
    if let Some(path) = &settings.path {
        cookie.push_str(&format!("; Path={path}"));
    }
    cookie.push_str("; HttpOnly");
    for (name, value) in &settings.attributes {
        let sign = if value.is_empty() { "" } else { "=" };
        cookie.push_str(&format!("; {name}{sign}{value}"));
    }
    if settings.secure_over_tls && scheme == Scheme::Https {
        cookie.push_str("; Secure");
    }
    // Its parts are an operator's; what would end the header line is no part of a cookie.
    let is_line = !cookie.bytes().any(|byte| byte.is_ascii_control());
    Affinity { hash: Some(hash(value.as_bytes())), cookie: is_line.then(|| Bytes::from(cookie)) }
}

fn hash(bytes: &[u8]) -> u64 {
    xxh64(bytes, 0)
}

/// The value of a cookie (RFC 6265 §5.4), without quotes.
fn cookie<'a>(cookies: &'a [u8], name: &str) -> Option<&'a [u8]> {
    cookies.split(|&b| b == b';').find_map(|pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(value.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).unwrap_or(value))
    })
}
