//! What `mesh-echo` answers: who it is, what it saw, whom it called. Field names are what tests look for.

use http::HeaderMap;
use serde::Serialize;
use serde_json::Value;

use crate::caller::caller_identity;
use crate::settings::ServeSettings;

/// Which pod this is.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Pod {
    pub pod: String,
    pub workload: String,
    pub app: String,
    pub version: String,
    pub namespace: String,
}

impl Pod {
    /// Reads who this is from the settings; the host name stands in for a pod name that was not given.
    pub(crate) fn from_settings(settings: &ServeSettings) -> Self {
        let app = settings.name.clone();
        let versioned =
            || if settings.version.is_empty() { app.clone() } else { format!("{app}-{}", settings.version) };
        let workload = settings.workload.clone().unwrap_or_else(versioned);
        let pod = settings
            .pod
            .clone()
            .or_else(|| std::env::var("HOSTNAME").ok())
            .unwrap_or_else(|| workload.clone());
        Self { pod, workload, app, version: settings.version.clone(), namespace: settings.namespace.clone() }
    }
}

/// The answer to one HTTP request.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    pub pod: Pod,
    pub protocol: String,
    pub method: String,
    pub path: String,
    pub host: String,
    /// Address the connection came from: the sidecar's, when there is one.
    pub peer: String,
    /// What the handshake said, where TLS ended here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsReport>,
    /// SPIFFE ID of the caller as the sidecar reports it.
    pub caller: Option<String>,
    pub headers: Vec<(String, String)>,
    pub request_bytes: usize,
    pub calls: Vec<CallReport>,
}

/// What a TLS handshake said.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TlsReport {
    pub server_name: Option<String>,
    pub client_certificate: bool,
}

/// What came of calling another service.
#[derive(Debug, Serialize)]
pub(crate) struct CallReport {
    pub name: String,
    pub url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The other service's own report, or its text if it sent none.
    pub answer: Value,
}

impl CallReport {
    /// Whether this call should make the request that caused it fail.
    pub(crate) fn failed(&self) -> bool {
        self.status.is_none_or(|status| status >= 500)
    }
}

/// Header names (lower case) and values in the order seen.
pub(crate) fn header_list(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

/// The caller named in a request's headers.
pub(crate) fn caller(headers: &HeaderMap) -> Option<String> {
    caller_identity(headers.get("x-forwarded-client-cert")?.to_str().ok()?)
}
