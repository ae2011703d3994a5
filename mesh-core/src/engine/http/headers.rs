//! Headers that the proxy itself reads, writes and removes (semantics.md 39, 40). Edits of routes are the plan's.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;

use super::date::add_date;
use crate::decide::Peer;
use crate::dice::Dice;
use crate::digits;
use crate::engine::connection::{Downstream, Through};
use crate::engine::own::OwnFacts;
use crate::failure::{Failure, Replay};
use crate::identity::SpiffeId;
use crate::message::{Headers, RequestHead, ResponseHead, Scheme};
use crate::model::{ClientCertificates, ProxyHeaders, ServerHeader};
use crate::telemetry::TraceContext;

const CLIENT_CERTIFICATE: &str = "x-forwarded-client-cert";
const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
pub(super) const REQUEST_ID: &str = "x-request-id";
/// How many gateways of ours the request has passed.
const HOPS: &str = "x-mesh-hops";
const MOST_HOPS: u8 = 3;
/// Between proxies only: the server's proxy could not reach its application, which has seen nothing of the request.
const UNSERVED: &str = "x-mesh-unserved";
/// A longer one is replaced: it would be copied into every log on the way.
const LONGEST_REQUEST_ID: usize = 128;

/// Makes the headers say what we know, before anything is decided by them.
///
/// # Errors
/// [`Failure::Loop`] when the request has passed too many gateways.
pub(super) fn arrive(
    head: &mut RequestHead,
    downstream: &Downstream,
    own: Option<&OwnFacts>,
    dice: &mut Dice,
) -> Result<(), Failure> {
    let from_outside =
        matches!(downstream.through, Through::Gateway { .. }) && downstream.peer.identity.is_none();
    if from_outside {
        sanitize(head);
    }
    if let Through::Gateway { .. } = downstream.through {
        count_hop(&mut head.headers)?;
        append_forwarded_for(&mut head.headers, downstream);
        forwarded_proto(head, own.map_or(0, |own| own.trusted_proxies));
    } else if !head.headers.contains(FORWARDED_PROTO) {
        head.headers.append(FORWARDED_PROTO, head.scheme.as_str());
    }
    client_certificate(&mut head.headers, downstream, own);
    request_id(&mut head.headers, own, dice);
    Ok(())
}

/// Tells the caller's proxy that the application has seen nothing, so that any request may be tried elsewhere.
pub(super) fn mark_unserved(answer: &mut Headers, downstream: &Downstream, failure: Failure) {
    let to_a_proxy = matches!(downstream.through, Through::Inbound(_)) && downstream.peer.identity.is_some();
    if to_a_proxy && failure.consequence().replay == Replay::NeverSeen {
        answer.set(UNSERVED, "1");
    }
}

/// Takes the mark off an upstream's answer and says whether it was there. Only a peer's proxy is believed.
pub(super) fn take_unserved(answer: &mut Headers) -> bool {
    let marked = answer.contains(UNSERVED);
    if marked {
        answer.remove(UNSERVED);
    }
    marked
}

/// What only the mesh itself may say is removed from requests that come from outside. Who the client says to be is
/// [`client_certificate`]'s.
fn sanitize(head: &mut RequestHead) {
    head.headers.retain(|field| field.name.len() <= 8 || !field.name[..8].eq_ignore_ascii_case(b"x-envoy-"));
}

fn count_hop(headers: &mut Headers) -> Result<(), Failure> {
    let hops = headers.get_str(HOPS).and_then(|hops| hops.parse::<u8>().ok()).unwrap_or(0);
    if hops >= MOST_HOPS {
        return Err(Failure::Loop);
    }
    headers.set(HOPS, digits::decimal(u64::from(hops) + 1));
    Ok(())
}

