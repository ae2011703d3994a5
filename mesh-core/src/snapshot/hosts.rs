//! Which entry serves a host: exact names first, then the longest wildcard, then any.
//!
//! The longest wildcard wins (semantics.md 20); of two on the same suffix, the one for a single label is narrower and wins.
//! Of two entries for the same pattern the first stays.

use hashbrown::HashMap;

use crate::model::{Host, HostPattern};

/// An index from host patterns to entries.
#[derive(Debug, Clone)]
pub struct HostIndex<T> {
    exact: HashMap<Host, T>,
    suffix: HashMap<Host, T>,
    one_label: HashMap<Host, T>,
    any: Option<T>,
}

impl<T> Default for HostIndex<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), suffix: HashMap::new(), one_label: HashMap::new(), any: None }
    }
}

impl<T> HostIndex<T> {
    /// Adds an entry, unless the pattern has one already.
    pub fn insert(&mut self, pattern: &HostPattern, entry: T) {
        match pattern {
            HostPattern::Exact(host) => {
                self.exact.entry(host.clone()).or_insert(entry);
            }
            HostPattern::Suffix(suffix) => {
                self.suffix.entry(suffix.clone()).or_insert(entry);
            }
            HostPattern::OneLabel(suffix) => {
                self.one_label.entry(suffix.clone()).or_insert(entry);
            }
            HostPattern::Any => {
                self.any.get_or_insert(entry);
            }
        }
    }

    /// The entry of the most specific pattern that serves `host`.
    pub fn get(&self, host: &Host) -> Option<&T> {
        self.exact.get(host).or_else(|| self.wildcard(host.as_str())).or(self.any.as_ref())
    }

    fn wildcard(&self, host: &str) -> Option<&T> {
        if self.suffix.is_empty() && self.one_label.is_empty() {
            return None;
        }
        let mut dots = memchr::memchr_iter(b'.', host.as_bytes());
        let parent = &host[dots.next()? + 1..];
        let first = self.one_label.get(parent).or_else(|| self.suffix.get(parent));
        first.or_else(|| dots.find_map(|dot| self.suffix.get(&host[dot + 1..])))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rule as it is written: the most specific of all patterns that match.
    fn naive(patterns: &[HostPattern], host: &Host) -> Option<usize> {
        let rank = |pattern: &HostPattern| match pattern {
            HostPattern::Exact(_) => (3, 0, 0),
            HostPattern::OneLabel(suffix) => (2, suffix.as_str().len(), 1),
            HostPattern::Suffix(suffix) => (2, suffix.as_str().len(), 0),
            HostPattern::Any => (1, 0, 0),
        };
        let matching = patterns.iter().enumerate().filter(|(_, pattern)| pattern.matches(host));
        matching.rev().max_by_key(|(_, pattern)| rank(pattern)).map(|(at, _)| at)
    }

    fn host() -> impl Strategy<Value = Host> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..5)
            .prop_map(|labels| Host::parse(&labels.join(".")).expect("labels make a host"))
    }

    fn pattern() -> impl Strategy<Value = HostPattern> {
        prop_oneof![
            host().prop_map(HostPattern::Exact),
            host().prop_map(HostPattern::Suffix),
            host().prop_map(HostPattern::OneLabel),
            Just(HostPattern::Any),
        ]
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_scan_finds(patterns in prop::collection::vec(pattern(), 0..12), host in host()) {
            let mut index = HostIndex::default();
            for (at, pattern) in patterns.iter().enumerate() {
                index.insert(pattern, at);
            }
            prop_assert_eq!(index.get(&host).copied(), naive(&patterns, &host));
        }
    }
}
