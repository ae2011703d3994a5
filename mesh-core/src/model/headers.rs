//! Headers that proxies write of their own accord, as far as an operator may change it (MeshConfig `proxyHeaders` and
//! `gatewayTopology`, semantics.md 39 and 40).

use serde::{Deserialize, Serialize};

/// Which headers a proxy writes. The default is Istio's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ProxyHeaders {
    /// What becomes of `x-forwarded-client-cert` in requests that come in.
    pub client_certificates: ClientCertificates,
    /// The response's `server`.
    pub server: ServerHeader,
    /// A request without `x-request-id` gets none.
    pub omits_request_id: bool,
    /// `x-envoy-attempt-count` is not written.
    pub omits_attempt_count: bool,
    /// Headers about the proxy's own doing are not written: `x-envoy-upstream-service-time`, `x-envoy-overloaded`,
    /// `x-envoy-original-path`.
    pub omits_debug: bool,
}

impl ProxyHeaders {
    /// Whether nothing was changed.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What becomes of `x-forwarded-client-cert`, as Envoy's `forward_client_cert_details`. All but the last believe a client
/// only if it has shown a certificate that was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClientCertificates {
    /// `SanitizeSet` at gateways, `AppendForward` beside applications.
    #[default]
    Usual,
    /// Removed.
    Sanitize,
    /// Passed on as it came.
    ForwardOnly,
    /// Passed on with the client's certificate after it.
    AppendForward,
    /// Replaced by the client's certificate.
    SanitizeSet,
    /// Passed on as it came, whoever sent it: only for gateways behind proxies that set it.
    AlwaysForwardOnly,
}

/// The response's `server`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ServerHeader {
    /// `istio-envoy`; towards the application itself `envoy`.
    #[default]
    Usual,
    /// This.
    Named(String),
    /// As the application wrote it.
    Untouched,
}
