//! Which protocol a client speaks, told from the first bytes it sends.

/// The HTTP/2 connection preface (RFC 9113 §3.4).
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest method we take; see [`crate::message::Method::parse`].
const METHOD_LENGTH: usize = 32;

/// What the first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preface {
    /// A request line.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A TLS ClientHello.
    Tls,
    /// Something else: opaque bytes.
    Other,
}

impl Preface {
    /// Looks at the bytes received so far; `None` when more are needed. Never asks for more than 64.
    pub fn detect(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(HTTP2) {
            return Some(Self::Http2);
        }
        if bytes.is_empty() || HTTP2.starts_with(bytes) {
            return None;
        }
        if bytes[0] == 0x16 {
            return client_hello(bytes);
        }
        request_line(bytes)
    }
}

/// Record type handshake, version 3.x, two bytes of length, message type ClientHello (RFC 8446 §4, §5.1).
fn client_hello(bytes: &[u8]) -> Option<Preface> {
    let expected = |at: usize, valid: fn(u8) -> bool| bytes.get(at).map(|b| valid(*b));
    for (at, valid) in
        [(1, (|b| b == 3) as fn(u8) -> bool), (2, |b| b <= 4), (3, |b| b <= 0x40), (5, |b| b == 1)]
    {
        match expected(at, valid) {
            None => return None,
            Some(false) => return Some(Preface::Other),
            Some(true) => {}
        }
    }
    Some(Preface::Tls)
}

/// An upper-case method, one space, and a target as RFC 9112 §3.2 has it. A protocol of text commands passes the
/// first two, hence the look at the target.
fn request_line(bytes: &[u8]) -> Option<Preface> {
    let method = bytes.iter().take_while(|b| b.is_ascii_uppercase() || **b == b'-').count();
    if method == 0 || method > METHOD_LENGTH {
        return Some(Preface::Other);
    }
    let rest = match bytes.get(method) {
        None => return None,
        Some(b' ') => &bytes[method + 1..],
        Some(_) => return Some(Preface::Other),
    };
    if &bytes[..method] == b"CONNECT" {
        return Some(Preface::Http1);
    }
    let starts = [&b"/"[..], b"* HTTP/1.", b"http://", b"https://"];
    if starts.iter().any(|start| rest.starts_with(start)) {
        return Some(Preface::Http1);
    }
    if starts.iter().any(|start| start.starts_with(rest)) { None } else { Some(Preface::Other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_is_told_from_its_first_bytes() {
        let hello = [0x16, 3, 1, 2, 0, 1, 0];
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Preface::Http1),
            (b"OPTIONS * HTTP/1.1\r\n", Preface::Http1),
            (b"PROPFIND http://x/ HTTP/1.1\r\n", Preface::Http1),
            (b"PRINT /", Preface::Http1),
            (HTTP2, Preface::Http2),
            (&hello, Preface::Tls),
            (&[0x16, 3, 1, 2, 0, 2], Preface::Other),
            (b"SET key value\r\n", Preface::Other),
            (b"*1\r\n$4\r\nPING\r\n", Preface::Other),
            (b"SSH-2.0-OpenSSH\r\n", Preface::Other),
            (b"get / HTTP/1.1\r\n", Preface::Other),
            (b"\r\nGET / HTTP/1.1\r\n", Preface::Other),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", Preface::Other),
        ] {
            assert_eq!(Preface::detect(bytes), Some(expected), "{bytes:?}");
        }
    }

    #[test]
    fn no_prefix_of_a_protocol_is_taken_for_another() {
        let hello: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0];
        for bytes in [&b"GET / HTTP/1.1"[..], b"OPTIONS * HTTP/1.1", b"GET https://x/", HTTP2, hello] {
            let known = Preface::detect(bytes);
            for end in 0..bytes.len() {
                let partial = Preface::detect(&bytes[..end]);
                assert!(partial.is_none() || partial == known, "{:?}", &bytes[..end]);
            }
        }
    }
}
