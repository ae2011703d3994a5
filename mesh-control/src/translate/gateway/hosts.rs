//! The virtual hosts of one table while they are put together.

use mesh_core::model::{HostPattern, Routes, Rule, VirtualHost};

use crate::api::Key;
use crate::translate::http::takes_all;

/// Virtual hosts in the order in which they appeared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hosts {
    hosts: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    pattern: HostPattern,
    rules: Vec<Rule>,
    redirect: bool,
    /// The VirtualServices whose rules these are.
    sources: Vec<Key>,
}

impl Hosts {
    fn entry(&mut self, pattern: &HostPattern) -> &mut Entry {
        let at = self.hosts.iter().position(|entry| entry.pattern == *pattern).unwrap_or_else(|| {
            let pattern = pattern.clone();
            self.hosts.push(Entry { pattern, rules: Vec::new(), redirect: false, sources: Vec::new() });
            self.hosts.len() - 1
        });
        &mut self.hosts[at]
    }

    /// Answers all requests for a host with a redirect to HTTPS, whether anything routes it or not.
    pub(super) fn redirect(&mut self, pattern: &HostPattern) {
        self.entry(pattern).redirect = true;
    }

    /// Adds a VirtualService's rules to a host, once.
    pub(super) fn add(&mut self, pattern: &HostPattern, source: &Key, rules: &[Rule], redirect: bool) {
        let entry = self.entry(pattern);
        entry.redirect |= redirect;
        if !entry.sources.contains(source) {
            entry.sources.push(source.clone());
            entry.rules.extend_from_slice(rules);
        }
    }

    /// Sets a host's rules, whatever was there.
    pub(crate) fn set(&mut self, pattern: &HostPattern, rules: Vec<Rule>) {
        self.entry(pattern).rules = rules;
    }

    /// The rules of a host, if it has any.
    pub(crate) fn get(&self, pattern: &HostPattern) -> Option<&[Rule]> {
        let entry = self.hosts.iter().find(|entry| entry.pattern == *pattern)?;
        (!entry.rules.is_empty()).then_some(entry.rules.as_slice())
    }

    /// The rules that take requests for a host or pattern: of the most specific entry that covers it.
    pub(crate) fn covering(&self, pattern: &HostPattern) -> Option<&[Rule]> {
        use crate::translate::scope::{covers, specificity};
        let covering = self.hosts.iter().filter(|entry| covers(&entry.pattern, pattern));
        covering.max_by_key(|entry| specificity(&entry.pattern)).map(|entry| entry.rules.as_slice())
    }

    /// The table. Where several VirtualServices share a host, rules that take everything come last (semantics.md 1).
    pub(super) fn into_routes(self, name: &str) -> Routes {
        let mut virtual_hosts: Vec<VirtualHost> = self
            .hosts
            .into_iter()
            .map(|mut entry| {
                if entry.sources.len() > 1 {
                    entry.rules.sort_by_key(takes_all);
                }
                VirtualHost {
                    name: entry.pattern.to_string(),
                    hosts: vec![entry.pattern],
                    rules: entry.rules,
                    https_redirect: entry.redirect,
                }
            })
            .collect();
        virtual_hosts.sort_by(|left, right| left.name.cmp(&right.name));
        Routes { name: name.to_owned(), virtual_hosts }
    }
}
