//! Where proxies and endpoints are, and how traffic prefers what is near.
//!
//! A policy travels as it is written and is applied by the proxy, which knows where it is itself: so one cluster's bytes
//! are the same for every proxy that may see it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Millis;

/// Region, zone and sub-zone; empty when not known.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Locality {
    /// `topology.kubernetes.io/region`
    pub region: String,
    /// `topology.kubernetes.io/zone`
    pub zone: String,
    /// `topology.istio.io/subzone`
    pub subzone: String,
    /// Labels that a `failoverPriority` may go by: all of a proxy's own pod, of an endpoint those that its cluster's
    /// policy names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Locality {
    /// A label's value; the topology's own also where only the locality is known. Empty when there is none.
    pub fn label(&self, name: &str) -> &str {
        match (self.labels.get(name), name) {
            (Some(value), _) => value,
            (None, "topology.kubernetes.io/region") => &self.region,
            (None, "topology.kubernetes.io/zone") => &self.zone,
            (None, "topology.istio.io/subzone") => &self.subzone,
            (None, _) => "",
        }
    }
}

/// How traffic prefers near endpoints (`localityLbSetting`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct LocalityPolicy {
    /// Fixed shares by locality. The first entry that is for the proxy's own locality counts, and then nothing else here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub distribute: Vec<Distribute>,
    /// Whether farther endpoints are used only as far as nearer ones cannot take the traffic. Istio turns it on with
    /// outlier detection: without it nobody would notice that an endpoint fails.
    pub failover: bool,
    /// Where the traffic of a region goes once the region cannot take it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionFailover>,
    /// The more of these match from the first on, the nearer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<PriorityLabel>,
}

/// Shares for proxies in one locality.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribute {
    /// Whose requests: `region/zone/subzone`; `*` and what is left out at the end match anything.
    pub from: String,
    /// Shares relative to each other, by pattern of the same form; an endpoint counts for the most specific that matches
    /// it, and one that none matches gets nothing.
    pub to: BTreeMap<String, u32>,
}

/// Where the traffic of a region goes once the region cannot take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionFailover {
    /// The proxy's region.
    pub from: String,
    /// The region that comes before all others.
    pub to: String,
}

/// A label by which endpoints are near.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorityLabel {
    /// The label's name; topology labels count as set where the locality is known otherwise.
    pub name: String,
    /// The value wanted; `None` means the proxy's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// How the share of a new endpoint grows (`warmup`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WarmUp {
    /// How long it takes.
    pub duration: Millis,
    /// The share at the start, of the whole. Default 0.1.
    pub minimum: f64,
    /// 1 grows evenly, more grows faster at first. Default 1.
    pub aggression: f64,
}
