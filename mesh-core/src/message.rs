//! HTTP message heads as every part of the mesh sees them: the codecs fill them, `decide` reads and edits them,
//! telemetry records them.
//!
//! A head is already canonical: the codec has checked framing and syntax, split off the query and refused what is
//! ambiguous. Header names keep the bytes they came with and compare without regard to case. No hop-by-hop header is
//! ever in here: framing and connection management belong to the codec.

use std::fmt;

/// Where the path of a rewritten request is kept as it was.
pub(crate) const ORIGINAL_PATH: &str = "x-envoy-original-path";

use bytes::Bytes;

use crate::name::Host;

/// The request's scheme, taken from the transport and never from the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS terminated by us, or to be originated by us.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The protocol version a message came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

impl Version {
    /// As access logs write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// A request method: an upper-case token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Method(Bytes);

impl Method {
    /// `GET`
    pub const GET: Self = Self(Bytes::from_static(b"GET"));
    /// `POST`
    pub const POST: Self = Self(Bytes::from_static(b"POST"));

    /// Reads a method. Known methods in another case are refused with the rest: a method is case-sensitive (RFC 9110
    /// §9.1) and a lower-case `get` is only ever an attempt to slip past a policy.
    pub fn parse(bytes: Bytes) -> Option<Self> {
        let token = |b: &u8| {
            b.is_ascii_uppercase()
                || b.is_ascii_digit()
                || matches!(
                    b,
                    b'-' | b'_'
                        | b'.'
                        | b'!'
                        | b'#'
                        | b'$'
                        | b'%'
                        | b'&'
                        | b'\''
                        | b'*'
                        | b'+'
                        | b'^'
                        | b'`'
                        | b'|'
                        | b'~'
                )
        };
        (!bytes.is_empty() && bytes.len() <= 32 && bytes.iter().all(token)).then_some(Self(bytes))
    }

    /// The method's text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("?")
    }

    /// The method's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// GET, HEAD, OPTIONS and TRACE change nothing (RFC 9110 §9.2.1).
    pub fn is_safe(&self) -> bool {
        matches!(&self.0[..], b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE")
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The head of a request, canonical.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// From the transport.
    pub scheme: Scheme,
    /// The host to route by, canonical.
    pub host: Host,
    /// The authority as the client wrote it (host and port), forwarded unchanged unless a route rewrites it.
    pub authority: Bytes,
    /// The path, without query; starts with `/` (or is `*` for OPTIONS).
    pub path: Bytes,
    /// The query without `?`; `None` when there was no `?`.
    pub query: Option<Bytes>,
    /// The version the downstream spoke.
    pub version: Version,
    /// The protocol the client asks to switch to (`Upgrade`, such as `websocket`); only on HTTP/1.1 without a body.
    pub upgrade: Option<Bytes>,
    /// All other headers; never `Host`, never hop-by-hop. One exception: `te: trailers`, written so by the codec when
    /// the client takes trailers, for the upstream is told the same.
    pub headers: Headers,
}

/// The head of a response.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// 200 to 599, or 101 for an accepted upgrade. Interim responses never come here.
    pub status: u16,
    /// Headers; never hop-by-hop.
    pub headers: Headers,
}

impl ResponseHead {
    /// A head without headers.
    pub fn new(status: u16) -> Self {
        Self { status, headers: Headers::default() }
    }
}

/// A list of header fields, in order, names compared without regard to case.
#[derive(Clone, Default)]
pub struct Headers {
    fields: Vec<Field>,
}

/// One header field.
#[derive(Clone)]
pub struct Field {
    /// As received; use [`Field::is`] to compare.
    pub name: Bytes,
    /// Without surrounding white space; may hold bytes over 0x7f.
    pub value: Bytes,
}

impl Field {
    /// Whether the field has this name.
    pub fn is(&self, name: &str) -> bool {
        self.name.len() == name.len() && self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

impl Headers {
    /// An empty list with room for `fields` fields.
    pub fn with_capacity(fields: usize) -> Self {
        Self { fields: Vec::with_capacity(fields) }
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|field| field.is(name)).map(|field| &field.value[..])
    }

    /// The first value of `name` as text; `None` also when it is not UTF-8. Never use this to decide a policy.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every value of `name`, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().filter(move |field| field.is(name)).map(|field| &field.value[..])
    }

    /// Whether `name` is there.
    pub fn contains(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.is(name))
    }

    /// Adds a field at the end.
    pub fn append(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.fields.push(Field { name: name.into(), value: value.into() });
    }

    /// Replaces every field of this name by one.
    pub fn set(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (name, value) = (name.into(), value.into());
        let same = |field: &Field| field.name.eq_ignore_ascii_case(&name);
        let Some(first) = self.fields.iter().position(same) else {
            self.fields.push(Field { name, value });
            return;
        };
        self.fields[first].value = value;
        if self.fields[first + 1..].iter().any(same) {
            let mut at = 0;
            self.fields.retain(|field| {
                at += 1;
                at - 1 <= first || !field.name.eq_ignore_ascii_case(&name)
            });
        }
    }

    /// Removes every field of this name.
    pub fn remove(&mut self, name: &str) {
        self.fields.retain(|field| !field.is(name));
    }

    /// Keeps the fields for which `keep` holds.
    pub fn retain(&mut self, keep: impl FnMut(&Field) -> bool) {
        self.fields.retain(keep);
    }

    /// Every field, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Field> {
        self.fields.iter()
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = &'a Field;
    type IntoIter = std::slice::Iter<'a, Field>;

    fn into_iter(self) -> Self::IntoIter {
        self.fields.iter()
    }
}

impl fmt::Debug for Headers {
    /// Values that carry secrets are masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = |field: &Field| {
            ["authorization", "proxy-authorization", "cookie", "set-cookie"].iter().any(|name| field.is(name))
        };
        f.debug_map()
            .entries(self.fields.iter().map(|field| {
                let value = if secret(field) { "…".into() } else { String::from_utf8_lossy(&field.value) };
                (String::from_utf8_lossy(&field.name), value)
            }))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_leaves_one_field_in_the_place_of_the_first() {
        let mut headers = Headers::default();
        for (name, value) in [("a", "1"), ("X", "1"), ("b", "2"), ("x", "2")] {
            headers.append(name, value);
        }
        headers.set("x", "3");
        let seen: Vec<_> = headers.iter().map(|f| (f.name.clone(), f.value.clone())).collect();
        assert_eq!(
            seen,
            [("a".into(), "1".into()), ("X".into(), "3".into()), ("b".into(), Bytes::from("2"))]
        );
    }
}
