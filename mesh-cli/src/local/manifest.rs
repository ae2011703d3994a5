//! Manifests as the runner sees them: any object as JSON, and small views of the kinds that become pods.
//!
//! Fields that only a cluster can honour (affinity, resources, security profiles) are read over, not refused;
//! the control plane judges the mesh's own kinds.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// One object of a manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Object {
    /// The file it came from, for messages.
    pub(crate) file: String,
    pub(crate) value: Value,
}

/// What makes an object the same object: its version does not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct ObjectKey {
    pub(crate) group: String,
    pub(crate) kind: String,
    /// Empty for kinds without a namespace.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name, .. } = self;
        if namespace.is_empty() {
            write!(formatter, "{kind} {name}")
        } else {
            write!(formatter, "{kind} {namespace}/{name}")
        }
    }
}

impl Object {
    pub(crate) fn key(&self) -> ObjectKey {
        let version = text(&self.value, &["apiVersion"]);
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let kind = text(&self.value, &["kind"]);
        let namespace = match text(&self.value, &["metadata", "namespace"]) {
            _ if cluster_scoped(kind) => "",
            "" => "default",
            namespace => namespace,
        };
        ObjectKey {
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: text(&self.value, &["metadata", "name"]).to_owned(),
        }
    }

    /// The object in one of the shapes below.
    pub(crate) fn view<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        T::deserialize(&self.value).with_context(|| format!("{}: {}", self.file, self.key()))
    }
}

fn cluster_scoped(kind: &str) -> bool {
    matches!(
        kind,
        "Namespace"
            | "IngressClass"
            | "GatewayClass"
            | "ClusterRole"
            | "ClusterRoleBinding"
            | "CustomResourceDefinition"
    )
}

fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    path.iter().try_fold(value, |value, step| value.get(step)).and_then(Value::as_str).unwrap_or("")
}

/// Reads files, and the `.yaml`, `.yml` and `.json` files of folders, in the order of their names. `-` is standard input.
pub(crate) fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<Object>> {
    let mut objects = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let input =
                std::io::read_to_string(std::io::stdin()).context("reading manifests from standard input")?;
            objects.extend(parse("-", &input)?);
            continue;
        }
        for file in manifest_files(path)? {
            let input =
                std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            objects.extend(parse(&file.display().to_string(), &input)?);
        }
    }
    Ok(objects)
}

fn manifest_files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries =
        std::fs::read_dir(path).with_context(|| format!("reading the folder {}", path.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.with_context(|| format!("reading the folder {}", path.display()))?.path();
        let extension = file.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("yaml" | "yml" | "json")) {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("{}: no .yaml, .yml or .json file in this folder", path.display());
    }
    Ok(files)
}

/// All objects of one YAML (or JSON) text; `List`s are flattened, empty documents left out.
pub(crate) fn parse(file: &str, text: &str) -> anyhow::Result<Vec<Object>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).with_context(|| file.to_owned())?;
    let mut objects = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        flatten(file, document, &mut objects)?;
    }
    Ok(objects)
}

