//! Destinations: a service's port or subset, the policy for reaching it, and its endpoints.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Host, Locality, LocalityPolicy, Millis, Origin, PerMillion, Protocol, WarmUp, Weight, Workload};
use crate::identity::SpiffeId;

/// A destination and how to reach it. Named as Istio does, `outbound|PORT|SUBSET|HOST`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Cluster {
    /// The unique name.
    pub name: String,
    /// The service's host.
    pub service: Host,
    /// The service's short name, as metrics label it.
    pub service_name: String,
    /// The service's namespace.
    pub service_namespace: String,
    /// The service's port.
    pub port: u16,
    /// The subset, if the cluster is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<String>,
    /// What the port carries: says whether HTTP/2 is spoken to it.
    pub protocol: Protocol,
    /// Whether the destination is outside the mesh.
    #[serde(default)]
    pub external: bool,
    /// How an endpoint is chosen.
    #[serde(default)]
    pub load_balancer: LoadBalancer,
    /// How near endpoints are preferred; `None` treats all alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<LocalityPolicy>,
    /// How the share of a new endpoint grows; only for least request and round robin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<WarmUp>,
    /// Limits.
    #[serde(default)]
    pub pool: ConnectionPool,
    /// Ejection of failing endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlier: Option<OutlierDetection>,
    /// TLS towards the endpoints.
    #[serde(default)]
    pub tls: ClusterTls,
    /// The DestinationRule that made the policy, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LoadBalancer {
    /// The less loaded of two picked at random, by active requests and weight.
    #[default]
    LeastRequest,
    /// In turn, by weight.
    RoundRobin,
    /// At random, by weight.
    Random,
    /// By a hash of something in the request.
    ConsistentHash(ConsistentHash),
    /// The address the application dialled.
    OriginalDestination,
}

/// A hashing balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ConsistentHash {
    /// What is hashed.
    pub key: HashKey,
    /// How hashes are spread over endpoints.
    pub table: HashTable,
}

/// How hashes are spread over endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HashTable {
    /// Points on a ring.
    Ring {
        /// As many points at least. Default 1024 (Istio's `minimumRingSize`).
        minimum_size: u32,
    },
    /// Maglev's table.
    Maglev {
        /// Its size, a prime; `None` takes one that fits the number of endpoints, at most 65,537.
        size: Option<u32>,
    },
}

impl HashTable {
    /// The largest table (2.5 MiB).
    pub const LARGEST: u32 = 655_373;

    /// Whether a table may have this size: it must be a prime, and not larger than we can spare per cluster.
    pub fn takes(size: u32) -> bool {
        let mut divisors = (2..).take_while(|divisor| divisor * divisor <= size);
        (2..=Self::LARGEST).contains(&size) && divisors.all(|divisor| !size.is_multiple_of(divisor))
    }
}

/// What a hashing balancer hashes. A request without it gets a random endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HashKey {
    /// A header's value.
    Header(String),
    /// A cookie's value; with a lifetime, the proxy sets the cookie when it is missing.
    Cookie(SessionCookie),
    /// The downstream's address.
    SourceAddress,
    /// A query parameter.
    QueryParameter(String),
}

/// A cookie that keeps a client with an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SessionCookie {
    /// The cookie's name.
    pub name: String,
    /// Its path.
    pub path: Option<String>,
    /// Its lifetime; zero for a session cookie, `None` never sets one.
    pub ttl: Option<Millis>,
    /// Further attributes in their order, such as `SameSite=Lax`, or `Secure` with an empty value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<(String, String)>,
    /// Whether a cookie that is set over TLS is `Secure`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secure_over_tls: bool,
    /// What values of this destination's begin with, so that rules can know them again.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mark: String,
}

/// Limits of a destination; each is one number for all workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ConnectionPool {
    /// Connections at once. Default: no limit.
    pub max_connections: Option<u32>,
    /// Time for TCP connect and TLS handshake together. Default 10 s (Istio's `connectTimeout`).
    pub connect_timeout: Millis,
    /// Requests that wait for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests at once.
    pub max_requests: Option<u32>,
    /// Requests on one connection before it is closed.
    pub max_requests_per_connection: Option<u32>,
    /// Retries at once.
    pub max_retries: Option<u32>,
    /// How long an HTTP connection without a request is kept. Default 1 h; zero: without end.
    pub idle_timeout: Millis,
    /// How long a TCP connection on which neither side sends is kept. Default 1 h; zero: without end.
    pub tcp_idle_timeout: Millis,
    /// No HTTP connection takes another request after this time; a TCP connection is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connection_duration: Option<Millis>,
    /// Requests at once on one HTTP/2 connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent_streams: Option<u32>,
    /// Probes of the operating system on idle connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<Keepalive>,
    /// Whether HTTP/1.1 requests travel as HTTP/2.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub upgrade: bool,
    /// Whether requests travel as the client spoke them, whatever the port declares.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub use_client_protocol: bool,
}

