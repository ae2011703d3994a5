//! Trace context: W3C Trace Context and B3, read and passed on (hand-written: it is on the path of every request).
//!
//! Applications propagate headers themselves, as with every mesh: we begin a trace where none comes in, take part where
//! one does, and pass it on in the formats it came in. A trace that begins here goes on as W3C and as B3, since
//! applications forward either.

use bytes::Bytes;
use fastrand::Rng;

use crate::digits;
use crate::message::Headers;

/// A request's place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TraceContext {
    /// The trace; never zero once begun.
    pub trace_id: u128,
    /// Our span.
    pub span_id: u64,
    /// The caller's span; zero when the trace begins here.
    pub parent_id: u64,
    /// Whether spans are recorded.
    pub sampled: bool,
    formats: Formats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Formats {
    w3c: bool,
    b3_single: bool,
    b3_multi: bool,
}

impl TraceContext {
    /// Goes on with the trace the request carries, or begins one; `sample` decides for new traces and for those whose
    /// caller left it open.
    pub fn join(headers: &Headers, rng: &mut Rng, sample: impl FnOnce(&mut Rng) -> bool) -> Self {
        let incoming = w3c(headers).or_else(|| b3_single(headers)).or_else(|| b3_multi(headers));
        let span_id = rng.u64(1..);
        let formats = Formats {
            w3c: headers.contains("traceparent"),
            b3_single: headers.contains("b3"),
            b3_multi: headers.contains("x-b3-traceid"),
        };
        match incoming {
            Some(incoming) => {
                let sampled = incoming.sampled.unwrap_or_else(|| sample(rng));
                Self { trace_id: incoming.trace_id, span_id, parent_id: incoming.span_id, sampled, formats }
            }
            None => {
                let formats = Formats { w3c: true, b3_single: false, b3_multi: true };
                Self { trace_id: rng.u128(1..), span_id, parent_id: 0, sampled: sample(rng), formats }
            }
        }
    }

    /// The same, but requests go on with the headers they came with.
    #[must_use]
    pub fn keeping_headers(self) -> Self {
        Self { formats: Formats::default(), ..self }
    }

    /// The same trace for copies of the request, which are not to show in it.
    #[must_use]
    pub fn unsampled(&self) -> Self {
        Self { sampled: false, ..*self }
    }

    /// Writes our span as the parent of what comes next.
    pub fn inject(&self, headers: &mut Headers) {
        let sampled = if self.sampled { "1" } else { "0" };
        let text = self.text();
        if self.formats.w3c {
            headers.set("traceparent", text.clone());
        }
        if self.formats.b3_single {
            headers.set("b3", format!("{:032x}-{:016x}-{sampled}", self.trace_id, self.span_id));
        }
        if self.formats.b3_multi {
            headers.set("x-b3-traceid", text.slice(3..35));
            headers.set("x-b3-spanid", text.slice(36..52));
            if self.parent_id != 0 {
                headers.set("x-b3-parentspanid", format!("{:016x}", self.parent_id));
            }
            headers.set("x-b3-sampled", sampled);
        }
    }

    /// As W3C writes it, `00-traceid-spanid-flags`. Made once for a request: the ids of other formats are parts of it.
    fn text(&self) -> Bytes {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        digits::hexadecimal(self.trace_id, &mut text[3..35]);
        digits::hexadecimal(self.span_id.into(), &mut text[36..52]);
        text[54] += u8::from(self.sampled);
        Bytes::copy_from_slice(&text)
    }

    /// Whether there is a trace at all.
    pub fn is_begun(&self) -> bool {
        self.trace_id != 0
    }
}

/// A number that a request id stands for: its first 32 bits, as Envoy takes them. Every proxy that decides by it whether
/// to record a trace decides alike.
pub fn roll_of(request_id: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(request_id.get(..8)?).ok()?;
    let number = u32::try_from(hex(digits, 8)?).ok()?;
    (request_id.get(8) == Some(&b'-')).then_some(number)
}

struct Incoming {
    trace_id: u128,
    span_id: u64,
    sampled: Option<bool>,
}

/// W3C Trace Context §3.2: `version-traceid-parentid-flags`; unknown versions are read as far as version 00 goes.
fn w3c(headers: &Headers) -> Option<Incoming> {
    let mut parts = headers.get_str("traceparent")?.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if hex(version, 2).is_none() || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let flags = hex(flags, 2)?;
    incoming(hex(trace, 32)?, hex(span, 16)?, Some(flags & 1 == 1))
}

/// openzipkin/b3-propagation, single header: `traceid-spanid[-sampled[-parent]]`.
fn b3_single(headers: &Headers) -> Option<Incoming> {
    let mut parts = headers.get_str("b3")?.trim().split('-');
    let (trace, span) = (parts.next()?, parts.next()?);
    incoming(trace_id(trace)?, hex(span, 16)?, parts.next().and_then(sampling))
}

/// openzipkin/b3-propagation, multiple headers.
fn b3_multi(headers: &Headers) -> Option<Incoming> {
    let trace = trace_id(headers.get_str("x-b3-traceid")?.trim())?;
    let span = hex(headers.get_str("x-b3-spanid")?.trim(), 16)?;
    let debug = headers.get_str("x-b3-flags") == Some("1");
    let sampled = if debug { Some(true) } else { headers.get_str("x-b3-sampled").and_then(sampling) };
    incoming(trace, span, sampled)
}

fn incoming(trace_id: u128, span_id: u128, sampled: Option<bool>) -> Option<Incoming> {
    let span_id = u64::try_from(span_id).ok()?;
    (trace_id != 0 && span_id != 0).then_some(Incoming { trace_id, span_id, sampled })
}

fn sampling(text: &str) -> Option<bool> {
    match text {
        "1" | "d" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

/// B3 allows 64-bit trace ids.
fn trace_id(text: &str) -> Option<u128> {
    hex(text, 32).or_else(|| hex(text, 16))
}

/// Exactly `digits` hexadecimal digits; unlike the standard parser, no sign.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u128::from_str_radix(text, 16).ok())?
}
