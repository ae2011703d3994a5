//! Checks signatures of tokens and remembers which were good.
//!
//! Only what was good is remembered, under a hash of keys and token, so that new keys ask anew. A good signature stays
//! good; whether a token is still in time is decided anew for each request.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hashbrown::{HashMap, HashSet};

use super::jwk::{self, Jwk};
use crate::decide::token::{Checked, Signature, SignatureCheck};

/// Tokens that are remembered; when there are more, all are forgotten.
const MOST_TOKENS: usize = 4096;
/// Sets of keys that are kept as read; when there are more, all are forgotten.
const MOST_SETS: usize = 64;

type Hash = [u8; 32];

/// The signatures that one worker has checked.
#[derive(Default)]
pub struct Signatures {
    /// By the address of its text.
    sets: RefCell<HashMap<usize, Known>>,
    good: RefCell<HashSet<Hash>>,
}

/// The text is kept, so that no other set can come to stand at its address.
type Known = (Arc<str>, Rc<KeySet>);

struct KeySet {
    hash: Hash,
    keys: Vec<Jwk>,
}

impl Signatures {
    /// Checks signatures, and says what time it is.
    pub fn check(&self, checks: &[SignatureCheck]) -> Checked {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Checked { now, signatures: checks.iter().map(|check| self.one(check)).collect() }
    }

    fn one(&self, check: &SignatureCheck) -> Signature {
        let set = self.set(&check.keys);
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&set.hash);
        context.update(&check.token);
        let hash = to_hash(context.finish());
        if self.good.borrow().contains(&hash) {
            return Signature::Good;
        }
        let verdict = verify(&set.keys, check);
        if verdict == Signature::Good {
            let mut good = self.good.borrow_mut();
            if good.len() >= MOST_TOKENS {
                good.clear();
            }
            good.insert(hash);
        }
        verdict
    }

    fn set(&self, text: &Arc<str>) -> Rc<KeySet> {
        let address = text.as_ptr().addr();
        let mut sets = self.sets.borrow_mut();
        if sets.len() >= MOST_SETS && !sets.contains_key(&address) {
            sets.clear();
        }
        let read = || {
            let hash = to_hash(digest::digest(&digest::SHA256, text.as_bytes()));
            (Arc::clone(text), Rc::new(KeySet { hash, keys: jwk::read(text) }))
        };
        Rc::clone(&sets.entry(address).or_insert_with(read).1)
    }
}

fn to_hash(digest: digest::Digest) -> Hash {
    digest.as_ref().try_into().expect("SHA-256 is 32 bytes")
}

