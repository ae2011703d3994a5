//! Which pod calls.

use mesh_control::api::Item;
use mesh_control::api::core::Pod;
use mesh_control::translate::workload;
use mesh_control::world::World;
use mesh_core::model::Role;

use super::hop::name;
use crate::cmd::Failure;

/// A pod by its own name, or by the name of its workload, its app label or its service account.
pub(super) fn find<'w>(world: &'w World, workload: &str) -> anyhow::Result<Item<'w, Pod>> {
    let (namespace, wanted) = workload.split_once('/').unwrap_or(("default", workload));
    let rank = |pod: &Item<'_, Pod>| {
        let facts = workload::facts(pod);
        let account = pod.spec.spec.service_account_name.as_deref().unwrap_or("default");
        [pod.name(), &facts.workload, &facts.app, account].iter().position(|name| *name == wanted)
    };
    let ranked = world.pods_in(namespace).filter_map(|pod| Some((rank(&pod)?, pod)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, pod)| pod).ok_or_else(|| {
        let known: Vec<String> = world.all::<Pod>().map(|pod| name(&pod)).collect();
        Failure::Finding(format!("no pod of {namespace}/{wanted}; there are: {}", known.join(", "))).into()
    })
}

/// The ingress gateway's pod.
pub(super) fn ingress(world: &World) -> anyhow::Result<Item<'_, Pod>> {
    let found = world.all::<Pod>().find(|pod| gateway_role(pod) == Some(Role::Ingress));
    let missing = "no pod has the label istio: ingressgateway; say who calls with --from";
    found.ok_or_else(|| Failure::Finding(missing.to_owned()).into())
}

/// Gateways are told by their labels (D9).
pub(super) fn gateway_role(pod: &Item<'_, Pod>) -> Option<Role> {
    match pod.object.meta.label("istio") {
        Some("ingressgateway") => Some(Role::Ingress),
        Some("egressgateway") => Some(Role::Egress),
        _ => None,
    }
}
