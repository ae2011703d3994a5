//! Service-account tokens: who a proxy is before it has a certificate.
//!
//! Tokens are signed JWTs with our audience, bound to a pod. Under `mesh up` they are checked against a file of keys; on
//! Kubernetes the API server is asked (`review`), which also knows of tokens whose account is gone. There is no fallback
//! to another audience, and what is wrong with a token is logged but never told to its sender.

mod review;

use std::path::{Path, PathBuf};

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
pub use review::Reviewer;
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

/// Whoever says if a token is valid.
pub enum Verifier {
    /// A file of keys.
    Keys(KeyFile),
    /// The API server of a cluster.
    Review(Reviewer),
}

/// Checks tokens against a JWK set file, which is read anew at every check: keys are rotated, and checks are rare.
pub struct KeyFile {
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
        Self::Keys(KeyFile { keys: file.to_owned() })
    }

    /// Who holds `token`.
    ///
    /// # Errors
    /// When it is not valid; the reason is for the log, not for the sender.
    pub async fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        if token.len() > LARGEST {
            return Err(TokenError::TooLarge);
        }
        match self {
            Self::Keys(file) => file.verify(token),
            Self::Review(reviewer) => reviewer.verify(token).await,
        }
    }
}

impl KeyFile {
    fn verify(&self, token: &str) -> Result<Caller, TokenError> {
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
    /// The API server says no, or says yes to something else than a pod's token for us.
    #[error("the token is refused: {0}")]
    Refused(String),
    /// The API server cannot be asked.
    #[error("the API server cannot be asked about a token")]
    Review(#[source] Box<kube::Error>),
    /// The API server does not answer, or too many tokens are being checked.
    #[error("the API server has not answered in 10 s about a token")]
    Late,
    /// The file of keys cannot be read.
    #[error("the token keys cannot be read")]
    Keys(#[source] std::io::Error),
    /// The file of keys is not a JWK set.
    #[error("the token keys are not a JWK set")]
    KeySet(#[source] serde_json::Error),
}
