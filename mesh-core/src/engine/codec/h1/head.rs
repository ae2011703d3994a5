//! Heads from bytes: finding the end of one, then parsing it once.

use std::mem::MaybeUninit;

use bytes::Bytes;

use super::fields::{Fields, Kind};
use super::{Limits, MAX_FIELDS};
use crate::engine::codec::Reject;
use crate::failure::Failure;
use crate::message::{Headers, Method, RequestHead, ResponseHead, Scheme, Version};
use crate::name::Host;

/// Finds the empty line that ends a head, remembering how far it has looked.
#[derive(Default)]
pub(super) struct HeadEnd {
    seen: usize,
}

impl HeadEnd {
    /// The length of the head once it is complete. The parser would also take a bare LF as the end of a line; peers
    /// behind us may not, hence this look at every line end.
    pub(super) fn find(&mut self, input: &[u8]) -> Result<Option<usize>, &'static str> {
        for at in memchr::memchr_iter(b'\n', &input[self.seen..]).map(|at| at + self.seen) {
            if at == 0 || input[at - 1] != b'\r' {
                return Err("line ends without CR");
            }
            if at >= 3 && input[at - 2] == b'\n' {
                self.seen = 0;
                return Ok(Some(at + 1));
            }
        }
        self.seen = input.len();
        Ok(None)
    }
}

/// How the body of a message is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// A request head and what it says about its connection.
pub(super) struct Request {
    pub(super) head: RequestHead,
    pub(super) framing: Framing,
    pub(super) persistent: bool,
    pub(super) expects_continue: bool,
    pub(super) takes_trailers: bool,
}

impl Request {
    /// Reads a complete head. `known` is a host that the request probably names.
    pub(super) fn parse(
        block: &Bytes,
        scheme: Scheme,
        limits: &Limits,
        known: Option<Host>,
    ) -> Result<Self, Reject> {
        let mut room = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Request::new(&mut []);
        match httparse::ParserConfig::default().parse_request_with_uninit_headers(
            &mut parsed,
            block,
            &mut room,
        ) {
            Ok(httparse::Status::Complete(end)) if end == block.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(too_large("too many header fields")),
            _ => return Err(Reject::bad("request head is not valid HTTP/1.1")),
        }
        let version = version(parsed.version)?;
        let method = method(block, parsed.method.unwrap_or_default())?;
        let target = Target::parse(block, parsed.path.unwrap_or_default(), &method, limits)?;
        let fields = Fields::sort(Kind::Request, block, parsed.headers).map_err(Reject::bad)?;
        let expects_continue = expectation(&fields, version)?;
        let framing = request_framing(&fields, version)?;
        let (host, authority) = host(fields.host.as_ref(), target.authority, known)?;
        let persistent = request_persists(&fields, version, &method);
        // A body before the switch would be read by one side as part of the new protocol.
        let switches = version == Version::Http11 && framing == Framing::None;
        let head = RequestHead {
            method,
            scheme,
            host,
            authority,
            path: target.path,
            query: target.query,
            version,
            upgrade: fields.upgrade.filter(|_| switches),
            headers: fields.headers,
        };
        Ok(Self { head, framing, persistent, expects_continue, takes_trailers: fields.takes_trailers })
    }
}

const fn too_large(reason: &'static str) -> Reject {
    Reject { failure: Failure::HeadTooLarge, reason }
}

/// Refuses a head that is still incomplete at the largest size.
pub(super) fn oversize(input: &[u8], limits: &Limits) -> Reject {
    if memchr::memchr(b'\n', &input[..limits.target_size.min(input.len())]).is_none() {
        return Reject { failure: Failure::TargetTooLong, reason: "request line is too long" };
    }
    too_large("request head is too large")
}

fn version(minor: Option<u8>) -> Result<Version, Reject> {
    match minor {
        Some(1) => Ok(Version::Http11),
        Some(0) => Ok(Version::Http10),
        _ => Err(Reject::bad("unknown HTTP version")),
    }
}

fn method(block: &Bytes, text: &str) -> Result<Method, Reject> {
    if text == "CONNECT" {
        return Err(Reject { failure: Failure::MethodRefused, reason: "CONNECT is not served" });
    }
    Method::parse(block.slice_ref(text.as_bytes())).ok_or(Reject::bad("method is not an upper-case token"))
}

