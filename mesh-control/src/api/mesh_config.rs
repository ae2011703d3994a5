//! MeshConfig: settings of the whole mesh, from key `mesh` of ConfigMap `istio` in the root namespace.
//!
//! A subset; what is not here is reported as unknown when it is set.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Duration;
use super::meta::LabelSelector;
use super::networking::{HttpRetry, LocalityLoadBalancerSetting, OutboundTrafficPolicy, TlsProtocol};
use super::telemetry::CustomTag;

/// The settings, with Istio's names and defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshConfig {
    /// ALLOW_ANY when absent.
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    /// Empty turns the access log off.
    pub access_log_file: String,
    pub access_log_format: String,
    pub access_log_encoding: AccessLogEncoding,
    pub trust_domain: String,
    pub trust_domain_aliases: Vec<String>,
    pub root_namespace: String,
    pub enable_auto_mtls: bool,
    pub enable_tracing: bool,
    pub path_normalization: PathNormalization,
    pub default_http_retry_policy: Option<HttpRetry>,
    pub extension_providers: Vec<ExtensionProvider>,
    pub default_providers: DefaultProviders,
    pub locality_lb_setting: Option<LocalityLoadBalancerSetting>,
    pub default_service_export_to: Vec<String>,
    pub default_virtual_service_export_to: Vec<String>,
    pub default_destination_rule_export_to: Vec<String>,
    #[serde(rename = "meshMTLS")]
    pub mesh_mtls: Option<MeshTls>,
    pub discovery_selectors: Vec<LabelSelector>,
    pub default_config: ProxyConfig,
    pub connect_timeout: Option<Duration>,
    pub tcp_keepalive: Option<serde_json::Value>,
    pub protocol_detection_timeout: Option<Duration>,
    pub dns_refresh_rate: Option<Duration>,
    pub ca_certificates: Vec<serde_json::Value>,
    pub default_traffic_policy: Option<serde_json::Value>,
    pub ingress_class: String,
    pub ingress_controller_mode: Option<IngressControllerMode>,
    pub ingress_service: String,
    pub ingress_selector: String,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            outbound_traffic_policy: None,
            access_log_file: String::new(),
            access_log_format: String::new(),
            access_log_encoding: AccessLogEncoding::Text,
            trust_domain: "cluster.local".to_owned(),
            trust_domain_aliases: Vec::new(),
            root_namespace: "istio-system".to_owned(),
            enable_auto_mtls: true,
            enable_tracing: false,
            path_normalization: PathNormalization::default(),
            default_http_retry_policy: None,
            extension_providers: Vec::new(),
            default_providers: DefaultProviders::default(),
            locality_lb_setting: None,
            default_service_export_to: Vec::new(),
            default_virtual_service_export_to: Vec::new(),
            default_destination_rule_export_to: Vec::new(),
            mesh_mtls: None,
            discovery_selectors: Vec::new(),
            default_config: ProxyConfig::default(),
            connect_timeout: None,
            tcp_keepalive: None,
            protocol_detection_timeout: None,
            dns_refresh_rate: None,
            ca_certificates: Vec::new(),
            default_traffic_policy: None,
            ingress_class: "istio".to_owned(),
            ingress_controller_mode: None,
            ingress_service: String::new(),
            ingress_selector: String::new(),
        }
    }
}

/// How access log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AccessLogEncoding {
    #[default]
    Text,
    Json,
}

/// Which class-less Ingresses are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IngressControllerMode {
    Unspecified,
    Off,
    Default,
    Strict,
}

/// Wraps [`NormalizationType`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PathNormalization {
    pub normalization: NormalizationType,
}

/// What is done to a path before it is matched and forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NormalizationType {
    /// As BASE.
    #[default]
    Default,
    None,
    Base,
    MergeSlashes,
    DecodeAndMergeSlashes,
}

/// A named service outside the mesh's own; exactly one of the kinds is set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtensionProvider {
    pub name: String,
    pub envoy_ext_authz_http: Option<ExtAuthzHttp>,
    pub envoy_ext_authz_grpc: Option<ExtAuthzGrpc>,
    pub opentelemetry: Option<TraceProvider>,
    pub zipkin: Option<TraceProvider>,
    pub prometheus: Option<serde_json::Value>,
    pub envoy_file_access_log: Option<FileAccessLog>,
    pub envoy_otel_als: Option<serde_json::Value>,
}

