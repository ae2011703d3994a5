//! What a hashing balancer goes by: xxh64 of something in the request.

use bytes::Bytes;
use xxhash_rust::xxh64::xxh64;

use super::Request;
use super::client::client_address;
use crate::dice::Dice;
use crate::model::{HashKey, LoadBalancer, Millis};
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
        HashKey::Cookie { name, path, ttl } => {
            let brought = head.headers.get_all("cookie").find_map(|cookies| cookie(cookies, name));
            match (brought, ttl) {
                (None, Some(ttl)) => return new_cookie(name, path.as_deref(), *ttl, dice),
                (brought, _) => brought.map(hash),
            }
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
fn new_cookie(name: &str, path: Option<&str>, ttl: Millis, dice: &mut Dice) -> Affinity {
    let value = format!("{:08x}{:08x}", dice.roll(), dice.roll());
    let mut cookie = format!("{name}=\"{value}\"");
    if ttl.milliseconds() > 0 {
        cookie.push_str(&format!("; Max-Age={}", ttl.milliseconds() / 1000));
    }
    if let Some(path) = path {
        cookie.push_str(&format!("; Path={path}"));
    }
    cookie.push_str("; HttpOnly");
    Affinity { hash: Some(hash(value.as_bytes())), cookie: Some(Bytes::from(cookie)) }
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
