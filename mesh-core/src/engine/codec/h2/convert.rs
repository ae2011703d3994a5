//! Between hyper's messages and ours.
//!
//! hyper has checked syntax and framing. Here the rest is checked, by the same rules as for HTTP/1.1: one host, no
//! userinfo, a plain path, a method in upper case. The scheme is the transport's; what the peer says is not read.

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request;
use http::response;

use super::Limits;
use crate::engine::codec::Reject;
use crate::engine::codec::h1::{Target, is_trailer, parse_authority};
use crate::failure::Failure;
use crate::message::{Headers, Method, RequestHead, ResponseHead, Scheme, Version};

/// Reads a request's head.
pub(super) fn request_head(
    parts: &request::Parts,
    scheme: Scheme,
    limits: &Limits,
) -> Result<RequestHead, Reject> {
    if parts.method == http::Method::CONNECT {
        return Err(Reject { failure: Failure::MethodRefused, reason: "CONNECT is not served" });
    }
    if parts.headers.len() > limits.header_fields {
        return Err(Reject { failure: Failure::HeadTooLarge, reason: "too many header fields" });
    }
    let method = Method::parse(Bytes::copy_from_slice(parts.method.as_str().as_bytes()))
        .ok_or(Reject::bad("method is not an upper-case token"))?;
    let authority = authority(parts)?;
    let host = parse_authority(&authority)?;
    let target = parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    let target = Target::origin(Bytes::copy_from_slice(target.as_bytes()), &method)?;
    if parts
        .headers
        .get(header::EXPECT)
        .is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        return Err(Reject { failure: Failure::ExpectationFailed, reason: "unknown expectation" });
    }
    Ok(RequestHead {
        method,
        scheme,
        host,
        authority,
        path: target.path,
        query: target.query,
        version: Version::Http2,
        upgrade: None,
        headers: request_headers(&parts.headers),
    })
}

/// The one authority of a request: `:authority`, or `host` if there is none, and never two that differ (HB-15). A
/// repeated `host` is refused even if its copies agree (H2-04).
fn authority(parts: &request::Parts) -> Result<Bytes, Reject> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Err(Reject::bad("more than one host"));
    }
    match (parts.uri.authority().map(http::uri::Authority::as_str), host) {
        (Some(authority), Some(host)) if !authority.as_bytes().eq_ignore_ascii_case(host.as_bytes()) => {
            Err(Reject::bad("host differs from :authority"))
        }
        (Some(authority), _) => Ok(Bytes::copy_from_slice(authority.as_bytes())),
        (None, Some(host)) => Ok(Bytes::copy_from_slice(host.as_bytes())),
        (None, None) => Err(Reject::bad("no authority")),
    }
}

/// A request's fields as HTTP/1.1 would carry them: cookie crumbs are one field again (RFC 9113 §8.2.3).
fn request_headers(map: &HeaderMap) -> Headers {
    let mut headers = headers(map, |name| !matches!(*name, header::HOST | header::COOKIE | header::EXPECT));
    let mut crumbs = map.get_all(header::COOKIE).iter();
    if let Some(first) = crumbs.next() {
        let mut cookie = BytesMut::from(first.as_bytes());
        for crumb in crumbs {
            cookie.extend_from_slice(b"; ");
            cookie.extend_from_slice(crumb.as_bytes());
        }
        headers.append("cookie", cookie.freeze());
    }
    headers
}

/// Reads a response's head.
pub(super) fn response_head(parts: &response::Parts, limits: &Limits) -> Result<ResponseHead, &'static str> {
    if parts.headers.len() > limits.header_fields {
        return Err("too many header fields");
    }
    if !(200..600).contains(&parts.status.as_u16()) {
        return Err("unknown status");
    }
    Ok(ResponseHead { status: parts.status.as_u16(), headers: headers(&parts.headers, |_| true) })
}

/// Reads trailers.
pub(super) fn trailers(map: &HeaderMap) -> Headers {
    headers(map, |name| is_trailer(name.as_str().as_bytes()))
}

/// Copies the fields into one block that they share.
fn headers(map: &HeaderMap, keep: impl Fn(&HeaderName) -> bool) -> Headers {
    let size = map.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let mut block = BytesMut::with_capacity(size);
    let mut headers = Headers::with_capacity(map.len() + 4);
    for (name, value) in map.iter().filter(|(name, _)| keep(name)) {
        block.extend_from_slice(name.as_str().as_bytes());
        let name = block.split().freeze();
        block.extend_from_slice(value.as_bytes());
        headers.append(name, block.split().freeze());
    }
    headers
}

/// Writes a request's head.
pub(super) fn request(head: &RequestHead) -> Result<request::Parts, &'static str> {
    let mut target = BytesMut::from(&head.path[..]);
    if let Some(query) = &head.query {
        target.extend_from_slice(b"?");
        target.extend_from_slice(query);
    }
    let uri = http::Uri::builder()
        .scheme(head.scheme.as_str())
        .authority(&head.authority[..])
        .path_and_query(
            http::uri::PathAndQuery::from_maybe_shared(target.freeze()).map_err(|_| "path is not valid")?,
        )
        .build()
        .map_err(|_| "authority is not valid")?;
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method =
        http::Method::from_bytes(head.method.as_str().as_bytes()).map_err(|_| "method is not valid")?;
    parts.uri = uri;
    parts.version = http::Version::HTTP_2;
    parts.headers = map(&head.headers, |name| *name != header::HOST);
    Ok(parts)
}

/// Writes a response's head.
pub(super) fn response<B>(head: &ResponseHead, body: B) -> http::Response<B> {
    let mut response = http::Response::new(body);
    // 101 is not a status of HTTP/2 (RFC 9113 §8.6), and no other odd one may end the connection.
    let status = http::StatusCode::from_u16(head.status).ok().filter(|status| status.as_u16() >= 200);
    *response.status_mut() = status.unwrap_or(http::StatusCode::BAD_GATEWAY);
    *response.headers_mut() = map(&head.headers, |name| *name != header::TE);
    response
}

/// Writes trailers.
pub(super) fn trailer_map(trailers: &Headers) -> HeaderMap {
    map(trailers, |name| is_trailer(name.as_str().as_bytes()))
}

/// Fields that hyper would take for an error, and names and values it could not send, are left out.
fn map(headers: &Headers, keep: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(headers.len());
    for field in headers {
        let Ok(name) = HeaderName::from_bytes(&field.name) else { continue };
        let Ok(value) = HeaderValue::from_maybe_shared(field.value.clone()) else { continue };
        if keep(&name) && !is_connection_field(&name) {
            map.append(name, value);
        }
    }
    map
}

/// RFC 9113 §8.2.2.
fn is_connection_field(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" | "http2-settings"
    )
}
