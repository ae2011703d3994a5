//! The client before all trusted proxies (semantics.md 35): for policies, hashing and the log alike.

use std::net::IpAddr;

use super::{Entry, Peer};
use crate::message::RequestHead;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of the client, out of `x-forwarded-for` as far as it is trusted.
///
/// A gateway has added its peer to the header before anything is decided; a sidecar finds what the gateway before it has
/// added. So at both as many entries are skipped, from the right, as there are trusted proxies before the gateway. An
/// entry that is no address, or one too few, ends the trust: then it is the peer. What the workload itself sends out
/// comes from the workload, whatever it writes.
pub fn client_address(head: &RequestHead, entry: Entry<'_>, peer: &Peer, trusted_proxies: u8) -> IpAddr {
    let peer = peer.address.ip();
    match entry {
        Entry::Outbound { .. } => peer,
        Entry::Gateway { .. } if trusted_proxies == 0 => peer,
        Entry::Inbound { .. } | Entry::Gateway { .. } => {
            forwarded(head, usize::from(trusted_proxies)).unwrap_or(peer)
        }
    }
}

/// The entry behind `skip` others, from the right, over all fields of the name.
fn forwarded(head: &RequestHead, skip: usize) -> Option<IpAddr> {
    let fields = head.headers.iter().rev().filter(|field| field.is(FORWARDED_FOR));
    let mut entries = fields.flat_map(|field| field.value.rsplit(|&b| b == b','));
    std::str::from_utf8(entries.nth(skip)?).ok()?.trim().parse().ok()
}
