//! Keys of token issuers (RFC 7517), and signatures by them.
//!
//! A key's type says which algorithms it can be used with, so a public key never serves as a secret. Keys that cannot be
//! used are left out; addresses of keys and certificates in a token's own header are never looked at.

use aws_lc_rs::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use aws_lc_rs::{error::Unspecified, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::decide::token::Algorithm;

/// Keys of one issuer that are looked at.
const MOST_KEYS: usize = 64;

/// A key that verifies.
pub(super) struct Jwk {
    /// `kid`.
    pub(super) name: Option<String>,
    /// `alg`: it is for nothing else.
    only: Option<String>,
    material: Material,
}

enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// The uncompressed point, and the curve's coordinate length.
    Elliptic {
        point: Vec<u8>,
        size: usize,
    },
    Ed25519(Vec<u8>),
    Secret(Vec<u8>),
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Fields {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

/// The keys of a set that can be used; none when it is not a JWK set.
pub(super) fn read(text: &str) -> Vec<Jwk> {
    let set: Set = serde_json::from_str(text).unwrap_or(Set { keys: Vec::new() });
    set.keys.into_iter().take(MOST_KEYS).filter_map(Jwk::new).collect()
}

impl Jwk {
    fn new(value: serde_json::Value) -> Option<Self> {
        let fields: Fields = serde_json::from_value(value).ok()?;
        if fields.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        let material = Material::new(&fields)?;
        Some(Self { name: fields.kid, only: fields.alg, material })
    }

    /// Whether the key is one for the algorithm.
    pub(super) fn is_for(&self, algorithm: Algorithm) -> bool {
        let named = self.only.as_deref().is_none_or(|only| Algorithm::parse(only) == Some(algorithm));
        let fits = match (&self.material, algorithm) {
            (Material::Elliptic { size, .. }, Algorithm::Es256) => *size == 32,
            (Material::Elliptic { size, .. }, Algorithm::Es384) => *size == 48,
            (Material::Elliptic { size, .. }, Algorithm::Es512) => *size == 66,
            (Material::Ed25519(_), Algorithm::EdDsa) => true,
            (Material::Secret(_), _) => secret(algorithm).is_some(),
            (Material::Rsa { .. }, _) => rsa(algorithm).is_some(),
            _ => false,
        };
        named && fits
    }

    /// Whether the key has signed `message`.
    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.is_for(algorithm) && self.try_verify(algorithm, message, signature).is_ok()
    }

    fn try_verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> Result<(), Unspecified> {
        match &self.material {
            Material::Rsa { modulus, exponent } => {
                let parameters = rsa(algorithm).ok_or(Unspecified)?;
                RsaPublicKeyComponents { n: modulus, e: exponent }.verify(parameters, message, signature)
            }
            Material::Elliptic { point, size } => {
                let parameters = match size {
                    32 => &signature::ECDSA_P256_SHA256_FIXED,
                    48 => &signature::ECDSA_P384_SHA384_FIXED,
                    _ => &signature::ECDSA_P521_SHA512_FIXED,
                };
                UnparsedPublicKey::new(parameters, point).verify(message, signature)
            }
            Material::Ed25519(key) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature)
            }
            Material::Secret(secret_key) => {
                let algorithm = secret(algorithm).ok_or(Unspecified)?;
                hmac::verify(&hmac::Key::new(algorithm, secret_key), message, signature)
            }
        }
    }
}

impl Material {
    fn new(fields: &Fields) -> Option<Self> {
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        match (fields.kty.as_str(), fields.crv.as_deref()) {
            ("RSA", _) => Some(Self::Rsa { modulus: bytes(&fields.n)?, exponent: bytes(&fields.e)? }),
            ("EC", Some(curve)) => {
                let size = match curve {
                    "P-256" => 32,
                    "P-384" => 48,
                    "P-521" => 66,
                    _ => return None,
                };
                let (x, y) = (bytes(&fields.x)?, bytes(&fields.y)?);
                let point = [&[4][..], &x, &y].concat();
                (x.len() == size && y.len() == size).then_some(Self::Elliptic { point, size })
            }
            ("OKP", Some("Ed25519")) => bytes(&fields.x).filter(|key| key.len() == 32).map(Self::Ed25519),
            ("oct", _) => bytes(&fields.k).filter(|key| !key.is_empty()).map(Self::Secret),
            _ => None,
        }
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static signature::RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

fn secret(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::Hs256 => Some(hmac::HMAC_SHA256),
        Algorithm::Hs384 => Some(hmac::HMAC_SHA384),
        Algorithm::Hs512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}
