//! One request, from its head to its answer. HTTP/1.1 and HTTP/2 alike.

use std::future::Ready;
use std::rc::Rc;
use std::time::Instant;

use tokio::time::sleep;

use super::account::Account;
use super::authorize::{self, InQuestion};
use super::meter::metered;
use super::{Reply, forward, headers};
use crate::canonical;
use crate::decide::answer::Answer;
use crate::decide::client::client_address;
use crate::decide::{self, Decide, Decision, Plan, Question, Request, Trail};
use crate::engine::body::Body;
use crate::engine::codec::Reject;
use crate::engine::connection::Downstream;
use crate::engine::resolve::{self, MAX_QUESTIONS};
use crate::engine::worker::Worker;
use crate::failure::Failure;
use crate::message::{Headers, RequestHead, ResponseHead};
use crate::model::{PathNormalization, Tracing};
use crate::telemetry::trace::roll_of;
use crate::telemetry::{Counter, TraceContext};

/// Serves a request. It is reported when its answer has been sent, or when this future is dropped: then the client went.
pub(super) async fn request(
    worker: &Rc<Worker>,
    downstream: &Rc<Downstream>,
    head: Result<RequestHead, Reject>,
    mut body: Body,
) -> Reply {
    let mut account = Account::open(worker, downstream);
    let mut head = match head {
        Ok(head) => head,
        Err(reject) => return refuse(downstream, reject, account),
    };
    let mut additions = Headers::default();
    let question = InQuestion { head: &mut head, body: &mut body, additions: &mut additions };
    let verdict = match arrive(worker, downstream, question.head, &mut account) {
        Ok(()) => judge(worker, downstream, question, &mut account).await,
        Err(failure) => Err(failed(failure, &head)),
    };
    let mut reply = match verdict {
        Ok(plan) => forward::forward(worker, downstream, *plan, head, body, account).await,
        Err(answer) => respond(downstream, *answer, account),
    };
    for field in &additions {
        reply.head.headers.append(field.name.clone(), field.value.clone());
    }
    reply
}

/// Brings the head into the form in which it is decided on, logged and forwarded.
fn arrive(
    worker: &Worker,
    downstream: &Downstream,
    head: &mut RequestHead,
    account: &mut Account,
) -> Result<(), Failure> {
    // Only what policy still sees afterwards may be switched to: a tunnel of HTTP/2 would carry requests past it.
    head.upgrade.take_if(|protocol| !protocol.eq_ignore_ascii_case(b"websocket"));
    let own = account.own();
    let trusted = own.as_ref().map_or(0, |own| own.trusted_proxies);
    let mode = own.as_ref().map(|own| own.path_normalization).unwrap_or_default();
    let canonical = canonicalize(head, mode);
    let arrived =
        canonical.and_then(|()| worker.dice(|dice| headers::arrive(head, downstream, own.as_deref(), dice)));
    account.request(head);
    account.client(client_address(head, downstream.entry(), &downstream.peer, trusted));
    let tracing = own.as_ref().and_then(|own| own.tracing(account.record().side()));
    account.record().trace = trace(worker, head, tracing);
    arrived
}

/// The trace that the request is part of.
fn trace(worker: &Worker, head: &RequestHead, tracing: Option<&Tracing>) -> TraceContext {
    let roll = |random: &mut fastrand::Rng, tracing: &Tracing| {
        let id = tracing.by_request_id.then(|| head.headers.get(headers::REQUEST_ID)).flatten();
        id.and_then(roll_of).unwrap_or_else(|| random.u32(..))
    };
    let context = worker.random(|random| {
        TraceContext::join(&head.headers, random, |random| {
            tracing.is_some_and(|tracing| tracing.sampling.hits(roll(random, tracing)))
        })
    });
    if tracing.is_some_and(|tracing| tracing.keep_headers) { context.keeping_headers() } else { context }
}

/// One path for routes, policy, the log and the upstream alike (security: one canonical request).
fn canonicalize(head: &mut RequestHead, mode: PathNormalization) -> Result<(), Failure> {
    // The asterisk form of OPTIONS is no path.
    if &head.path[..] != b"*" {
        head.path = canonical::path(&head.path, mode)?;
    }
    Ok(())
}

