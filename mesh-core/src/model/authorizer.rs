//! Services that are asked whether a request may pass: external authorization.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Millis, StringMatch};

/// A service that is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Authorizer {
    /// Its name for the operator: the provider's in the mesh configuration, or the object that names it.
    pub name: String,
    /// Where it is; `None` when nobody defines it: then what should be asked about is denied.
    pub cluster: Option<String>,
    /// How it is asked.
    pub protocol: CheckProtocol,
    /// How long the whole check may take.
    pub timeout: Millis,
    /// Whether a request passes when the check fails.
    #[serde(default)]
    pub fail_open: bool,
    /// The status when the check fails and the request does not pass.
    pub status_on_error: u16,
    /// How much of the body it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<CheckBody>,
}

/// How an authorizer is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckProtocol {
    /// Envoy's gRPC service `envoy.service.auth.v3.Authorization`; the text is the authority.
    Grpc(String),
    /// A request with the method, path and host of the one in question.
    Http(Box<HttpCheck>),
}

/// The check as an HTTP request. Names of headers are lower-case.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct HttpCheck {
    /// Put before the path.
    pub path_prefix: String,
    /// Headers of the request that the check carries too.
    pub request_headers: Vec<StringMatch>,
    /// Headers that every check carries.
    pub added_headers: BTreeMap<String, String>,
    /// Headers of an allowing answer that overwrite the request's.
    pub upstream_on_allow: Vec<StringMatch>,
    /// Headers of an allowing answer that are added to the response.
    pub downstream_on_allow: Vec<StringMatch>,
    /// Headers of a denying answer that the client gets; all of them when this is empty.
    pub downstream_on_deny: Vec<StringMatch>,
    /// The check is a request of its own, as ingress-nginx makes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subrequest: Option<Subrequest>,
}

/// A check in the manner of ingress-nginx: 2xx allows, 401 and 403 deny, all else is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Subrequest {
    /// The host, with its port where that is not the scheme's own.
    pub authority: String,
    /// The path and query.
    pub path: String,
    /// GET where nothing is said.
    pub method: String,
    /// Where a client that is denied with 401 is sent; `rd` with the escaped address it wanted is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_in: Option<String>,
}

/// How much of a body an authorizer is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CheckBody {
    /// At most so many bytes.
    pub max_bytes: u32,
    /// A longer body is shown in part; otherwise the request is refused with 413.
    #[serde(default)]
    pub partial: bool,
    /// As bytes rather than text (gRPC).
    #[serde(default)]
    pub as_bytes: bool,
}
