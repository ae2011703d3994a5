//! The rules of all policies in the order in which they decide.
//!
//! Whoever denies comes before whoever allows (semantics.md 32), so the first rule that matches says what becomes of a
//! caller. There are four such orders: of policies in force and in dry run, for requests and for connections.

use super::index::CallerIndex;
use super::{Caller, CompiledAuthzRule, CompiledPolicy};
use crate::model::AuthzAction;

/// With fewer rules than this an order is walked.
const WALKED: usize = 8;

/// Which policies, and of what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    /// Those in dry run, or those in force.
    pub(super) dry_run: bool,
    /// Their rules for requests, or those for connections.
    pub(super) http: bool,
}

/// Rules in order.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Positions of a policy and of a rule in it.
    rules: Box<[(u32, u32)]>,
    /// Where there are many.
    index: Option<CallerIndex>,
    /// Whether there is a policy that allows: what none of them allows is denied.
    pub(super) must_allow: bool,
}

impl Order {
    pub(super) fn new(policies: &[CompiledPolicy], scope: Scope) -> Self {
        let in_scope = || (0..).zip(policies).filter(|(_, policy)| policy.dry_run == scope.dry_run);
        let rules_of = |(at, policy): (u32, &CompiledPolicy)| {
            let (rank, count) = (rank(policy, scope), policy.rules(scope.http).len());
            let rules = (0u32..).take(if rank.is_some() { count } else { 0 });
            rules.map(move |rule| (rank, at, rule))
        };
        let mut ranked: Vec<_> = in_scope().flat_map(rules_of).collect();
        ranked.sort_unstable();
        let rules: Box<[_]> = ranked.into_iter().map(|(_, policy, rule)| (policy, rule)).collect();
        let must_allow = in_scope().any(|(_, policy)| policy.action == AuthzAction::Allow);
        let index = (rules.len() >= WALKED).then(|| index(&rules, policies, scope));
        Self { rules, index, must_allow }
    }

    /// The policy of the first rule that matches, with the rule's index in it.
    pub(super) fn first<'a>(
        &self,
        policies: &'a [CompiledPolicy],
        caller: &Caller<'_>,
    ) -> Option<(&'a CompiledPolicy, usize)> {
        let http = caller.head.is_some();
        let at = |position: u32| {
            let (policy, rule) = self.rules[position as usize];
            let policy = &policies[policy as usize];
            (policy, &policy.rules(http)[rule as usize])
        };
        let matches = |position| at(position).1.matches(caller);
        let found = match &self.index {
            Some(index) => index.find(caller, matches),
            None => (0..).take(self.rules.len()).find(|&position| matches(position)),
        };
        let (policy, rule) = at(found?);
        Some((policy, rule.at))
    }
}

/// When it decides; `None` for who does not. Requests have been through `decide::custom`. Nobody is asked about
/// connections: what a custom policy selects is denied. In dry run nobody is asked at all.
fn rank(policy: &CompiledPolicy, scope: Scope) -> Option<u8> {
    match policy.action {
        AuthzAction::Custom(_) => (!scope.http && !scope.dry_run).then_some(0),
        AuthzAction::Deny => Some(1),
        AuthzAction::Allow => Some(2),
    }
}

fn index(rules: &[(u32, u32)], policies: &[CompiledPolicy], scope: Scope) -> CallerIndex {
    let rule = |&(policy, rule): &(u32, u32)| -> &CompiledAuthzRule {
        &policies[policy as usize].rules(scope.http)[rule as usize]
    };
    CallerIndex::new(rules.iter().map(rule), scope.http)
}

#[cfg(test)]
mod tests;
