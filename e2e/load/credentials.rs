//! Tokens as a kubelet would give them to pods.

use std::path::Path;
use std::time::SystemTime;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

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
        let pair = rcgen::KeyPair::generate()?;
        let key = EncodingKey::from_ec_der(pair.serialized_der());
        let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256)?;
        public.common.key_id = Some("bench".to_owned());
        std::fs::write(keys, json!({ "keys": [public] }).to_string())?;
        Ok(Self(key))
    }

    /// A token for a day.
    pub(crate) fn token(&self, bearer: &Bearer<'_>) -> anyhow::Result<String> {
        let Bearer { namespace, account, pod, uid } = bearer;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
        let claims = json!({
            "iss": "mesh-bench", "aud": ["mesh-ca"], "iat": now, "exp": now + 24 * 3600,
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "kubernetes.io": {
                "namespace": namespace, "pod": {"name": pod, "uid": uid}, "serviceaccount": {"name": account},
            },
        });
        let header = Header { kid: Some("bench".to_owned()), ..Header::new(Algorithm::ES256) };
        Ok(jsonwebtoken::encode(&header, &claims, &self.0)?)
    }
}
