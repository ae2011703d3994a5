//! What becomes of a request's path on its way to the destination.

use bytes::Bytes;

use crate::message::{ORIGINAL_PATH, RequestHead};
use crate::snapshot::rule::PathRewrite;

/// Rewrites the path. `matched` is the prefix by which the rule matched, if by one, and whether in whole segments.
///
/// The path as it was is kept in `x-envoy-original-path`; nothing ever reads that header to decide.
pub(super) fn path(head: &mut RequestHead, rewrite: &PathRewrite, matched: Option<(&[u8], bool)>) {
    let new = match (rewrite, matched) {
        (PathRewrite::Keep, _) => return,
        (PathRewrite::Full(new), _) | (PathRewrite::Prefix(new) | PathRewrite::Segments(new), None) => {
            new.as_bytes().to_vec()
        }
        // Matched as segments (Ingress, Gateway API), a prefix is replaced as segments.
        (PathRewrite::Segments(new), Some((prefix, _)))
        | (PathRewrite::Prefix(new), Some((prefix, true))) => {
            replace_segments(&head.path, prefix, new.as_bytes())
        }
        (PathRewrite::Prefix(new), Some((prefix, false))) => {
            let rest = head.path.get(prefix.len()..).unwrap_or_default();
            [new.as_bytes(), rest].concat()
        }
        (PathRewrite::Regex(regex, replacement), _) => regex.replace_all(&head.path, replacement),
    };
    if *new != *head.path {
        set(head, new);
    }
}

/// `/foo` to `/` makes `/bar` of `/foo/bar`, never `//bar` (Gateway API, ReplacePrefixMatch).
pub(super) fn replace_segments(path: &[u8], prefix: &[u8], new: &[u8]) -> Vec<u8> {
    let trim = |text: &[u8]| text.strip_suffix(b"/").unwrap_or(text).to_vec();
    let rest = path.get(trim(prefix).len()..).unwrap_or_default();
    let joined = [&trim(new)[..], rest].concat();
    if joined.is_empty() { b"/".to_vec() } else { joined }
}

fn set(head: &mut RequestHead, new: Vec<u8>) {
    let mut original = head.path.to_vec();
    if let Some(query) = &head.query {
        original.push(b'?');
        original.extend_from_slice(query);
    }
    head.headers.set(ORIGINAL_PATH, original);
    let mut path = new;
    if path.first() != Some(&b'/') {
        path.insert(0, b'/');
    }
    if let Some(mark) = path.iter().position(|&b| b == b'?') {
        // The rewrite brings a query of its own; the request's follows it.
        let mut query = path.split_off(mark + 1);
        path.pop();
        if let Some(old) = &head.query {
            query.push(b'&');
            query.extend_from_slice(old);
        }
        head.query = Some(Bytes::from(query));
    }
    head.path = Bytes::from(path);
}
