//! Everything that is known of one request or connection when it has ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::TraceContext;
use crate::failure::Failure;
use crate::identity::SpiffeId;
use crate::message::{RequestHead, Version};
use crate::model::Workload;

/// Which side of a hop reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reporting {
    /// The caller's sidecar, or a gateway.
    #[default]
    Source,
    /// The called workload's sidecar.
    Destination,
}

/// The protocol as metrics label it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RequestProtocol {
    /// HTTP of any version.
    #[default]
    Http,
    /// gRPC, told by the content type.
    Grpc,
    /// Anything else.
    Tcp,
}

/// `connection_security_policy`: known for sure only to the side that was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Security {
    /// Reported by the source.
    #[default]
    Unknown,
    /// Came in the clear.
    None,
    /// Came over mesh TLS.
    MutualTls,
}

/// One request or connection. The default has nothing known.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Which side reports.
    pub reporting: Reporting,
    /// Protocol label.
    pub protocol: RequestProtocol,
    /// Security label.
    pub security: Security,
    /// When it began.
    pub started: Option<SystemTime>,
    /// From the first byte of the request to the last of the response.
    pub duration: Duration,
    /// From sending the request upstream to the response's head.
    pub upstream_duration: Option<Duration>,
    /// Request line, authority and the headers that the log shows.
    pub request: Option<LoggedRequest>,
    /// Status sent downstream; 0 when none was.
    pub status: u16,
    /// gRPC status of the response, from headers or trailers.
    pub grpc_status: Option<u8>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// Response code details, when there is no failure: `via_upstream`, `direct_response`.
    pub details: &'static str,
    /// What the transport to the upstream said, or which policy denied.
    pub cause: Option<Box<str>>,
    /// Which policy in dry run would have denied.
    pub dry_run: Option<Box<str>>,
    /// Body bytes of the request.
    pub received: u64,
    /// Body bytes of the response.
    pub sent: u64,
    /// Who proved its identity on the downstream connection; at a gateway this is not the source of the labels.
    pub downstream_principal: Option<SpiffeId>,
    /// The caller.
    pub source: Option<Arc<Workload>>,
    /// The caller's identity.
    pub source_principal: Option<SpiffeId>,
    /// Who served.
    pub destination: Option<Arc<Workload>>,
    /// The serving identity.
    pub destination_principal: Option<SpiffeId>,
    /// The service that was called.
    pub service: Option<Arc<ServiceLabels>>,
    /// The route's name.
    pub route: Option<Arc<str>>,
    /// The cluster's name.
    pub cluster: Option<Arc<str>>,
    /// The endpoint's address.
    pub upstream: Option<SocketAddr>,
    /// Our own address towards it.
    pub upstream_local: Option<SocketAddr>,
    /// The address the client dialled.
    pub downstream_local: Option<SocketAddr>,
    /// The client's address.
    pub downstream_remote: Option<SocketAddr>,
    /// Server name of the client's TLS.
    pub server_name: Option<Arc<str>>,
    /// The trace.
    pub trace: TraceContext,
}

/// The labels of a called service, made once when the snapshot compiles.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ServiceLabels {
    /// Canonical host.
    pub host: String,
    /// Short name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
}

/// What the log shows of a request's head.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "named as the fields and headers they hold")]
pub struct LoggedRequest {
    pub method: crate::message::Method,
    pub path: Bytes,
    pub query: Option<Bytes>,
    pub version: Version,
    pub authority: Bytes,
    pub forwarded_for: Option<Bytes>,
    pub user_agent: Option<Bytes>,
    pub request_id: Option<Bytes>,
}

impl LoggedRequest {
    /// Takes what the log needs; no bytes are copied.
    pub fn of(head: &RequestHead) -> Self {
        let mut logged = Self {
            method: head.method.clone(),
            path: head.path.clone(),
            query: head.query.clone(),
            version: head.version,
            authority: head.authority.clone(),
            forwarded_for: None,
            user_agent: None,
            request_id: None,
        };
        for field in &head.headers {
            let slot = match field.name.len() {
                15 if field.is("x-forwarded-for") => &mut logged.forwarded_for,
                12 if field.is("x-request-id") => &mut logged.request_id,
                10 if field.is("user-agent") => &mut logged.user_agent,
                _ => continue,
            };
            slot.get_or_insert_with(|| field.value.clone());
        }
        logged
    }
}

impl Record {
    /// The response flag, `-` when nothing failed.
    pub fn flag(&self) -> &'static str {
        self.failure.map_or("-", |failure| failure.consequence().flag)
    }

    /// The response code details; of a request that a policy denies they name the policy, as Istio's do.
    pub fn response_details(&self) -> &str {
        if let Some(denial) = self.denial() {
            return denial;
        }
        match self.failure {
            Some(failure) => failure.consequence().details,
            None if self.details.is_empty() => "via_upstream",
            None => self.details,
        }
    }

    /// What the transport to the upstream said.
    pub fn transport_failure(&self) -> Option<&str> {
        self.cause.as_deref().filter(|_| self.denial().is_none())
    }

    /// Which policy has denied the request.
    fn denial(&self) -> Option<&str> {
        let denied = self.request.is_some() && self.failure == Some(Failure::Denied);
        let details = Failure::Denied.consequence().details;
        self.cause.as_deref().filter(|cause| denied && cause.starts_with(details))
    }
}
