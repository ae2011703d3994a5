//! PeerAuthentication: what a workload's callers must use (semantics.md 30).

use mesh_core::model::MtlsMode;

use crate::api::Item;
use crate::api::core::Pod;
use crate::api::meta::selects;
use crate::api::security::{self, PeerAuthentication};
use crate::world::World;

/// The modes of one workload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Modes {
    /// For ports that nobody names.
    pub default: MtlsMode,
    ports: Vec<(u16, MtlsMode)>,
}

impl Modes {
    /// The ports that a policy names, with their modes.
    pub fn named(&self) -> &[(u16, MtlsMode)] {
        &self.ports
    }

    /// The mode of a port of the workload.
    pub fn of(&self, port: u16) -> MtlsMode {
        self.ports.iter().find(|(number, _)| *number == port).map_or(self.default, |(_, mode)| *mode)
    }
}

/// Composes the policies that select a pod: workload over namespace over mesh, the oldest within each.
///
/// A policy with a selector in the root namespace is for the workloads of that namespace only, and `portLevelMtls`
/// counts only together with a selector.
pub fn modes(world: &World, pod: &Item<'_, Pod>) -> Modes {
    let root = &world.mesh_config().root_namespace;
    let policies = world.oldest_first::<PeerAuthentication>();
    let find = |namespace: &str, workload: bool| {
        policies.iter().find(|policy| {
            policy.namespace() == namespace
                && match selector(policy) {
                    Some(labels) => workload && selects(labels, &pod.object.meta.labels),
                    None => !workload,
                }
        })
    };
    let scopes = [find(root, false), find(pod.namespace(), false), find(pod.namespace(), true)];
    let set = |policy: &Item<'_, PeerAuthentication>| policy.mtls.and_then(|mtls| mode(mtls.mode));
    let default = scopes.iter().flatten().filter_map(|policy| set(policy)).next_back().unwrap_or_default();
    let ports = scopes[2].map(|policy| {
        let port = |(port, mtls): (&u16, &security::MutualTls)| (*port, mode(mtls.mode).unwrap_or(default));
        policy.spec.port_level_mtls.iter().map(port).collect()
    });
    Modes { default, ports: ports.unwrap_or_default() }
}

fn selector<'p>(policy: &'p Item<'_, PeerAuthentication>) -> Option<&'p crate::api::meta::StringMap> {
    policy.spec.selector.as_ref().map(|selector| &selector.match_labels).filter(|labels| !labels.is_empty())
}

fn mode(mode: security::MtlsMode) -> Option<MtlsMode> {
    match mode {
        security::MtlsMode::Unset => None,
        security::MtlsMode::Disable => Some(MtlsMode::Disable),
        security::MtlsMode::Permissive => Some(MtlsMode::Permissive),
        security::MtlsMode::Strict => Some(MtlsMode::Strict),
    }
}
