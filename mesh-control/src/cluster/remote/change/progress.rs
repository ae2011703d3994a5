//! How far an object has come, by what its status says.

use serde_json::Value;

use crate::cluster::objects::text;

/// Whether an object does what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    Done,
    /// It never will as it is.
    Refused(String),
    Waiting(String),
}

impl Progress {
    pub(super) fn of(object: &Value) -> Self {
        let group = text(object, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
        match (group, text(object, "/kind")) {
            ("apps", "Deployment" | "StatefulSet") => replicas(object, "/spec/replicas", "readyReplicas"),
            ("apps", "DaemonSet") => replicas(object, "/status/desiredNumberScheduled", "numberReady"),
            ("apiextensions.k8s.io", _) => established(object),
            ("", "Pod") => pod(object),
            ("minimesh.io", _) => acknowledged(object),
            _ if group.ends_with(".istio.io") => acknowledged(object),
            _ => Self::Done,
        }
    }
}

/// By the conditions that the control plane writes.
fn acknowledged(object: &Value) -> Progress {
    let current = |name: &str| {
        let condition = condition(object, name)?;
        (condition["observedGeneration"] == object["metadata"]["generation"]).then_some(condition)
    };
    let message = |condition: &Value| text(condition, "/message").to_owned();
    match (current("Accepted"), current("Programmed")) {
        (Some(accepted), _) if accepted["status"] == "False" => Progress::Refused(message(accepted)),
        (_, Some(programmed)) if programmed["status"] == "True" => Progress::Done,
        (_, Some(programmed)) => Progress::Waiting(message(programmed)),
        _ => Progress::Waiting("the control plane has not judged it yet".to_owned()),
    }
}

fn replicas(object: &Value, wanted: &str, ready: &str) -> Progress {
    let number = |place: &str| object.pointer(place).and_then(Value::as_u64);
    if number("/status/observedGeneration").unwrap_or_default()
        < number("/metadata/generation").unwrap_or_default()
    {
        return Progress::Waiting("its controller has not looked at it yet".to_owned());
    }
    let status = |name: &str| object["status"][name].as_u64().unwrap_or_default();
    let updated =
        ["updatedReplicas", "updatedNumberScheduled"].map(status).into_iter().max().unwrap_or_default();
    let (wanted, ready) = (number(wanted).unwrap_or(1), status(ready).min(updated));
    // Pods of the version before count as ready until they have gone.
    if ready < wanted || status("replicas") > wanted {
        return Progress::Waiting(format!("{ready} of {wanted} pods are ready"));
    }
    Progress::Done
}

fn established(object: &Value) -> Progress {
    match condition(object, "Established") {
        Some(condition) if condition["status"] == "True" => Progress::Done,
        _ => Progress::Waiting("not established".to_owned()),
    }
}

fn pod(object: &Value) -> Progress {
    let ready = condition(object, "Ready").is_some_and(|condition| condition["status"] == "True");
    match text(object, "/status/phase") {
        "Succeeded" => Progress::Done,
        "Failed" => Progress::Refused("it has failed".to_owned()),
        _ if ready => Progress::Done,
        phase => Progress::Waiting(format!("{phase}, not ready")),
    }
}

fn condition<'o>(object: &'o Value, name: &str) -> Option<&'o Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn route(conditions: Value) -> Progress {
        Progress::of(&json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"generation": 3}, "status": {"conditions": conditions}}))
    }

    #[test]
    fn what_was_said_of_an_earlier_generation_does_not_count() {
        let programmed = |generation: u64| json!([{"type": "Programmed", "status": "True", "observedGeneration": generation}]);
        assert!(matches!(route(programmed(2)), Progress::Waiting(_)));
        assert_eq!(route(programmed(3)), Progress::Done);
        let refused = json!([{"type": "Accepted", "status": "False", "observedGeneration": 3, "message": "hosts: missing"}]);
        assert_eq!(route(refused), Progress::Refused("hosts: missing".to_owned()));
    }

    #[test]
    fn a_deployment_is_done_when_its_new_pods_are_ready_and_its_old_ones_gone() {
        let deployment = |status: Value| {
            Progress::of(
                &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"generation": 2},
                "spec": {"replicas": 2}, "status": status}),
            )
        };
        let status = |observed: u64, updated: u64, replicas: u64| json!({"observedGeneration": observed, "updatedReplicas": updated, "readyReplicas": 2, "replicas": replicas});
        assert_eq!(deployment(status(2, 2, 2)), Progress::Done);
        for unfinished in [status(1, 2, 2), status(2, 1, 2), status(2, 2, 3)] {
            assert!(matches!(deployment(unfinished.clone()), Progress::Waiting(_)), "{unfinished}");
        }
    }

    #[test]
    fn kinds_without_a_status_are_done() {
        assert_eq!(Progress::of(&json!({"apiVersion": "v1", "kind": "ConfigMap"})), Progress::Done);
    }
}
