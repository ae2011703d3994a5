//! What a hashing balancer goes by: xxh64 of something in the request.

use xxhash_rust::xxh64::xxh64;

use super::Request;
use crate::model::{HashKey, LoadBalancer};
use crate::snapshot::Cluster;
use crate::snapshot::matcher::{query_parameter, with_joined};

/// The hash of a request for a cluster; `None` when the cluster does not hash, or the request lacks what is hashed.
pub(super) fn of(cluster: &Cluster, request: &Request<'_>) -> Option<u64> {
    let LoadBalancer::ConsistentHash(policy) = &cluster.model.load_balancer else { return None };
    let head = request.head;
    match &policy.key {
        HashKey::Header(name) => with_joined(&head.headers, name, |value| value.map(hash)),
        HashKey::Cookie { name, .. } => {
            head.headers.get_all("cookie").find_map(|cookies| cookie(cookies, name)).map(hash)
        }
        HashKey::SourceAddress => Some(match request.peer.address.ip().to_canonical() {
            std::net::IpAddr::V4(address) => hash(&address.octets()),
            std::net::IpAddr::V6(address) => hash(&address.octets()),
        }),
        HashKey::QueryParameter(name) => query_parameter(head.query.as_deref()?, name).map(hash),
    }
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
