//! Heads and bodies to bytes. Framing and connection fields are always ours, whatever a message holds.

use bytes::{BufMut, Bytes, BytesMut};

use super::fields::is_framing;
use super::wire::Output;
use crate::engine::body::{Body, BodyError, Frame};
use crate::message::{Field, Headers, RequestHead, ResponseHead};

const CRLF: &[u8] = b"\r\n";

/// How the body of a message we send is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoder {
    /// There is none.
    None,
    /// This many bytes are still due.
    Length(u64),
    Chunked {
        /// Whether the peer takes trailers; else they are dropped.
        trailers: bool,
    },
    UntilClose,
}

impl Encoder {
    pub(super) fn for_request(head: &RequestHead, body: &Body) -> Self {
        match body.remaining() {
            Some(0) if declares_nothing(head) => Self::None,
            Some(length) => Self::Length(length),
            None => Self::Chunked { trailers: true },
        }
    }

    pub(super) fn frame(&mut self, frame: Frame, output: &mut Output) -> Result<(), BodyError> {
        match (self, frame) {
            (Self::None, _) => Ok(()),
            (Self::Length(left), Frame::Data(data)) => {
                *left = left
                    .checked_sub(data.len() as u64)
                    .ok_or(BodyError::Malformed("body is longer than declared"))?;
                output.push(data);
                Ok(())
            }
            (Self::UntilClose, Frame::Data(data)) => {
                output.push(data);
                Ok(())
            }
            (Self::Chunked { .. }, Frame::Data(data)) => {
                chunk(data, output);
                Ok(())
            }
            (encoder @ Self::Chunked { trailers: true }, Frame::Trailers(trailers)) => {
                output.tail().put_slice(b"0\r\n");
                fields(&trailers, Length::Absent, output.tail());
                output.tail().put_slice(CRLF);
                // Nothing follows the trailers: not even the last chunk again.
                *encoder = Self::None;
                Ok(())
            }
            (_, Frame::Trailers(_)) => Ok(()),
        }
    }

    pub(super) fn finish(self, output: &mut Output) -> Result<(), BodyError> {
        match self {
            Self::Length(1..) => Err(BodyError::Malformed("body is shorter than declared")),
            Self::Chunked { .. } => {
                output.tail().put_slice(b"0\r\n\r\n");
                Ok(())
            }
            Self::None | Self::Length(0) | Self::UntilClose => Ok(()),
        }
    }
}

/// Without a body a length says nothing, save for methods that usually have one (RFC 9110 §8.6).
fn declares_nothing(head: &RequestHead) -> bool {
    !matches!(head.method.as_str(), "POST" | "PUT" | "PATCH") && !head.headers.contains("content-length")
}

fn chunk(data: Bytes, output: &mut Output) {
    if data.is_empty() {
        return; // An empty chunk would end the body.
    }
    let mut digits = [0; 16];
    let mut left = data.len();
    let mut start = digits.len();
    while left > 0 {
        start -= 1;
        digits[start] = b"0123456789abcdef"[left & 15];
        left >>= 4;
    }
    output.tail().put_slice(&digits[start..]);
    output.tail().put_slice(CRLF);
    output.push(data);
    output.tail().put_slice(CRLF);
}

/// What becomes of a message's `Content-Length`.
#[derive(Clone, Copy)]
enum Length {
    /// It informs about a body that is not sent (HEAD, 304).
    Informs,
    Is(u64),
    Absent,
}

impl From<Encoder> for Length {
    fn from(encoder: Encoder) -> Self {
        match encoder {
            Encoder::Length(length) => Self::Is(length),
            Encoder::None | Encoder::Chunked { .. } | Encoder::UntilClose => Self::Absent,
        }
    }
}

