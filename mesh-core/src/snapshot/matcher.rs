//! Tests on requests, compiled.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use super::text::{InvalidRegex, Regex, Text, starts_with_any_case};
use super::token::{ClaimTest, Claims};
use crate::message::{Headers, RequestHead};
use crate::model::{self, HeaderMatch, RouteMatch};

/// A test on a request; everything that is given must hold.
#[derive(Debug, Clone)]
pub struct CompiledMatch {
    /// The route's name with the match's (semantics.md 7).
    pub route_name: Arc<str>,
    path: Option<PathTest>,
    method: Option<Text>,
    scheme: Option<Text>,
    authority: Option<Text>,
    headers: Box<[NamedTest]>,
    without_headers: Box<[NamedTest]>,
    query: Box<[NamedTest]>,
    port: Option<u16>,
    claims: Box<[ClaimTest]>,
    without_claims: Box<[ClaimTest]>,
}

/// The part of a match that a request did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch<'a> {
    /// Another listener's port.
    Port,
    /// The path.
    Path,
    /// The method.
    Method,
    /// The scheme.
    Scheme,
    /// The authority.
    Authority,
    /// This header.
    Header(&'a str),
    /// This query parameter.
    Query(&'a str),
    /// This claim of the token.
    Claim(&'a str),
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port => f.write_str("the port"),
            Self::Path => f.write_str("the path"),
            Self::Method => f.write_str("the method"),
            Self::Scheme => f.write_str("the scheme"),
            Self::Authority => f.write_str("the authority"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Query(name) => write!(f, "query parameter {name}"),
            Self::Claim(name) => write!(f, "claim {name}"),
        }
    }
}

impl CompiledMatch {
    /// Compiles a match of the rule named `rule`.
    ///
    /// # Errors
    /// When one of its regular expressions is refused.
    pub fn new(rule: &str, model: &RouteMatch) -> Result<Self, InvalidRegex> {
        let text = |test: &Option<model::StringMatch>| test.as_ref().map(Text::new).transpose();
        Ok(Self {
            route_name: match &model.name {
                Some(name) if !name.is_empty() => format!("{rule}.{name}").into(),
                _ => rule.into(),
            },
            path: model.path.as_ref().map(|path| PathTest::new(path, model.ignore_path_case)).transpose()?,
            method: text(&model.method)?,
            scheme: text(&model.scheme)?,
            authority: text(&model.authority)?,
            headers: NamedTest::all(&model.headers)?,
            without_headers: NamedTest::all(&model.without_headers)?,
            query: NamedTest::all(&model.query)?,
            port: model.port,
            claims: ClaimTest::all(&model.claims)?,
            without_claims: ClaimTest::all(&model.without_claims)?,
        })
    }

    /// Tests a request that came to a listener on `port`; the cheap tests first.
    ///
    /// # Errors
    /// With the first part that it does not pass.
    pub fn check(&self, head: &RequestHead, port: u16, token: Option<&Claims>) -> Result<(), Mismatch<'_>> {
        let passes = |test: &Option<Text>, text: &[u8]| test.as_ref().is_none_or(|test| test.matches(text));
        if self.port.is_some_and(|wanted| wanted != port) {
            return Err(Mismatch::Port);
        }
        if self.path.as_ref().is_some_and(|test| !test.matches(&head.path)) {
            return Err(Mismatch::Path);
        }
        if !passes(&self.method, head.method.as_bytes()) {
            return Err(Mismatch::Method);
        }
        if !passes(&self.scheme, head.scheme.as_str().as_bytes()) {
            return Err(Mismatch::Scheme);
        }
        if !self.authority.as_ref().is_none_or(|test| test.matches_any_case(&head.authority)) {
            return Err(Mismatch::Authority);
        }
        let failed = |test: &&NamedTest| !test.on_header(&head.headers);
        if let Some(test) = self.headers.iter().find(failed) {
            return Err(Mismatch::Header(&test.name));
        }
        if let Some(test) = self.without_headers.iter().find(|test| !test.without_header(&head.headers)) {
            return Err(Mismatch::Header(&test.name));
        }
        let query = head.query.as_deref().unwrap_or_default();
        if let Some(test) = self.query.iter().find(|test| !test.on_query(query)) {
            return Err(Mismatch::Query(&test.name));
        }
        let failed = |test: &&ClaimTest| !test.matches(token);
        let unwanted = |test: &&ClaimTest| test.matches(token);
        match self.claims.iter().find(failed).or_else(|| self.without_claims.iter().find(unwanted)) {
            Some(test) => Err(Mismatch::Claim(test.name())),
            None => Ok(()),
        }
    }

    /// What the path test matches as a prefix, with whether it counts in whole segments.
    pub fn prefix(&self) -> Option<(&[u8], bool)> {
        match &self.path {
            Some(PathTest::Prefix { prefix, .. }) => Some((prefix, false)),
            Some(PathTest::Segments { prefix, .. }) => Some((prefix, true)),
            Some(PathTest::Exact { .. } | PathTest::Regex(_)) | None => None,
        }
    }

    /// What every path that passes begins with, and whether in any case; `None` if nothing can be said.
    pub(super) fn path_start(&self) -> Option<(&[u8], bool)> {
        let start = match self.path.as_ref()? {
            PathTest::Exact { path, any_case } => (&**path, *any_case),
            PathTest::Prefix { prefix, any_case } | PathTest::Segments { prefix, any_case } => {
                (&**prefix, *any_case)
            }
            PathTest::Regex(regex) => (regex.start(), false),
        };
        Some(start).filter(|(start, _)| !start.is_empty())
    }

    /// Whether everything matches.
    pub fn is_catch_all(&self) -> bool {
        let any_path = match &self.path {
            None => true,
            Some(PathTest::Prefix { prefix, .. }) => **prefix == *b"/",
            Some(PathTest::Segments { prefix, .. }) => prefix.is_empty(),
            Some(PathTest::Exact { .. } | PathTest::Regex(_)) => false,
        };
        let no_text = self.method.is_none() && self.scheme.is_none() && self.authority.is_none();
        let no_named = self.headers.is_empty() && self.without_headers.is_empty() && self.query.is_empty();
        let no_claims = self.claims.is_empty() && self.without_claims.is_empty();
        any_path && no_text && no_named && no_claims && self.port.is_none()
    }
}

