//! Listeners of a gateway.

use serde::{Deserialize, Serialize};

use super::{HostPattern, Origin, TcpRoute};

/// One port of a gateway. Servers of several Gateways and Ingresses may share it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Listener {
    /// The port.
    pub port: u16,
    /// What is spoken on it.
    pub protocol: ListenerProtocol,
    /// For TLS: who is served by SNI; the most specific host wins. Empty for cleartext.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Server>,
    /// The route table of cleartext HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<String>,
    /// Routes of cleartext TCP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tcp_routes: Vec<TcpRoute>,
}

/// What is spoken on a gateway's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ListenerProtocol {
    /// HTTP/1.1 and HTTP/2 in the clear; mesh TLS from sidecars is accepted as well.
    Http,
    /// TLS first, told apart by SNI: terminated or passed through.
    Tls,
    /// Any bytes.
    Tcp,
}

/// What a TLS listener does for some server names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Server {
    /// Server names.
    pub hosts: Vec<HostPattern>,
    /// How TLS is handled.
    pub tls: ServerTls,
    /// The route table for HTTP inside the TLS; without one the bytes go by `tcp_routes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<String>,
    /// Routes for passed-through and terminated TCP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tcp_routes: Vec<TcpRoute>,
    /// The user's object.
    pub origin: Origin,
}

/// How a server handles TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServerTls {
    /// The mode.
    pub mode: TlsMode,
    /// `namespace/name` of the certificate's secret; none for pass-through and mesh TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Names a client certificate must carry, one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<String>,
}

/// Gateway `tls.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TlsMode {
    /// Terminated; no client certificate asked for.
    Simple,
    /// Terminated; a client certificate is required.
    Mutual,
    /// Terminated; a client certificate is asked for and verified if given.
    OptionalMutual,
    /// Terminated with mesh identities.
    Mesh,
    /// Not terminated.
    Passthrough,
}
