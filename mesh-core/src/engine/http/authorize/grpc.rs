//! The check as a call of Envoy's gRPC service. A message is framed by five bytes (grpc/doc/PROTOCOL-HTTP2.md).

use std::net::SocketAddr;
use std::time::SystemTime;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use super::{Check, Edits, Verdict, may_travel};
use crate::message::{Headers, Method, RequestHead, Scheme, Version};

/// The messages, generated from proto/mesh/authorization.
#[allow(missing_docs, unused_qualifications, unreachable_pub, clippy::all, reason = "generated")]
#[rustfmt::skip]
mod wire {
    include!("generated/mesh.authorization.rs");
}

const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

impl Check<'_> {
    pub(super) async fn over_grpc(&self, authority: &str) -> Result<Verdict, Box<str>> {
        let mut headers = Headers::default();
        headers.append("content-type", "application/grpc");
        headers.append("te", "trailers");
        let head = RequestHead {
            method: Method::POST,
            scheme: Scheme::Http,
            host: self.head.host.clone(),
            authority: Bytes::copy_from_slice(authority.as_bytes()),
            path: Bytes::from_static(PATH.as_bytes()),
            query: None,
            version: Version::Http2,
            upgrade: None,
            headers,
        };
        let said = self.exchange(&head, framed(&self.message())).await?;
        let status =
            said.trailers.get_str("grpc-status").or_else(|| said.head.headers.get_str("grpc-status"));
        if said.head.status != 200 || status != Some("0") {
            return Err(
                format!("it answers {}, grpc-status {}", said.head.status, status.unwrap_or("-")).into()
            );
        }
        let message = unframed(&said.body).ok_or("its answer is not one gRPC message")?;
        let response = wire::CheckResponse::decode(message).map_err(|error| error.to_string())?;
        Ok(verdict(response))
    }

    fn message(&self) -> wire::CheckRequest {
        let peer = &self.downstream.peer;
        let own = self.snapshot.own();
        let principal = |identity: Option<String>| identity.unwrap_or_default();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let time = wire::Timestamp {
            seconds: i64::try_from(now.as_secs()).unwrap_or_default(),
            nanos: i32::try_from(now.subsec_nanos()).unwrap_or_default(),
        };
        let sni = peer.tls.as_ref().and_then(|tls| tls.sni.as_ref());
        let attributes = wire::AttributeContext {
            source: Some(wire::Peer {
                address: Some(address(peer.address)),
                principal: principal(peer.identity.as_ref().map(ToString::to_string)),
                ..Default::default()
            }),
            destination: Some(wire::Peer {
                address: Some(address(peer.local)),
                principal: principal(own.map(|own| own.model().identity.to_string())),
                ..Default::default()
            }),
            request: Some(wire::Request { time: Some(time), http: Some(self.http_request()) }),
            tls_session: sni.map(|sni| wire::TlsSession { sni: sni.as_str().to_owned() }),
            ..Default::default()
        };
        wire::CheckRequest { attributes: Some(attributes) }
    }

    fn http_request(&self) -> wire::HttpRequest {
        let (head, shown) = (self.head, self.shown.as_ref());
        let mut path = text(&head.path);
        if let Some(query) = &head.query {
            path.push('?');
            path.push_str(&text(query));
        }
        let mut headers = std::collections::HashMap::new();
        for (name, value) in [
            (":method", head.method.as_str().to_owned()),
            (":path", path.clone()),
            (":authority", text(&head.authority)),
            (":scheme", head.scheme.as_str().to_owned()),
        ] {
            headers.insert(name.to_owned(), value);
        }
        for field in head.headers.iter() {
            let all = headers.entry(text(&field.name).to_ascii_lowercase()).or_default();
            if !all.is_empty() {
                all.push(',');
            }
            all.push_str(&text(&field.value));
        }
        if let Some(shown) = shown {
            headers.insert("x-envoy-auth-partial-body".into(), shown.partial.to_string());
        }
        let bytes = shown.map(|shown| (&shown.bytes, shown.as_bytes));
        wire::HttpRequest {
            id: head.headers.get_str("x-request-id").unwrap_or_default().to_owned(),
            method: head.method.as_str().to_owned(),
            headers,
            path,
            host: text(&head.authority),
            scheme: head.scheme.as_str().to_owned(),
            size: head.headers.get_str("content-length").and_then(|size| size.parse().ok()).unwrap_or(-1),
            protocol: head.version.as_str().to_owned(),
            body: bytes.filter(|(_, raw)| !raw).map(|(bytes, _)| text(bytes)).unwrap_or_default(),
            raw_body: bytes.filter(|(_, raw)| *raw).map(|(bytes, _)| bytes.to_vec()).unwrap_or_default(),
        }
    }
}

