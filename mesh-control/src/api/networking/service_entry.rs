//! ServiceEntry and WorkloadEntry: services and workloads that Kubernetes does not know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Port, WorkloadSelector};
use crate::api::meta::StringMap;

/// A service known by the hosts it lists.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEntry {
    pub hosts: Vec<String>,
    /// IPs or CIDRs.
    pub addresses: Vec<String>,
    pub ports: Vec<Port>,
    pub location: Location,
    pub resolution: Resolution,
    pub endpoints: Vec<WorkloadEntry>,
    pub workload_selector: Option<WorkloadSelector>,
    pub export_to: Vec<String>,
    pub subject_alt_names: Vec<String>,
}

/// Whether the service's workloads are part of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Location {
    #[default]
    MeshExternal,
    MeshInternal,
}

/// Where the addresses come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Resolution {
    /// The address the application dialled.
    #[default]
    None,
    /// `endpoints`.
    Static,
    /// DNS, every address of the answer.
    Dns,
    /// DNS, one address at a time.
    DnsRoundRobin,
    /// DNS on the name the caller asked for; for wildcards.
    DynamicDns,
}

/// One workload; also a kind of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEntry {
    /// An IP, a DNS name or `unix:///path`.
    pub address: String,
    /// Port name of the service → the workload's port number.
    pub ports: BTreeMap<String, u16>,
    pub labels: StringMap,
    pub network: String,
    /// `region/zone/subzone`.
    pub locality: String,
    /// 1 when absent.
    pub weight: Option<u32>,
    pub service_account: String,
}
