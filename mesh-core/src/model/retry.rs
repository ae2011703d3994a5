//! When and how often a request is tried again.

use serde::{Deserialize, Serialize};

use super::Millis;

/// When and how often to try again (Envoy's router filter documentation).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RetryPolicy {
    /// Tries after the first.
    pub attempts: u32,
    /// Time for one try; ignored when it is not shorter than the route's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<Millis>,
    /// The conditions.
    pub on: Vec<RetryOn>,
    /// Statuses that are tried again under [`RetryOn::RetriableStatus`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<u16>,
    /// Names of headers that are tried again under [`RetryOn::RetriableHeader`] when a response has one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// First back-off; full jitter, doubling, at most ten times this.
    pub backoff: Millis,
    /// Whether endpoints that were tried may be tried again although there are others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub same_endpoints: bool,
    /// Whether localities that two tries have failed in are left for farther ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub other_localities: bool,
}

impl Default for RetryPolicy {
    /// Istio's: two tries more on what the upstream has not worked on.
    fn default() -> Self {
        Self {
            attempts: 2,
            per_try_timeout: None,
            on: vec![
                RetryOn::ConnectFailure,
                RetryOn::RefusedStream,
                RetryOn::GrpcUnavailable,
                RetryOn::GrpcCancelled,
                RetryOn::RetriableStatus,
            ],
            statuses: Vec::new(),
            headers: Vec::new(),
            backoff: Millis::new(25),
            same_endpoints: false,
            other_localities: false,
        }
    }
}

/// A condition for another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryOn {
    /// Status 5xx, or no answer.
    #[serde(rename = "5xx")]
    Any5xx,
    /// 502, 503 or 504.
    GatewayError,
    /// No answer: reset, closed or timed out.
    Reset,
    /// No answer, and the request has not been sent whole.
    ResetBeforeRequest,
    /// No connection.
    ConnectFailure,
    /// REFUSED_STREAM.
    RefusedStream,
    /// Status 409.
    #[serde(rename = "retriable-4xx")]
    Retriable4xx,
    /// A status of the policy's list.
    RetriableStatus,
    /// The response has a header of the policy's list.
    RetriableHeader,
    /// The upstream says `x-envoy-ratelimited`.
    EnvoyRatelimited,
    /// gRPC status 1 in the response's headers.
    GrpcCancelled,
    /// gRPC status 4.
    GrpcDeadlineExceeded,
    /// gRPC status 13.
    GrpcInternal,
    /// gRPC status 8.
    GrpcResourceExhausted,
    /// gRPC status 14.
    GrpcUnavailable,
}

impl RetryOn {
    /// A condition by its name in Envoy's lists, `x-envoy-retry-on` and `x-envoy-retry-grpc-on` together (semantics.md 15).
    pub fn named(word: &str) -> Option<Self> {
        Some(match word {
            "5xx" => Self::Any5xx,
            "gateway-error" => Self::GatewayError,
            "reset" => Self::Reset,
            "reset-before-request" => Self::ResetBeforeRequest,
            "connect-failure" => Self::ConnectFailure,
            "refused-stream" => Self::RefusedStream,
            "retriable-4xx" => Self::Retriable4xx,
            "retriable-status-codes" => Self::RetriableStatus,
            "retriable-headers" => Self::RetriableHeader,
            "envoy-ratelimited" => Self::EnvoyRatelimited,
            "cancelled" => Self::GrpcCancelled,
            "deadline-exceeded" => Self::GrpcDeadlineExceeded,
            "internal" => Self::GrpcInternal,
            "resource-exhausted" => Self::GrpcResourceExhausted,
            "unavailable" => Self::GrpcUnavailable,
            _ => return None,
        })
    }
}
