//! Where tokens stand in a request, and how they come off it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::Value;

use super::MOST_TOKENS;
use super::parse::TokenError;
use crate::message::{Headers, RequestHead};
use crate::model::{TokenHeader, TokenRule};
use crate::snapshot::token::{Claims, TokenRules};

/// The scheme of `authorization` (RFC 6750 §2.1). Schemes are compared without regard to case (RFC 9110 §11.1).
const BEARER: &str = "Bearer ";

/// A token in a request.
pub(super) struct Found {
    pub(super) token: Bytes,
    place: Place,
    /// The rules that look at this place, one bit each.
    pub(super) rules: u64,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found").field("place", &self.place).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Header(Box<str>),
    Parameter(Box<str>),
    Cookie(Box<str>),
}

/// A rule's bit. The control plane delivers fewer rules than 64; of more, the rest share the last bit.
pub(super) const fn bit(rule: usize) -> u64 {
    1 << (if rule < 63 { rule } else { 63 })
}

/// All tokens where rules look for them: by rule, then headers, parameters, cookies.
pub(super) fn tokens(rules: &TokenRules, head: &RequestHead) -> Result<Vec<Found>, TokenError> {
    let mut found: Vec<Found> = Vec::new();
    for (index, rule) in rules.rules.iter().enumerate() {
        each(&rule.model, head, &mut |place, token| match found
            .iter_mut()
            .find(|known| known.place == place && known.token == token)
        {
            Some(known) => known.rules |= bit(index),
            None => found.push(Found { place, token: Bytes::copy_from_slice(token), rules: bit(index) }),
        });
        if found.len() > MOST_TOKENS {
            return Err(TokenError::TooMany);
        }
    }
    Ok(found)
}

fn each(rule: &TokenRule, head: &RequestHead, take: &mut dyn FnMut(Place, &[u8])) {
    for header in &rule.headers {
        for value in head.headers.get_all(&header.name) {
            if let Some(token) = after_prefix(header, value) {
                take(Place::Header(header.name.as_str().into()), token);
            }
        }
    }
    for name in &rule.parameters {
        for (found, value) in pairs(head.query.as_deref().unwrap_or_default()) {
            if found == name.as_bytes() {
                take(Place::Parameter(name.as_str().into()), value);
            }
        }
    }
    for name in &rule.cookies {
        for (found, value) in head.headers.get_all("cookie").flat_map(cookies) {
            if found == name.as_bytes() {
                take(Place::Cookie(name.as_str().into()), value);
            }
        }
    }
}

fn after_prefix<'v>(header: &TokenHeader, value: &'v [u8]) -> Option<&'v [u8]> {
    let (start, rest) = value.split_at_checked(header.prefix.len())?;
    let same = match header.prefix.eq_ignore_ascii_case(BEARER) {
        true => start.eq_ignore_ascii_case(BEARER.as_bytes()),
        false => start == header.prefix.as_bytes(),
    };
    same.then(|| rest.trim_ascii())
}

fn pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query.split(|&b| b == b'&').filter(|pair| !pair.is_empty()).map(halves)
}

fn cookies(value: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    value.split(|&b| b == b';').map(|pair| halves(pair.trim_ascii()))
}

fn halves(pair: &[u8]) -> (&[u8], &[u8]) {
    match pair.iter().position(|&b| b == b'=') {
        Some(at) => (&pair[..at], pair[at + 1..].trim_ascii()),
        None => (pair, b""),
    }
}

/// What becomes of a head on account of its tokens.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeadEdits {
    off: Vec<(Place, Bytes)>,
    strip: Box<[Box<str>]>,
    write: Vec<(Box<str>, Bytes)>,
}

impl fmt::Debug for HeadEdits {
    /// Without tokens and claims.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeadEdits").field("strip", &self.strip).finish_non_exhaustive()
    }
}

impl HeadEdits {
    /// Removes these headers: nobody but us may write them.
    pub(super) fn stripping(names: &[Box<str>]) -> Self {
        Self { strip: names.into(), ..Self::default() }
    }

    /// Takes a token off.
    pub(super) fn take_off(&mut self, found: &Found) {
        self.off.push((found.place.clone(), found.token.clone()));
    }

    /// Writes what a verified token says.
    pub(super) fn tell(&mut self, rule: &TokenRule, claims: &Claims, payload: &str) {
        if let Some(header) = &rule.payload_header {
            self.write.push((header.as_str().into(), Bytes::copy_from_slice(payload.as_bytes())));
        }
        for each in &rule.claim_headers {
            let path: Vec<_> = each.claim.split('.').collect();
            // A name with dots in it is looked for as it stands first.
            let value = claims.get(&[each.claim.as_str()]).or_else(|| claims.get(&path));
            if let Some(text) = value.and_then(header_text) {
                self.write.push((each.header.as_str().into(), text));
            }
        }
    }

    /// Does so.
    pub fn apply(&self, head: &mut RequestHead) {
        for (place, token) in &self.off {
            match place {
                Place::Header(name) => {
                    head.headers
                        .retain(|field| !(field.is(name) && field.value.trim_ascii().ends_with(token)));
                }
                Place::Parameter(name) => take_parameter(head, name, token),
                Place::Cookie(name) => take_cookie(&mut head.headers, name, token),
            }
        }
        self.strip.iter().for_each(|name| head.headers.remove(name));
        for (name, value) in &self.write {
            head.headers.set(Bytes::copy_from_slice(name.as_bytes()), value.clone());
        }
    }
}

/// Texts, numbers and truth values as they are, all else as JSON in base64url. What cannot stand in a header is left out.
fn header_text(value: &Value) -> Option<Bytes> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(_) | Value::Object(_) => URL_SAFE_NO_PAD.encode(value.to_string()),
    };
    let fits = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    text.bytes().all(fits).then(|| Bytes::from(text))
}

fn take_parameter(head: &mut RequestHead, name: &str, token: &[u8]) {
    let Some(query) = &head.query else { return };
    let stays = |pair: &&[u8]| halves(pair) != (name.as_bytes(), token);
    let kept: Vec<_> = query.split(|&b| b == b'&').filter(stays).collect();
    let kept = kept.join(&b'&');
    head.query = (!kept.is_empty()).then(|| Bytes::from(kept));
}

fn take_cookie(headers: &mut Headers, name: &str, token: &[u8]) {
    let others = |value: &[u8]| {
        let pairs = value.split(|&b| b == b';').map(<[u8]>::trim_ascii);
        let kept: Vec<_> = pairs.filter(|pair| halves(pair) != (name.as_bytes(), token)).collect();
        kept.join(&b"; "[..])
    };
    let kept: Vec<_> = headers.get_all("cookie").map(others).filter(|value| !value.is_empty()).collect();
    headers.remove("cookie");
    kept.into_iter().for_each(|value| headers.append("cookie", value));
}