fn expectation(fields: &Fields, version: Version) -> Result<bool, Reject> {
    match &fields.expect {
        None => Ok(false),
        // RFC 9110 §10.1.1: an HTTP/1.0 client cannot mean it.
        Some(_) if version == Version::Http10 => Ok(false),
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        Some(_) => Err(Reject { failure: Failure::ExpectationFailed, reason: "unknown expectation" }),
    }
}

fn request_framing(fields: &Fields, version: Version) -> Result<Framing, Reject> {
    match (fields.chunked, fields.length) {
        (true, _) if version == Version::Http10 => Err(Reject::bad("Transfer-Encoding in HTTP/1.0")),
        (true, _) => Ok(Framing::Chunked),
        (false, Some(length)) => Ok(Framing::Length(length)),
        (false, None) => Ok(Framing::None),
    }
}

fn request_persists(fields: &Fields, version: Version, method: &Method) -> bool {
    let asked = match version {
        // A body without a length would be read as the next request (SM-03).
        Version::Http10 => fields.keep_alive && (method.is_safe() || fields.length.is_some()),
        _ => true,
    };
    asked && !fields.close
}

/// The one host of a request (RFC 9112 §3.2): exactly one `Host`, and an absolute target names the same.
fn host(field: Option<&Bytes>, target: Option<Bytes>, known: Option<Host>) -> Result<(Host, Bytes), Reject> {
    let field = field.ok_or(Reject::bad("no Host"))?;
    if target.as_ref().is_some_and(|target| !target.eq_ignore_ascii_case(field)) {
        return Err(Reject::bad("Host differs from the request target's authority"));
    }
    let host = match known.filter(|known| known.as_str().as_bytes() == &field[..]) {
        Some(known) => known,
        None => parse_authority(field)?,
    };
    Ok((host, field.clone()))
}

pub(in crate::engine::codec) fn parse_authority(authority: &[u8]) -> Result<Host, Reject> {
    std::str::from_utf8(authority)
        .ok()
        .and_then(|text| Host::parse_authority(text).ok())
        .map(|(host, _)| host)
        .ok_or(Reject::bad("host is not valid"))
}

/// A request target, taken apart.
pub(in crate::engine::codec) struct Target {
    pub(in crate::engine::codec) path: Bytes,
    pub(in crate::engine::codec) query: Option<Bytes>,
    authority: Option<Bytes>,
}

impl Target {
    fn parse(block: &Bytes, text: &str, method: &Method, limits: &Limits) -> Result<Self, Reject> {
        if text.len() > limits.target_size {
            return Err(Reject { failure: Failure::TargetTooLong, reason: "request target is too long" });
        }
        let target = block.slice_ref(text.as_bytes());
        let Some(start) = absolute(&target) else { return Self::origin(target, method) };
        let end = target[start..]
            .iter()
            .position(|b| matches!(b, b'/' | b'?'))
            .map_or(target.len(), |at| start + at);
        let authority = Some(target.slice(start..end));
        let rest = target.slice(end..);
        let origin = if rest.starts_with(b"/") { Self::origin(rest, method)? } else { Self::bare(rest)? };
        Ok(Self { authority, ..origin })
    }

    /// `/path?query`, or `*` for OPTIONS. Only visible ASCII: a byte over 0x7f or a fragment is read in more ways
    /// than one (HB-06).
    pub(in crate::engine::codec) fn origin(target: Bytes, method: &Method) -> Result<Self, Reject> {
        let star = &target[..] == b"*" && method.as_str() == "OPTIONS";
        if !star && !target.starts_with(b"/") {
            return Err(Reject::bad("request target is neither a path nor absolute"));
        }
        if target.iter().any(|b| !b.is_ascii_graphic() || *b == b'#') {
            return Err(Reject::bad("request target has a byte that must be encoded"));
        }
        let (path, query) = match memchr::memchr(b'?', &target) {
            Some(at) => (target.slice(..at), Some(target.slice(at + 1..))),
            None => (target, None),
        };
        Ok(Self { path, query, authority: None })
    }

