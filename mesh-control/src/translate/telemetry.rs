//! `Telemetry` and the providers of the mesh configuration, merged for one workload.
//!
//! Which objects apply, and that they merge field by field, is Istio's (`pilot/pkg/model/telemetry.go`): the root
//! namespace's, the workload's namespace's and the one whose selector has the workload's labels; of each the oldest; the
//! narrower wins. A gateway counts as a client of what it forwards to.

mod logs;
mod metrics;
pub(super) mod problems;
mod spans;

use mesh_core::model::{AccessLog, MetricChange, Side, Tracing};

use super::scope::Scope;
use crate::api::Item;
use crate::api::core::Pod;
use crate::api::mesh_config::ProxyConfig;
use crate::api::meta::selects;
use crate::api::telemetry::{Telemetry, WorkloadMode};
use crate::world::World;

/// What is reported of a workload's traffic.
pub(super) struct Merged {
    pub(super) logs: Vec<AccessLog>,
    pub(super) spans: Vec<Tracing>,
    pub(super) metrics: Vec<MetricChange>,
}

/// For a pod's proxy, whose own configuration is `proxy`.
pub(super) fn of(scope: &Scope<'_>, pod: &Item<'_, Pod>, proxy: &ProxyConfig) -> Merged {
    let telemetries = telemetries(scope.world, pod);
    let levels: Vec<&Telemetry> = telemetries.iter().map(|telemetry| telemetry.spec).collect();
    Merged {
        logs: logs::merged(scope.world.mesh_config(), &levels),
        spans: spans::merged(scope, &levels, proxy.tracing.as_ref()),
        metrics: metrics::merged(scope.world.mesh_config(), &levels),
    }
}

/// Telemetry objects for a pod: the mesh's, the namespace's, the workload's; one of each, the oldest.
fn telemetries<'w>(world: &'w World, pod: &Item<'_, Pod>) -> Vec<Item<'w, Telemetry>> {
    let all = world.oldest_first::<Telemetry>();
    let find = |namespace: &str, workload: bool| {
        all.iter().copied().find(|telemetry| {
            let selector =
                telemetry.spec.selector.as_ref().filter(|selector| !selector.match_labels.is_empty());
            // What is meant for a gateway or service alone must not become everybody's.
            let targeted = telemetry.spec.target_ref.is_some() || !telemetry.spec.target_refs.is_empty();
            telemetry.namespace() == namespace
                && !targeted
                && selector.map_or(!workload, |selector| {
                    workload && selects(&selector.match_labels, &pod.object.meta.labels)
                })
        })
    };
    let root = &world.mesh_config().root_namespace;
    let namespace = (pod.namespace() != root).then(|| find(pod.namespace(), false)).flatten();
    [find(root, false), namespace, find(pod.namespace(), true)].into_iter().flatten().collect()
}

/// The sides that are merged apart.
const SIDES: [Side; 2] = [Side::Client, Side::Server];

const fn matches(mode: WorkloadMode, side: Side) -> bool {
    match mode {
        WorkloadMode::ClientAndServer => true,
        WorkloadMode::Client => matches!(side, Side::Client),
        WorkloadMode::Server => matches!(side, Side::Server),
    }
}
