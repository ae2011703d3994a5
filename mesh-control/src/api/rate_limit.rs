//! `minimesh.io`: how often workloads and gateways may be called.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::security::MatchLabels;
use super::{Duration, StringMatch};

/// Limits on the requests that come in to workloads or gateways. Each proxy counts for itself: one number for all of its
/// workers, so that with three instances three times as many requests are let in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RateLimit {
    /// All workloads of the namespace when absent; in the root namespace of the whole mesh.
    pub selector: Option<MatchLabels>,
    /// Each is counted for itself, and all that match a request must let it in.
    pub rules: Vec<RateLimitRule>,
}

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimitRule {
    /// Any of these; every request when there is none.
    #[serde(rename = "match", default)]
    pub matches: Vec<RateLimitMatch>,
    pub limit: RateLimitAmount,
    /// How many at once after a rest; `limit.requests` when absent.
    #[serde(default)]
    pub burst: Option<u32>,
    /// One number for all when absent.
    #[serde(default)]
    pub key: Option<RateLimitKey>,
    /// 429 when absent; 400 to 599.
    #[serde(default)]
    pub status: Option<u16>,
}

/// Requests in time, let in evenly: 10 in 60s is one each 6 s, after a first burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimitAmount {
    /// At least one.
    pub requests: u32,
    /// At most 49 days.
    pub per: Duration,
}

/// A test on a request, as a VirtualService's; everything given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RateLimitMatch {
    pub uri: Option<StringMatch>,
    pub ignore_uri_case: bool,
    pub method: Option<StringMatch>,
    pub authority: Option<StringMatch>,
    pub headers: BTreeMap<String, StringMatch>,
    pub without_headers: BTreeMap<String, StringMatch>,
    pub query_params: BTreeMap<String, StringMatch>,
}

/// What is counted apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimitKey {
    #[serde(rename = "type")]
    pub key_type: RateLimitKeyType,
    /// Of the header, for `Header`.
    #[serde(default)]
    pub name: String,
}

/// What is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RateLimitKeyType {
    /// Each client address.
    SourceAddress,
    /// Each value of a header.
    Header,
    /// Each identity that callers have proven.
    Identity,
}
