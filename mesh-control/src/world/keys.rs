//! Keys of token issuers that were fetched: kept with the world, because what proxies are told depends on them.

use std::collections::BTreeMap;

use super::World;

/// Where an issuer's keys are to be had.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeySource {
    /// A `jwksUri`.
    Uri(String),
    /// An issuer whose own description (OpenID Connect Discovery §4) names the address.
    Issuer(String),
}

/// What the last fetches came to. Keys outlive failures without limit of time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeySet {
    /// The last good keys, a JWK set as text.
    pub keys: Option<String>,
    /// Why the last fetch failed.
    pub failure: Option<String>,
}

impl World {
    /// What is known of a source's keys.
    pub fn key_set(&self, source: &KeySource) -> Option<&KeySet> {
        self.key_sets.get(source)
    }

    /// Takes in what a fetch came to, and says whether anything is different.
    pub fn set_keys(&mut self, source: KeySource, fetched: Result<String, String>) -> bool {
        let known = self.key_sets.entry(source).or_default();
        let before = known.clone();
        match fetched {
            Ok(keys) => *known = KeySet { keys: Some(keys), failure: None },
            Err(failure) => known.failure = Some(failure),
        }
        *known != before
    }

    /// Forgets keys that nobody asks for.
    pub fn keep_keys(&mut self, wanted: &BTreeMap<KeySource, impl Sized>) {
        self.key_sets.retain(|source, _| wanted.contains_key(source));
    }
}
