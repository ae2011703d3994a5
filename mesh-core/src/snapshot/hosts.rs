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

    /// The rule as it is written, on labels: how specific a pattern that serves the host is. `+.` stands for one label.
    fn rank(pattern: &str, host: &str) -> Option<(u8, usize, u8)> {
        let host = host.to_lowercase();
        let labels: Vec<&str> = host.split('.').collect();
        let below = |suffix: &str| {
            let suffix: Vec<&str> = suffix.split('.').collect();
            let more = labels.len().checked_sub(suffix.len())?;
            (labels[more..] == suffix[..]).then_some((more, suffix.len()))
        };
        match (pattern.strip_prefix("*."), pattern.strip_prefix("+.")) {
            _ if pattern == "*" => Some((1, 0, 0)),
            (Some(suffix), _) => {
                below(suffix).filter(|(more, _)| *more > 0).map(|(_, length)| (2, length, 0))
            }
            (_, Some(suffix)) => {
                below(suffix).filter(|(more, _)| *more == 1).map(|(_, length)| (2, length, 1))
            }
            _ => (pattern == host).then_some((3, 0, 0)),
        }
    }

    fn host() -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..5)
            .prop_map(|labels| labels.join("."))
    }

    fn pattern() -> impl Strategy<Value = String> {
        prop_oneof![
            host(),
            host().prop_map(|suffix| format!("*.{suffix}")),
            host().prop_map(|suffix| format!("+.{suffix}")),
            Just("*".to_owned()),
        ]
    }

    proptest! {
        /// The first of equals counts.
        #[test]
        fn s20_the_index_finds_what_the_oracle_finds(
            patterns in prop::collection::vec(pattern(), 0..12),
            host in host(),
            shouts: bool,
        ) {
            let mut index = HostIndex::default();
            for (at, pattern) in patterns.iter().enumerate() {
                index.insert(&HostPattern::try_from(pattern.clone()).expect("a pattern"), at);
            }
            let host = if shouts { host.to_uppercase() } else { host };
            let ranks = patterns.iter().map(|pattern| rank(pattern, &host)).enumerate().rev();
            let best = ranks.filter_map(|(at, rank)| Some((at, rank?))).max_by_key(|(_, rank)| *rank);
            let seen = index.get(&Host::parse(&host).expect("labels make a host")).copied();
            prop_assert_eq!(seen, best.map(|(at, _)| at));
        }
    }
}
