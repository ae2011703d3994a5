//! Which tokens (JWT) a workload takes: the rules of the RequestAuthentications that select it.

use serde::{Deserialize, Serialize};

use super::Origin;

/// One issuer's tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TokenRule {
    /// The user's object and the rule in it.
    pub origin: Origin,
    /// The `iss` of its tokens; no token has an empty one.
    pub issuer: String,
    /// One of these must be in `aud`; none at all takes any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// The issuer's keys, a JWK set (RFC 7517 §5) as text. `None` as long as the control plane has none: no token of the
    /// issuer is good then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
    /// Headers that carry tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<TokenHeader>,
    /// Query parameters that carry tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<String>,
    /// Cookies that carry tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cookies: Vec<String>,
    /// The token is sent on; otherwise it is taken off the request.
    #[serde(default)]
    pub forward: bool,
    /// The header that takes the payload, in base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_header: Option<String>,
    /// Headers that take single claims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claim_headers: Vec<ClaimHeader>,
    /// Claims whose text is a list separated by spaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spaced_claims: Vec<String>,
}

/// A header that carries a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenHeader {
    /// Its name, in lower case.
    pub name: String,
    /// What stands before the token; a value without it carries none.
    pub prefix: String,
}

/// A header that takes a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimHeader {
    /// The header, in lower case.
    pub header: String,
    /// The claim; `a.b` is claim `b` within `a`.
    pub claim: String,
}

/// A test on a claim of the request's verified token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimMatch {
    /// The claim, and claims within it.
    pub path: Vec<String>,
    /// The test on its text, or on one of a list's.
    pub value: super::StringMatch,
}
