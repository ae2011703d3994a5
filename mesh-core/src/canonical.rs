//! Paths in canonical form (MeshConfig `pathNormalization`; security.md PN-01 to PN-10).
//!
//! The codec calls this once, before anything looks at the path; what comes out is what is routed, authorized, logged and
//! forwarded. It decodes at most once and never repairs: a path that is ambiguous under the mode is refused.
//!
//! Invariant: the canonical form of a canonical path is itself.

use bytes::Bytes;

use crate::failure::Failure;
use crate::model::PathNormalization;

/// Splits a request target at its query; a fragment, which no client should send, is cut off.
pub fn split_target(target: &Bytes) -> (Bytes, Option<Bytes>) {
    let end = memchr::memchr(b'#', target).unwrap_or(target.len());
    match memchr::memchr(b'?', &target[..end]) {
        Some(mark) => (target.slice(..mark), Some(target.slice(mark + 1..end))),
        None => (target.slice(..end), None),
    }
}

/// The canonical form of a path without query. Shares the bytes of one that is canonical already.
///
/// # Errors
/// [`Failure::BadRequest`] for a path that does not start with `/`, for control bytes, for `%00` and for a `%` without
/// two hexadecimal digits. The mode `None` refuses nothing.
pub fn path(path: &Bytes, mode: PathNormalization) -> Result<Bytes, Failure> {
    if mode == PathNormalization::None || **path == *b"*" || is_canonical(path, mode) {
        return Ok(path.clone());
    }
    if path.first() != Some(&b'/') {
        return Err(Failure::BadRequest);
    }
    let decoded = decode(path, mode == PathNormalization::DecodeAndMergeSlashes)?;
    let mut resolved = resolve(&decoded);
    if mode != PathNormalization::Base {
        resolved.dedup_by(|next, before| *next == b'/' && *before == b'/');
    }
    Ok(Bytes::from(resolved))
}

/// Whether nothing is to be done, which holds for nearly all paths: no byte that needs a look, no dot after a slash.
fn is_canonical(path: &[u8], mode: PathNormalization) -> bool {
    let plain = |b: &u8| !matches!(b, 0..=0x20 | 0x7f | b'%' | b'\\');
    let pairs_are_plain = |pair: &[u8]| match pair {
        b"/." => false,
        b"//" => mode == PathNormalization::Base,
        _ => true,
    };
    path.first() == Some(&b'/') && path.iter().all(plain) && path.windows(2).all(pairs_are_plain)
}

/// Decodes unreserved characters (RFC 3986 §6.2.2.2), turns `\` into `/`, and decodes encoded slashes where asked for.
fn decode(path: &[u8], slashes: bool) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            0..=0x20 | 0x7f => return Err(Failure::BadRequest),
            b'\\' => out.push(b'/'),
            b'%' => {
                let (escaped, after) = rest.split_first_chunk::<2>().ok_or(Failure::BadRequest)?;
                let decoded = hex(escaped[0]).zip(hex(escaped[1])).ok_or(Failure::BadRequest)?;
                rest = after;
                match decoded.0 << 4 | decoded.1 {
                    0 => return Err(Failure::BadRequest),
                    b'/' | b'\\' if slashes => out.push(b'/'),
                    plain if is_unreserved(plain) => out.push(plain),
                    _ => out.extend_from_slice(&[b'%', escaped[0], escaped[1]]),
                }
            }
            other => out.push(other),
        }
    }
    Ok(out)
}

/// Resolves dot segments (RFC 3986 §5.2.4). A segment that is dots but for its parameters, `..;x`, counts as one: some
/// servers drop the parameters first.
fn resolve(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut segments = path[1..].split(|&b| b == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match without_parameters(segment) {
            b"." if last => out.push(b'/'),
            b"." => {}
            b".." => {
                out.truncate(out.iter().rposition(|&b| b == b'/').unwrap_or(0));
                if last {
                    out.push(b'/');
                }
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    if out.is_empty() { b"/".to_vec() } else { out }
}

fn without_parameters(segment: &[u8]) -> &[u8] {
    segment.split(|&b| b == b';').next().unwrap_or_default()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests;
