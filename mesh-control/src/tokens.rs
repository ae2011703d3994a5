//! Service-account tokens: who a proxy is before it has a certificate.
//!
//! Tokens are signed JWTs with our audience, bound to a pod. The keys come from a JWK set file, as `mesh up` writes it;
//! on Kubernetes TokenReview takes this place. There is no fallback to another audience, and what is wrong with a token
//! is logged but never told to its sender.

use std::path::{Path, PathBuf};

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

/// The audience tokens must carry.
pub const AUDIENCE: &str = "mesh-ca";
/// Largest token, in bytes.
const LARGEST: usize = 8 * 1024;

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its namespace.
    pub namespace: String,
    /// Its service account.
    pub service_account: String,
    /// The pod the token is bound to.
    pub pod: String,
    /// The pod's UID.
    pub pod_uid: String,
}

/// Checks tokens against a JWK set file, which is read anew at every check: keys are rotated, and checks are rare.
pub struct Verifier {
    keys: PathBuf,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Bound,
}

#[derive(Deserialize)]
struct Bound {
    namespace: String,
    pod: Named,
    serviceaccount: Account,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    uid: String,
}

#[derive(Deserialize)]
struct Account {
    name: String,
}

impl Verifier {
    /// A verifier for the keys in `file`.
    pub fn new(file: &Path) -> Self {
        Self { keys: file.to_owned() }
    }

    /// Who holds `token`.
    ///
    /// # Errors
    /// When it is not valid; the reason is for the log, not for the sender.
    pub fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        if token.len() > LARGEST {
            return Err(TokenError::TooLarge);
        }
        let header = decode_header(token).map_err(TokenError::Invalid)?;
        let key = self.key(header.kid.as_deref())?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        validation.validate_nbf = true;
        let claims: Claims = decode(token, &key, &validation).map_err(TokenError::Invalid)?.claims;
        let Bound { namespace, pod, serviceaccount } = claims.kubernetes;
        if claims.sub != format!("system:serviceaccount:{namespace}:{}", serviceaccount.name) {
            return Err(TokenError::Subject);
        }
        Ok(Caller { namespace, service_account: serviceaccount.name, pod: pod.name, pod_uid: pod.uid })
    }

    fn key(&self, id: Option<&str>) -> Result<DecodingKey, TokenError> {
        let text = std::fs::read(&self.keys).map_err(TokenError::Keys)?;
        let set: JwkSet = serde_json::from_slice(&text).map_err(TokenError::KeySet)?;
        let jwk = match id {
            Some(id) => set.find(id),
            None if set.keys.len() == 1 => set.keys.first(),
            None => None,
        };
        DecodingKey::from_jwk(jwk.ok_or(TokenError::UnknownKey)?).map_err(TokenError::Invalid)
    }
}

/// Why a token is refused.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// More than 8 KiB.
    #[error("the token is larger than 8 KiB")]
    TooLarge,
    /// Form, signature, audience or time.
    #[error("the token is not valid")]
    Invalid(#[source] jsonwebtoken::errors::Error),
    /// The subject and the binding disagree.
    #[error("the token's subject is not the service account it is bound to")]
    Subject,
    /// No such key.
    #[error("the token is signed by a key we do not have")]
    UnknownKey,
    /// The file of keys cannot be read.
    #[error("the token keys cannot be read")]
    Keys(#[source] std::io::Error),
    /// The file of keys is not a JWK set.
    #[error("the token keys are not a JWK set")]
    KeySet(#[source] serde_json::Error),
}
