//! Service-account tokens of a cluster that tests make up.
#![allow(dead_code, reason = "each test uses a part")]

use std::path::Path;
use std::time::SystemTime;

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use mesh_control::tokens::AUDIENCE;
use tonic::Request;

/// Signs them, for the pod `web-1` unless the caller says otherwise.
pub(crate) struct Tokens(EncodingKey);

impl Tokens {
    pub(crate) fn new(file: &Path) -> Self {
        let pair = rcgen::KeyPair::generate().unwrap();
        let key = EncodingKey::from_ec_der(pair.serialized_der());
        let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        public.common.key_id = Some("k".into());
        std::fs::write(file, serde_json::json!({ "keys": [public] }).to_string()).unwrap();
        Self(key)
    }

    pub(crate) fn sign(&self, account: &str, uid: &str, audience: &str) -> String {
        self.sign_until(now() + 600, account, uid, audience)
    }

    pub(crate) fn sign_until(&self, end: u64, account: &str, uid: &str, audience: &str) -> String {
        let claims = serde_json::json!({
            "iss": "mesh-runner", "aud": [audience], "iat": now(), "exp": end,
            "sub": format!("system:serviceaccount:default:{account}"),
            "kubernetes.io": {
                "namespace": "default", "pod": {"name": "web-1", "uid": uid}, "serviceaccount": {"name": account},
            },
        });
        let header = Header { kid: Some("k".into()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, &self.0).unwrap()
    }

    pub(crate) fn authorized<T>(&self, message: T, account: &str, uid: &str) -> Request<T> {
        bearing(message, &self.sign(account, uid, AUDIENCE))
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn bearing<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}
