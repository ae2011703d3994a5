//! What becomes of a request or connection: pure, and the same for traffic, `mesh explain` and tests.
//!
//! [`Decide`] is a resumable state machine. A step ends in a plan to forward by, an answer, a name that must be known first
//! ([`Decision::Need`]: ask, take the new snapshot, step again) or a question that takes I/O or time to answer
//! ([`Decision::Ask`]: do it, [`Decide::resume`], step again). What has been settled, such as the roll for an injected
//! fault, stays settled over the steps of one request.
//!
//! The order is Istio's: tokens, external authorization, authorization, rate limits, route, injected fault, cross-origin
//! policy, then the route's action. TLS, bodies and connections are the engine's.

pub mod answer;
pub mod authz;
pub mod client;
pub mod connection;
pub mod cors;
pub mod custom;
pub mod hash;
pub mod limit;
pub mod plan;
pub mod redirect;
pub mod retry;
pub mod rewrite;
pub mod route;
pub mod token;
pub mod trail;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::dice::Dice;
use crate::identity::SpiffeId;
use crate::message::RequestHead;
use crate::model::{Host, Root, Workload};
use crate::snapshot::Snapshot;

pub use answer::{Answer, Reason};
pub use authz::Denial;
pub use connection::{ConnectionDecision, ConnectionPlan, decide_connection};
pub use limit::Permits;
pub use plan::{Plan, Target};
pub use trail::{Note, NoteKind, Trail};

/// Who is at the other end of a downstream connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The address it called, before capture.
    pub local: SocketAddr,
    /// The identity its certificate proves.
    pub identity: Option<SpiffeId>,
    /// What its certificate says it is.
    pub workload: Option<Arc<Workload>>,
    /// Facts about its TLS connection; `None` for cleartext.
    pub tls: Option<TlsFacts>,
}

/// Facts about a TLS connection that we terminated.
#[derive(Debug, Clone, Default)]
pub struct TlsFacts {
    /// The server name the client asked for.
    pub sni: Option<Host>,
    /// The protocol that was agreed on.
    pub alpn: Option<Bytes>,
    /// SHA-256 of the client's certificate, in hex, for `x-forwarded-client-cert`.
    pub client_certificate_hash: Option<Arc<str>>,
    /// What that header says of a client from outside; `None` for mesh peers, of whom less is said.
    pub client_certificate: Option<Arc<str>>,
    /// `TLSv1.3`, for logs.
    pub version: Option<&'static str>,
}

/// By which way a request or connection came in.
#[derive(Debug, Clone, Copy)]
pub enum Entry<'a> {
    /// From the application beside this sidecar.
    Outbound {
        /// What it dialled.
        destination: SocketAddr,
    },
    /// To the application beside this sidecar.
    Inbound {
        /// The application's port.
        port: u16,
    },
    /// To a gateway.
    Gateway {
        /// The listener's port.
        port: u16,
        /// The route table of the listener or of the TLS server.
        routes: &'a str,
        /// Whether it came over TLS that we terminated.
        tls: bool,
    },
}

impl Entry<'_> {
    /// The port by which routes match.
    pub const fn port(&self) -> u16 {
        match self {
            Self::Outbound { destination } => destination.port(),
            Self::Inbound { port } | Self::Gateway { port, .. } => *port,
        }
    }
}

/// Everything a decision on a request depends on.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is known.
    pub snapshot: &'a Snapshot,
    /// The way it came.
    pub entry: Entry<'a>,
    /// Who sent it.
    pub peer: &'a Peer,
    /// Its canonical head.
    pub head: &'a RequestHead,
    /// The time.
    pub now: Instant,
}

/// The outcome of a step.
#[derive(Debug)]
pub enum Decision {
    /// Forward by this plan.
    Forward(Box<Plan>),
    /// Answer with this.
    Answer(Box<Answer>),
    /// Ask the control plane for this, then step again on the new snapshot.
    Need(Root),
    /// Find this out, resume with the reply, then step again.
    Ask(Question),
}

/// What only the engine can find out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Let this much time pass (an injected delay).
    Wait(Duration),
    /// Check these signatures, and say what time it is.
    Signatures(Box<[token::SignatureCheck]>),
    /// Edit the request's head like this; the next step is asked about the edited one.
    Edit(Box<token::HeadEdits>),
    /// Ask an authorizer.
    Authorize(custom::Ask),
}

