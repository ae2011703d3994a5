//! Whether a pod gets a proxy: by what it is, then by what it says, then by what its namespace says.

use serde_json::Value;

use super::{
    Namespace, PROXY_CONTAINER, REVISION, STATUS_ANNOTATION, Settings, annotations_of, items, string_map,
};

const INJECT: &str = "sidecar.istio.io/inject";
const NAMESPACE_INJECTION: &str = "istio-injection";
const REVISION_LABEL: &str = "istio.io/rev";
/// Namespaces of the cluster itself; a proxy there could keep the cluster from starting.
const NEVER: &[&str] = &["kube-system", "kube-public", "kube-node-lease"];

pub(super) enum Decision {
    Inject,
    Skip(String),
}

/// Whether the pod is a gateway that asks to be completed.
pub(super) fn is_gateway(pod: &Value) -> bool {
    pod["metadata"]["annotations"]["inject.istio.io/templates"] == "gateway"
}

pub(super) fn decide(pod: &Value, namespace: &Namespace, settings: &Settings) -> Decision {
    match obstacle(pod, namespace, settings).or_else(|| unwanted(pod, namespace, settings)) {
        Some(reason) => Decision::Skip(reason),
        None => Decision::Inject,
    }
}

/// What keeps a pod from having a proxy, whatever it asks for.
fn obstacle(pod: &Value, namespace: &Namespace, settings: &Settings) -> Option<String> {
    let name = namespace.name.as_str();
    if NEVER.contains(&name) || name == settings.system_namespace {
        return Some(format!("nothing is injected in the namespace {name}"));
    }
    if pod["spec"]["hostNetwork"] == true {
        return Some("the pod has hostNetwork: capturing its traffic would capture its node's".to_owned());
    }
    if annotations_of(pod).get(STATUS_ANNOTATION).is_some_and(|status| is_ours(status)) {
        return Some("it is injected already".to_owned());
    }
    let all = items(pod, "containers").into_iter().chain(items(pod, "initContainers"));
    let foreign = |container: &Value| container["name"] == PROXY_CONTAINER && container["image"] != "auto";
    all.into_iter().any(|container| foreign(&container)).then(|| {
        format!(
            "it has a container {PROXY_CONTAINER} that is not ours; with `image: auto` it would be completed"
        )
    })
}

fn is_ours(status: &str) -> bool {
    serde_json::from_str::<Value>(status).is_ok_and(|status| status["revision"] == REVISION)
}

/// Why nobody asks for a proxy.
fn unwanted(pod: &Value, namespace: &Namespace, settings: &Settings) -> Option<String> {
    let labels = string_map(&pod["metadata"]["labels"]);
    let own_revision = labels.get(REVISION_LABEL).map(String::as_str);
    if own_revision.is_some_and(|revision| revision != REVISION) {
        return Some(format!("its label {REVISION_LABEL} names another mesh"));
    }
    let asked = labels.get(INJECT).cloned().or_else(|| annotations_of(pod).get(INJECT).cloned());
    let asked = asked.as_deref().map(is_true);
    if asked == Some(false) {
        return Some(format!("{INJECT} says no"));
    }
    // The API server has looked at the namespace before it called the webhook.
    let labels = namespace.labels.as_ref()?;
    let label = |name: &str| labels.get(name).map(String::as_str);
    if own_revision == Some(REVISION) || label(REVISION_LABEL) == Some(REVISION) {
        return None;
    }
    if settings.beside_istio {
        return Some(format!("beside an Istio only {REVISION_LABEL}: {REVISION} asks for a proxy of ours"));
    }
    match label(NAMESPACE_INJECTION) {
        Some("enabled") => None,
        Some("disabled") => Some(format!("its namespace has the label {NAMESPACE_INJECTION}: disabled")),
        _ if label(REVISION_LABEL).is_some() => Some("its namespace belongs to another mesh".to_owned()),
        _ if asked == Some(true) => None,
        _ => Some(format!("its namespace lacks the label {NAMESPACE_INJECTION}: enabled")),
    }
}

/// What YAML and Istio take for true.
fn is_true(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "true" | "y" | "yes" | "on" | "1" | "t")
}