fn verify(keys: &[Jwk], check: &SignatureCheck) -> Signature {
    if keys.is_empty() {
        return Signature::NoKeys;
    }
    let Some(dot) = check.token.iter().rposition(|&b| b == b'.') else { return Signature::Bad };
    let (message, signature) = (&check.token[..dot], &check.token[dot + 1..]);
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return Signature::Bad };
    // As Envoy: a key without a name may be any.
    let named = |key: &&Jwk| match (&key.name, &check.key) {
        (Some(name), Some(wanted)) => **name == **wanted,
        _ => true,
    };
    let mut fitting = keys.iter().filter(named).filter(|key| key.is_for(check.algorithm)).peekable();
    if fitting.peek().is_none() {
        return Signature::NoKey;
    }
    let good = fitting.any(|key| key.verify(check.algorithm, message, &signature));
    if good { Signature::Good } else { Signature::Bad }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{
        self, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::decide::token::Algorithm;

    const MESSAGE: &str = "aGVhZGVy.cGF5bG9hZA";

    fn token(signature: &[u8]) -> String {
        format!("{MESSAGE}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn check(algorithm: Algorithm, key: Option<&str>, keys: &[Value], token: &str) -> Signature {
        let keys = json!({"keys": keys}).to_string().into();
        let check =
            SignatureCheck { token: token.to_owned().into(), algorithm, key: key.map(Box::from), keys };
        let signatures = Signatures::default();
        let first = signatures.check(std::slice::from_ref(&check)).signatures[0];
        assert_eq!(signatures.check(&[check]).signatures[0], first, "remembered or not");
        first
    }

    fn elliptic(name: &str) -> (EcdsaKeyPair, Value) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let coordinate = |part| URL_SAFE_NO_PAD.encode(part);
        let jwk = json!({"kty": "EC", "crv": "P-256", "kid": name, "x": coordinate(x), "y": coordinate(y)});
        (pair, jwk)
    }

    fn sign(pair: &EcdsaKeyPair) -> String {
        token(pair.sign(&SystemRandom::new(), MESSAGE.as_bytes()).unwrap().as_ref())
    }

    /// JW-01 and JW-02 of the security catalogue.
    #[test]
    fn the_keys_type_decides_the_algorithm_and_only_configured_keys_count() {
        let ((pair, jwk), (other, other_jwk)) = (elliptic("a"), elliptic("b"));
        let (good, foreign) = (sign(&pair), sign(&other));
        let both = [other_jwk, jwk.clone()];
        assert_eq!(check(Algorithm::Es256, Some("a"), &both, &good), Signature::Good);
        assert_eq!(check(Algorithm::Es256, None, &both, &good), Signature::Good, "any key of the type");
        assert_eq!(check(Algorithm::Es256, Some("b"), &both, &good), Signature::Bad);
        assert_eq!(check(Algorithm::Es256, Some("c"), &both, &good), Signature::NoKey);
        assert_eq!(check(Algorithm::Es256, Some("a"), std::slice::from_ref(&jwk), &foreign), Signature::Bad);
        for algorithm in [Algorithm::Rs256, Algorithm::Hs256, Algorithm::Es384, Algorithm::EdDsa] {
            assert_eq!(check(algorithm, Some("a"), std::slice::from_ref(&jwk), &good), Signature::NoKey);
        }
        let mut encrypts = jwk;
        encrypts["use"] = json!("enc");
        assert_eq!(check(Algorithm::Es256, Some("a"), &[encrypts], &good), Signature::NoKeys);
        assert_eq!(
            check(Algorithm::Es256, Some("a"), &[json!({"kty": "unheard of"})], &good),
            Signature::NoKeys
        );
        assert_eq!(check(Algorithm::Es256, None, &both, MESSAGE), Signature::Bad);
    }

    #[test]
    fn rsa_keys_verify_and_are_no_secrets() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let mut signed = vec![0; pair.public_modulus_len()];
        let random = SystemRandom::new();
        let padding: &'static dyn signature::RsaEncoding = &RSA_PKCS1_SHA256;
        pair.sign(padding, &random, MESSAGE.as_bytes(), &mut signed).unwrap();
        let public = pair.public_key();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let modulus = public.modulus().big_endian_without_leading_zero().to_vec();
        let exponent = public.exponent().big_endian_without_leading_zero().to_vec();
        let jwk = json!({"kty": "RSA", "alg": "RS256", "n": part(&modulus), "e": part(&exponent)});
        let keys = std::slice::from_ref(&jwk);
        assert_eq!(check(Algorithm::Rs256, Some("any"), keys, &token(&signed)), Signature::Good);
        assert_eq!(
            check(Algorithm::Rs512, None, keys, &token(&signed)),
            Signature::NoKey,
            "the key says RS256"
        );
        let forged = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &modulus), MESSAGE.as_bytes());
        assert_eq!(check(Algorithm::Hs256, None, keys, &token(forged.as_ref())), Signature::NoKey);
    }

    #[test]
    fn a_secret_is_a_key_only_when_it_is_written_as_one() {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"secret"), MESSAGE.as_bytes());
        let jwk = [json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode("secret")})];
        assert_eq!(check(Algorithm::Hs256, None, &jwk, &token(tag.as_ref())), Signature::Good);
        assert_eq!(check(Algorithm::Hs256, None, &jwk, &token(b"x")), Signature::Bad);
    }
}
