//! Who may do what: authorization policies and mutual-TLS modes of a workload.

use serde::{Deserialize, Serialize};

use super::{Authorizer, Origin, StringMatch};

/// Whether inbound connections must come over mesh TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MtlsMode {
    /// Cleartext only; mesh TLS is the application's own affair.
    Disable,
    /// Both.
    #[default]
    Permissive,
    /// Mesh TLS only.
    Strict,
}

/// One policy that selects this workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AuthzPolicy {
    /// The user's object.
    pub origin: Origin,
    /// What a match means.
    pub action: AuthzAction,
    /// The policy matches when one of these does; a policy without rules never matches.
    pub rules: Vec<AuthzRule>,
    /// Evaluated and recorded, without effect.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a match means. Evaluated in this order: custom, deny, allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AuthzAction {
    /// Ask this authorizer.
    Custom(Box<Authorizer>),
    /// Denied.
    Deny,
    /// Allowed; where any allow policy exists, one must match.
    Allow,
}

/// All three lists must match; an empty list matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthzRule {
    /// One of these callers.
    pub from: Vec<SourceMatch>,
    /// One of these operations.
    pub to: Vec<OperationMatch>,
    /// All of these conditions.
    pub when: Vec<Condition>,
}

/// Every list that is not empty must match; the `not_` ones must not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields of Istio's Source, one by one")]
pub struct SourceMatch {
    pub principals: Vec<StringMatch>,
    pub not_principals: Vec<StringMatch>,
    pub request_principals: Vec<StringMatch>,
    pub not_request_principals: Vec<StringMatch>,
    pub namespaces: Vec<StringMatch>,
    pub not_namespaces: Vec<StringMatch>,
    pub service_accounts: Vec<String>,
    pub not_service_accounts: Vec<String>,
    pub ip_blocks: Vec<ipnet::IpNet>,
    pub not_ip_blocks: Vec<ipnet::IpNet>,
    pub remote_ip_blocks: Vec<ipnet::IpNet>,
    pub not_remote_ip_blocks: Vec<ipnet::IpNet>,
}

/// Every list that is not empty must match; the `not_` ones must not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields of Istio's Operation, one by one")]
pub struct OperationMatch {
    pub hosts: Vec<StringMatch>,
    pub not_hosts: Vec<StringMatch>,
    pub ports: Vec<u16>,
    pub not_ports: Vec<u16>,
    pub methods: Vec<StringMatch>,
    pub not_methods: Vec<StringMatch>,
    pub paths: Vec<StringMatch>,
    pub not_paths: Vec<StringMatch>,
}

/// A `when` entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Condition {
    /// The attribute, `request.headers[x-token]`.
    pub key: String,
    /// One of these.
    #[serde(default)]
    pub values: Vec<StringMatch>,
    /// None of these.
    #[serde(default)]
    pub not_values: Vec<StringMatch>,
}
