//! Service-account tokens: the runner plays the token issuer that the API server is on Kubernetes.
//!
//! The signing key lives in the supervisor's memory only; `mesh-control` gets the public half as a JWK set.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde::Serialize;

/// How long a token is good for; it is replaced at half of that.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3600);
const ISSUER: &str = "mesh-runner";
const AUDIENCE: &str = "mesh-ca";
const KEY_ID: &str = "mesh-runner";

/// Signs tokens.
pub(crate) struct Issuer {
    key: EncodingKey,
    public: Jwk,
}

/// Whose token it is.
pub(crate) struct Subject<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) service_account: &'a str,
    pub(crate) pod: &'a str,
    pub(crate) uid: &'a str,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'static str,
    aud: [&'static str; 1],
    sub: String,
    iat: u64,
    nbf: u64,
    exp: u64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Bound<'a>,
}

#[derive(Serialize)]
struct Bound<'a> {
    namespace: &'a str,
    pod: Named<'a>,
    serviceaccount: Named<'a>,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
}

impl Issuer {
    /// An issuer with a fresh P-256 key.
    pub(crate) fn generate() -> anyhow::Result<Self> {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
            .context("generating the token key")?;
        let key = EncodingKey::from_ec_der(pair.serialized_der());
        let mut public =
            Jwk::from_encoding_key(&key, Algorithm::ES256).context("deriving the public token key")?;
        public.common.key_id = Some(KEY_ID.to_owned());
        Ok(Self { key, public })
    }

    /// The JWK set to verify with, as JSON.
    pub(crate) fn key_set(&self) -> String {
        serde_json::json!({ "keys": [self.public] }).to_string()
    }

    /// A token for a pod, valid for [`LIFETIME`] from now.
    pub(crate) fn sign(&self, subject: &Subject<'_>, now: SystemTime) -> anyhow::Result<String> {
        let issued = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = Claims {
            iss: ISSUER,
            aud: [AUDIENCE],
            sub: format!("system:serviceaccount:{}:{}", subject.namespace, subject.service_account),
            iat: issued,
            nbf: issued,
            exp: issued + LIFETIME.as_secs(),
            kubernetes: Bound {
                namespace: subject.namespace,
                pod: Named { name: subject.pod, uid: Some(subject.uid) },
                serviceaccount: Named { name: subject.service_account, uid: None },
            },
        };
        let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, &self.key).context("signing a service account token")
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};

    use super::*;

    #[test]
    fn a_token_verifies_with_the_published_key_and_names_the_pod() {
        let issuer = Issuer::generate().unwrap();
        let subject = Subject { namespace: "shop", service_account: "cart", pod: "cart-1", uid: "u-1" };
        let token = issuer.sign(&subject, SystemTime::now()).unwrap();

        let keys: JwkSet = serde_json::from_str(&issuer.key_set()).unwrap();
        let key = DecodingKey::from_jwk(keys.find(KEY_ID).unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        let claims = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &validation).unwrap().claims;
        assert_eq!(claims["sub"], "system:serviceaccount:shop:cart");
        assert_eq!(claims["kubernetes.io"]["pod"]["uid"], "u-1");
    }
}
