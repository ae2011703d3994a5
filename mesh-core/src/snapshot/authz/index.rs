//! Which rules a caller may pass, without looking at each.
//!
//! A rule is filed under one thing that it asks for: beginnings of the path, of the host, of the principal, or of
//! namespace and service account, whichever fewest other rules ask for as well. A rule without any of them is a candidate
//! for everybody. Candidates are tested in full, so a wrong filing could only miss a rule: what a rule is filed under must
//! follow from its match.

use std::borrow::Cow;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::source::Source;
use super::{Caller, CompiledAuthzRule, When};
use crate::snapshot::prefix_index::{PrefixIndex, earlier};
use crate::snapshot::text::Text;

/// What rules are filed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum By {
    Path,
    /// In lower case.
    Host,
    Principal,
    /// `NAMESPACE/sa/ACCOUNT`.
    Account,
}

/// Texts with one of which a caller's must begin.
type Starts<'a> = Vec<Cow<'a, [u8]>>;

/// The rules of an order, by position.
#[derive(Debug)]
pub(super) struct CallerIndex {
    by_path: PrefixIndex,
    by_host: PrefixIndex,
    by_principal: PrefixIndex,
    by_account: PrefixIndex,
    /// Rules of which nothing can be said.
    anyone: Box<[u32]>,
}

impl CallerIndex {
    /// Files rules for requests, or else for connections: those have neither host nor path.
    pub(super) fn new<'a>(rules: impl Iterator<Item = &'a CompiledAuthzRule>, http: bool) -> Self {
        let asked: Vec<_> = rules.map(|rule| asked(rule, http)).collect();
        let mut counts: HashMap<(By, &[u8]), usize> = HashMap::new();
        for (by, starts) in asked.iter().flatten() {
            starts.iter().for_each(|start| *counts.entry((*by, start)).or_default() += 1);
        }
        let others = |(by, starts): &&(By, Starts<'_>)| {
            starts.iter().map(|start| counts[&(*by, &**start)]).max().unwrap_or_default()
        };
        let (mut filed, mut anyone) = (HashMap::new(), Vec::new());
        for (position, asked) in (0..).zip(&asked) {
            let Some((by, starts)) = asked.iter().min_by_key(others) else {
                anyone.push(position);
                continue;
            };
            let entries: &mut Vec<_> = filed.entry(*by).or_default();
            entries.extend(starts.iter().map(|start| (Cow::Borrowed(&**start), position)));
        }
        let mut index = |by| PrefixIndex::new(filed.remove(&by).unwrap_or_default());
        Self {
            by_path: index(By::Path),
            by_host: index(By::Host),
            by_principal: index(By::Principal),
            by_account: index(By::Account),
            anyone: anyone.into(),
        }
    }

    /// The first position that `matches`, of those that the caller may pass.
    pub(super) fn find(&self, caller: &Caller<'_>, matches: impl Fn(u32) -> bool) -> Option<u32> {
        let mut best = None;
        let mut look = |index: &PrefixIndex, text: &[u8]| {
            for filed in index.filed(text) {
                best = earlier(best, filed, &matches);
            }
        };
        if let Some(head) = caller.head {
            look(&self.by_path, &head.path);
            if !self.by_host.is_empty() {
                let mut folded: SmallVec<[u8; 256]> = SmallVec::from_slice(&head.authority);
                folded.make_ascii_lowercase();
                look(&self.by_host, &folded);
            }
        }
        if let Some(identity) = caller.identity {
            look(&self.by_principal, identity.principal().as_bytes());
            look(&self.by_account, identity.account().as_bytes());
        }
        earlier(best, &self.anyone, &matches)
    }
}

/// Everything that must hold for a rule to match, as far as it can be filed under.
fn asked(rule: &CompiledAuthzRule, http: bool) -> Vec<(By, Starts<'_>)> {
    let conditions = || {
        rule.when.iter().filter_map(|condition| match condition {
            When::Source(source) => Some(source),
            _ => None,
        })
    };
    // One of the sources must match, and every condition.
    let of_source = |starts: fn(&Source) -> Option<Starts<'_>>| {
        any_of(rule.from.iter().map(starts)).or_else(|| conditions().find_map(starts))
    };
    let asked = [
        (By::Path, any_of(rule.to.iter().map(|to| starts(&to.paths.values))).filter(|_| http)),
        (By::Host, any_of(rule.to.iter().map(|to| starts(&to.hosts.values))).filter(|_| http).map(folded)),
        (By::Principal, of_source(|source| starts(&source.principals.values))),
        (By::Account, of_source(accounts)),
    ];
    asked.into_iter().filter_map(|(by, starts)| Some((by, starts?))).collect()
}

/// What one of several alternatives asks for; `None` if one of them asks for nothing, or there is none.
fn any_of<'a>(alternatives: impl Iterator<Item = Option<Starts<'a>>>) -> Option<Starts<'a>> {
    let all: Vec<_> = alternatives.collect::<Option<_>>()?;
    (!all.is_empty()).then(|| all.into_iter().flatten().collect())
}

/// What a text begins with that is one of the values; without values it may be any.
fn starts(values: &[Text]) -> Option<Starts<'_>> {
    any_of(values.iter().map(|value| value.start().map(|start| vec![Cow::Borrowed(start)])))
}

fn folded(starts: Starts<'_>) -> Starts<'_> {
    starts.iter().map(|start| Cow::Owned(start.to_ascii_lowercase())).collect()
}

/// What namespace and account begin with.
fn accounts(source: &Source) -> Option<Starts<'_>> {
    let accounts = source.service_accounts.values.iter();
    let accounts = accounts
        .map(|(namespace, account)| Some(vec![Cow::Owned(format!("{namespace}/sa/{account}").into())]));
    let in_namespace = |value: &'_ Text| match value {
        Text::Exact(namespace) => Some(vec![Cow::Owned([namespace, &b"/"[..]].concat())]),
        other => other.start().map(|start| vec![Cow::Owned(start.to_vec())]),
    };
    any_of(accounts).or_else(|| any_of(source.namespaces.values.iter().map(in_namespace)))
}
