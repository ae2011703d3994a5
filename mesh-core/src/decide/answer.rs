//! Answers of the proxy's own.

use std::sync::Arc;

use bytes::Bytes;

use super::authz::Denial;
use super::route::FoundRule;
use crate::failure::Failure;
use crate::message::{Headers, RequestHead};
use crate::model::AbortStatus;
use crate::snapshot::CompiledRule;

/// An answer of the proxy's own, ready to be sent.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers, edits of the route included; `content-length` is the codec's.
    pub headers: Headers,
    /// The body.
    pub body: Bytes,
    /// Why the proxy answers.
    pub reason: Reason,
    /// The route's name, if one matched.
    pub route_name: Option<Arc<str>>,
    /// The rule, if one matched.
    pub rule: Option<Arc<CompiledRule>>,
    /// The policy that denies, for the log.
    pub denial: Option<Denial>,
    /// What else is to be said in the log.
    pub cause: Option<Box<str>>,
}

/// Why the proxy answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It could not or would not serve the request.
    Failure(Failure),
    /// The route says so.
    Direct,
    /// The route redirects, or the host is served over HTTPS only.
    Redirect,
    /// A fault is injected.
    Fault,
    /// A cross-origin preflight.
    Preflight,
}

impl Reason {
    /// Envoy's response flag, `-` where there is none.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Failure(failure) => failure.consequence().flag,
            Self::Fault => Failure::InjectedFault.consequence().flag,
            Self::Direct | Self::Redirect | Self::Preflight => "-",
        }
    }

    /// Envoy's response code details.
    pub const fn details(self) -> &'static str {
        match self {
            Self::Failure(failure) => failure.consequence().details,
            Self::Fault => Failure::InjectedFault.consequence().details,
            Self::Direct | Self::Redirect => "direct_response",
            Self::Preflight => "cors_preflight",
        }
    }
}

impl Answer {
    /// A plain answer.
    pub fn new(status: u16, body: Bytes, reason: Reason) -> Self {
        let mut headers = Headers::default();
        if !body.is_empty() {
            headers.append("content-type", "text/plain");
        }
        Self { status, headers, body, reason, route_name: None, rule: None, denial: None, cause: None }
    }

    /// The answer that a failure calls for: as HTTP, or as gRPC to a gRPC client.
    pub fn failure(failure: Failure, head: &RequestHead) -> Self {
        let consequence = failure.consequence();
        if is_grpc(head) {
            return Self::grpc(consequence.grpc, failure.body(), Reason::Failure(failure));
        }
        let body = Bytes::from_static(failure.body().as_bytes());
        Self::new(consequence.status, body, Reason::Failure(failure))
    }

    /// The answer of an injected abort.
    pub(super) fn injected(status: AbortStatus, head: &RequestHead) -> Self {
        let body = Failure::InjectedFault.body();
        match status {
            AbortStatus::Grpc(code) => Self::grpc(code, body, Reason::Fault),
            AbortStatus::Http(status) if is_grpc(head) => Self::grpc(grpc_code(status), body, Reason::Fault),
            AbortStatus::Http(status) => {
                Self::new(status, Bytes::from_static(body.as_bytes()), Reason::Fault)
            }
        }
    }

    /// A gRPC answer without messages: the status travels in the headers (grpc/doc/PROTOCOL-HTTP2.md, Trailers-Only).
    fn grpc(code: u8, message: &'static str, reason: Reason) -> Self {
        let mut answer = Self::new(200, Bytes::new(), reason);
        answer.headers.append("content-type", "application/grpc");
        answer.headers.append("grpc-status", itoa::Buffer::new().format(code).to_owned());
        if !message.is_empty() {
            answer.headers.append("grpc-message", message);
        }
        answer
    }

    /// The answer, as one that a rule gave.
    pub(super) fn on(mut self, found: &FoundRule<'_>) -> Self {
        self.route_name = Some(Arc::clone(found.matched.route_name));
        self.rule = Some(Arc::clone(found.matched.rule));
        self
    }

    /// The answer to a denied request.
    pub(super) fn denied(denial: Denial, head: &RequestHead) -> Self {
        Self { denial: Some(denial), ..Self::failure(Failure::Denied, head) }
    }
}

/// Whether the client speaks gRPC.
pub fn is_grpc(head: &RequestHead) -> bool {
    let rest = head.headers.get("content-type").and_then(|value| value.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// The gRPC code that stands for an HTTP status (grpc/doc/http-grpc-status-mapping.md).
fn grpc_code(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}
