//! `networking.k8s.io`: Ingress and IngressClass.

use serde::{Deserialize, Serialize};

/// Hosts and paths that reach services from outside.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ingress {
    pub ingress_class_name: Option<String>,
    pub default_backend: Option<IngressBackend>,
    pub tls: Vec<IngressTls>,
    pub rules: Vec<IngressRule>,
}

/// A certificate for hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IngressTls {
    pub hosts: Vec<String>,
    pub secret_name: String,
}

/// The paths of one host; of every host when it is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IngressRule {
    pub host: String,
    pub http: Option<HttpIngressRule>,
}

/// Paths.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpIngressRule {
    pub paths: Vec<HttpIngressPath>,
}

/// One path and its service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpIngressPath {
    pub path: String,
    /// `Prefix` with a warning when absent (D1).
    pub path_type: Option<PathType>,
    pub backend: IngressBackend,
}

/// How a path is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathType {
    Exact,
    /// By whole segments.
    Prefix,
    ImplementationSpecific,
}

/// Where requests go; one of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IngressBackend {
    pub service: Option<IngressServiceBackend>,
    pub resource: Option<serde_json::Value>,
}

/// A service of the Ingress's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IngressServiceBackend {
    pub name: String,
    /// The service's only port when absent (D1).
    pub port: Option<ServiceBackendPort>,
}

/// A service's port by name or number; one of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceBackendPort {
    pub name: Option<String>,
    pub number: Option<u16>,
}

/// Whose an Ingress is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IngressClass {
    pub controller: String,
    pub parameters: Option<serde_json::Value>,
}
