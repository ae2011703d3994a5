//! `networking.istio.io`: what traffic goes where, and how.

mod destination_rule;
mod gateway;
mod service_entry;
mod sidecar;
mod virtual_service;

pub use destination_rule::*;
pub use gateway::*;
pub use service_entry::*;
pub use sidecar::*;
pub use virtual_service::*;

use serde::{Deserialize, Serialize};

use super::meta::StringMap;

/// A port as Gateways, ServiceEntries and Sidecars declare it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    pub number: u16,
    /// HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP, TLS; upper or lower case.
    pub protocol: String,
    pub name: String,
    /// Where the workloads listen; `number` when absent (ServiceEntry only).
    pub target_port: Option<u16>,
}

/// A port named by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PortSelector {
    pub number: u16,
}

/// Selects workloads by labels, as the networking API spells it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkloadSelector {
    /// Empty selects every workload of the namespace; accepts `matchLabels` for the security API's spelling.
    #[serde(alias = "matchLabels")]
    pub labels: StringMap,
}
