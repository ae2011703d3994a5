//! AdmissionReview (`admission.k8s.io/v1`) in and out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::validate::{Verdict, check};
use crate::inject::{Namespace, Outcome, Settings, inject, patch};

/// The longest warning that clients show whole; Kubernetes cuts them off at 256 and all of one answer at 4,096.
const LONGEST_WARNING: usize = 250;
const MOST_WARNINGS: usize = 12;

/// Answers a review of a pod: with a patch where it gets a proxy.
pub fn mutate(review: &Value, settings: &Settings) -> Value {
    let request = &review["request"];
    let pod = &request["object"];
    let is_pod =
        request["kind"]["kind"] == "Pod" && request["subResource"].as_str().is_none_or(str::is_empty);
    if !is_pod {
        return allowed(request, &[]);
    }
    let namespace =
        Namespace { name: request["namespace"].as_str().unwrap_or_default().to_owned(), labels: None };
    match inject(pod, &namespace, settings) {
        Ok(Outcome::Injected(injected)) => {
            let operations = Value::Array(patch(pod, &injected.pod)).to_string();
            let mut answer = allowed(request, &injected.warnings);
            answer["response"]["patchType"] = "JSONPatch".into();
            answer["response"]["patch"] = STANDARD.encode(operations).into();
            answer
        }
        Ok(Outcome::Skipped(reason)) => {
            tracing::debug!(namespace = namespace.name, reason, "a pod was not injected");
            allowed(request, &[])
        }
        Err(refusal) => denied(request, &format!("cannot be injected: {refusal}"), &[]),
    }
}

/// Answers a review of one of the mesh's own objects.
pub fn validate(review: &Value) -> Value {
    let request = &review["request"];
    let (object, old) = (&request["object"], &request["oldObject"]);
    // Labels and finalizers of an object that was bad before us must still be changeable, or it could not be deleted.
    let untouched = old.is_object() && old["spec"] == object["spec"];
    if object.is_null() || untouched {
        return allowed(request, &[]);
    }
    let Verdict { errors, warnings } = check(object);
    if errors.is_empty() {
        allowed(request, &warnings)
    } else {
        denied(request, &errors.join("; "), &warnings)
    }
}

fn allowed(request: &Value, warnings: &[String]) -> Value {
    answer(json!({"uid": request["uid"], "allowed": true}), warnings)
}

fn denied(request: &Value, message: &str, warnings: &[String]) -> Value {
    let status = json!({"code": 422, "reason": "Invalid", "message": message});
    answer(json!({"uid": request["uid"], "allowed": false, "status": status}), warnings)
}

fn answer(mut response: Value, warnings: &[String]) -> Value {
    if !warnings.is_empty() {
        let cut = |text: &String| text.chars().take(LONGEST_WARNING).collect::<String>();
        response["warnings"] = warnings.iter().take(MOST_WARNINGS).map(cut).collect();
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}
