//! Objects that hold a pod: the pod itself, or what makes pods from a template.

use serde_json::{Value, json};

use super::{Namespace, Outcome, Refusal, Settings, inject};

/// Injects the pod in a Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Job or CronJob; `None` for other kinds.
///
/// The document comes back whole in [`super::Injected::pod`].
///
/// # Errors
/// As [`inject`].
pub fn inject_object(
    document: &Value,
    namespace: &Namespace,
    settings: &Settings,
) -> Option<Result<Outcome, Refusal>> {
    let place = match document["kind"].as_str()? {
        "Pod" => "",
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            "/spec/template"
        }
        "CronJob" => "/spec/jobTemplate/spec/template",
        _ => return None,
    };
    let mut template = document.pointer(place)?.clone();
    if template["metadata"].is_null() {
        template["metadata"] = json!({});
    }
    Some(inject(&template, namespace, settings).map(|outcome| match outcome {
        Outcome::Injected(mut injected) => {
            let mut whole = document.clone();
            if let Some(slot) = whole.pointer_mut(place) {
                *slot = std::mem::take(&mut injected.pod);
            }
            injected.pod = whole;
            Outcome::Injected(injected)
        }
        skipped @ Outcome::Skipped(_) => skipped,
    }))
}
