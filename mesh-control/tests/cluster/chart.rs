//! What an installation puts into the cluster beside workloads, from the chart's own files.

use kube::Client;
use serde_json::Value;

use crate::create;

const RIGHTS: &str = include_str!("../../../deploy/charts/mesh/templates/10-control-rights.yaml");
const WEBHOOKS: &str = include_str!("../../../deploy/charts/mesh/templates/30-webhooks.yaml");
const NAMESPACES: &str = include_str!("../../../deploy/charts/mesh/templates/00-namespaces.yaml");
const CLASSES: &str = include_str!("../../../deploy/charts/mesh/templates/35-classes.yaml");
const LIMITS: &str = include_str!("../../../deploy/charts/mesh/templates/ratelimits.minimesh.io.yaml");
/// Objects of every kind whose status the control plane writes, and what they name.
const OBJECTS: &str = include_str!("objects.yaml");

/// Documents of a template. Its conditions all hold by default, so their lines can go.
pub(crate) fn documents(template: &str) -> Vec<Value> {
    let lines = template.lines().filter(|line| !line.starts_with("{{-"));
    let text = lines.collect::<Vec<_>>().join("\n");
    serde_saphyr::from_multiple::<Value>(&text).unwrap().into_iter().filter(|one| !one.is_null()).collect()
}

/// The control plane's account and rights.
pub(crate) fn rights() -> Vec<Value> {
    documents(RIGHTS)
}

pub(crate) fn webhooks() -> Vec<Value> {
    documents(WEBHOOKS)
}

pub(crate) fn objects() -> Vec<Value> {
    documents(CLASSES).into_iter().chain(documents(OBJECTS)).collect()
}

/// What an installation consists of, without workloads.
pub(crate) fn installation() -> Vec<Value> {
    let templates = [NAMESPACES, RIGHTS, WEBHOOKS, CLASSES].into_iter().flat_map(documents);
    definitions().into_iter().chain(templates).collect()
}

/// All of the mesh's kinds.
pub(crate) fn definitions() -> Vec<Value> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/charts/mesh/crds");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let texts = files.map(|file| std::fs::read_to_string(file).unwrap());
    texts.chain([LIMITS.to_owned()]).flat_map(|text| documents(&text)).collect()
}

pub(crate) async fn create_all(client: &Client, objects: Vec<Value>) {
    for object in objects {
        create(client, &collection(&object), object).await;
    }
}

/// The path under which an object is created.
pub(crate) fn collection(object: &Value) -> String {
    let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let root = if version.contains('/') { "apis" } else { "api" };
    let lower = kind.to_ascii_lowercase();
    let plural = match lower.strip_suffix('y') {
        Some(stem) if !lower.ends_with("way") => format!("{stem}ies"),
        _ if lower.ends_with('s') => format!("{lower}es"),
        _ => format!("{lower}s"),
    };
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("/{root}/{version}/namespaces/{namespace}/{plural}"),
        None => format!("/{root}/{version}/{plural}"),
    }
}
