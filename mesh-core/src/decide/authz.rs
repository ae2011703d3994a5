//! Whether a caller may do what it asks: the order of policies and what their matches mean (semantics.md 32–37).

use std::fmt;
use std::net::IpAddr;

use super::trail::{Note, NoteKind, Trail};
use super::{Entry, Peer, Request};
use crate::model::{self, AuthzAction, Host, Origin, Role};
use crate::snapshot::authz::{Authorization, Caller, CompiledPolicy};

/// Which policy denies, for the operator's log; the client is never told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial(Option<Box<(Origin, usize)>>);

impl Denial {
    /// No allow policy matched, and there is one.
    const NOTHING_ALLOWS: Self = Self(None);

    fn by(policy: &CompiledPolicy, rule: usize) -> Self {
        Self(Some(Box::new((policy.origin.clone(), rule))))
    }

    /// The policy and the index of its rule; `None` when the caller is denied because nothing allows it.
    pub fn policy(&self) -> Option<(&Origin, usize)> {
        self.0.as_deref().map(|(origin, rule)| (origin, *rule))
    }
}

impl fmt::Display for Denial {
    /// Istio's response code details.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rbac_access_denied_matched_policy")?;
        match self.policy() {
            None => f.write_str("[none]"),
            Some((Origin { namespace, name, .. }, rule)) => {
                write!(f, "[ns[{namespace}]-policy[{name}]-rule[{rule}]]")
            }
        }
    }
}

/// The facts of a request.
pub(super) fn caller_of_request<'a>(request: &Request<'a>, own: &model::Own) -> Caller<'a> {
    let caller = caller_of_connection(request.entry, request.peer, None);
    Caller { remote: remote(request, own), head: Some(request.head), ..caller }
}

/// The facts of a connection.
pub(super) fn caller_of_connection<'a>(
    entry: Entry<'_>,
    peer: &'a Peer,
    sni: Option<&'a Host>,
) -> Caller<'a> {
    Caller {
        identity: peer.identity.as_ref(),
        address: peer.address.ip(),
        remote: peer.address.ip(),
        local: peer.local.ip(),
        port: entry.port(),
        sni: sni.or_else(|| peer.tls.as_ref().and_then(|tls| tls.sni.as_ref())),
        head: None,
    }
}

/// The client before all trusted proxies (semantics.md 35).
///
/// A gateway trusts as many entries of `x-forwarded-for`, from the right, as there are trusted proxies before it; a sidecar
/// trusts the one that the gateway or sidecar before it has added. An entry that is no address ends the trust.
pub(super) fn remote(request: &Request<'_>, own: &model::Own) -> IpAddr {
    let peer = request.peer.address.ip();
    let trusted = usize::from(own.mesh.trusted_proxies) + usize::from(own.role == Role::Sidecar);
    let Some(skip) = trusted.checked_sub(1) else { return peer };
    let mut entries =
        request.head.headers.iter().rev().filter(|field| field.is("x-forwarded-for")).flat_map(|field| {
            let entries = field.value.rsplit(|&b| b == b',');
            entries.map(|entry| {
                std::str::from_utf8(entry).ok().and_then(|text| text.trim().parse::<IpAddr>().ok())
            })
        });
    entries.nth(skip).flatten().unwrap_or(peer)
}

/// Evaluates all policies; those in dry run leave only notes.
///
/// # Errors
/// With the policy that denies.
pub(super) fn evaluate(
    authorization: &Authorization,
    caller: &Caller<'_>,
    trail: &mut Trail,
) -> Result<(), Denial> {
    if authorization.policies.iter().any(|policy| policy.dry_run) {
        let verdict = judge(authorization, true, caller);
        trail.note(|| match &verdict {
            Ok(_) => Note::new(NoteKind::DryRun, "policies in dry run would allow".into()),
            Err(denial) => Note::new(NoteKind::DryRun, format!("policies in dry run would deny: {denial}")),
        });
    }
    match judge(authorization, false, caller) {
        Ok(Some((policy, rule))) => {
            trail
                .note(|| Note::new(NoteKind::Policy, format!("allowed by rules[{rule}]")).by(&policy.origin));
            Ok(())
        }
        Ok(None) => {
            trail.note(|| Note::new(NoteKind::Policy, "no policy denies and none must allow".into()));
            Ok(())
        }
        Err(denial) => {
            trail.note(|| match denial.policy() {
                Some((origin, rule)) => {
                    Note::new(NoteKind::Policy, format!("denied by rules[{rule}]")).by(origin)
                }
                None => {
                    Note::new(NoteKind::Policy, "denied: there are allow policies and none matches".into())
                }
            });
            Err(denial)
        }
    }
}

/// Custom policies first, then deny, then allow. Where there is no allow policy, everything else is allowed.
fn judge<'a>(
    authorization: &'a Authorization,
    dry_run: bool,
    caller: &Caller<'_>,
) -> Result<Option<(&'a CompiledPolicy, usize)>, Denial> {
    let policies = || authorization.policies.iter().filter(move |policy| policy.dry_run == dry_run);
    // No provider can be asked yet: what a custom policy selects is denied, as with an unknown provider.
    let denies = |policy: &&CompiledPolicy| matches!(policy.action, AuthzAction::Custom(_));
    for policy in
        policies().filter(denies).chain(policies().filter(|policy| policy.action == AuthzAction::Deny))
    {
        if let Some(rule) = policy.matching(caller) {
            return Err(Denial::by(policy, rule));
        }
    }
    let mut must_allow = false;
    for policy in policies().filter(|policy| policy.action == AuthzAction::Allow) {
        must_allow = true;
        if let Some(rule) = policy.matching(caller) {
            return Ok(Some((policy, rule)));
        }
    }
    if must_allow { Err(Denial::NOTHING_ALLOWS) } else { Ok(None) }
}
