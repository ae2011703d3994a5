//! Kubernetes' own kinds, as far as a mesh and the one-machine runner look at them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::meta::{LabelSelector, Metadata, StringMap};

/// A port by number, or by the name that a container gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum IntOrString {
    Number(u16),
    Name(String),
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PortVisitor;

        impl Visitor<'_> for PortVisitor {
            type Value = IntOrString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port number or a port's name")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<IntOrString, E> {
                let out_of_range = |_| E::invalid_value(de::Unexpected::Unsigned(number), &self);
                u16::try_from(number).map(IntOrString::Number).map_err(out_of_range)
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<IntOrString, E> {
                Ok(name.parse().map_or_else(|_| IntOrString::Name(name.to_owned()), IntOrString::Number))
            }
        }

        deserializer.deserialize_any(PortVisitor)
    }
}

/// A namespace; all that matters is in its metadata.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespace {}

/// An identity for pods; all that matters is in its metadata.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceAccount {}

/// A name and an address for a set of pods.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    pub selector: StringMap,
    pub ports: Vec<ServicePort>,
    /// An address, `None` for a headless service, absent to have one allotted.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    #[serde(rename = "type")]
    pub service_type: ServiceType,
    pub external_name: Option<String>,
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<String>,
    pub publish_not_ready_addresses: bool,
}

/// How a service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ServiceType {
    #[default]
    ClusterIP,
    NodePort,
    LoadBalancer,
    ExternalName,
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// Its prefix before the first `-` tells the protocol.
    pub name: String,
    pub port: u16,
    /// `port` when absent.
    pub target_port: Option<IntOrString>,
    pub protocol: TransportProtocol,
    /// Beats the name.
    pub app_protocol: Option<String>,
    pub node_port: Option<u16>,
}

/// Layer 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TransportProtocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

/// A pod: its metadata is the object's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    pub spec: PodSpec,
    pub status: PodStatus,
}

impl Pod {
    /// Whether all its containers have ended for good: it keeps its address in the object, and nobody is there.
    pub fn is_finished(&self) -> bool {
        matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed"))
    }

    /// Whether it has an address and its `Ready` condition is true, which is so too while it is being deleted.
    pub fn is_serving(&self) -> bool {
        let ready = |c: &PodCondition| c.condition == "Ready" && c.status == "True";
        self.status.pod_ip.is_some() && self.status.conditions.iter().any(ready)
    }
}

/// What runs in a pod.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    pub containers: Vec<Container>,
    pub init_containers: Vec<Container>,
    /// `default` when absent.
    pub service_account_name: Option<String>,
    pub node_name: Option<String>,
    pub hostname: Option<String>,
    pub subdomain: Option<String>,
    pub host_network: bool,
    pub restart_policy: Option<String>,
    /// In seconds; 30 when absent.
    pub termination_grace_period_seconds: Option<u32>,
    pub volumes: Vec<serde_json::Value>,
    pub security_context: Option<serde_json::Value>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    pub name: String,
    pub image: String,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub working_dir: Option<String>,
    pub env: Vec<EnvVar>,
    pub env_from: Vec<serde_json::Value>,
    pub ports: Vec<ContainerPort>,
    pub volume_mounts: Vec<VolumeMount>,
    pub readiness_probe: Option<serde_json::Value>,
    pub liveness_probe: Option<serde_json::Value>,
    pub startup_probe: Option<serde_json::Value>,
    pub lifecycle: Option<serde_json::Value>,
    pub resources: Option<serde_json::Value>,
    pub security_context: Option<serde_json::Value>,
    pub restart_policy: Option<String>,
}

/// An environment variable, given or looked up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvVar {
    pub name: String,
    pub value: Option<String>,
    pub value_from: Option<serde_json::Value>,
}

/// A volume's place in a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeMount {
    pub name: String,
    pub mount_path: String,
    pub sub_path: Option<String>,
    pub read_only: bool,
}

/// A port a container listens on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    pub name: Option<String>,
    pub container_port: u16,
    pub protocol: TransportProtocol,
    pub host_port: Option<u16>,
}

/// What the kubelet says about a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    pub phase: Option<String>,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<IpAddr>,
    #[serde(rename = "hostIP")]
    pub host_ip: Option<IpAddr>,
    pub conditions: Vec<PodCondition>,
}

/// One condition; `status` is `True`, `False` or `Unknown`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodCondition {
    #[serde(rename = "type")]
    pub condition: String,
    pub status: String,
}

/// Deployment, StatefulSet or Job: pods to be made from a template.
///
/// Only the runner uses these; the control plane works with the pods.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodController {
    /// 1 when absent.
    pub replicas: Option<u32>,
    pub selector: LabelSelector,
    pub template: PodTemplate,
    pub service_name: Option<String>,
    pub completions: Option<u32>,
    pub parallelism: Option<u32>,
    pub backoff_limit: Option<u32>,
}

/// The pods a controller makes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodTemplate {
    pub metadata: Metadata,
    pub spec: PodSpec,
}

/// Named bytes; `Debug` shows the names only.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Secret {
    #[serde(rename = "type")]
    pub secret_type: String,
    /// Values in base64.
    pub data: StringMap,
    /// Values as they are; beats `data`.
    pub string_data: StringMap,
}

impl Secret {
    /// A value as bytes; none if it is not there.
    ///
    /// # Errors
    /// When it is not base64. White space does not count: long values are often folded over several lines.
    pub fn value(&self, name: &str) -> Result<Option<Vec<u8>>, base64::DecodeError> {
        if let Some(text) = self.string_data.get(name) {
            return Ok(Some(text.clone().into_bytes()));
        }
        let Some(encoded) = self.data.get(name) else { return Ok(None) };
        let packed: String = encoded.split_ascii_whitespace().collect();
        STANDARD.decode(packed).map(Some)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.data.keys().chain(self.string_data.keys()).collect();
        f.debug_struct("Secret")
            .field("type", &self.secret_type)
            .field("names", &names)
            .finish_non_exhaustive()
    }
}

/// Named texts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigMap {
    pub data: StringMap,
    pub binary_data: BTreeMap<String, String>,
}