/// The answer to a [`Question`].
#[derive(Debug)]
pub enum Reply {
    /// The time has passed.
    Waited,
    /// What the checks came to.
    Checked(token::Checked),
    /// The head has been edited.
    Edited,
    /// What the authorizer says.
    Authorized(custom::Authorized),
}

/// The decision on one request: what has been settled so far.
#[derive(Debug, Default)]
pub struct Decide {
    delay: Delay,
    abort: Option<bool>,
    token: token::Stage,
    custom: custom::Custom,
    limits: limit::Asked,
}

/// How far the injected delay is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Delay {
    #[default]
    NotRolled,
    Asked,
    Over,
}

impl Decide {
    /// Nothing settled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides as far as can be.
    pub fn step(&mut self, request: &Request<'_>, dice: &mut Dice, trail: &mut Trail) -> Decision {
        if let Some(decision) = self.token.step(request, trail) {
            return decision;
        }
        if let Some(decision) = self.custom.policies(request, self.token.claims(), trail) {
            return decision;
        }
        let decision = match route::find(request, self.token.claims(), &mut self.limits, dice, trail) {
            route::Found::Rule(found) => self.follow(request, found, dice, trail),
            route::Found::Plan(plan) => Decision::Forward(plan),
            route::Found::Answer(answer) => Decision::Answer(answer),
            route::Found::Need(root) => {
                trail.note(|| Note::new(NoteKind::Lookup, format!("{root} is not known yet")));
                Decision::Need(root)
            }
        };
        self.hand_over(decision)
    }

    /// Takes the reply to the question asked last.
    pub fn resume(&mut self, reply: Reply) {
        match reply {
            Reply::Waited => self.delay = Delay::Over,
            Reply::Checked(checked) => self.token.checked(&checked),
            Reply::Edited => self.token.edited(),
            Reply::Authorized(said) => self.custom.resume(said),
        }
    }

    /// The policy in dry run that would have denied the request.
    pub fn dry_run(&self) -> Option<&Denial> {
        self.custom.dry_run.as_ref()
    }

    /// What limits have given for as long as the request lasts goes with its plan.
    fn hand_over(&mut self, mut decision: Decision) -> Decision {
        if let Decision::Forward(plan) = &mut decision {
            plan.permits = std::mem::take(&mut self.limits.permits);
        }
        decision
    }

    fn follow(
        &mut self,
        request: &Request<'_>,
        found: route::FoundRule<'_>,
        dice: &mut Dice,
        trail: &mut Trail,
    ) -> Decision {
        if let Some(authorizer) = &found.matched.rule.authorizer
            && let Some(decision) = self.custom.ask(authorizer, None, request, trail)
        {
            return decision;
        }
        if let Some(answer) = self.limits.rule(request, found.matched.rule, trail) {
            return Decision::Answer(Box::new((*answer).on(&found)));
        }
        if let Some(fault) = &found.matched.rule.fault
            && let Some(decision) = self.fault(fault, request, &found, dice, trail)
        {
            return decision;
        }
        if let Some(preflight) = cors::preflight(request.head, &found) {
            trail.note(|| Note::new(NoteKind::Answer, "answers the cross-origin preflight".into()));
            return Decision::Answer(preflight);
        }
        route::act(request, &found, dice, trail)
    }

    /// Injected faults, each rolled once per request: first the delay, then the abort.
    fn fault(
        &mut self,
        fault: &crate::model::Fault,
        request: &Request<'_>,
        found: &route::FoundRule<'_>,
        dice: &mut Dice,
        trail: &mut Trail,
    ) -> Option<Decision> {
        if let Some((time, share)) = fault.delay {
            if self.delay == Delay::NotRolled {
                self.delay = if share.hits(dice.roll()) { Delay::Asked } else { Delay::Over };
            }
            if self.delay == Delay::Asked {
                trail.note(|| Note::new(NoteKind::Fault, format!("delays by {:?}", time.duration())));
                return Some(Decision::Ask(Question::Wait(time.duration())));
            }
        }
        let (status, share) = fault.abort?;
        if *self.abort.get_or_insert_with(|| share.hits(dice.roll())) {
            trail.note(|| Note::new(NoteKind::Fault, format!("aborts with {status:?}")));
            let answer = Answer::injected(status, request.head).on(found);
            return Some(Decision::Answer(Box::new(answer)));
        }
        None
    }
}

#[cfg(test)]
mod tests;
