//! Whether a failed try is followed by another (semantics.md 14 and 15).
//!
//! Only what the upstream cannot have worked on, what the operator asks for, and requests that change nothing are sent
//! twice. Limits (the budget, the route's deadline, response bytes already forwarded) are the engine's to check.

use std::time::Duration;

use crate::dice::Dice;
use crate::failure::{Failure, Replay};
use crate::message::ResponseHead;
use crate::model::RetryOn;
use crate::snapshot::Retry;

/// The longest back-off, as a multiple of the first (Envoy's default `max_interval`).
const LONGEST_BACKOFF: u32 = 10;

/// How a try ended.
#[derive(Debug, Clone, Copy)]
pub enum AttemptResult<'a> {
    /// With this response, of which nothing has been forwarded.
    Answered(&'a ResponseHead),
    /// Without one.
    Failed(Failure),
}

/// What may be done again with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayable {
    /// The method is safe and there is no body.
    pub harmless: bool,
    /// Everything of the body can be sent again, or none of it has been taken from the downstream.
    pub body_kept: bool,
    /// A byte of the request has been sent to the upstream.
    pub sent: bool,
}

/// Whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes, after this time.
    Retry {
        /// How long to wait first.
        backoff: Duration,
    },
    /// No: the result stands.
    Done,
}

/// Judges try number `attempt`, the first being 1.
pub fn judge(
    policy: &Retry,
    result: &AttemptResult<'_>,
    request: Replayable,
    attempt: u32,
    dice: &mut Dice,
) -> Verdict {
    if attempt > policy.attempts || !request.body_kept {
        return Verdict::Done;
    }
    let again = match result {
        AttemptResult::Answered(head) => answered(policy, head),
        AttemptResult::Failed(failure) => failed(policy, *failure, request),
    };
    if again { Verdict::Retry { backoff: backoff(policy.backoff, attempt, dice) } } else { Verdict::Done }
}

fn answered(policy: &Retry, head: &ResponseHead) -> bool {
    let status = head.status;
    if head.headers.contains("x-envoy-ratelimited") {
        return policy.on(RetryOn::EnvoyRatelimited);
    }
    (policy.on(RetryOn::Any5xx) && (500..600).contains(&status))
        || (policy.on(RetryOn::GatewayError) && (502..=504).contains(&status))
        || (policy.on(RetryOn::Retriable4xx) && status == 409)
        || (policy.on(RetryOn::RetriableStatus) && policy.lists(status))
        || (policy.on(RetryOn::RetriableHeader) && policy.lists_one_of(&head.headers))
        || grpc_condition(head).is_some_and(|condition| policy.on(condition))
}

/// A gRPC status in the response's headers; one in the trailers comes too late.
fn grpc_condition(head: &ResponseHead) -> Option<RetryOn> {
    match head.headers.get("grpc-status")? {
        b"1" => Some(RetryOn::GrpcCancelled),
        b"4" => Some(RetryOn::GrpcDeadlineExceeded),
        b"8" => Some(RetryOn::GrpcResourceExhausted),
        b"13" => Some(RetryOn::GrpcInternal),
        b"14" => Some(RetryOn::GrpcUnavailable),
        _ => None,
    }
}

fn failed(policy: &Retry, failure: Failure, request: Replayable) -> bool {
    let replay = failure.consequence().replay;
    // The route's own deadline has passed, or there is nobody to try: another try cannot help.
    let hopeless =
        matches!(failure, Failure::UpstreamTimeout | Failure::NoHealthyUpstream | Failure::Draining);
    if replay == Replay::Never || hopeless {
        return false;
    }
    let reset = policy.on(RetryOn::Any5xx) || policy.on(RetryOn::GatewayError) || policy.on(RetryOn::Reset);
    let before = !request.sent && policy.on(RetryOn::ResetBeforeRequest);
    reset
        || before
        || match failure {
            Failure::ConnectFailed | Failure::UpstreamHandshakeFailed => policy.on(RetryOn::ConnectFailure),
            Failure::StreamRefused => policy.on(RetryOn::RefusedStream),
            // D12: the connection died before any byte of a response, and to ask again changes nothing.
            Failure::UpstreamClosed | Failure::UpstreamReset => request.harmless,
            _ => false,
        }
}

/// Full jitter: uniform in `0..(2^attempt - 1) × base`, at most ten times the base.
fn backoff(base: Duration, attempt: u32, dice: &mut Dice) -> Duration {
    let factor = 2_u32.saturating_pow(attempt).saturating_sub(1).min(LONGEST_BACKOFF);
    let longest = u64::try_from(base.saturating_mul(factor).as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(dice.below_wide(longest))
}

#[cfg(test)]
mod tests;
