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
    /// The text is kept, so that no other set can come to stand at its address.
    sets: RefCell<HashMap<usize, (Arc<str>, Rc<KeySet>)>>,
    good: RefCell<HashSet<Hash>>,
}

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
