//! Everything that is known of one request or connection when it has ended.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::TraceContext;
use super::shown::Shown;
use crate::failure::Failure;
use crate::identity::SpiffeId;
use crate::message::{Headers, RequestHead, Scheme, Version};
use crate::model::{Side, Workload};

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
    /// How often the request was sent upstream.
    pub attempts: u32,
    /// Headers of the response that something shows.
    pub response_headers: Headers,
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
    pub scheme: Scheme,
    pub others: Headers,
}

impl LoggedRequest {
    /// Takes what is shown; no bytes are copied, unless a token in the query is to be hidden.
    pub fn of(head: &RequestHead, shown: &Shown) -> Self {
        let mut logged = Self {
            method: head.method.clone(),
            path: head.path.clone(),
            query: head.query.as_ref().map(|query| shown.without_secrets(query)),
            version: head.version,
            authority: head.authority.clone(),
            scheme: head.scheme,
            others: shown.of_request(&head.headers),
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

impl LoggedRequest {
    /// The header of this name, in lower case, if it is one that is shown.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let known = match name {
            "x-forwarded-for" => &self.forwarded_for,
            "user-agent" => &self.user_agent,
            "x-request-id" => &self.request_id,
            "host" | ":authority" => return Some(&self.authority),
            _ => return self.others.get(name),
        };
        known.as_deref()
    }

    /// The path and, after `?`, the query.
    pub fn path_and_query(&self) -> Cow<'_, [u8]> {
        match &self.query {
            Some(query) => [&self.path[..], b"?", query].concat().into(),
            None => (&self.path[..]).into(),
        }
    }
}

impl Record {
    /// Which side of the hop reports.
    pub const fn side(&self) -> Side {
        match self.reporting {
            Reporting::Source => Side::Client,
            Reporting::Destination => Side::Server,
        }
    }

    /// The reporting proxy's own workload.
    pub fn own(&self) -> Option<&Workload> {
        match self.reporting {
            Reporting::Source => self.source.as_deref(),
            Reporting::Destination => self.destination.as_deref(),
        }
    }

    /// The reporting proxy's own identity.
    pub const fn own_principal(&self) -> Option<&SpiffeId> {
        match self.reporting {
            Reporting::Source => self.source_principal.as_ref(),
            Reporting::Destination => self.destination_principal.as_ref(),
        }
    }

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
