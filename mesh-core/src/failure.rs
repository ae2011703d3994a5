//! Why a request or connection was not served: one type, and one total match that says what follows from it.
//!
//! Status codes, response flags and retryability are looked up here and nowhere else. `docs/failures.md` is
//! checked against [`Failure::ALL`].

use std::fmt;

/// Whose fault a failure is, for logs and for outlier detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The client sent something we refuse, or went away.
    Downstream,
    /// The endpoint or the path to it.
    Upstream,
    /// What the operator configured, or has not configured.
    Configuration,
    /// A limit or policy that did its work.
    Policy,
    /// Ourselves.
    Proxy,
}

/// Whether trying again elsewhere is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Replay {
    /// The upstream cannot have seen the request.
    NeverSeen,
    /// The upstream may have begun to work on it: only an idempotent request may be sent again.
    MayHaveBeenSeen,
    /// Trying again would not help, or is not allowed.
    Never,
}

/// Everything that follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consequence {
    /// HTTP status for the downstream.
    pub status: u16,
    /// gRPC status code for a gRPC downstream (grpc/doc/http-grpc-status-mapping.md).
    pub grpc: u8,
    /// Envoy's response flag, as access logs and metrics show it.
    pub flag: &'static str,
    /// Envoy's response code details.
    pub details: &'static str,
    /// Whose fault it is.
    pub blame: Blame,
    /// Whether it may be tried again.
    pub replay: Replay,
}

macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident => ($status:literal, $grpc:literal, $flag:literal, $details:literal, $blame:ident, $replay:ident, $body:literal),)+) => {
        /// Why a request or connection was not served.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Failure { $($(#[$doc])* $name,)+ }

        impl Failure {
            /// Every failure there is, for tables in documentation and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// What follows from it.
            pub const fn consequence(self) -> Consequence {
                match self {
                    $(Self::$name => Consequence {
                        status: $status, grpc: $grpc, flag: $flag, details: $details,
                        blame: Blame::$blame, replay: Replay::$replay,
                    },)+
                }
            }

            /// The body of the answer. Never names policy, address or configuration: those go to the operator.
            pub const fn body(self) -> &'static str {
                match self { $(Self::$name => $body,)+ }
            }

            const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }
        }
    };
}