/// Writes the head of a request.
pub(super) fn request_head(head: &RequestHead, encoder: Encoder, output: &mut BytesMut) {
    output.reserve(256 + 48 * head.headers.len());
    output.put_slice(head.method.as_str().as_bytes());
    output.put_u8(b' ');
    output.put_slice(&head.path);
    if let Some(query) = &head.query {
        output.put_u8(b'?');
        output.put_slice(query);
    }
    output.put_slice(b" HTTP/1.1\r\n");
    field(b"host", &head.authority, output);
    fields(&head.headers, encoder.into(), output);
    framing(encoder, output);
    match &head.upgrade {
        Some(protocol) => switch(protocol, output),
        // RFC 9110 §10.1.4: a TE field concerns this connection alone.
        None if head.headers.contains("te") => field(b"connection", b"te", output),
        None => {}
    }
    output.put_slice(CRLF);
}

/// What a response says about its connection.
pub(super) enum Connection<'a> {
    /// Nothing: it persists, as HTTP/1.1 does.
    Persists,
    /// It persists though the client speaks HTTP/1.0.
    KeepAlive,
    Close,
    Switches(&'a Bytes),
}

/// Writes the head of a response. `bodiless` says that no body follows whatever its length field tells.
pub(super) fn response_head(
    head: &ResponseHead,
    encoder: Encoder,
    bodiless: bool,
    connection: &Connection<'_>,
    output: &mut BytesMut,
) {
    output.reserve(256 + 48 * head.headers.len());
    status_line(head.status, output);
    fields(&head.headers, if bodiless { Length::Informs } else { encoder.into() }, output);
    framing(encoder, output);
    match connection {
        Connection::Persists => {}
        Connection::KeepAlive => field(b"connection", b"keep-alive", output),
        Connection::Close => field(b"connection", b"close", output),
        Connection::Switches(protocol) => switch(protocol, output),
    }
    output.put_slice(CRLF);
}

/// Writes an interim response.
pub(super) fn interim_head(status: u16, headers: &Headers, output: &mut BytesMut) {
    status_line(status, output);
    fields(headers, Length::Absent, output);
    output.put_slice(CRLF);
}

fn status_line(status: u16, output: &mut BytesMut) {
    output.put_slice(b"HTTP/1.1 ");
    output.put_slice(itoa::Buffer::new().format(status).as_bytes());
    output.put_u8(b' ');
    let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    output.put_slice(reason.unwrap_or_default().as_bytes());
    output.put_slice(CRLF);
}

fn framing(encoder: Encoder, output: &mut BytesMut) {
    if matches!(encoder, Encoder::Chunked { .. }) {
        field(b"transfer-encoding", b"chunked", output);
    }
}

fn switch(protocol: &[u8], output: &mut BytesMut) {
    field(b"connection", b"upgrade", output);
    field(b"upgrade", protocol, output);
}

/// Writes a message's own fields, its length in the place where the message had it.
fn fields(headers: &Headers, length: Length, output: &mut BytesMut) {
    let mut length_due = matches!(length, Length::Is(_));
    for each in headers.iter().filter(|each| is_writable(each) && !is_framing(&each.name)) {
        match length {
            Length::Informs => field(&each.name, &each.value, output),
            _ if !each.is("content-length") => field(&each.name, &each.value, output),
            Length::Is(bytes) if std::mem::take(&mut length_due) => content_length(&each.name, bytes, output),
            Length::Is(_) | Length::Absent => {}
        }
    }
    if let Length::Is(bytes) = length
        && length_due
    {
        content_length(b"content-length", bytes, output);
    }
}

fn content_length(name: &[u8], bytes: u64, output: &mut BytesMut) {
    field(name, itoa::Buffer::new().format(bytes).as_bytes(), output);
}

fn field(name: &[u8], value: &[u8], output: &mut BytesMut) {
    output.put_slice(name);
    output.put_slice(b": ");
    output.put_slice(value);
    output.put_slice(CRLF);
}

/// The last wall against splitting a message: codecs and configuration have checked their fields before.
fn is_writable(field: &Field) -> bool {
    let name = |good, b: &u8| good & b.is_ascii_graphic() & (*b != b':');
    let value = |good, b: &u8| good & (*b != b'\r') & (*b != b'\n') & (*b != 0);
    !field.name.is_empty() && field.name.iter().fold(true, name) && field.value.iter().fold(true, value)
}