fn verdict(response: wire::CheckResponse) -> Verdict {
    // No status is code 0 in proto3, but an answer that says nothing at all must not allow.
    let allows = response.status.as_ref().is_some_and(|status| status.code == 0);
    if allows && response.denied_response.is_none() {
        let ok = response.ok_response.unwrap_or_default();
        let mut edits = Edits { remove: ok.headers_to_remove, ..Edits::default() };
        for (option, appends) in ok.headers.iter().map(|option| (option, appends(option))) {
            add(option, if appends { &mut edits.append } else { &mut edits.set });
        }
        ok.response_headers_to_add.iter().for_each(|option| add(option, &mut edits.downstream));
        return Verdict::Allow(edits);
    }
    let denied = response.denied_response.unwrap_or_default();
    let status = denied.status.and_then(|status| u16::try_from(status.code).ok());
    let status = status.filter(|status| (200..600).contains(status)).unwrap_or(403);
    let mut headers = Headers::default();
    denied.headers.iter().for_each(|option| add(option, &mut headers));
    Verdict::Deny { status, headers, body: denied.body.into() }
}

fn appends(option: &wire::HeaderValueOption) -> bool {
    option.append.as_ref().is_some_and(|append| append.value)
}

/// Adds a header, unless it could not be one: what an authorizer says must not split a message.
fn add(option: &wire::HeaderValueOption, to: &mut Headers) {
    let Some(header) = &option.header else { return };
    let value = if header.raw_value.is_empty() { header.value.as_bytes() } else { &header.raw_value };
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let valid =
        header.key.bytes().all(token) && value.iter().all(|&b| b == b'\t' || (b >= b' ' && b != 0x7f));
    if valid && may_travel(header.key.as_bytes()) {
        let (name, value) = (header.key.to_ascii_lowercase(), Bytes::copy_from_slice(value));
        if appends(option) { to.append(name, value) } else { to.set(name, value) }
    }
}

fn framed(message: &wire::CheckRequest) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(length + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.put_slice(&message.encode_to_vec());
    frame.freeze()
}

fn unframed(body: &Bytes) -> Option<&[u8]> {
    let (prefix, message) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    (prefix[0] == 0 && usize::try_from(length).is_ok_and(|length| length == message.len())).then_some(message)
}

fn address(address: SocketAddr) -> wire::Address {
    let socket = wire::SocketAddress { address: address.ip().to_string(), port_value: address.port().into() };
    wire::Address { socket_address: Some(socket) }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(key: &str, value: &str, append: Option<bool>) -> wire::HeaderValueOption {
        let header = wire::HeaderValue { key: key.into(), value: value.into(), ..Default::default() };
        wire::HeaderValueOption {
            header: Some(header),
            append: append.map(|value| wire::BoolValue { value }),
        }
    }

    #[test]
    fn only_an_explicit_status_of_zero_allows() {
        assert!(matches!(verdict(wire::CheckResponse::default()), Verdict::Deny { status: 403, .. }));
        let ok = wire::CheckResponse { status: Some(wire::Status::default()), ..Default::default() };
        assert!(matches!(verdict(ok), Verdict::Allow(_)));
        let status = Some(wire::Status { code: 7, ..Default::default() });
        let http = Some(wire::HttpStatus { code: 401 });
        let denied = wire::DeniedHttpResponse { status: http, body: "no".into(), ..Default::default() };
        let no = wire::CheckResponse { status, denied_response: Some(denied), ok_response: None };
        assert!(matches!(verdict(no), Verdict::Deny { status: 401, body, .. } if body == "no"));
    }

    #[test]
    fn headers_are_replaced_unless_appended_and_cannot_split_a_message() {
        let mut headers = Headers::default();
        add(&option("X-A", "1", None), &mut headers);
        add(&option("x-a", "2", None), &mut headers);
        add(&option("x-a", "3", Some(true)), &mut headers);
        add(&option("x-b", "1\r\nx-c: 2", None), &mut headers);
        add(&option("content-length", "9", None), &mut headers);
        let all: Vec<_> = headers.get_all("x-a").collect();
        assert_eq!((all, headers.len()), (vec![&b"2"[..], b"3"], 2));
    }

    #[test]
    fn a_message_is_framed_by_five_bytes() {
        let bytes = framed(&wire::CheckRequest::default());
        assert_eq!(unframed(&bytes), Some(&[][..]));
        assert_eq!(unframed(&Bytes::from_static(&[0, 0, 0, 0, 2, 1])), None);
        assert_eq!(unframed(&Bytes::from_static(&[1, 0, 0, 0, 0])), None, "compressed");
    }
}
