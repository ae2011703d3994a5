//! What of a request's and response's head telemetry shows, compiled once: the headers that something names, and the
//! query parameters that nothing may show.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};

use crate::message::Headers;
use crate::model::Own;

/// Carries a token wherever rules do not say otherwise (RFC 6750 §2.3), so it is hidden even where no rule is.
const ACCESS_TOKEN: &str = "access_token";
/// Stands for a secret.
const HIDDEN: &[u8] = b"(hidden)";
/// Headers that every record holds.
const ALWAYS: [&str; 3] = ["x-forwarded-for", "user-agent", "x-request-id"];

/// What is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    request: Box<[Box<str>]>,
    response: Box<[Box<str>]>,
    secrets: Box<[Box<str>]>,
}

impl Default for Shown {
    fn default() -> Self {
        Self { request: Box::default(), response: Box::default(), secrets: [ACCESS_TOKEN.into()].into() }
    }
}

impl Shown {
    /// What a proxy's settings show, and what its token rules hide.
    pub fn new(own: &Own) -> Self {
        let (mut request, mut response) = (BTreeSet::new(), BTreeSet::new());
        own.mesh.shows(&mut |shows| {
            shows.request_headers(&mut |name| request.extend([Box::<str>::from(name)]));
            shows.response_headers(&mut |name| response.extend([Box::<str>::from(name)]));
        });
        request.retain(|name| !name.starts_with(':') && !ALWAYS.contains(&&**name));
        let parameters = own.tokens.iter().flat_map(|rule| &rule.parameters).map(String::as_str);
        let secrets: BTreeSet<&str> = parameters.chain([ACCESS_TOKEN]).collect();
        Self {
            request: request.into_iter().collect(),
            response: response.into_iter().collect(),
            secrets: secrets.into_iter().map(Into::into).collect(),
        }
    }

    /// The headers of a request that are shown besides those that always are.
    pub(super) fn of_request(&self, headers: &Headers) -> Headers {
        chosen(&self.request, headers)
    }

    /// The headers of a response that are shown.
    pub fn of_response(&self, headers: &Headers) -> Headers {
        chosen(&self.response, headers)
    }

    /// The query with the values of secret parameters hidden, however their names are spelled: the application behind
    /// us may decode them.
    pub(super) fn without_secrets(&self, query: &Bytes) -> Bytes {
        let pairs = || query.split(|&byte| byte == b'&');
        if !pairs().any(|pair| self.is_secret(name_of(pair))) {
            return query.clone();
        }
        let mut shown = BytesMut::with_capacity(query.len());
        for (at, pair) in pairs().enumerate() {
            if at > 0 {
                shown.extend_from_slice(b"&");
            }
            let name = name_of(pair);
            if self.is_secret(name) {
                shown.extend_from_slice(name);
                shown.extend_from_slice(b"=");
                shown.extend_from_slice(HIDDEN);
            } else {
                shown.extend_from_slice(pair);
            }
        }
        shown.freeze()
    }

    fn is_secret(&self, name: &[u8]) -> bool {
        self.secrets.iter().any(|secret| {
            name.len() >= secret.len()
                && decoded(name)
                    .map(|b| b.to_ascii_lowercase())
                    .eq(secret.bytes().map(|b| b.to_ascii_lowercase()))
        })
    }
}

fn chosen(names: &[Box<str>], headers: &Headers) -> Headers {
    let mut chosen = Headers::default();
    for name in names {
        if let Some(field) = headers.iter().find(|field| field.is(name)) {
            chosen.append(field.name.clone(), field.value.clone());
        }
    }
    chosen
}

fn name_of(pair: &[u8]) -> &[u8] {
    pair.split(|&byte| byte == b'=').next().unwrap_or_default()
}

/// The bytes with `%XX` decoded.
fn decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let digit =
        |byte: Option<&u8>| byte.and_then(|&b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *text.get(at)?;
        let escaped =
            (byte == b'%').then(|| Some(digit(text.get(at + 1))? << 4 | digit(text.get(at + 2))?)).flatten();
        at += if escaped.is_some() { 3 } else { 1 };
        Some(escaped.unwrap_or(byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_the_query_is_never_shown() {
        let shown = Shown { secrets: ["access_token".into(), "jwt".into()].into(), ..Shown::default() };
        for (query, expected) in [
            ("a=1&b", "a=1&b"),
            ("access_token=eyJ", "access_token=(hidden)"),
            ("a=1&jwt=eyJ=&c=2", "a=1&jwt=(hidden)&c=2"),
            ("Access%5fTOKEN=eyJ&jwts=1", "Access%5fTOKEN=(hidden)&jwts=1"),
            ("access_token", "access_token=(hidden)"),
        ] {
            assert_eq!(shown.without_secrets(&Bytes::from_static(query.as_bytes())), expected);
        }
    }
}
