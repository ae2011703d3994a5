//! What the operator means, in the form that travels from the control plane to the proxies.
//!
//! Kubernetes objects are translated into this model; its canonical JSON is what the stream carries, and `snapshot`
//! compiles it for lookup. Everything here is plain, comparable data: no lookups, no clocks, no I/O. Every type is
//! valid by construction where that is possible, so that nothing behind the border checks again.
//!
//! A proxy subscribes to [`Root`]s; the answer is the closure of [`Resource`]s that the root needs.

pub mod address;
pub mod authorizer;
mod authz;
pub mod cluster;
pub mod expression;
pub mod headers;
pub mod limit;
pub mod listener;
pub mod locality;
pub mod matcher;
pub mod own;
pub mod reserved;
pub mod resource;
pub mod retry;
pub mod route;
pub mod telemetry;
pub mod template;
pub mod token;
pub mod units;

pub use address::{Address, Destination, DnsName, TcpRoute, Workload};
pub use authorizer::{Authorizer, CheckBody, CheckProtocol, HttpCheck, Subrequest};
pub use authz::{AuthzAction, AuthzPolicy, AuthzRule, Condition, MtlsMode, OperationMatch, SourceMatch};
pub use cluster::{
    Cluster, ClusterTls, ConnectionPool, ConsistentHash, Endpoint, EndpointAddress, Endpoints, HashKey,
    HashTable, Keepalive, LoadBalancer, OutlierDetection, SessionCookie, Transport,
};
pub use expression::{Attribute, Comparison, Expression, ExpressionError, PeerFact, Search, Term, Which};
pub use headers::{ClientCertificates, ProxyHeaders, ServerHeader};
pub use limit::{Admission, Amount, LimitKey, LimitScope, RateLimit};
pub use listener::{CipherSuite, Listener, ListenerProtocol, Server, ServerTls, TlsMode, TlsVersion};
pub use locality::{Distribute, Locality, LocalityPolicy, PriorityLabel, RegionFailover, WarmUp};
pub use matcher::{HeaderMatch, PathMatch, RouteMatch, StringMatch};
pub use own::{InboundPort, MeshSettings, OutboundPolicy, Own, PathNormalization, Role};
pub use reserved::{ALLOTTED, is_allotted, is_metadata, is_neighbourhood};
pub use resource::{Key, Kind, Origin, Resource, Root, Secret};
pub use retry::{RetryOn, RetryPolicy};
pub use route::{
    AbortStatus, Action, Backend, CorsPolicy, DirectResponse, Fault, HeaderEdits, Mirror, MirrorPath,
    Redirect, RedirectPort, Rewrite, Routes, Rule, VirtualHost,
};
pub use telemetry::{AccessLog, AccessLogFormat, Label, Metric, MetricChange, Side, SpanTag, Tracing};
pub use template::{Command, Template};
pub use token::{ClaimHeader, ClaimMatch, TokenHeader, TokenRule};
pub use units::{Millis, PerMillion, Weight};

pub use crate::name::{Host, HostPattern};

/// What kind of bytes a port carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// HTTP/1.1 or HTTP/2, told apart by the connection preface.
    Http,
    /// HTTP/2.
    Http2,
    /// gRPC over HTTP/2.
    Grpc,
    /// TLS of the application's own, routed by SNI.
    Tls,
    /// Any bytes.
    Tcp,
    /// Not declared: told by the first bytes of the connection.
    Detect,
}

impl Protocol {
    /// Whether requests on the port are HTTP for sure.
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc)
    }
}
