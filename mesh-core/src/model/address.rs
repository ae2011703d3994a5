//! What stands behind an address or a DNS name.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Host, Origin, Protocol, Weight};

/// An address that applications dial: a service's virtual address or one workload's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Address {
    /// The address itself.
    pub address: SocketAddr,
    /// What stands behind it.
    pub destination: Destination,
}

/// Where a connection to an address goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Destination {
    /// The service the address belongs to; the host requests are routed by when they name no host we know.
    pub service: Host,
    /// What the port carries.
    pub protocol: Protocol,
    /// The cluster for connections that are not HTTP, and for HTTP whose host is not known.
    pub cluster: String,
    /// Routes for connections that are not HTTP, first match wins; the cluster when none matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tcp_routes: Vec<TcpRoute>,
}

/// A route for connections, from a VirtualService's `tcp` or `tls` list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TcpRoute {
    /// Server names of the application's TLS; empty for `tcp` routes, which match all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sni_hosts: Vec<super::HostPattern>,
    /// Clusters with their weights.
    pub backends: Vec<(String, Weight)>,
    /// The user's object.
    pub origin: Origin,
}

/// A DNS name and its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DnsName {
    /// The name, fully qualified, without the last dot.
    pub name: Host,
    /// Its addresses: one virtual address, or all members of a headless service.
    pub addresses: Vec<IpAddr>,
    /// How long an application may keep the answer, in seconds.
    pub ttl: u32,
}

/// Facts about a workload, as metric labels and logs show them.
///
/// Clients learn a server's from its endpoint, servers a client's from its certificate; never from headers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Workload {
    /// The pod's name.
    pub pod: String,
    /// The pod's UID; part of every pool key, so that a reused address never reaches a pool of the pod before.
    pub uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The controller's name, `reviews-v1`.
    pub workload: String,
    /// Label `app`, or the workload's name.
    pub app: String,
    /// Label `version`, or `latest`.
    pub version: String,
    /// The cluster's name, `Kubernetes`.
    pub cluster: String,
}
