//! Route tables: hosts, rules and what becomes of a request.
//!
//! Rules are evaluated in order and the first match wins. Where an API ranks by precedence (Ingress, Gateway API), the
//! control plane has sorted already.

use serde::{Deserialize, Serialize};

use super::{
    Admission, Authorizer, HostPattern, Millis, Origin, PerMillion, RetryPolicy, RouteMatch, Weight,
};

/// A named set of virtual hosts: everything behind one gateway listener, or one host of a sidecar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Routes {
    /// The table's name: `http.8080` of a gateway, `reviews.default.svc.cluster.local:9080` of a sidecar.
    pub name: String,
    /// Virtual hosts; the most specific pattern wins, whatever their order.
    pub virtual_hosts: Vec<VirtualHost>,
}

/// The rules of some hosts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct VirtualHost {
    /// A name for logs.
    pub name: String,
    /// Which hosts.
    pub hosts: Vec<HostPattern>,
    /// In order; the first match wins.
    pub rules: Vec<Rule>,
    /// Answer every cleartext request with a redirect to HTTPS (Gateway `httpsRedirect`).
    #[serde(default)]
    pub https_redirect: bool,
}

/// What becomes of the requests that match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rule {
    /// The route's name in logs.
    #[serde(default)]
    pub name: String,
    /// Any of these; none at all matches everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<RouteMatch>,
    /// What is done.
    pub action: Action,
    /// Edits of the request's headers.
    #[serde(default, skip_serializing_if = "HeaderEdits::is_empty")]
    pub request_headers: HeaderEdits,
    /// Edits of the response's headers.
    #[serde(default, skip_serializing_if = "HeaderEdits::is_empty")]
    pub response_headers: HeaderEdits,
    /// Edits of path and authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// Time for the whole exchange, all tries together; `None` is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Millis>,
    /// When to try again.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// Injected faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Copies sent elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
    /// Cross-origin policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<CorsPolicy>,
    /// Who is asked whether a request may pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorizer: Option<Box<Authorizer>>,
    /// What is asked of a request before anything is done with it.
    #[serde(default, skip_serializing_if = "Admission::is_empty")]
    pub admission: Admission,
    /// The user's object, or the service itself for the default route.
    pub origin: Origin,
}

/// What is done with a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Forwarded to one of these, by weight. At least one.
    Forward(Vec<Backend>),
    /// Answered with a redirect.
    Redirect(Redirect),
    /// Answered by the proxy.
    Respond(DirectResponse),
}

/// A destination of a rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Backend {
    /// The cluster's name. One that nobody defines answers 503 `NC`.
    pub cluster: String,
    /// Its share; zero-weight backends among several are left out by the control plane.
    pub weight: Weight,
    /// Edits for this destination only.
    #[serde(default, skip_serializing_if = "HeaderEdits::is_empty")]
    pub request_headers: HeaderEdits,
    /// Edits for this destination only.
    #[serde(default, skip_serializing_if = "HeaderEdits::is_empty")]
    pub response_headers: HeaderEdits,
}

/// Edits of headers: removals first, then `set`, then `add`, each in order of names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderEdits {
    /// Names to remove.
    pub remove: Vec<String>,
    /// Replaced or added.
    pub set: Vec<(String, String)>,
    /// Added beside what is there.
    pub add: Vec<(String, String)>,
    /// `host` or `:authority` among the edits: the authority to send.
    pub authority: Option<String>,
}

impl HeaderEdits {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty() && self.authority.is_none()
    }
}

/// Edits of path and authority.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Rewrite {
    /// Replaces what a prefix match matched, or the whole path after any other match (Istio's `rewrite.uri`).
    pub path: Option<String>,
    /// Replaces matched segments, keeping a single slash (Gateway API's `ReplacePrefixMatch`).
    pub segments: Option<String>,
    /// Replaces the whole path always (Gateway API's `ReplaceFullPath`).
    pub full_path: Option<String>,
    /// A regular expression with its replacement, `\1` for groups.
    pub regex: Option<(String, String)>,
    /// The authority to send.
    pub authority: Option<String>,
}

/// A redirect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// New scheme.
    pub scheme: Option<String>,
    /// New authority.
    pub authority: Option<String>,
    /// New port.
    #[serde(default)]
    pub port: RedirectPort,
    /// New whole path.
    pub path: Option<String>,
    /// New prefix in place of the matched one.
    pub prefix: Option<String>,
}

/// The port of a redirect's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RedirectPort {
    /// The one in the authority; dropped when it is the scheme's default.
    #[default]
    Unchanged,
    /// The scheme's default.
    SchemeDefault,
    /// The listener's.
    Listener,
    /// This one.
    Exactly(u16),
}

/// An answer of the proxy's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectResponse {
    /// The status.
    pub status: u16,
    /// The body.
    #[serde(default)]
    pub body: String,
}

/// Injected faults; neither timeouts nor retries apply to them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    /// Wait this long, with this probability.
    pub delay: Option<(Millis, PerMillion)>,
    /// Answer with this status, with this probability.
    pub abort: Option<(AbortStatus, PerMillion)>,
}

/// What an injected abort answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AbortStatus {
    /// An HTTP status.
    Http(u16),
    /// A gRPC status code, sent with HTTP 200.
    Grpc(u8),
}

/// A copy of the request sent elsewhere; its response is discarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// The cluster's name.
    pub cluster: String,
    /// How many of the requests.
    pub share: PerMillion,
    /// The authority of the copy; the one that is forwarded when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// The path of the copy; the one that is forwarded when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<MirrorPath>,
    /// Whether the copy is a head alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_body: bool,
}

impl Mirror {
    /// A copy of the request as it is forwarded.
    pub fn of_all(cluster: impl Into<String>, share: PerMillion) -> Self {
        Self { cluster: cluster.into(), share, authority: None, path: None, without_body: false }
    }
}

/// A path that a copy has instead of the forwarded one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MirrorPath {
    /// As the client wrote it, before any rewrite.
    Original,
    /// This one, with its query if it has one.
    Fixed(String),
}

/// Cross-origin resource sharing (Fetch standard; Istio's `corsPolicy`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct CorsPolicy {
    /// Origins that may call.
    pub allow_origins: Vec<super::StringMatch>,
    /// `Access-Control-Allow-Methods`.
    pub allow_methods: Vec<String>,
    /// `Access-Control-Allow-Headers`.
    pub allow_headers: Vec<String>,
    /// `Access-Control-Expose-Headers`.
    pub expose_headers: Vec<String>,
    /// `Access-Control-Max-Age`.
    pub max_age: Option<Millis>,
    /// `Access-Control-Allow-Credentials`.
    pub allow_credentials: bool,
}