fn flatten(file: &str, value: Value, objects: &mut Vec<Object>) -> anyhow::Result<()> {
    if text(&value, &["kind"]) == "List"
        && let Some(items) = value.get("items").and_then(Value::as_array)
    {
        return items.iter().try_for_each(|item| flatten(file, item.clone(), objects));
    }
    let object = Object { file: file.to_owned(), value };
    let key = object.key();
    if key.kind.is_empty() || text(&object.value, &["apiVersion"]).is_empty() {
        bail!("{file}: an object without apiVersion or kind");
    }
    if key.name.is_empty() {
        bail!("{file}: {} without metadata.name", key.kind);
    }
    objects.push(object);
    Ok(())
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A Deployment, ReplicaSet, StatefulSet, DaemonSet or Job.
#[derive(Debug, Deserialize)]
pub(crate) struct Workload {
    pub(crate) spec: WorkloadSpec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkloadSpec {
    pub(crate) replicas: Option<u16>,
    pub(crate) completions: Option<u16>,
    /// A StatefulSet's headless Service, which names its pods.
    pub(crate) service_name: Option<String>,
    pub(crate) template: PodTemplate,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PodTemplate {
    #[serde(default)]
    pub(crate) metadata: Metadata,
    pub(crate) spec: PodSpec,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodSpec {
    pub(crate) containers: Vec<Container>,
    #[serde(default)]
    pub(crate) init_containers: Vec<Container>,
    #[serde(default)]
    pub(crate) volumes: Vec<Volume>,
    #[serde(default)]
    pub(crate) restart_policy: RestartPolicy,
    pub(crate) service_account_name: Option<String>,
    pub(crate) termination_grace_period_seconds: Option<u64>,
    pub(crate) hostname: Option<String>,
    pub(crate) subdomain: Option<String>,
    #[serde(default)]
    pub(crate) security_context: SecurityContext,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: Option<String>,
    #[serde(default)]
    pub(crate) command: Vec<String>,
    #[serde(default)]
    pub(crate) args: Vec<String>,
    pub(crate) working_dir: Option<PathBuf>,
    #[serde(default)]
    pub(crate) env: Vec<Variable>,
    #[serde(default)]
    pub(crate) env_from: Vec<VariableSource>,
    #[serde(default)]
    pub(crate) ports: Vec<ContainerPort>,
    #[serde(default)]
    pub(crate) volume_mounts: Vec<VolumeMount>,
    pub(crate) readiness_probe: Option<Probe>,
    pub(crate) startup_probe: Option<Probe>,
    pub(crate) liveness_probe: Option<Probe>,
    #[serde(default)]
    pub(crate) lifecycle: Lifecycle,
    #[serde(default)]
    pub(crate) resources: Resources,
    /// Of an init container: `Always` makes it run beside the others.
    pub(crate) restart_policy: Option<RestartPolicy>,
    #[serde(default)]
    pub(crate) security_context: SecurityContext,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Lifecycle {
    pub(crate) post_start: Option<Handler>,
    pub(crate) pre_stop: Option<Handler>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Handler {
    pub(crate) exec: Option<ExecAction>,
    pub(crate) http_get: Option<HttpGet>,
    pub(crate) sleep: Option<Sleep>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sleep {
    pub(crate) seconds: u64,
}

/// Amounts by resource, such as `cpu` and `memory`; nobody enforces them here, but containers may read them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Resources {
    pub(crate) limits: BTreeMap<String, Quantity>,
    pub(crate) requests: BTreeMap<String, Quantity>,
}

/// An amount, which YAML may take for a number.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Quantity {
    Number(f64),
    Text(String),
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SecurityContext {
    pub(crate) run_as_user: Option<u32>,
    pub(crate) run_as_group: Option<u32>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
    pub(crate) value_from: Option<ValueFrom>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ValueFrom {
    pub(crate) field_ref: Option<FieldRef>,
    pub(crate) config_map_key_ref: Option<KeyRef>,
    pub(crate) secret_key_ref: Option<KeyRef>,
    pub(crate) resource_field_ref: Option<ResourceFieldRef>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResourceFieldRef {
    pub(crate) container_name: Option<String>,
    /// `limits.cpu` and the like.
    pub(crate) resource: String,
    pub(crate) divisor: Option<Quantity>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FieldRef {
    pub(crate) field_path: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeyRef {
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) optional: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VariableSource {
    #[serde(default)]
    pub(crate) prefix: String,
    pub(crate) config_map_ref: Option<NameRef>,
    pub(crate) secret_ref: Option<NameRef>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NameRef {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) optional: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerPort {
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) container_port: u16,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VolumeMount {
    pub(crate) name: String,
    pub(crate) mount_path: PathBuf,
    #[serde(default)]
    pub(crate) sub_path: PathBuf,
    #[serde(default)]
    pub(crate) read_only: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) empty_dir: Option<Value>,
    pub(crate) config_map: Option<ConfigMapVolume>,
    pub(crate) secret: Option<SecretVolume>,
    pub(crate) host_path: Option<HostPath>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfigMapVolume {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) items: Vec<VolumeItem>,
    pub(crate) default_mode: Option<u32>,
    #[serde(default)]
    pub(crate) optional: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SecretVolume {
    pub(crate) secret_name: String,
    #[serde(default)]
    pub(crate) items: Vec<VolumeItem>,
    pub(crate) default_mode: Option<u32>,
    #[serde(default)]
    pub(crate) optional: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HostPath {
    pub(crate) path: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VolumeItem {
    pub(crate) key: String,
    pub(crate) path: PathBuf,
    pub(crate) mode: Option<u32>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Probe {
    pub(crate) http_get: Option<HttpGet>,
    pub(crate) tcp_socket: Option<PortRef>,
    pub(crate) grpc: Option<PortRef>,
    pub(crate) exec: Option<ExecAction>,
    #[serde(default)]
    pub(crate) initial_delay_seconds: u64,
    #[serde(default = "default_period")]
    pub(crate) period_seconds: u64,
    #[serde(default = "default_timeout")]
    pub(crate) timeout_seconds: u64,
    #[serde(default = "default_success")]
    pub(crate) success_threshold: u32,
    #[serde(default = "default_failure")]
    pub(crate) failure_threshold: u32,
}

// Kubernetes' defaults: core/v1 Probe.
fn default_period() -> u64 {
    10
}
fn default_timeout() -> u64 {
    1
}
fn default_success() -> u32 {
    1
}
fn default_failure() -> u32 {
    3
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HttpGet {
    #[serde(default)]
    pub(crate) path: String,
    pub(crate) port: PortName,
    #[serde(default)]
    pub(crate) scheme: String,
    #[serde(default)]
    pub(crate) http_headers: Vec<HttpHeader>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HttpHeader {
    pub(crate) name: String,
    pub(crate) value: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PortRef {
    pub(crate) port: PortName,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExecAction {
    #[serde(default)]
    pub(crate) command: Vec<String>,
}

/// A port by number or by its name in the container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum PortName {
    Number(u16),
    Name(String),
}

/// A ConfigMap or Secret.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DataObject {
    pub(crate) data: BTreeMap<String, String>,
    pub(crate) binary_data: BTreeMap<String, String>,
    pub(crate) string_data: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_lists_become_objects_in_order() {
        let objects = parse(
            "shop.yaml",
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n---\napiVersion: v1\nkind: List\nitems:\n- \
             {apiVersion: apps/v1, kind: Deployment, metadata: {name: cart, namespace: shop}}\n- \
             {apiVersion: v1, kind: Service, metadata: {name: cart}}\n",
        )
        .unwrap();
        let keys: Vec<String> = objects.iter().map(|object| object.key().to_string()).collect();
        assert_eq!(keys, ["Namespace shop", "Deployment shop/cart", "Service default/cart"]);
    }

    #[test]
    fn an_object_without_a_name_is_refused_with_its_file() {
        let error = parse("a.yaml", "apiVersion: v1\nkind: Service\n").unwrap_err();
        assert_eq!(error.to_string(), "a.yaml: Service without metadata.name");
    }
}
