//! Which rule of a virtual host takes a request, without looking at each.
//!
//! Every match of every rule is an entry, in order. Those whose test on the path asks for a beginning (exact paths, prefixes,
//! and expressions that begin with plain text) are filed under it; what ignores case, under its folded form; the others in
//! one list. Candidates are tested in full, and the earliest that holds wins: exactly the one that a walk over all
//! rules would come to. Rules that differ in nothing but headers are still looked at one after the other.
//!
//! Short tables have no index: walking them costs less.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;

use super::matcher::CompiledMatch;
use super::prefix_index::{PrefixIndex, earlier};
use super::rule::CompiledRule;

/// With fewer matches than this a table is walked.
const WALKED: usize = 8;

/// The matches of all rules of a virtual host.
#[derive(Debug)]
pub(super) struct RuleIndex {
    /// All matches, in order: the rule's position, and the match's in it. A rule without matches has one entry.
    entries: Box<[(u32, u32)]>,
    exact_case: PrefixIndex,
    any_case: PrefixIndex,
    /// Entries that any path may pass.
    anywhere: Box<[u32]>,
}

impl RuleIndex {
    /// The index of a table that is worth one.
    pub(super) fn of(rules: &[Arc<CompiledRule>]) -> Option<Self> {
        let matches: usize = rules.iter().map(|rule| rule.matches.len().max(1)).sum();
        (matches >= WALKED).then(|| Self::new(rules))
    }

    fn new(rules: &[Arc<CompiledRule>]) -> Self {
        let in_rule = |(rule, at): (&Arc<CompiledRule>, u32)| {
            (0u32..).take(rule.matches.len().max(1)).map(move |each| (at, each))
        };
        let entries: Box<[_]> = rules.iter().zip(0..).flat_map(in_rule).collect();
        let (mut exact_case, mut any_case, mut anywhere) = (Vec::new(), Vec::new(), Vec::new());
        for (position, &(rule, each)) in (0..).zip(&entries) {
            let test = rules[rule as usize].matches.get(each as usize);
            match test.and_then(CompiledMatch::path_start) {
                Some((start, false)) => exact_case.push((Cow::Borrowed(start), position)),
                Some((start, true)) => any_case.push((Cow::Owned(start.to_ascii_lowercase()), position)),
                None => anywhere.push(position),
            }
        }
        let (exact_case, any_case) = (PrefixIndex::new(exact_case), PrefixIndex::new(any_case));
        Self { entries, exact_case, any_case, anywhere: anywhere.into() }
    }

    /// The earliest entry that `holds`, of those that `path` may pass: the rule's position, and the match's in it.
    pub(super) fn find(&self, path: &[u8], holds: impl Fn(usize, usize) -> bool) -> Option<(usize, usize)> {
        let entry = |at: u32| {
            let (rule, each) = self.entries[at as usize];
            (rule as usize, each as usize)
        };
        let holds = |at| {
            let (rule, each) = entry(at);
            holds(rule, each)
        };
        let mut best = None;
        for filed in self.exact_case.filed(path) {
            best = earlier(best, filed, holds);
        }
        if !self.any_case.is_empty() {
            let mut folded: SmallVec<[u8; 256]> = SmallVec::from_slice(path);
            folded.make_ascii_lowercase();
            for filed in self.any_case.filed(&folded) {
                best = earlier(best, filed, holds);
            }
        }
        earlier(best, &self.anywhere, holds).map(entry)
    }
}

#[cfg(test)]
mod tests;
