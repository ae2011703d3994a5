//! Pods whose traffic should be the mesh's and is not: they were made before their namespace was labelled, or while nobody injected.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Check, few};
use crate::cluster::remote::list::list;
use crate::cluster::remote::pods::{Part, PodView};
use crate::cluster::remote::{Remote, RemoteError, SYSTEM_NAMESPACE};
use crate::inject::{Namespace, Outcome, PROXY_CONTAINER, Settings, inject};

/// Namespaces with their labels, and how the installed control plane injects.
pub(super) struct Namespaces {
    all: Vec<Namespace>,
    settings: Settings,
}

pub(super) async fn namespaces(remote: &Remote) -> Result<Namespaces, RemoteError> {
    let found = list(remote.client(), "/api/v1/namespaces", "").await?.unwrap_or_default();
    let path = format!("/apis/apps/v1/namespaces/{SYSTEM_NAMESPACE}/deployments/mesh-control");
    let control = remote.look(&path).await?.unwrap_or_default();
    Ok(Namespaces { all: found.iter().map(namespace).collect(), settings: settings(&control) })
}

fn namespace(object: &Value) -> Namespace {
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    let labels = labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    Namespace {
        name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        labels: Some(labels.collect()),
    }
}

fn settings(control: &Value) -> Settings {
    let variables = control["spec"]["template"]["spec"]["containers"][0]["env"].as_array();
    let value = |name: &str| {
        let mut all = variables.into_iter().flatten();
        all.find(|one| one["name"] == name).and_then(|one| one["value"].as_str())
    };
    let default = Settings::default();
    Settings {
        beside_istio: value("MESH_BESIDE_ISTIO") == Some("true"),
        image: value("MESH_PROXY_IMAGE").map_or(default.image, str::to_owned),
        ..Settings::default()
    }
}

pub(super) fn judge(pods: &[PodView], namespaces: &Namespaces) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut by_namespace: BTreeMap<&str, Vec<&PodView>> = BTreeMap::new();
    let running = |pod: &&PodView| !matches!(pod.phase(), "Succeeded" | "Failed") && !pod.is_leaving();
    for pod in pods.iter().filter(running) {
        by_namespace.entry(pod.namespace()).or_default().push(pod);
    }
    for namespace in &namespaces.all {
        let pods = by_namespace.remove(namespace.name.as_str()).unwrap_or_default();
        let outside = |pod: &&&PodView| {
            pod.part() == Part::Outside
                && !matches!(inject(&pod.0, namespace, &namespaces.settings), Ok(Outcome::Skipped(_)))
        };
        let missing: Vec<&str> = pods.iter().filter(outside).map(|pod| pod.name()).collect();
        let meshed = pods.iter().filter(|pod| pod.part() == Part::Meshed).count();
        let subject = format!("Namespace {}", namespace.name);
        if !missing.is_empty() {
            let message = format!("asks for proxies, but these pods have none: {}", few(missing));
            let fix = format!("kubectl rollout restart deployment -n {}", namespace.name);
            checks.push(Check::warning(subject, message).fix(fix));
        } else if let Some(check) = outdated(&subject, &pods, &namespaces.settings.image) {
            checks.push(check);
        } else if meshed > 0 {
            checks.push(Check::ok(subject, format!("{meshed} pods have a proxy, as they ask for")));
        }
    }
    if checks.is_empty() {
        let message = "no pod is in the mesh yet";
        checks.push(
            Check::ok("namespaces", message).fix("kubectl label namespace NAME istio-injection=enabled"),
        );
    }
    checks
}

/// Pods whose proxy is of another image than a new pod's would be: they are older than the last upgrade.
fn outdated(subject: &str, pods: &[&PodView], image: &str) -> Option<Check> {
    let is_old = |pod: &&&PodView| {
        let proxy = pod.containers().find(|container| container["name"] == PROXY_CONTAINER);
        pod.part() == Part::Meshed && proxy.is_some_and(|proxy| proxy["image"] != image)
    };
    let old: Vec<&str> = pods.iter().filter(is_old).map(|pod| pod.name()).collect();
    (!old.is_empty()).then(|| {
        let namespace = pods.first().map_or("", |pod| pod.namespace());
        let message = format!("new pods get the proxy {image}, these have another: {}", few(old));
        Check::warning(subject, message).fix(format!("kubectl rollout restart deployment -n {namespace}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::remote::check::Level;
    use serde_json::json;

    fn pod(namespace: &str, name: &str, labels: Value, containers: Value) -> PodView {
        PodView(
            json!({"metadata": {"namespace": namespace, "name": name, "labels": labels}, "spec": {"containers": containers}}),
        )
    }

    #[test]
    fn pods_that_ask_for_a_proxy_and_have_none_are_named() {
        let namespaces = Namespaces {
            all: [("shop", json!({"istio-injection": "enabled"})), ("other", json!({}))]
                .map(|(name, labels)| namespace(&json!({"metadata": {"name": name, "labels": labels}})))
                .into(),
            settings: Settings { image: "proxy:2".to_owned(), ..Settings::default() },
        };
        let (plain, meshed) =
            (json!([{"name": "web"}]), json!([{"name": "web"}, {"name": "istio-proxy", "image": "proxy:2"}]));
        let opted_out = json!({"sidecar.istio.io/inject": "false"});
        let pods = [
            pod("shop", "old", json!({}), plain.clone()),
            pod("shop", "new", json!({}), meshed),
            pod("shop", "never", opted_out, plain.clone()),
            pod("other", "stranger", json!({}), plain),
        ];
        let found = judge(&pods, &namespaces);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].level, found[0].message.ends_with("none: old")), (Level::Warning, true));
        assert_eq!(judge(&pods[1..], &namespaces)[0].level, Level::Ok);
        assert_eq!(judge(&pods[3..], &namespaces)[0].subject, "namespaces");
        let upgraded = Namespaces {
            settings: Settings { image: "proxy:3".to_owned(), ..Settings::default() },
            ..namespaces
        };
        let old = &judge(&pods[1..], &upgraded)[0];
        assert!(old.message.ends_with("these have another: new"), "{old:?}");
    }
}
