//! A token's text, read (RFC 7515 §7.1, RFC 7519). Nothing of it is believed here.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// Longer tokens are refused unread, in bytes.
const LONGEST: usize = 16 * 1024;
/// By how much the clocks of issuer and proxy may differ, in seconds (Envoy's default).
const LEEWAY: u64 = 60;

/// How a token is signed. `none` is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of RFC 7518 §3.1 and RFC 8037 §3.1")]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

impl Algorithm {
    const ALL: [(&'static str, Self); 13] = [
        ("HS256", Self::Hs256),
        ("HS384", Self::Hs384),
        ("HS512", Self::Hs512),
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("ES512", Self::Es512),
        ("EdDSA", Self::EdDsa),
    ];

    /// By its name; names keep their case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, algorithm)| algorithm)
    }
}

/// A token as it is written.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) algorithm: Algorithm,
    /// `kid`.
    pub(super) key: Option<Box<str>>,
    pub(super) issuer: Box<str>,
    pub(super) audiences: Box<[Box<str>]>,
    expires: u64,
    /// The later of `nbf` and `iat`.
    begins: u64,
    pub(super) claims: Map<String, Value>,
    /// As it stands in the token: in base64url.
    pub(super) payload: Box<str>,
}

impl Parsed {
    pub(super) fn new(token: &[u8]) -> Result<Self, TokenError> {
        let text = std::str::from_utf8(token).map_err(|_| TokenError::BadFormat)?;
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::BadFormat);
        };
        if text.len() > LONGEST {
            return Err(TokenError::BadFormat);
        }
        let header = object(header, TokenError::HeaderBase64, TokenError::HeaderJson)?;
        let algorithm = header.get("alg").and_then(Value::as_str).ok_or(TokenError::HeaderAlgorithm)?;
        let algorithm = Algorithm::parse(algorithm).ok_or(TokenError::UnsupportedAlgorithm)?;
        // What an issuer calls critical must be understood (RFC 7515 §4.1.11), and we understand no extension.
        if header.contains_key("crit") {
            return Err(TokenError::CriticalHeader);
        }
        let key = optional_text(&header, "kid", TokenError::HeaderKey)?.map(Box::from);
        let claims = object(payload, TokenError::PayloadBase64, TokenError::PayloadJson)?;
        URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::SignatureBase64)?;
        let begins =
            time(&claims, "nbf", TokenError::NotBefore)?.max(time(&claims, "iat", TokenError::IssuedAt)?);
        optional_text(&claims, "sub", TokenError::Subject)?;
        Ok(Self {
            algorithm,
            key,
            issuer: optional_text(&claims, "iss", TokenError::Issuer)?.unwrap_or_default().into(),
            audiences: audiences(&claims)?,
            expires: time(&claims, "exp", TokenError::Expires)?.ok_or(TokenError::NeverExpires)?,
            begins: begins.unwrap_or(0),
            payload: payload.into(),
            claims,
        })
    }

    /// Whether the token is good at a time, in seconds since 1970.
    pub(super) const fn in_time(&self, now: u64) -> Result<(), TokenError> {
        if self.begins > now.saturating_add(LEEWAY) {
            return Err(TokenError::NotYetValid);
        }
        if now > self.expires.saturating_add(LEEWAY) { Err(TokenError::Expired) } else { Ok(()) }
    }
}

fn object(part: &str, base64: TokenError, json: TokenError) -> Result<Map<String, Value>, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| base64)?;
    serde_json::from_slice(&bytes).map_err(|_| json)
}

fn optional_text<'a>(
    object: &'a Map<String, Value>,
    name: &str,
    error: TokenError,
) -> Result<Option<&'a str>, TokenError> {
    object.get(name).map(|value| value.as_str().ok_or(error)).transpose()
}

fn time(claims: &Map<String, Value>, name: &str, error: TokenError) -> Result<Option<u64>, TokenError> {
    claims.get(name).map(|value| value.as_u64().ok_or(error)).transpose()
}

fn audiences(claims: &Map<String, Value>) -> Result<Box<[Box<str>]>, TokenError> {
    let text = |value: &Value| value.as_str().map(Box::from).ok_or(TokenError::Audience);
    match claims.get("aud") {
        None => Ok(Box::default()),
        Some(Value::Array(list)) => list.iter().map(text).collect(),
        Some(value) => Ok([text(value)?].into()),
    }
}

macro_rules! token_errors {
    ($($(#[$doc:meta])* $name:ident => $message:literal,)+) => {
        /// Why a token is not good. The messages are Envoy's and go to the caller.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum TokenError {
            $($(#[$doc])* $name,)+
        }

        impl TokenError {
            /// Told to the caller.
            pub const fn message(self) -> &'static str {
                match self { $(Self::$name => $message,)+ }
            }
        }
    };
}

token_errors! {
    /// Not three parts, or too long.
    BadFormat => "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
    /// The first part.
    HeaderBase64 => "Jwt header is an invalid Base64",
    /// The first part.
    HeaderJson => "Jwt header is an invalid JSON",
    /// `alg` is missing or no text.
    HeaderAlgorithm => "Jwt header [alg] field is required and must be a string",
    /// Among them `none`.
    UnsupportedAlgorithm => "Jwt header [alg] is not supported",
    /// `crit` is there.
    CriticalHeader => "Jwt header [crit] is not supported",
    /// `kid` is no text.
    HeaderKey => "Jwt header [kid] field is not a string",
    /// The second part.
    PayloadBase64 => "Jwt payload is an invalid Base64",
    /// The second part.
    PayloadJson => "Jwt payload is an invalid JSON",
    /// `iss` is no text.
    Issuer => "Jwt payload [iss] field is not a string",
    /// `sub` is no text.
    Subject => "Jwt payload [sub] field is not a string",
    /// `aud` is neither text nor a list of texts.
    Audience => "Jwt payload [aud] field is not a string or string list",
    /// `exp` is no whole number.
    Expires => "Jwt payload [exp] field is not a positive integer",
    /// `exp` is missing, where Envoy takes it for "never".
    NeverExpires => "Jwt payload [exp] field is required",
    /// `nbf` is no whole number.
    NotBefore => "Jwt payload [nbf] field is not a positive integer",
    /// `iat` is no whole number.
    IssuedAt => "Jwt payload [iat] field is not a positive integer",
    /// The third part.
    SignatureBase64 => "Jwt signature is an invalid Base64",
    /// Before `nbf` or `iat`.
    NotYetValid => "Jwt not yet valid",
    /// After `exp`.
    Expired => "Jwt is expired",
    /// No rule is about its issuer.
    UnknownIssuer => "Jwt issuer is not configured",
    /// None of the audiences that the rule names.
    AudienceNotAllowed => "Audiences in Jwt are not allowed",
    /// The signature is wrong.
    VerificationFails => "Jwt verification fails",
    /// No key for it.
    NoKey => "Jwks doesn't have key to match kid or alg from Jwt",
    /// The keys are no JWK set, or none can be used.
    KeysInvalid => "Jwks doesn't have any valid public key",
    /// The control plane has no keys yet.
    KeysNotFetched => "Jwks remote fetch is failed",
    /// More tokens than are looked at.
    TooMany => "Found multiple Jwt tokens",
}

impl TokenError {
    /// 403 for a good token that is meant for somebody else, else 401.
    pub(super) fn failure(self) -> Failure {
        if self == Self::AudienceNotAllowed { Failure::AudienceRefused } else { Failure::Unauthenticated }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}
