//! Tokens that are signed for a run: of pods, as a kubelet would give them, and of users.

use std::path::Path;
use std::time::SystemTime;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

const KEY: &str = "bench";

/// Signs tokens that a control plane takes once it was given the file of keys.
pub(crate) struct Issuer(EncodingKey);

/// Whose token it is.
pub(crate) struct Bearer<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) account: &'a str,
    pub(crate) pod: &'a str,
    pub(crate) uid: &'a str,
}

impl Issuer {
    /// A new key; its public half goes into the file `keys`.
    pub(crate) fn create(keys: &Path) -> anyhow::Result<Self> {
        let issuer = Self::generate()?;
        std::fs::write(keys, issuer.keys()?)?;
        Ok(issuer)
    }

    /// A new key.
    pub(crate) fn generate() -> anyhow::Result<Self> {
        Ok(Self(EncodingKey::from_ec_der(rcgen::KeyPair::generate()?.serialized_der())))
    }

    /// The JWK set of the public half.
    pub(crate) fn keys(&self) -> anyhow::Result<String> {
        let mut public = Jwk::from_encoding_key(&self.0, Algorithm::ES256)?;
        public.common.key_id = Some(KEY.to_owned());
        Ok(json!({ "keys": [public] }).to_string())
    }

    /// A workload's token.
    pub(crate) fn token(&self, bearer: &Bearer<'_>) -> anyhow::Result<String> {
        let Bearer { namespace, account, pod, uid } = bearer;
        self.sign(json!({
            "iss": "mesh-bench", "aud": ["mesh-ca"],
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "kubernetes.io": {
                "namespace": namespace, "pod": {"name": pod, "uid": uid}, "serviceaccount": {"name": account},
            },
        }))
    }

    /// A token with these claims, good for a day.
    pub(crate) fn sign(&self, mut claims: Value) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        claims["iat"] = now.into();
        claims["exp"] = (now + 24 * 3600).into();
        let header = Header { kid: Some(KEY.to_owned()), ..Header::new(Algorithm::ES256) };
        Ok(jsonwebtoken::encode(&header, &claims, &self.0)?)
    }
}
