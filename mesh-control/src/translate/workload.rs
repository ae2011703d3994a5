//! What a pod is to the mesh: its facts, its identity, and whether a proxy of ours serves it.

use mesh_core::identity::SpiffeId;
use mesh_core::model::{Locality, Workload};

use crate::api::Item;
use crate::api::core::Pod;
use crate::world::{PodEndpoint, Readiness, World};

/// The container that injection adds.
const PROXY_CONTAINER: &str = "istio-proxy";
/// The cluster's name in metrics.
const CLUSTER: &str = "Kubernetes";

/// The facts about a pod that metrics and logs show.
pub fn facts(pod: &Item<'_, Pod>) -> Workload {
    let meta = &pod.object.meta;
    let workload =
        endpoint(*pod).map_or_else(|| meta.name.clone(), |endpoint| endpoint.workload().to_owned());
    let label = |names: [&str; 2]| names.iter().find_map(|name| meta.label(name)).map(str::to_owned);
    Workload {
        pod: pod.name().to_owned(),
        uid: meta.uid.clone().unwrap_or_default(),
        namespace: pod.namespace().to_owned(),
        app: label(["app", "app.kubernetes.io/name"]).unwrap_or_else(|| workload.clone()),
        version: label(["version", "app.kubernetes.io/version"]).unwrap_or_else(|| "latest".to_owned()),
        workload,
        cluster: CLUSTER.to_owned(),
    }
}

/// The identity that a pod's proxy proves; none when a name in it is not one.
pub fn identity(world: &World, pod: &Item<'_, Pod>) -> Option<SpiffeId> {
    let account = pod.spec.spec.service_account_name.as_deref().filter(|name| !name.is_empty());
    SpiffeId::new(&world.mesh_config().trust_domain, pod.namespace(), account.unwrap_or("default")).ok()
}

/// Whether the pod is a gateway of ours.
pub fn is_gateway(pod: &Item<'_, Pod>) -> bool {
    pod.object.meta.annotation("inject.istio.io/templates") == Some("gateway")
}

/// Whether a proxy takes the pod's inbound traffic, so that it can be reached over mesh TLS.
pub fn is_meshed(pod: &Item<'_, Pod>) -> bool {
    let containers = pod.spec.spec.containers.iter().chain(&pod.spec.spec.init_containers);
    pod.object.meta.annotation("sidecar.istio.io/status").is_some()
        || is_gateway(pod)
        || containers.map(|container| container.name.as_str()).any(|name| name == PROXY_CONTAINER)
}

/// `region/zone/subzone` in parts.
pub fn locality(text: &str) -> Locality {
    let mut parts = text.splitn(3, '/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Locality { region: next(), zone: next(), subzone: next(), ..Locality::default() }
}

/// Where a pod is, with all its labels.
pub fn place(pod: &Item<'_, Pod>) -> Locality {
    let labels = &pod.object.meta.labels;
    Locality { labels: labels.clone().into_iter().collect(), ..locality(&crate::world::locality(labels)) }
}

/// The pod as an endpoint, if it has an address.
pub fn endpoint(pod: Item<'_, Pod>) -> Option<PodEndpoint<'_>> {
    let address = pod.status.pod_ip.filter(|_| !pod.is_finished())?;
    Some(PodEndpoint { pod, address, port: 0, readiness: Readiness::of_pod(&pod) })
}