/// What the client spoke: what we have seen ourselves, unless trusted proxies stand before us and say it.
fn forwarded_proto(head: &mut RequestHead, trusted_proxies: u8) {
    let said = match head.headers.get(FORWARDED_PROTO) {
        Some(b"https") if trusted_proxies > 0 => Some(Scheme::Https),
        Some(b"http") if trusted_proxies > 0 => Some(Scheme::Http),
        _ => None,
    };
    head.scheme = said.unwrap_or(head.scheme);
    head.headers.set(FORWARDED_PROTO, head.scheme.as_str());
}

fn append_forwarded_for(headers: &mut Headers, downstream: &Downstream) {
    let client = downstream.address();
    if !headers.contains(FORWARDED_FOR) {
        headers.append(FORWARDED_FOR, client.clone());
        return;
    }
    let before: Vec<_> = headers.get_all(FORWARDED_FOR).map(String::from_utf8_lossy).collect();
    headers.set(FORWARDED_FOR, format!("{},{}", before.join(","), String::from_utf8_lossy(client)));
}

/// What upstreams are told of who called. A sidecar's own application has nobody's word to pass on.
fn client_certificate(headers: &mut Headers, downstream: &Downstream, own: Option<&OwnFacts>) {
    use ClientCertificates as Mode;
    let mode = match (own.map_or(Mode::Usual, |own| own.headers.client_certificates), &downstream.through) {
        (_, Through::Outbound(_)) => Mode::Sanitize,
        (Mode::Usual, Through::Inbound(_)) => Mode::AppendForward,
        (Mode::Usual, Through::Gateway { .. }) => Mode::SanitizeSet,
        (chosen, _) => chosen,
    };
    let by = own.map(|own| &own.identity);
    let element = downstream.element(by, |peer| client_element(peer, by).map(Bytes::from));
    forward_certificate(headers, mode, element);
}

fn forward_certificate(headers: &mut Headers, mode: ClientCertificates, element: Option<Bytes>) {
    use ClientCertificates as Mode;
    match (mode, element) {
        (Mode::AlwaysForwardOnly, _) | (Mode::ForwardOnly, Some(_)) => {}
        (Mode::AppendForward, Some(element)) => append(headers, element),
        (Mode::SanitizeSet | Mode::Usual, Some(element)) => headers.set(CLIENT_CERTIFICATE, element),
        (_, None) | (Mode::Sanitize, _) => headers.remove(CLIENT_CERTIFICATE),
    }
}

fn append(headers: &mut Headers, element: Bytes) {
    if !headers.contains(CLIENT_CERTIFICATE) {
        headers.append(CLIENT_CERTIFICATE, element);
        return;
    }
    let before: Vec<_> = headers.get_all(CLIENT_CERTIFICATE).map(String::from_utf8_lossy).collect();
    headers.set(CLIENT_CERTIFICATE, format!("{},{}", before.join(","), String::from_utf8_lossy(&element)));
}

/// The client's certificate, where it has shown one that was verified.
fn client_element(peer: &Peer, own: Option<&SpiffeId>) -> Option<String> {
    let tls = peer.tls.as_ref()?;
    let hash = tls.client_certificate_hash.as_ref()?;
    Some(match tls.client_certificate.as_ref() {
        Some(outside) => outside.to_string(),
        None => mesh_element(hash, peer.identity.as_ref(), own),
    })
}

fn mesh_element(hash: &str, caller: Option<&SpiffeId>, own: Option<&SpiffeId>) -> String {
    let mut element = String::new();
    if let Some(own) = own {
        let _ = write!(element, "By={own};");
    }
    let _ = write!(element, "Hash={hash};Subject=\"\"");
    if let Some(caller) = caller {
        let _ = write!(element, ";URI={caller}");
    }
    element
}

/// A request that has no usable name gets one. What cannot be used is removed even where none is to be given.
fn request_id(headers: &mut Headers, own: Option<&OwnFacts>, dice: &mut Dice) {
    let given = headers.get(REQUEST_ID).map(|id| !id.is_empty() && id.len() <= LONGEST_REQUEST_ID);
    let omits = own.is_some_and(|own| own.headers.omits_request_id);
    match (given, omits) {
        (Some(true), _) | (None, true) => {}
        (Some(false), true) => headers.remove(REQUEST_ID),
        (_, false) => headers.set(REQUEST_ID, new_request_id(dice)),
    }
}

