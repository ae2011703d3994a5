use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::inject::Settings;

fn pod_review(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "namespace": "shop",
            "operation": "CREATE", "object": pod,
        },
    })
}

fn object_review(object: &Value, old: Option<&Value>) -> Value {
    json!({"request": {"uid": "u-2", "kind": {"kind": object["kind"]}, "object": object, "oldObject": old}})
}

#[test]
fn a_pod_is_answered_with_a_patch() {
    let answer = mutate(
        &pod_review(&json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a"}]}})),
        &Settings::default(),
    );
    let response = &answer["response"];
    assert_eq!((&response["uid"], &response["allowed"]), (&json!("u-1"), &json!(true)));
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let patch: Vec<Value> = serde_json::from_slice(&patch).unwrap();
    assert!(patch.iter().any(|operation| operation["path"] == "/spec/initContainers"), "{patch:?}");
}

#[test]
fn a_pod_that_cannot_be_meant_is_refused_with_the_reason() {
    let pod = json!({"metadata": {"name": "a"}, "spec": {
        "containers": [{"name": "a", "securityContext": {"runAsUser": 1337}}],
    }});
    let response = &mutate(&pod_review(&pod), &Settings::default())["response"];
    assert_eq!(response["allowed"], false);
    assert!(response["status"]["message"].as_str().unwrap().contains("container `a` runs as user 1337"));
}

#[test]
fn pods_that_stay_out_are_let_in_unchanged() {
    let pod =
        json!({"metadata": {"name": "a"}, "spec": {"hostNetwork": true, "containers": [{"name": "a"}]}});
    let response = &mutate(&pod_review(&pod), &Settings::default())["response"];
    assert_eq!(*response, json!({"uid": "u-1", "allowed": true}));
}

fn service(spec: &Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
           "metadata": {"name": "a", "namespace": "shop"}, "spec": spec})
}

#[test]
fn what_lint_calls_an_error_is_refused_with_its_message() {
    let bad = service(
        &json!({"hosts": ["a"], "http": [{"timeout": "5", "route": [{"destination": {"host": "a"}}]}]}),
    );
    let response = &validate(&object_review(&bad, None))["response"];
    assert_eq!(response["allowed"], false);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("spec.http[0].timeout: \"5\" is not a duration"), "{message}");
}

#[test]
fn what_refers_to_objects_that_may_come_later_is_let_in() {
    let early = service(&json!({
        "hosts": ["a"], "http": [{"route": [{"destination": {"host": "nowhere", "subset": "v1"}}]}],
    }));
    assert_eq!(validate(&object_review(&early, None))["response"], json!({"uid": "u-2", "allowed": true}));
}

#[test]
fn unknown_fields_are_warned_of() {
    let odd =
        service(&json!({"hosts": ["a"], "colour": 1, "http": [{"route": [{"destination": {"host": "a"}}]}]}));
    let response = &validate(&object_review(&odd, None))["response"];
    assert_eq!(response["allowed"], true);
    assert_eq!(response["warnings"], json!(["spec.colour: unknown field"]));
}

#[test]
fn a_bad_object_from_before_can_still_lose_its_finalizers() {
    let bad = service(&json!({"http": [{"timeout": "5"}]}));
    assert_eq!(validate(&object_review(&bad, Some(&bad)))["response"]["allowed"], true);
}
