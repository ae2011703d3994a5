//! Golden files: `tests/NAME.yaml` holds a namespace's labels with settings, and a pod; `tests/NAME.golden` what becomes of it.
//!
//! `UPDATE=1 cargo test -p mesh-control --lib inject` rewrites them.

use std::path::PathBuf;

use super::*;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Given {
    name: String,
    labels: Option<StringMap>,
    native: bool,
    beside_istio: bool,
    hold_application: bool,
}

impl Default for Given {
    fn default() -> Self {
        let labels = [("istio-injection".to_owned(), "enabled".to_owned())].into();
        Self {
            name: "shop".to_owned(),
            labels: Some(labels),
            native: true,
            beside_istio: false,
            hold_application: false,
        }
    }
}

fn settings(given: &Given) -> Settings {
    Settings {
        image: "example.org/mesh-proxy:1".to_owned(),
        mode: if given.native { Mode::Native } else { Mode::Plain },
        beside_istio: given.beside_istio,
        hold_application: given.hold_application,
        ..Settings::default()
    }
}

fn read(text: &str) -> (Given, Value) {
    let mut documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    let pod = documents.pop().unwrap();
    (serde_json::from_value(documents.pop().unwrap()).unwrap(), pod)
}

fn outcome(given: &Given, pod: &Value) -> String {
    let namespace = Namespace { name: given.name.clone(), labels: given.labels.clone() };
    match inject(pod, &namespace, &settings(given)) {
        Ok(Outcome::Injected(injected)) => {
            assert_eq!(injected_again(given, &injected.pod), "skipped: it is injected already\n");
            let warnings: String =
                injected.warnings.iter().map(|text| format!("# warning: {text}\n")).collect();
            warnings + &serde_saphyr::to_string(&injected.pod).unwrap()
        }
        Ok(Outcome::Skipped(reason)) => format!("skipped: {reason}\n"),
        Err(refusal) => format!("refused: {refusal}\n"),
    }
}

fn injected_again(given: &Given, pod: &Value) -> String {
    let namespace = Namespace { name: given.name.clone(), labels: given.labels.clone() };
    match inject(pod, &namespace, &settings(given)) {
        Ok(Outcome::Skipped(reason)) => format!("skipped: {reason}\n"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn pods_become_what_the_golden_files_show() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/inject/tests");
    let mut seen = 0;
    let mut stale = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        seen += 1;
        let (given, pod) = read(&std::fs::read_to_string(&path).unwrap());
        let fresh = outcome(&given, &pod);
        let golden = path.with_extension("golden");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&golden, &fresh).unwrap();
        }
        if std::fs::read_to_string(&golden).unwrap_or_default() != fresh {
            stale.push(golden);
        }
    }
    assert!(seen >= 12, "{seen} pods");
    assert!(stale.is_empty(), "UPDATE=1 rewrites {stale:?}");
}

#[test]
fn the_patch_makes_the_injected_pod_of_the_original() {
    let pod = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    let namespace = Namespace { name: "shop".to_owned(), labels: None };
    let Ok(Outcome::Injected(injected)) = inject(&pod, &namespace, &Settings::default()) else { panic!() };
    let mut patched = pod.clone();
    for operation in patch(&pod, &injected.pod) {
        let path = operation["path"].as_str().unwrap();
        let (parent, name) = path.rsplit_once('/').unwrap();
        let name = name.replace("~1", "/").replace("~0", "~");
        patched.pointer_mut(parent).unwrap()[name] = operation["value"].clone();
    }
    assert_eq!(patched, injected.pod);
}

#[test]
fn templates_of_every_controller_are_found() {
    let template = json!({"spec": {"containers": [{"name": "a", "image": "a"}]}});
    let namespace = Namespace { name: "shop".to_owned(), labels: None };
    for (document, place) in [
        (json!({"kind": "Pod", "metadata": {}, "spec": template["spec"]}), ""),
        (json!({"kind": "Deployment", "spec": {"template": template}}), "/spec/template"),
        (
            json!({"kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": template}}}}),
            "/spec/jobTemplate/spec/template",
        ),
    ] {
        let outcome = inject_object(&document, &namespace, &Settings::default()).unwrap().unwrap();
        let Outcome::Injected(injected) = outcome else { panic!("{document}") };
        let pod = injected.pod.pointer(place).unwrap();
        assert_eq!(pod["spec"]["initContainers"][1]["name"], PROXY_CONTAINER);
        assert_eq!(injected.pod["kind"], document["kind"]);
    }
    assert!(inject_object(&json!({"kind": "Service"}), &namespace, &Settings::default()).is_none());
}