/// A random UUID (RFC 9562 §5.4).
fn new_request_id(dice: &mut Dice) -> Bytes {
    let mut word = || u128::from(dice.roll());
    let bits = (word() << 96) | (word() << 64) | (word() << 32) | word();
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let mut text = [b'-'; 36];
    // Each group ends this many bits before the end of all.
    for (group, below) in [(0..8, 96), (9..13, 80), (14..18, 64), (19..23, 48), (24..36, 0)] {
        digits::hexadecimal(bits >> below, &mut text[group]);
    }
    Bytes::copy_from_slice(&text)
}

/// Makes the request ready to leave.
pub(super) fn depart(head: &mut RequestHead, trace: &TraceContext, external: bool) {
    trace.inject(&mut head.headers);
    if external {
        // What the mesh says among itself is nobody's business outside (design: D7).
        sanitize(head);
        head.headers.remove(CLIENT_CERTIFICATE);
        head.headers.remove(HOPS);
    }
}

/// Tells the upstream which try this is.
pub(super) fn attempt(headers: &mut Headers, number: u32) {
    headers.set("x-envoy-attempt-count", digits::decimal(number.into()));
}

/// Makes a response ready to leave.
pub(super) fn answer(
    head: &mut ResponseHead,
    downstream: &Downstream,
    own: Option<&ProxyHeaders>,
    upstream_time: Option<Duration>,
) {
    add_date(&mut head.headers);
    if let Some(time) = upstream_time.filter(|_| own.is_none_or(|own| !own.omits_debug)) {
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        head.headers.set("x-envoy-upstream-service-time", digits::decimal(time));
    }
    let usual: &'static str = match downstream.through {
        Through::Outbound(_) => "envoy",
        Through::Inbound(_) | Through::Gateway { .. } => "istio-envoy",
    };
    match own.map(|own| &own.server) {
        Some(ServerHeader::Untouched) => {}
        Some(ServerHeader::Named(name)) => head.headers.set("server", name.clone()),
        Some(ServerHeader::Usual) | None => {
            head.headers.set("server", Bytes::from_static(usual.as_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::decide::TlsFacts;

    fn arrived(mode: ClientCertificates) -> Option<String> {
        let peer = Peer {
            address: ([192, 0, 2, 1], 1).into(),
            local: ([10, 0, 0, 1], 443).into(),
            identity: None,
            workload: None,
            tls: Some(TlsFacts {
                client_certificate_hash: Some(Arc::from("aa")),
                client_certificate: Some(Arc::from("Hash=aa")),
                ..TlsFacts::default()
            }),
        };
        let mut headers = Headers::default();
        headers.append(CLIENT_CERTIFICATE, "Hash=b1");
        headers.append(CLIENT_CERTIFICATE, "Hash=b2");
        forward_certificate(&mut headers, mode, client_element(&peer, None).map(Bytes::from));
        let all: Vec<_> = headers.get_all(CLIENT_CERTIFICATE).map(String::from_utf8_lossy).collect();
        (!all.is_empty()).then(|| all.join(","))
    }

    /// semantics.md 39: Envoy's five modes, for a client whose certificate was verified.
    #[test]
    fn s39_a_verified_client_is_forwarded_as_the_mode_says() {
        use ClientCertificates as Mode;
        for (mode, expected) in [
            (Mode::Sanitize, None),
            (Mode::ForwardOnly, Some("Hash=b1,Hash=b2")),
            (Mode::AppendForward, Some("Hash=b1,Hash=b2,Hash=aa")),
            (Mode::SanitizeSet, Some("Hash=aa")),
            (Mode::AlwaysForwardOnly, Some("Hash=b1,Hash=b2")),
        ] {
            assert_eq!(arrived(mode).as_deref(), expected, "{mode:?}");
        }
    }
}
