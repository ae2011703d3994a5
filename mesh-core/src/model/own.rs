//! What one proxy is and does: delivered without asking.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{
    AccessLog, AuthzPolicy, Host, Listener, Locality, MetricChange, Millis, MtlsMode, Protocol, ProxyHeaders,
    RateLimit, TokenRule, Tracing, Workload,
};
use crate::identity::SpiffeId;

/// A proxy's own configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Own {
    /// What the proxy is.
    pub role: Role,
    /// Its identity.
    pub identity: SpiffeId,
    /// The workload beside it.
    pub workload: Workload,
    /// Where it is.
    #[serde(default)]
    pub locality: Locality,
    /// Mesh-wide settings.
    pub mesh: MeshSettings,
    /// Declared ports of the workload (sidecars).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inbound: Vec<InboundPort>,
    /// For ports that no service declares.
    #[serde(default)]
    pub default_mtls: MtlsMode,
    /// Policies that select the workload, the mesh's and the namespace's included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorization: Vec<AuthzPolicy>,
    /// Tokens that requests may carry, of all RequestAuthentications that select the workload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenRule>,
    /// Rate limits, those that only rules name included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<RateLimit>,
    /// Listeners (gateways).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<Listener>,
    /// What becomes of traffic to undeclared destinations.
    pub outbound_policy: OutboundPolicy,
}

/// What a proxy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Beside a workload, capturing its traffic.
    Sidecar,
    /// The way in.
    Ingress,
    /// The way out.
    Egress,
}

impl Role {
    /// How its inbound side reports itself in metrics: gateways report as `source` only.
    pub const fn is_gateway(self) -> bool {
        !matches!(self, Self::Sidecar)
    }
}

/// A port of the workload that a service declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct InboundPort {
    /// The port of the workload (the service's targetPort).
    pub port: u16,
    /// What it carries.
    pub protocol: Protocol,
    /// Mutual TLS on this port.
    pub mtls: MtlsMode,
    /// Where the application listens (Sidecar `defaultEndpoint`); what was dialled when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SocketAddr>,
    /// The service, for metric labels and logs.
    pub service: Host,
    /// Its short name.
    pub service_name: String,
    /// Its namespace.
    pub service_namespace: String,
}

/// Mesh-wide settings that proxies need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct MeshSettings {
    /// The trust domain.
    pub trust_domain: String,
    /// Other trust domains whose principals count as ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trust_domain_aliases: Vec<String>,
    /// Access logs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_logs: Vec<AccessLog>,
    /// Tracing, at most one for each side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tracing: Vec<Tracing>,
    /// How metrics differ from the standard.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricChange>,
    /// How paths are made canonical.
    #[serde(default)]
    pub path_normalization: PathNormalization,
    /// How many trusted proxies stand before a gateway: whose `x-forwarded-for` entries count.
    #[serde(default)]
    pub trusted_proxies: u8,
    /// Whether clients of a gateway are announced by the PROXY protocol; who is not is turned away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proxy_protocol: bool,
    /// Headers that the proxy writes of its own accord.
    #[serde(default, skip_serializing_if = "ProxyHeaders::is_default")]
    pub headers: ProxyHeaders,
    /// How long a drain waits for open requests.
    pub drain_timeout: Millis,
}

/// MeshConfig `pathNormalization`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathNormalization {
    /// As it came.
    None,
    /// RFC 3986, and `\` is `/`.
    #[default]
    Base,
    /// And repeated slashes are one.
    MergeSlashes,
    /// And `%2F`, `%5C` are decoded first.
    DecodeAndMergeSlashes,
}

/// What becomes of traffic to undeclared destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OutboundPolicy {
    /// Passed through, and counted.
    #[default]
    AllowAny,
    /// Refused.
    RegistryOnly,
}
