//! Local rate limits, and what else a rule asks of a request before it is forwarded.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Millis, Origin, RouteMatch};

/// A limit on requests, counted by one proxy for itself: one number for all of its workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RateLimit {
    /// Unique in the proxy. What is counted lives on under this name when the configuration changes.
    pub name: String,
    /// Whether it holds for every request, or only for those of rules that name it.
    pub scope: LimitScope,
    /// Any of these; none at all matches everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<RouteMatch>,
    /// What is limited.
    pub amount: Amount,
    /// What is counted apart.
    #[serde(default)]
    pub key: LimitKey,
    /// Clients that are not limited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exempt: Vec<IpNet>,
    /// The status of a request that is refused: 400 to 599.
    pub status: u16,
    /// The user's object.
    pub origin: Origin,
}

/// For which requests a limit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LimitScope {
    /// For all that come in to the workload or gateway.
    Workload,
    /// For those of the rules that name it ([`Admission::limits`]).
    Rule,
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Amount {
    /// Requests in time.
    Rate {
        /// How many, at least one.
        requests: u32,
        /// In how long, more than zero.
        per: Millis,
        /// How many at once after a rest, at least one.
        burst: u32,
    },
    /// Requests under way at once.
    Concurrent(u32),
}

/// What is counted apart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LimitKey {
    /// Nothing: one number for all.
    #[default]
    None,
    /// Each client address: the socket's peer, or at a gateway the client before its trusted proxies. IPv6 clients count
    /// by their /64, of which one client commonly has all addresses.
    SourceAddress,
    /// Each value of this header, in lower case; requests without it are counted together.
    Header(String),
    /// Each identity that callers have proven; those without are counted together.
    Identity,
}

/// What a rule asks of a request before it does anything with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Admission {
    /// Limits by name; all must admit the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
    /// Clients that may come; `None` for all, and nobody when it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<IpNet>>,
    /// Clients that may not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<IpNet>,
    /// The most bytes that a request's body may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_body: Option<u64>,
}

impl Admission {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty() && self.allow.is_none() && self.deny.is_empty() && self.max_body.is_none()
    }
}