failures! {
    /// The request is malformed or ambiguous.
    BadRequest => (400, 13, "DPE", "http1.codec_error", Downstream, Never, "bad request"),
    /// The request head is larger than the listener allows.
    HeadTooLarge => (431, 13, "DPE", "http1.headers_too_large", Downstream, Never, "request header fields too large"),
    /// The request target is longer than the listener allows.
    TargetTooLong => (414, 13, "DPE", "http1.target_too_long", Downstream, Never, "uri too long"),
    /// `Expect` holds something other than `100-continue`.
    ExpectationFailed => (417, 13, "DPE", "expectation_failed", Downstream, Never, "expectation failed"),
    /// A method or protocol element this listener does not serve, such as CONNECT.
    MethodRefused => (405, 12, "DPE", "method_refused", Downstream, Never, "method not allowed"),
    /// The client did not send the head or body in time.
    RequestTimeout => (408, 4, "DPE", "request_header_timeout", Downstream, Never, "request timeout"),
    /// The client closed before the answer was complete.
    DownstreamGone => (499, 1, "DC", "downstream_remote_disconnect", Downstream, Never, ""),
    /// The request belongs to another listener's host (RFC 9110 §15.5.20).
    Misdirected => (421, 14, "NR", "misdirected_request", Downstream, Never, "misdirected request"),
    /// No route matches.
    NoRoute => (404, 12, "NR", "route_not_found", Configuration, Never, ""),
    /// The destination is not declared and undeclared traffic is forbidden.
    Blocked => (502, 14, "BH", "direct_response", Policy, Never, ""),
    /// The route names a cluster or subset that nobody defines.
    NoCluster => (503, 14, "NC", "cluster_not_found", Configuration, Never, ""),
    /// The backend reference of a Gateway API route is invalid.
    InvalidBackend => (500, 14, "NC", "invalid_backend", Configuration, Never, ""),
    /// The cluster has no endpoint that may be used.
    NoHealthyUpstream => (503, 14, "UH", "no_healthy_upstream", Upstream, NeverSeen, "no healthy upstream"),
    /// A connection, pending request or request limit of the cluster is reached.
    Overflow => (503, 14, "UO", "upstream_reset_before_response_started{overflow}", Policy, Never, "upstream connect error or disconnect/reset before headers. reset reason: overflow"),
    /// No connection could be made in time.
    ConnectFailed => (503, 14, "UF", "upstream_reset_before_response_started{connection_failure}", Upstream, NeverSeen, "upstream connect error or disconnect/reset before headers. reset reason: connection failure"),
    /// The TLS handshake with the upstream failed, or its identity is not one that may serve this cluster.
    UpstreamHandshakeFailed => (503, 14, "UF", "upstream_reset_before_response_started{connection_failure,TLS_error}", Upstream, NeverSeen, "upstream connect error or disconnect/reset before headers. reset reason: connection failure"),
    /// The upstream refused the stream without processing it (REFUSED_STREAM, or GOAWAY below our stream).
    StreamRefused => (503, 14, "UR", "upstream_reset_before_response_started{remote_refused_stream_reset}", Upstream, NeverSeen, "upstream connect error or disconnect/reset before headers. reset reason: remote refused stream reset"),
    /// A pooled connection was closed by the upstream before any response byte.
    UpstreamClosed => (503, 14, "UC", "upstream_reset_before_response_started{connection_termination}", Upstream, MayHaveBeenSeen, "upstream connect error or disconnect/reset before headers. reset reason: connection termination"),
    /// The upstream reset the stream before any response byte.
    UpstreamReset => (503, 14, "UR", "upstream_reset_before_response_started{remote_reset}", Upstream, MayHaveBeenSeen, "upstream connect error or disconnect/reset before headers. reset reason: remote reset"),
    /// The upstream's answer is not valid HTTP.
    UpstreamProtocol => (502, 14, "UPE", "upstream_reset_before_response_started{protocol_error}", Upstream, MayHaveBeenSeen, "upstream connect error or disconnect/reset before headers. reset reason: protocol error"),
    /// The route's timeout, which spans all tries, has passed.
    UpstreamTimeout => (504, 14, "UT", "response_timeout", Upstream, MayHaveBeenSeen, "upstream request timeout"),
    /// One try took longer than its own timeout.
    AttemptTimeout => (504, 14, "UT", "upstream_per_try_timeout", Upstream, MayHaveBeenSeen, "upstream request timeout"),
    /// The upstream ended in the middle of its answer; the status is already sent.
    ResponseCut => (502, 14, "UC", "upstream_reset_after_response_started{connection_termination}", Upstream, Never, ""),
    /// Neither side sent a byte for the stream's idle time.
    StreamIdle => (504, 4, "SI", "stream_idle_timeout", Upstream, Never, "stream timeout"),
    /// The connection was open for as long as its destination lets connections be.
    DurationReached => (504, 4, "DT", "max_connection_duration", Policy, Never, ""),
    /// The control plane has not said in time what this destination is. Never passed through.
    DiscoveryTimeout => (503, 14, "ND", "discovery_timeout", Proxy, Never, "destination not known yet"),
    /// Authorization policy denies the request.
    Denied => (403, 7, "UAEX", "rbac_access_denied", Policy, Never, "RBAC: access denied"),
    /// An external authorizer denies the request. The status is the authorizer's, not this one.
    AuthorizerDenied => (403, 7, "UAEX", "ext_authz_denied", Policy, Never, ""),
    /// An external authorizer could not be asked. The status may be configured.
    AuthorizerFailed => (403, 7, "UAEX", "ext_authz_error", Policy, Never, ""),
    /// The request's token is invalid.
    Unauthenticated => (401, 16, "UAEX", "jwt_authn_access_denied", Policy, Never, ""),
    /// The request's token is meant for somebody else.
    AudienceRefused => (403, 7, "UAEX", "jwt_authn_access_denied", Policy, Never, "Audiences in Jwt are not allowed"),
    /// A rate limit is exceeded.
    /// The rule does not let the client's address in.
    AddressRefused => (403, 7, "UAEX", "source_address_denied", Policy, Never, ""),
    /// The request's body is larger than the rule lets it be.
    BodyTooLarge => (413, 13, "DPE", "request_payload_too_large", Policy, Never, "payload too large"),
    /// A rate limit is exceeded. The status is the limit's, which may not be this one.
    RateLimited => (429, 14, "RL", "local_rate_limited", Policy, Never, "local_rate_limited"),
    /// An injected abort. The status is the policy's, not this one.
    InjectedFault => (503, 14, "FI", "fault_filter_abort", Policy, Never, "fault filter abort"),
    /// Requests chase themselves between instances of ours.
    Loop => (508, 14, "DPE", "loop_detected", Configuration, Never, "loop detected"),
    /// The proxy is out of a resource it bounds.
    Overloaded => (503, 14, "OM", "overload", Proxy, Never, "overloaded"),
    /// The proxy is shutting down and takes nothing new.
    Draining => (503, 14, "DRAIN", "draining", Proxy, NeverSeen, "draining"),
    /// A bug in the proxy. Only this stream fails.
    Internal => (500, 13, "-", "internal_error", Proxy, Never, "internal error"),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let consequence = self.consequence();
        write!(f, "{} ({} {})", self.name(), consequence.status, consequence.flag)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_upstream_cannot_have_seen_is_always_replayable() {
        for failure in Failure::ALL {
            let consequence = failure.consequence();
            assert!((400..600).contains(&consequence.status), "{failure}");
            if consequence.blame == Blame::Downstream {
                assert_eq!(consequence.replay, Replay::Never, "{failure}");
            }
        }
    }
}
