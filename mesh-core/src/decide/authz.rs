//! Whether a caller may do what it asks: the order of policies and what their matches mean (semantics.md 32–37).

use std::fmt;

use super::client::client_address;
use super::trail::{Note, NoteKind, Trail};
use super::{Entry, Peer, Request};
use crate::model::{self, AuthzAction, Host, Origin};
use crate::snapshot::authz::{Authorization, Caller, CompiledPolicy};
use crate::snapshot::token::Claims;

/// Which policy denies, for the operator's log; the client is never told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial(Option<Box<(Origin, usize)>>);

impl Denial {
    /// No allow policy matched, and there is one.
    const NOTHING_ALLOWS: Self = Self(None);

    pub(super) fn by(policy: &CompiledPolicy, rule: usize) -> Self {
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
pub(super) fn caller_of_request<'a>(
    request: &Request<'a>,
    token: Option<&'a Claims>,
    own: &model::Own,
) -> Caller<'a> {
    let caller = caller_of_connection(request.entry, request.peer, None);
    let remote = client_address(request.head, request.entry, request.peer, own.mesh.trusted_proxies);
    Caller { remote, head: Some(request.head), token, ..caller }
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
        token: None,
    }
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
    if authorization.dry_runs && trail.is_on() {
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

/// What policies in dry run would deny.
pub(super) fn shadow(authorization: &Authorization, caller: &Caller<'_>) -> Option<Denial> {
    judge(authorization, true, caller).err()
}

/// Custom policies first, then deny, then allow. Where there is no allow policy, everything else is allowed.
fn judge<'a>(
    authorization: &'a Authorization,
    dry_run: bool,
    caller: &Caller<'_>,
) -> Result<Option<(&'a CompiledPolicy, usize)>, Denial> {
    match authorization.first(caller, dry_run) {
        Some((policy, rule)) if policy.action == AuthzAction::Allow => Ok(Some((policy, rule))),
        Some((policy, rule)) => Err(Denial::by(policy, rule)),
        None if authorization.must_allow(caller, dry_run) => Err(Denial::NOTHING_ALLOWS),
        None => Ok(None),
    }
}
