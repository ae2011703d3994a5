//! The pods that a mesh would run, for files that have only their controllers: ready, with made-up addresses.
//!
//! A stand-in for the runner's controllers, as far as routing and policy look at pods: labels, service account,
//! whether there is a sidecar. Pods that have an address already stay as they are.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use mesh_control::api::core::{Namespace, Pod, PodCondition, PodTemplate};
use mesh_control::api::meta::{Metadata, OwnerReference};
use mesh_control::api::{Age, Content as _, Key, Kind, Object, Spec};
use mesh_control::source::Change;

/// As the injector writes it.
const INJECTED: &str = "sidecar.istio.io/status";
const INJECT: &str = "sidecar.istio.io/inject";
const TEMPLATES: &str = "inject.istio.io/templates";
/// More replicas would explain nothing more.
const MAX_REPLICAS: u32 = 100;

/// Adds pods for Deployments and StatefulSets, and makes Pods without an address ready.
pub(super) fn add(change: &mut Change) {
    let plain: Vec<Arc<str>> = change.upserted.iter().filter_map(without_injection).collect();
    let injects = |namespace: &Arc<str>| !plain.contains(namespace);
    let mut addresses = (1..).map(|number| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 244, 9, 0)) + number));
    let mut made = Vec::new();
    for object in &mut change.upserted {
        if let Spec::Pod(pod) = &mut object.spec {
            if pod.status.pod_ip.is_none() {
                make_ready(Arc::make_mut(pod), addresses.next());
                inject(&mut object.meta, injects(&object.key.namespace));
            }
        } else if matches!(object.key.kind, Kind::Deployment | Kind::StatefulSet)
            && let Some(controller) = object.spec.pod_controller()
        {
            for ordinal in 0..controller.replicas.unwrap_or(1).min(MAX_REPLICAS) {
                let mut pod = pod_of(object, &controller.template, ordinal, addresses.next());
                inject(&mut pod.meta, injects(&object.key.namespace));
                made.push(pod);
            }
        }
    }
    made.retain(|pod| !change.upserted.iter().any(|object| object.key == pod.key));
    change.upserted.extend(made);
}

fn without_injection(object: &Object) -> Option<Arc<str>> {
    Namespace::of(&object.spec)?;
    let disabled = object.meta.label("istio-injection") == Some("disabled");
    disabled.then(|| Arc::clone(&object.key.name))
}

fn pod_of(owner: &Object, template: &PodTemplate, ordinal: u32, address: Option<Ipv4Addr>) -> Object {
    let name = format!("{}-{ordinal}", owner.key.name);
    let mut pod = Pod { spec: template.spec.clone(), ..Pod::default() };
    make_ready(&mut pod, address);
    let reference = OwnerReference {
        kind: owner.key.kind.to_string(),
        name: owner.key.name.to_string(),
        controller: Some(true),
    };
    let meta = Metadata {
        name: name.clone(),
        namespace: owner.key.namespace.to_string(),
        uid: Some(format!("{}/{name}", owner.key.namespace)),
        owner_references: vec![reference],
        ..template.metadata.clone()
    };
    Object {
        key: Key::new(Kind::Pod, &owner.key.namespace, &name),
        meta,
        spec: Spec::Pod(Arc::new(pod)),
        origin: owner.origin.clone(),
        hash: owner.hash,
        age: Age::default(),
    }
}

fn make_ready(pod: &mut Pod, address: Option<Ipv4Addr>) {
    pod.status.pod_ip = address.map(IpAddr::V4);
    pod.status.conditions = vec![PodCondition { condition: "Ready".to_owned(), status: "True".to_owned() }];
}

/// Marks the pod as one with a sidecar, by the rules of `mesh up`: a gateway has none, pods may opt out.
fn inject(meta: &mut Metadata, by_namespace: bool) {
    let gateway = meta.annotation(TEMPLATES) == Some("gateway");
    let asked = meta.label(INJECT).or_else(|| meta.annotation(INJECT));
    if !gateway && asked.map_or(by_namespace, |value| value != "false") {
        meta.annotations.insert(INJECTED.to_owned(), "injected".to_owned());
    }
}
