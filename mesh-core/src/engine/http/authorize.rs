//! Asks an external authorizer about a request (semantics.md 32), over the connections that requests travel on themselves.
//!
//! The check goes out from the proxy, so that no policy of this workload applies to it, and all of it, the connection
//! included, has the authorizer's time. What cannot be asked is denied unless the authorizer is configured to fail open.

mod body;
mod exchange;
mod grpc;
mod http;

use std::rc::Rc;

use tokio::time::timeout;

use super::account::Account;
use crate::decide::Answer;
use crate::decide::custom::{Ask, Authorized};
use crate::engine::body::Body;
use crate::engine::connection::Downstream;
use crate::engine::worker::Worker;
use crate::failure::Failure;
use crate::message::{Headers, RequestHead};
use crate::model::CheckProtocol;
use crate::snapshot::Snapshot;
use crate::snapshot::authorizer::CompiledAuthorizer;
use crate::telemetry::Counter;
use body::Shown;

/// The request in question.
pub(super) struct InQuestion<'a> {
    pub(super) head: &'a mut RequestHead,
    pub(super) body: &'a mut Body,
    /// Headers that its response is to carry.
    pub(super) additions: &'a mut Headers,
}

/// What a check carries.
struct Check<'a> {
    worker: &'a Rc<Worker>,
    downstream: &'a Downstream,
    snapshot: &'a Snapshot,
    authorizer: &'a CompiledAuthorizer,
    head: &'a RequestHead,
    shown: Option<Shown>,
}

/// What an authorizer has said.
enum Verdict {
    Allow(Edits),
    Deny { status: u16, headers: Headers, body: bytes::Bytes },
}

/// What becomes of an allowed request.
#[derive(Default)]
struct Edits {
    set: Headers,
    append: Headers,
    remove: Vec<String>,
    downstream: Headers,
}

/// Asks; whatever happens is a verdict.
pub(super) async fn ask(
    worker: &Rc<Worker>,
    downstream: &Downstream,
    snapshot: &Snapshot,
    ask: &Ask,
    request: InQuestion<'_>,
    account: &mut Account,
) -> Authorized {
    let authorizer = &*ask.authorizer;
    let head = &mut *request.head;
    worker.count(Counter::Checks);
    let shown = match authorizer.model.body {
        Some(limit) => match body::show(request.body, limit, worker.limits().stream_idle).await {
            Ok(shown) => Some(shown),
            Err(answer) => return denied(failed(answer.status(), head), ask, answer.reason(), account),
        },
        None => None,
    };
    let check = Check { worker, downstream, snapshot, authorizer, head, shown };
    let limit = authorizer.model.timeout.duration();
    let verdict = timeout(limit, check.verdict()).await.unwrap_or_else(|_| Err("no answer in time".into()));
    match verdict {
        Ok(Verdict::Allow(edits)) => {
            edits.apply(head, request.additions);
            Authorized::Allowed
        }
        Ok(Verdict::Deny { status, headers, body }) => {
            let answer = Answer::checked(Failure::AuthorizerDenied, status, headers, body, head);
            denied(answer, ask, "denies", account)
        }
        Err(reason) => {
            worker.count(Counter::ChecksFailed);
            tracing::debug!(authorizer = authorizer.model.name, %reason, "check failed");
            if authorizer.model.fail_open {
                return Authorized::Allowed;
            }
            denied(failed(authorizer.model.status_on_error, head), ask, &reason, account)
        }
    }
}

fn failed(status: u16, head: &RequestHead) -> Answer {
    Answer::checked(Failure::AuthorizerFailed, status, Headers::default(), bytes::Bytes::new(), head)
}

/// The log says who denied and for which policy; the caller is not told.
fn denied(answer: Answer, ask: &Ask, reason: &str, account: &mut Account) -> Authorized {
    let name = &ask.authorizer.model.name;
    account.record().cause = Some(match &ask.policy {
        Some(policy) => format!("authorizer {name:?}: {reason}; {policy}").into(),
        None => format!("authorizer {name:?}: {reason}").into(),
    });
    Authorized::Denied(Box::new(answer))
}

impl Check<'_> {
    async fn verdict(&self) -> Result<Verdict, Box<str>> {
        match &self.authorizer.model.protocol {
            CheckProtocol::Http(check) => self.over_http(check).await,
            CheckProtocol::Grpc(authority) => self.over_grpc(authority).await,
        }
    }
}

impl Edits {
    fn apply(self, head: &mut RequestHead, additions: &mut Headers) {
        for name in &self.remove {
            // What routing and framing depend on is not the authorizer's.
            if !name.starts_with(':') && !name.eq_ignore_ascii_case("host") {
                head.headers.remove(name);
            }
        }
        self.set.iter().for_each(|field| head.headers.set(field.name.clone(), field.value.clone()));
        self.append.iter().for_each(|field| head.headers.append(field.name.clone(), field.value.clone()));
        self.downstream.iter().for_each(|field| additions.append(field.name.clone(), field.value.clone()));
    }
}

/// Whether a header of an authorizer's may go into a message of ours: framing and the connection are the codec's.
fn may_travel(name: &[u8]) -> bool {
    const OURS: [&[u8]; 8] = [
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"upgrade",
        b"te",
        b"trailer",
        b"keep-alive",
    ];
    !name.is_empty() && name[0] != b':' && !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours))
}
