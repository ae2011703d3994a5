//! What a request must look like.

use serde::{Deserialize, Serialize};

use super::ClaimMatch;

/// A test on one string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StringMatch {
    /// Equal.
    Exact(String),
    /// Starts with; a plain string prefix.
    Prefix(String),
    /// Ends with.
    Suffix(String),
    /// The whole string matches this RE2 expression.
    Regex(String),
    /// There at all.
    Present,
}

/// A test on the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathMatch {
    /// Equal.
    Exact(String),
    /// Starts with this string, wherever a segment ends (VirtualService: `/foo` takes `/foobar`).
    Prefix(String),
    /// Starts with these segments (Ingress, Gateway API: `/foo` takes `/foo` and `/foo/bar`). Without a trailing slash.
    SegmentPrefix(String),
    /// The whole path matches this RE2 expression.
    Regex(String),
}

/// A test on a header, query parameter or label by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderMatch {
    /// The name; header names are in lower case.
    pub name: String,
    /// The test on its value. Several values are joined by a comma first, as Envoy does.
    pub value: StringMatch,
}

/// A test on a request: everything that is given must hold. An empty one matches all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct RouteMatch {
    /// The match's own name, part of the route's name in logs.
    pub name: Option<String>,
    /// The path.
    pub path: Option<PathMatch>,
    /// Exact and prefix paths compare without regard to case.
    pub ignore_path_case: bool,
    /// The method.
    pub method: Option<StringMatch>,
    /// The scheme.
    pub scheme: Option<StringMatch>,
    /// The authority as sent, port included.
    pub authority: Option<StringMatch>,
    /// Headers that must match.
    pub headers: Vec<HeaderMatch>,
    /// Headers that must not match; a missing one counts as the empty string.
    pub without_headers: Vec<HeaderMatch>,
    /// Query parameters that must match; the first of a name counts.
    pub query: Vec<HeaderMatch>,
    /// Claims of the verified token that must match; only where tokens are verified, at gateways.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<ClaimMatch>,
    /// Claims that must not match; a missing one does not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without_claims: Vec<ClaimMatch>,
    /// The port of the listener.
    pub port: Option<u16>,
}