/// Asks until there is an answer or a plan.
async fn judge(
    worker: &Rc<Worker>,
    downstream: &Downstream,
    asked: InQuestion<'_>,
    account: &mut Account,
) -> Result<Box<Plan>, Box<Answer>> {
    let InQuestion { head, body, additions } = asked;
    let mut decide = Decide::new();
    let mut snapshot = worker.snapshot();
    let mut needed = 0;
    // Questions are bounded by what is configured: each is asked once. Needs are bounded here.
    while needed <= MAX_QUESTIONS {
        let (entry, peer, now) = (downstream.entry(), &downstream.peer, Instant::now());
        let request = Request { snapshot: &snapshot, entry, peer, head, now };
        let decision = worker.dice(|dice| decide.step(&request, dice, &mut Trail::off()));
        if let Some(denial) = decide.dry_run().filter(|_| account.record().dry_run.is_none()) {
            worker.count(Counter::DryRunDenied);
            account.record().dry_run = Some(denial.to_string().into());
        }
        match decision {
            Decision::Forward(plan) => return Ok(plan),
            Decision::Answer(answer) => return Err(answer),
            Decision::Need(root) => {
                needed += 1;
                // Boxed, as below: what has to be learnt first is learnt once.
                Box::pin(resolve::wait(worker, &root)).await.map_err(|failure| failed(failure, head))?;
                snapshot = worker.snapshot();
            }
            Decision::Ask(Question::Wait(delay)) => {
                sleep(delay).await;
                decide.resume(decide::Reply::Waited);
            }
            Decision::Ask(Question::Signatures(checks)) => {
                decide.resume(decide::Reply::Checked(worker.tokens().check(&checks)));
            }
            Decision::Ask(Question::Edit(edits)) => {
                edits.apply(head);
                // What is on record is what goes on: without the token, with the headers made of it.
                account.request(head);
                decide.resume(decide::Reply::Edited);
            }
            Decision::Ask(Question::Authorize(ask)) => {
                let request = InQuestion { head: &mut *head, body: &mut *body, additions: &mut *additions };
                let asking = authorize::ask(worker, downstream, &snapshot, &ask, request, account);
                // Boxed: only requests that are asked about pay for its size.
                decide.resume(decide::Reply::Authorized(Box::pin(asking).await));
            }
        }
    }
    Err(failed(Failure::DiscoveryTimeout, head))
}

fn failed(failure: Failure, head: &RequestHead) -> Box<Answer> {
    Box::new(Answer::failure(failure, head))
}

/// Answers by ourselves.
pub(super) fn respond(downstream: &Downstream, answer: Answer, mut account: Account) -> Reply {
    account.answered(answer.reason);
    if answer.reason == decide::Reason::Failure(Failure::Blocked) {
        account.count_blocked();
    }
    if answer.reason == decide::Reason::Failure(Failure::RateLimited) {
        account.count_limited();
    }
    if answer.route_name.is_some() {
        account.record().route = answer.route_name;
    }
    account.record().cause = account
        .record()
        .cause
        .take()
        .or(answer.cause)
        .or_else(|| answer.denial.map(|d| d.to_string().into()));
    account.grpc_status(&answer.headers);
    let mut head = ResponseHead { status: answer.status, headers: answer.headers };
    let tells = account.headers().is_none_or(|headers| !headers.omits_debug);
    if tells && account.record().failure == Some(Failure::Overflow) {
        head.headers.append("x-envoy-overloaded", "true");
    }
    headers::answer(&mut head, downstream, account.headers(), None);
    account.response(&head);
    Reply { head, body: metered(Body::full(answer.body), account, (), None::<Ready<()>>), switched: None }
}

/// Answers what the codec could not take for a request.
fn refuse(downstream: &Downstream, reject: Reject, account: Account) -> Reply {
    let consequence = reject.failure.consequence();
    tracing::debug!(peer = %downstream.peer.address, reason = reject.reason, "request refused");
    let body = reject.failure.body().as_bytes();
    let answer =
        Answer::new(consequence.status, body.into(), decide::answer::Reason::Failure(reject.failure));
    respond(downstream, answer, account)
}
