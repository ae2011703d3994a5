//! What of an Istio's objects would behave differently here, beyond what [`crate::view::View::problems`] says of the kinds that are read:
//! kinds without effect, namespaces that ask for another data plane, and pods that could not have our proxy as they are.
//!
//! Pure. It does not judge what is wrong with an object in any mesh; `mesh lint` does.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::meta::StringMap;
use crate::api::{Kind, Recognized};
use crate::inject::{Namespace, Outcome, REVISION, Settings, inject_object};
use crate::problem::{ObjectRef, Problem};

const REVISION_LABEL: &str = "istio.io/rev";
const INJECTION_LABEL: &str = "istio-injection";
const MODE_LABEL: &str = "istio.io/dataplane-mode";
/// Istio's class of Ingresses.
const ISTIO_CLASS: &str = "istio";

/// Differences of these objects, given whole, in their order.
pub fn differences(documents: &[Value]) -> Vec<Problem> {
    let namespaces = documents.iter().filter(|document| document["kind"] == "Namespace");
    let namespaces: BTreeMap<&str, &Value> =
        namespaces.filter_map(|one| Some((one["metadata"]["name"].as_str()?, one))).collect();
    documents
        .iter()
        .flat_map(|document| {
            let found = match document["kind"].as_str().unwrap_or_default() {
                "Namespace" => namespace(document).into_iter().collect(),
                "Ingress" => ingress(document).into_iter().collect(),
                _ => without_effect(document).map_or_else(|| pods(document, &namespaces), |one| vec![one]),
            };
            found.into_iter().map(|problem| problem.about(reference(document)))
        })
        .collect()
}

fn reference(document: &Value) -> ObjectRef {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let meta = &document["metadata"];
    let kind = text(&document["kind"]);
    let namespace = match meta["namespace"].as_str() {
        Some(namespace) => namespace.to_owned(),
        None if matches!(kind.as_str(), "Namespace" | "GatewayClass") => String::new(),
        None => "default".to_owned(),
    };
    ObjectRef { kind, namespace, name: text(&meta["name"]) }
}

/// Kinds that Istio acts on and we do not.
fn without_effect(document: &Value) -> Option<Problem> {
    let [version, kind] = ["apiVersion", "kind"].map(|field| document[field].as_str().unwrap_or_default());
    if version.starts_with("install.istio.io/") {
        let fix =
            "give the settings to mesh install, and those of meshConfig to ConfigMap istio-system/istio";
        return Some(
            Problem::warning("", "is for istioctl and Istio's operator; has no effect").with_fix(fix),
        );
    }
    if Kind::recognize(version, kind) != Recognized::WithoutEffect {
        return None;
    }
    let instead = match kind {
        "EnvoyFilter" => {
            "there is no Envoy: limits are RateLimits, questions to other services CUSTOM policies, headers and routes VirtualServices"
        }
        "WasmPlugin" | "TrafficExtension" => {
            "have a CUSTOM AuthorizationPolicy ask a service, or do it in the application"
        }
        "ProxyConfig" => "use the annotation proxy.istio.io/config on pods",
        "WorkloadGroup" => "write WorkloadEntries",
        _ => "write it as Gateway and VirtualService of networking.istio.io",
    };
    Some(Problem::error("", "the whole object has no effect").with_fix(instead))
}

fn namespace(document: &Value) -> Option<Problem> {
    let label = |name: &str| document["metadata"]["labels"][name].as_str();
    let field = |name: &str| format!("metadata.labels[{name}]");
    let move_over = format!(
        "kubectl label namespace NAME {REVISION_LABEL}={REVISION} {INJECTION_LABEL}-, then restart its workloads"
    );
    if label(MODE_LABEL) == Some("ambient") {
        let message = "there is no ambient mode: its pods are in the mesh with a proxy of their own only";
        return Some(Problem::error(field(MODE_LABEL), message).with_fix(move_over));
    }
    match label(REVISION_LABEL) {
        Some(REVISION) | None => {}
        Some(other) => {
            let message = format!("its pods stay with the revision {other} of Istio");
            return Some(Problem::info(field(REVISION_LABEL), message).with_fix(move_over));
        }
    }
    (label(INJECTION_LABEL) == Some("enabled")).then(|| {
        let message = "beside an installed Istio (besideIstio) this label means Istio's proxy";
        Problem::info(field(INJECTION_LABEL), message).with_fix(move_over)
    })
}

fn ingress(document: &Value) -> Option<Problem> {
    let annotation = &document["metadata"]["annotations"]["kubernetes.io/ingress.class"];
    let class = document["spec"]["ingressClassName"].as_str().or_else(|| annotation.as_str());
    (class == Some(ISTIO_CLASS)).then(|| {
        Problem::error("spec.ingressClassName", "is Istio's class; our gateway does not serve it")
            .with_fix("ingressClassName: mesh")
    })
}

/// Whether its pods could have our proxy, if their namespace moved over.
fn pods(document: &Value, namespaces: &BTreeMap<&str, &Value>) -> Vec<Problem> {
    let name = document["metadata"]["namespace"].as_str().unwrap_or("default");
    // Pods that nobody would inject have nothing to move.
    if !namespaces.get(name).is_none_or(|namespace| is_meshed(namespace)) {
        return Vec::new();
    }
    let moved: StringMap = [(REVISION_LABEL.to_owned(), REVISION.to_owned())].into_iter().collect();
    let namespace = Namespace { name: name.to_owned(), labels: Some(moved) };
    match inject_object(document, &namespace, &Settings::default()) {
        None | Some(Ok(Outcome::Skipped(_))) => Vec::new(),
        Some(Err(refusal)) => {
            vec![Problem::error("", format!("its pods would be refused: {refusal}"))]
        }
        Some(Ok(Outcome::Injected(injected))) => {
            injected.warnings.iter().map(|warning| Problem::warning("", warning)).collect()
        }
    }
}

/// Whether some Istio injects its pods, or captures their traffic otherwise.
fn is_meshed(namespace: &Value) -> bool {
    let labels = &namespace["metadata"]["labels"];
    labels[INJECTION_LABEL] == "enabled"
        || labels[REVISION_LABEL].is_string()
        || labels[MODE_LABEL] == "ambient"
}

#[cfg(test)]
mod tests;
