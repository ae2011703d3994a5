//! What one proxy is: its identity, inbound ports, policies, and, for gateways, its listeners.

use mesh_core::model::{MtlsMode, Own, Role, Routes};

use super::gateway;
use super::peer;
use super::scope::Scope;
use super::{authorization, inbound, rate_limit, settings, tokens, workload};
use crate::api::Item;
use crate::api::core::Pod;

/// A proxy's own configuration, with the route tables that its listeners name.
pub fn own(scope: &Scope<'_>, pod: &Item<'_, Pod>, role: Role) -> Option<(Own, Vec<Routes>)> {
    let modes = peer::modes(scope.world, pod);
    let gateway = if role.is_gateway() {
        gateway::build(scope, pod, role == Role::Ingress, &mut Vec::new())
    } else {
        gateway::Built::default()
    };
    let own = Own {
        role,
        identity: workload::identity(scope.world, pod)?,
        workload: workload::facts(pod),
        locality: workload::place(pod),
        mesh: settings::of(scope, pod, role),
        inbound: if role.is_gateway() { Vec::new() } else { inbound::ports(scope, pod, &modes) },
        default_mtls: if role.is_gateway() { MtlsMode::Permissive } else { modes.default },
        authorization: authorization::policies(scope, pod),
        tokens: tokens::rules(scope.world, pod),
        limits: rate_limit::limits(scope.world, pod).into_iter().chain(gateway.limits).collect(),
        listeners: gateway.listeners,
        outbound_policy: settings::outbound_policy(scope),
    };
    Some((own, gateway.tables))
}