#[derive(Debug, Clone)]
enum PathTest {
    Exact {
        path: Box<[u8]>,
        any_case: bool,
    },
    Prefix {
        prefix: Box<[u8]>,
        any_case: bool,
    },
    /// Without a trailing slash; empty matches every path.
    Segments {
        prefix: Box<[u8]>,
        any_case: bool,
    },
    Regex(Regex),
}

impl PathTest {
    fn new(model: &model::PathMatch, any_case: bool) -> Result<Self, InvalidRegex> {
        Ok(match model {
            model::PathMatch::Exact(path) => Self::Exact { path: path.as_bytes().into(), any_case },
            model::PathMatch::Prefix(prefix) => Self::Prefix { prefix: prefix.as_bytes().into(), any_case },
            model::PathMatch::SegmentPrefix(prefix) => {
                Self::Segments { prefix: prefix.trim_end_matches('/').as_bytes().into(), any_case }
            }
            model::PathMatch::Regex(pattern) => Self::Regex(Regex::whole(pattern)?),
        })
    }

    fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact { path: exact, any_case: false } => **exact == *path,
            Self::Exact { path: exact, any_case: true } => exact.eq_ignore_ascii_case(path),
            Self::Prefix { prefix, any_case } => starts_with(path, prefix, *any_case),
            Self::Segments { prefix, any_case } => {
                let ends = matches!(path.get(prefix.len()), None | Some(b'/'));
                ends && starts_with(path, prefix, *any_case)
            }
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

fn starts_with(path: &[u8], prefix: &[u8], any_case: bool) -> bool {
    if any_case { starts_with_any_case(path, prefix) } else { path.starts_with(prefix) }
}

/// A test on something that has a name.
#[derive(Debug, Clone)]
struct NamedTest {
    name: Box<str>,
    value: Text,
}

impl NamedTest {
    fn all(tests: &[HeaderMatch]) -> Result<Box<[Self]>, InvalidRegex> {
        let compile =
            |test: &HeaderMatch| Ok(Self { name: test.name.as_str().into(), value: Text::new(&test.value)? });
        tests.iter().map(compile).collect()
    }

    fn on_header(&self, headers: &Headers) -> bool {
        with_joined(headers, &self.name, |value| value.is_some_and(|value| self.value.matches(value)))
    }

    /// A missing header counts as the empty string (semantics.md 3), except where the test is on its presence.
    fn without_header(&self, headers: &Headers) -> bool {
        with_joined(headers, &self.name, |value| match (&self.value, value) {
            (Text::Present, value) => value.is_none(),
            (test, value) => !test.matches(value.unwrap_or_default()),
        })
    }

    /// The first parameter of the name counts (Gateway API, HTTPQueryParamMatch).
    fn on_query(&self, query: &[u8]) -> bool {
        query_parameter(query, &self.name).is_some_and(|value| self.value.matches(value))
    }
}

/// Hands the values of a header, joined by commas, to `test`. Copies only when there are several.
pub fn with_joined<T>(headers: &Headers, name: &str, test: impl FnOnce(Option<&[u8]>) -> T) -> T {
    let mut values = headers.get_all(name);
    let (Some(first), second) = (values.next(), values.next()) else { return test(None) };
    let Some(second) = second else { return test(Some(first)) };
    let mut joined: SmallVec<[u8; 256]> = SmallVec::from_slice(first);
    for value in std::iter::once(second).chain(values) {
        joined.push(b',');
        joined.extend_from_slice(value);
    }
    test(Some(&joined))
}

/// The first parameter of a name in a query, as sent.
pub fn query_parameter<'a>(query: &'a [u8], name: &str) -> Option<&'a [u8]> {
    query.split(|&b| b == b'&').find_map(|pair| {
        let mut halves = pair.splitn(2, |&b| b == b'=');
        (halves.next() == Some(name.as_bytes())).then(|| halves.next().unwrap_or_default())
    })
}
