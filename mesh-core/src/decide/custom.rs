//! External authorization: who has to be asked before a request may pass (semantics.md 32).
//!
//! Asked before the policies that deny and allow. An authorizer is asked once per request, however many of its rules match
//! and however often the decision is stepped; its verdict stays. Asking is the engine's.

use std::sync::Arc;

use super::authz::{self, Denial};
use super::trail::{Note, NoteKind, Trail};
use super::{Answer, Decision, Entry, Question, Request};
use crate::model::Root;
use crate::snapshot::authorizer::CompiledAuthorizer;
use crate::snapshot::token::Claims;

/// An authorizer, and the policy that wants it asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Who is asked.
    pub authorizer: Arc<CompiledAuthorizer>,
    /// The policy and rule, for the operator; `None` where a route asks.
    pub policy: Option<Denial>,
}

/// What an authorizer says.
#[derive(Debug)]
pub enum Authorized {
    /// The request may pass.
    Allowed,
    /// It is answered with this.
    Denied(Box<Answer>),
}

/// What has been asked for one request.
#[derive(Debug, Default)]
pub(super) struct Custom {
    allowed: Vec<Arc<CompiledAuthorizer>>,
    asked: Option<Arc<CompiledAuthorizer>>,
    denied: Option<Box<Answer>>,
    /// Which policy in dry run would deny.
    pub(super) dry_run: Option<Denial>,
}

impl Custom {
    /// The next question of the workload's policies, or the answer when one has been denied.
    pub(super) fn policies(
        &mut self,
        request: &Request<'_>,
        token: Option<&Claims>,
        trail: &mut Trail,
    ) -> Option<Decision> {
        if matches!(request.entry, Entry::Outbound { .. }) {
            return None;
        }
        let Some(own) = request.snapshot.own() else { return Some(Decision::Need(Root::Own)) };
        let authorization = &own.authorization;
        if !authorization.asks && !authorization.dry_runs {
            return None;
        }
        let caller = authz::caller_of_request(request, token, own.model());
        if authorization.dry_runs {
            self.dry_run = authz::shadow(authorization, &caller);
        }
        for policy in authorization.policies.iter().filter(|policy| !policy.dry_run) {
            if let Some(authorizer) = &policy.authorizer
                && let Some(rule) = policy.matching(&caller)
                && let Some(decision) = self.ask(authorizer, Some(Denial::by(policy, rule)), request, trail)
            {
                return Some(decision);
            }
        }
        None
    }

    /// Asks, unless that has been done.
    pub(super) fn ask(
        &mut self,
        authorizer: &Arc<CompiledAuthorizer>,
        policy: Option<Denial>,
        request: &Request<'_>,
        trail: &mut Trail,
    ) -> Option<Decision> {
        if let Some(answer) = self.denied.take() {
            return Some(Decision::Answer(Box::new(Answer { denial: policy, ..*answer })));
        }
        if self.allowed.contains(authorizer) {
            return None;
        }
        let name = &authorizer.model.name;
        if authorizer.model.cluster.is_none() {
            trail.note(|| Note::new(NoteKind::Policy, format!("denied: nobody defines authorizer {name:?}")));
            let mut answer = Answer::failure(crate::failure::Failure::Denied, request.head);
            answer.denial = policy;
            return Some(Decision::Answer(Box::new(answer)));
        }
        trail.note(|| Note::new(NoteKind::Policy, format!("authorizer {name:?} is asked")));
        self.asked = Some(Arc::clone(authorizer));
        Some(Decision::Ask(Question::Authorize(Ask { authorizer: Arc::clone(authorizer), policy })))
    }

    pub(super) fn resume(&mut self, said: Authorized) {
        match said {
            Authorized::Allowed => self.allowed.extend(self.asked.take()),
            Authorized::Denied(answer) => self.denied = Some(answer),
        }
    }
}