const HOUR: Millis = Millis::seconds(3600);

/// TCP keep-alive; what is `None` is left to the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keepalive {
    /// Unanswered probes after which the connection is dead.
    pub probes: Option<u32>,
    /// Silence before the first probe.
    pub time: Option<Millis>,
    /// Between probes.
    pub interval: Option<Millis>,
}

impl Default for ConnectionPool {
    fn default() -> Self {
        Self {
            max_connections: None,
            connect_timeout: Millis::seconds(10),
            max_pending_requests: None,
            max_requests: None,
            max_requests_per_connection: None,
            max_retries: None,
            idle_timeout: HOUR,
            tcp_idle_timeout: HOUR,
            max_connection_duration: None,
            max_concurrent_streams: None,
            keepalive: None,
            upgrade: false,
            use_client_protocol: false,
        }
    }
}

/// When an endpoint is left out for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Answers of 500 and above, connection failures included, in a row. Zero switches it off.
    pub consecutive_5xx: u32,
    /// Answers 502, 503, 504 and connection failures in a row. Zero switches it off.
    pub consecutive_gateway_errors: u32,
    /// How often ejected endpoints are looked at again.
    pub interval: Millis,
    /// Ejected for this long, times the number of ejections.
    pub base_ejection_time: Millis,
    /// At most this share may be out at once; one always may, the last never.
    pub max_ejection: PerMillion,
    /// Below this share of usable endpoints, ejection is ignored.
    pub min_health: PerMillion,
    /// Connection failures, resets and timeouts in a row, counted apart from what endpoints answer; zero switches it off.
    /// `None` counts them among the answers, as 5xx and as gateway errors (`splitExternalLocalOriginErrors: false`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_origin_failures: Option<u32>,
}

/// TLS towards the endpoints of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClusterTls {
    /// Mesh TLS where the endpoint's transport says so, cleartext otherwise (auto mTLS).
    #[default]
    Auto,
    /// Never.
    Disabled,
    /// Mesh TLS always, whatever the endpoint says.
    Mesh {
        /// Server name; the cluster's, in Istio's form, when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sni: Option<String>,
    },
    /// TLS of the destination's own, originated by us.
    Originate {
        /// Server name; the host when absent.
        sni: Option<String>,
        /// Names the certificate must carry, one of them; the SNI when empty.
        subject_alt_names: Vec<String>,
        /// `namespace/name` of the secret or a file with trust anchors; the system's roots when absent.
        trust_anchors: Option<String>,
        /// `namespace/name` of the secret with our client certificate, or a file with it.
        client_certificate: Option<String>,
        /// The file with its key; absent where a secret holds both.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        private_key: Option<String>,
        /// The user said that the certificate is not to be verified.
        insecure_skip_verify: bool,
    },
}

impl ClusterTls {
    /// The server name that a rule asks for under mesh TLS.
    pub fn mesh_server_name(&self) -> Option<&str> {
        match self {
            Self::Mesh { sni } => sni.as_deref(),
            _ => None,
        }
    }
}

impl Cluster {
    /// Whether it stands for all hosts below [`Cluster::service`], rather than for that host.
    pub fn is_wildcard(&self) -> bool {
        self.name.rsplit('|').next().is_some_and(|host| host.starts_with("*."))
    }
}

/// The endpoints of one cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Endpoints {
    /// The cluster's name.
    pub cluster: String,
    /// All of them, ready ones only.
    pub endpoints: Vec<Endpoint>,
}

/// One place that serves a cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Endpoint {
    /// Where it listens.
    pub address: EndpointAddress,
    /// Its share relative to the others.
    pub weight: Weight,
    /// How its bytes travel.
    pub transport: Transport,
    /// The identity that must answer under mesh TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<SpiffeId>,
    /// What it is, for metrics and for the pool key.
    pub workload: Workload,
    /// Where it is.
    #[serde(default)]
    pub locality: Locality,
}

/// Where an endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointAddress {
    /// An address.
    Socket(SocketAddr),
    /// A name that the proxy resolves itself, with a port.
    Name(Host, u16),
}

/// How bytes travel to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Transport {
    /// As they are.
    Plain,
    /// Mutual TLS between proxies.
    MeshTls,
}
