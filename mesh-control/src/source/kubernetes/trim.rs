//! Leaves of an object what the mesh reads, so that neither memory nor comparisons are spent on the rest.

use serde_json::{Map, Value, json};

/// Annotations that others write, often and large.
const NOT_OURS: &[&str] = &[
    "kubectl.kubernetes.io/last-applied-configuration",
    "deployment.kubernetes.io/revision",
    "endpoints.kubernetes.io/last-change-trigger-time",
];

/// Drops what changes without meaning anything to the mesh, and says which kind it is: items of a list do not.
pub(super) fn object(mut value: Value, version: &str, kind: &str) -> Value {
    value["apiVersion"] = version.into();
    value["kind"] = kind.into();
    if kind == "Pod" {
        pod(&mut value);
    } else if kind == "EndpointSlice" {
        slice(&mut value);
    } else if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata(meta);
    }
    value
}

fn metadata(meta: &mut Map<String, Value>) {
    const KEPT: &[&str] = &[
        "name",
        "namespace",
        "uid",
        "labels",
        "annotations",
        "creationTimestamp",
        "deletionTimestamp",
        "generation",
        "ownerReferences",
    ];
    meta.retain(|name, _| KEPT.contains(&name.as_str()));
    if let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|name, _| !NOT_OURS.contains(&name.as_str()));
    }
    for owner in meta.get_mut("ownerReferences").and_then(Value::as_array_mut).into_iter().flatten() {
        keep(owner, &["kind", "name", "controller"]);
    }
}

fn pod(pod: &mut Value) {
    let ready = json!([{"type": "Ready", "status": "True"}]);
    let is_ready = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
    let conditions = pod["status"]["conditions"].as_array();
    let ready = conditions.is_some_and(|all| all.iter().any(is_ready)).then_some(ready);
    let mut status = json!({"phase": pod["status"]["phase"], "podIP": pod["status"]["podIP"]});
    if let Some(ready) = ready {
        status["conditions"] = ready;
    }
    pod["status"] = status;
    let spec = &mut pod["spec"];
    keep(spec, &["containers", "initContainers", "serviceAccountName", "nodeName", "hostNetwork"]);
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            keep(container, &["name", "ports", "restartPolicy"]);
        }
    }
    keep(pod, &["apiVersion", "kind", "metadata", "spec", "status"]);
}

fn slice(slice: &mut Value) {
    keep(slice, &["apiVersion", "kind", "metadata", "addressType", "endpoints", "ports"]);
    for endpoint in slice.get_mut("endpoints").and_then(Value::as_array_mut).into_iter().flatten() {
        keep(endpoint, &["addresses", "conditions", "targetRef", "zone", "deprecatedTopology"]);
        if let Some(target) = endpoint.get_mut("targetRef") {
            keep(target, &["kind", "name", "namespace"]);
        }
    }
}

fn keep(value: &mut Value, names: &[&str]) {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| names.contains(&name.as_str()));
    }
}