/// External authorization over HTTP.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtAuthzHttp {
    pub service: String,
    pub port: u16,
    pub timeout: Option<Duration>,
    pub path_prefix: String,
    pub fail_open: bool,
    pub status_on_error: String,
    pub include_request_headers_in_check: Vec<String>,
    /// The older name of the field above.
    pub include_headers_in_check: Vec<String>,
    pub include_additional_headers_in_check: super::meta::StringMap,
    pub include_request_body_in_check: Option<RequestBodyInCheck>,
    pub headers_to_upstream_on_allow: Vec<String>,
    pub headers_to_downstream_on_deny: Vec<String>,
    pub headers_to_downstream_on_allow: Vec<String>,
}

/// External authorization over gRPC.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtAuthzGrpc {
    pub service: String,
    pub port: u16,
    pub timeout: Option<Duration>,
    pub fail_open: bool,
    pub status_on_error: String,
    pub include_request_body_in_check: Option<RequestBodyInCheck>,
}

/// How much of a body the check sees.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestBodyInCheck {
    pub max_request_bytes: u32,
    pub allow_partial_message: bool,
    pub pack_as_bytes: bool,
}

/// Where spans go.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TraceProvider {
    pub service: String,
    pub port: u16,
    pub max_tag_length: Option<u32>,
    pub path: String,
    pub http: Option<serde_json::Value>,
    pub resource_detectors: Option<serde_json::Value>,
}

/// An access log in a file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FileAccessLog {
    pub path: String,
    pub log_format: Option<LogFormat>,
}

/// Text, or labels that become a JSON object; one of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogFormat {
    pub text: Option<String>,
    pub labels: Option<serde_json::Value>,
}

/// Providers used when a Telemetry names none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultProviders {
    pub tracing: Vec<String>,
    pub metrics: Vec<String>,
    pub access_logging: Vec<String>,
}

/// TLS between proxies.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshTls {
    pub min_protocol_version: Option<TlsProtocol>,
}

/// Defaults of every proxy.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// Sidecars have one worker when absent.
    pub concurrency: Option<u32>,
    pub gateway_topology: GatewayTopology,
    pub tracing: Option<ProxyTracing>,
    pub proxy_headers: Option<ProxyHeaders>,
    pub discovery_address: Option<String>,
    pub proxy_metadata: super::meta::StringMap,
    pub hold_application_until_proxy_starts: Option<bool>,
    pub termination_drain_duration: Option<Duration>,
    pub drain_duration: Option<Duration>,
}

/// What stands in front of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayTopology {
    pub num_trusted_proxies: u32,
    pub forward_client_cert_details: Option<ForwardClientCertDetails>,
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// That a balancer says by the PROXY protocol who its clients are; has no fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ProxyProtocol {}

/// What becomes of `x-forwarded-client-cert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ForwardClientCertDetails {
    Undefined,
    Sanitize,
    ForwardOnly,
    AppendForward,
    SanitizeSet,
    AlwaysForwardOnly,
}

/// Headers that proxies write of their own accord.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyHeaders {
    /// At sidecars; a gateway's is in its topology.
    pub forwarded_client_cert: Option<ForwardClientCertDetails>,
    pub set_current_client_cert_details: Option<serde_json::Value>,
    pub request_id: Option<HeaderSwitch>,
    pub server: Option<ServerHeader>,
    pub attempt_count: Option<HeaderSwitch>,
    pub envoy_debug_headers: Option<HeaderSwitch>,
    /// Proxies here exchange nothing by headers, whatever this says.
    pub metadata_exchange_headers: Option<serde_json::Value>,
    /// Always so.
    pub preserve_http1_header_case: Option<bool>,
    pub x_forwarded_host: Option<HeaderAddition>,
    pub x_forwarded_port: Option<HeaderAddition>,
}

/// A header that is written unless switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderSwitch {
    pub disabled: Option<bool>,
}

/// A header that is not written unless switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderAddition {
    pub enabled: Option<bool>,
}

/// The response's `server`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerHeader {
    pub disabled: Option<bool>,
    /// `istio-envoy` when empty.
    pub value: String,
}

/// Sampling when no Telemetry says so; in percent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyTracing {
    pub sampling: Option<f64>,
    pub zipkin: Option<serde_json::Value>,
    pub custom_tags: BTreeMap<String, CustomTag>,
    pub max_path_tag_length: Option<u32>,
}
