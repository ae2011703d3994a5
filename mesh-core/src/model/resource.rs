//! What is asked for and what is delivered.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Address, Cluster, DnsName, Endpoints, Host, Own, Routes};

/// What a proxy subscribes to. The control plane answers with the root's closure or with "not found".
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Root {
    /// The proxy's own configuration; delivered without asking, and never "not found".
    Own,
    /// What stands behind an address that an application dialled.
    Address(SocketAddr),
    /// How HTTP requests for a host on a port are routed.
    Host {
        /// The canonical host of the request.
        host: Host,
        /// The port of the listener, not the one in the Host header.
        port: u16,
    },
    /// The addresses of a DNS name.
    Name(Host),
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("own"),
            Self::Address(address) => write!(f, "address {address}"),
            Self::Host { host, port } => write!(f, "host {host}:{port}"),
            Self::Name(name) => write!(f, "name {name}"),
        }
    }
}

/// One named piece of configuration. Its version is a hash of its canonical bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Resource {
    /// What the proxy itself is and does.
    Own(Box<Own>),
    /// An address and what stands behind it.
    Address(Address),
    /// A DNS name and its addresses.
    Name(DnsName),
    /// A route table.
    Routes(Routes),
    /// A destination's policy.
    Cluster(Box<Cluster>),
    /// A destination's endpoints.
    Endpoints(Endpoints),
    /// A certificate that a gateway serves.
    Secret(Secret),
}

/// The kind of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "each names the variant of Resource")]
pub enum Kind {
    Own,
    Address,
    Name,
    Routes,
    Cluster,
    Endpoints,
    Secret,
}

/// A resource's name, unique within one proxy's view.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// The name within the kind.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.name)
    }
}

impl Resource {
    /// The resource's name.
    pub fn key(&self) -> Key {
        let (kind, name) = match self {
            Self::Own(_) => (Kind::Own, String::new()),
            Self::Address(address) => (Kind::Address, address.address.to_string()),
            Self::Name(name) => (Kind::Name, name.name.to_string()),
            Self::Routes(routes) => (Kind::Routes, routes.name.clone()),
            Self::Cluster(cluster) => (Kind::Cluster, cluster.name.clone()),
            Self::Endpoints(endpoints) => (Kind::Endpoints, endpoints.cluster.clone()),
            Self::Secret(secret) => (Kind::Secret, secret.name.clone()),
        };
        Key { kind, name }
    }
}

/// The object of the user's that a rule or policy came from, for `explain`, logs and status.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Origin {
    /// `VirtualService`, `Ingress`, …
    pub kind: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// Where in the object, `spec.http[1]`.
    pub field: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)?;
        if self.field.is_empty() { Ok(()) } else { write!(f, " {}", self.field) }
    }
}

/// A certificate chain with its key, or trust anchors. Its `Debug` shows no key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Secret {
    /// `namespace/name`.
    pub name: String,
    /// PEM certificates, leaf first. Empty when the secret holds trust anchors only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub certificates: String,
    /// PEM private key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub private_key: String,
    /// PEM trust anchors for client certificates (key `ca.crt`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trust_anchors: String,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).finish_non_exhaustive()
    }
}
