//! The Pod object of a running pod, as the control plane reads it.

use std::time::SystemTime;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::pods::Pod;
use crate::local::network::GATEWAY;
use crate::local::plan::Role;
use crate::local::protocol::Phase;

/// `v1/Pod` with metadata, spec and status.
pub(super) fn of(pod: &Pod) -> Value {
    let metadata = &pod.desired.template.metadata;
    let mut annotations = metadata.annotations.clone();
    if pod.role.get() == Role::Sidecar {
        // As Istio's injector does: whoever reads it knows that the pod takes mesh TLS.
        annotations.insert("sidecar.istio.io/status".to_owned(), "injected".to_owned());
    }
    let owner = &pod.desired.owner;
    let mut spec = serde_json::to_value(&pod.desired.template.spec).unwrap_or_default();
    strip_nulls(&mut spec);
    spec["nodeName"] = json!("localhost");
    spec["serviceAccountName"] = json!(pod.place.service_account);
    let since = timestamp(pod.created);
    let ready = if pod.is_ready() { "True" } else { "False" };
    let phase = match pod.phase() {
        Phase::Pending => "Pending",
        Phase::Running => "Running",
        Phase::Succeeded => "Succeeded",
        Phase::Failed => "Failed",
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.place.name,
            "namespace": pod.place.namespace,
            "uid": pod.place.uid,
            "labels": metadata.labels,
            "annotations": annotations,
            "creationTimestamp": since,
            "ownerReferences": [{
                "apiVersion": if owner.group.is_empty() { "v1".to_owned() } else { format!("{}/v1", owner.group) },
                "kind": owner.kind,
                "name": owner.name,
                "uid": "",
                "controller": true,
            }],
        },
        "spec": spec,
        "status": {
            "phase": phase,
            "podIP": pod.place.address,
            "podIPs": [{"ip": pod.place.address}],
            "hostIP": GATEWAY,
            "startTime": since,
            "conditions": [
                {"type": "Ready", "status": ready},
                {"type": "ContainersReady", "status": ready},
            ],
        },
    })
}

fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

fn timestamp(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_default()
}
