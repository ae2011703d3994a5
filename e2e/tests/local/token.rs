//! Tokens that tests sign, and the keys that vouch for them: one key pair for a run.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// Who signs, in the fixtures.
pub(crate) const ISSUER: &str = "https://issuer.example";
const KEY: &str = "of-this-run";

/// What a manifest has in place of the keys.
pub(crate) const PLACE_OF_KEYS: &str = "@KEYS@";

/// The JWK set of this run's key.
pub(crate) fn keys() -> String {
    let mut public = Jwk::from_encoding_key(key(), Algorithm::ES256).expect("a P-256 key");
    public.common.key_id = Some(KEY.to_owned());
    json!({ "keys": [public] }).to_string()
}

/// A token for an hour of a user of a group, with some claims changed; null takes one away.
pub(crate) fn token(changes: &Value) -> String {
    let now = now();
    let mut claims =
        json!({"iss": ISSUER, "sub": "ann", "aud": "shop", "group": "admins", "iat": now, "exp": now + 3600});
    for (name, value) in changes.as_object().expect("claims by name") {
        claims[name] = value.clone();
    }
    sign(&claims, key())
}

/// The same, signed by somebody else under the same name.
pub(crate) fn forged() -> String {
    sign(&json!({"iss": ISSUER, "sub": "ann", "aud": "shop", "exp": now() + 3600}), &new_key())
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn sign(claims: &Value, key: &EncodingKey) -> String {
    let header = Header { kid: Some(KEY.to_owned()), ..Header::new(Algorithm::ES256) };
    jsonwebtoken::encode(&header, claims, key).expect("a token")
}

fn key() -> &'static EncodingKey {
    static KEY_PAIR: OnceLock<EncodingKey> = OnceLock::new();
    KEY_PAIR.get_or_init(new_key)
}

fn new_key() -> EncodingKey {
    let pair = rcgen::KeyPair::generate().expect("the machine has randomness");
    EncodingKey::from_ec_der(pair.serialized_der())
}
