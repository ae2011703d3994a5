//! Endpoints of services as the cluster, or somebody by hand, writes them down (`discovery.k8s.io`).

use serde::{Deserialize, Serialize};

use super::core::TransportProtocol;
use super::meta::StringMap;

/// The label that names the slice's service, in the slice's own namespace.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label that names who keeps the slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Keeps the slices of services with a selector: they say nothing that the pods do not.
pub const POD_CONTROLLER: &str = "endpointslice-controller.k8s.io";

/// Some endpoints of one service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    pub address_type: AddressType,
    pub endpoints: Vec<Endpoint>,
    /// None means that nothing is listened on.
    pub ports: Vec<EndpointPort>,
}

/// What a slice's addresses are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum AddressType {
    #[default]
    IPv4,
    IPv6,
    /// Deprecated by Kubernetes, and nothing of Kubernetes' own follows it.
    #[serde(rename = "FQDN")]
    Fqdn,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// All reach the same endpoint.
    pub addresses: Vec<String>,
    pub conditions: EndpointConditions,
    pub target_ref: Option<ObjectReference>,
    pub zone: Option<String>,
    /// Labels of its node; the region is only here.
    pub deprecated_topology: StringMap,
}

/// What an endpoint can do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    /// True when absent, unless `terminating`.
    pub ready: Option<bool>,
    /// Whether requests are answered, terminating or not. As `ready` when absent, and true where that is absent too.
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

/// What an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectReference {
    pub kind: String,
    pub name: String,
    /// The slice's own when absent.
    pub namespace: Option<String>,
}

/// A port of all endpoints of a slice.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointPort {
    /// The service's port of the same name; empty is the name of a service's only port.
    pub name: String,
    /// Where the endpoints listen; where the service says when absent.
    pub port: Option<u16>,
    pub protocol: TransportProtocol,
}