    /// What follows an authority without a path: nothing, or a query.
    fn bare(rest: Bytes) -> Result<Self, Reject> {
        if rest.iter().any(|b| !b.is_ascii_graphic() || *b == b'#') {
            return Err(Reject::bad("request target has a byte that must be encoded"));
        }
        let query = (!rest.is_empty()).then(|| rest.slice(1..));
        Ok(Self { path: Bytes::from_static(b"/"), query, authority: None })
    }
}

/// Where the authority of an absolute target starts.
fn absolute(target: &[u8]) -> Option<usize> {
    [&b"http://"[..], b"https://"].iter().find_map(|scheme| {
        let begins = target.len() > scheme.len() && target[..scheme.len()].eq_ignore_ascii_case(scheme);
        begins.then_some(scheme.len())
    })
}

/// A response head and what it says about its connection.
pub(super) struct Response {
    pub(super) head: ResponseHead,
    pub(super) framing: Framing,
    pub(super) persistent: bool,
    /// What the upstream switches to, if it does.
    pub(super) upgrade: Option<Bytes>,
}

impl Response {
    /// Reads a complete head. `to_head` says that the request was HEAD.
    pub(super) fn parse(block: &Bytes, to_head: bool) -> Result<Self, &'static str> {
        let mut room = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        match httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut parsed,
            block,
            &mut room,
        ) {
            Ok(httparse::Status::Complete(end)) if end == block.len() => {}
            _ => return Err("response head is not valid HTTP/1.1"),
        }
        let version = version(parsed.version).map_err(|reject| reject.reason)?;
        let status = parsed.code.filter(|code| (100..600).contains(code)).ok_or("unknown status")?;
        let mut fields = Fields::sort(Kind::Response, block, parsed.headers)?;
        let framing = response_framing(status, &mut fields, version, to_head)?;
        let asked = version == Version::Http11 || fields.keep_alive;
        Ok(Self {
            head: ResponseHead { status, headers: fields.headers },
            framing,
            persistent: asked && !fields.close && framing != Framing::UntilClose,
            upgrade: fields.upgrade,
        })
    }
}

/// RFC 9112 §6.3. The length of a body that is not there is kept only where it informs (HEAD, 304).
fn response_framing(
    status: u16,
    fields: &mut Fields,
    version: Version,
    to_head: bool,
) -> Result<Framing, &'static str> {
    if fields.chunked && version == Version::Http10 {
        return Err("Transfer-Encoding in HTTP/1.0");
    }
    if matches!(status, 100..=199 | 204) {
        fields.headers.remove("content-length");
        return Ok(Framing::None);
    }
    if to_head || status == 304 {
        return Ok(Framing::None);
    }
    Ok(match (fields.chunked, fields.length) {
        (true, _) => Framing::Chunked,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::UntilClose,
    })
}

/// Reads a trailer section, which ends in an empty line, and drops what has no place in one (RFC 9110 §6.5.1).
pub(super) fn parse_trailers(block: &Bytes) -> Result<Headers, &'static str> {
    let mut room = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let Ok(httparse::Status::Complete((_, raw))) = httparse::parse_headers(block, &mut room) else {
        return Err("trailer section is not valid");
    };
    let mut trailers = Headers::with_capacity(raw.len());
    for field in raw.iter().filter(|field| is_trailer(field.name.as_bytes())) {
        trailers.append(block.slice_ref(field.name.as_bytes()), block.slice_ref(field.value));
    }
    Ok(trailers)
}

/// Whether a field may come as a trailer: not framing, routing, authentication, request modifiers or caching (HB-09).
pub(in crate::engine::codec) fn is_trailer(name: &[u8]) -> bool {
    const NEVER: &[&str] = &[
        "age",
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "expect",
        "expires",
        "host",
        "http2-settings",
        "keep-alive",
        "location",
        "max-forwards",
        "pragma",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "retry-after",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "warning",
        "www-authenticate",
    ];
    !NEVER.iter().any(|never| name.eq_ignore_ascii_case(never.as_bytes()))
        && !name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"if-"))
        && !name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-forwarded-"))
}
