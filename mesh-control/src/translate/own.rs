//! What one proxy is: its identity, inbound ports, policies, and, for gateways, its listeners.

use mesh_core::model::{Host, InboundPort, MtlsMode, Own, Protocol, Role, Routes};

use super::gateway;
use super::peer::{self, Modes};
use super::scope::Scope;
use super::{authorization, rate_limit, settings, tokens, workload};
use crate::api::Item;
use crate::api::core::Pod;
use crate::world::{service_protocol, target_port};

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
        mesh: settings::of(scope, pod),
        inbound: if role.is_gateway() { Vec::new() } else { inbound(scope, pod, &modes) },
        default_mtls: if role.is_gateway() { MtlsMode::Permissive } else { modes.default },
        authorization: authorization::policies(scope, pod),
        tokens: tokens::rules(scope.world, pod),
        limits: rate_limit::limits(scope.world, pod).into_iter().chain(gateway.limits).collect(),
        listeners: gateway.listeners,
        outbound_policy: settings::outbound_policy(scope),
    };
    Some((own, gateway.tables))
}

/// The ports of a pod that services declare, one entry each; of two services the first by name counts.
fn inbound(scope: &Scope<'_>, pod: &Item<'_, Pod>, modes: &Modes) -> Vec<InboundPort> {
    let mut services: Vec<_> = scope.world.services_of(pod).collect();
    services.sort_by(|left, right| left.name().cmp(right.name()));
    let mut ports: Vec<InboundPort> = Vec::new();
    for service in &services {
        let (name, namespace) = (service.name(), service.namespace());
        let Ok(host) = Host::parse(&format!("{name}.{namespace}.svc.cluster.local")) else { continue };
        for declared in &service.spec.ports {
            let (Some(protocol), Some(port)) = (service_protocol(declared), target_port(declared, pod.spec))
            else {
                continue;
            };
            if ports.iter().all(|known| known.port != port) {
                ports.push(InboundPort {
                    port,
                    protocol,
                    mtls: modes.of(port),
                    service: host.clone(),
                    service_name: name.to_owned(),
                    service_namespace: namespace.to_owned(),
                });
            }
        }
    }
    ports.extend(undeclared(pod, modes, &ports));
    ports.sort_by_key(|port| port.port);
    ports
}

/// Ports that no service declares but a PeerAuthentication names: their mode must hold all the same.
fn undeclared(pod: &Item<'_, Pod>, modes: &Modes, declared: &[InboundPort]) -> Vec<InboundPort> {
    let facts = workload::facts(pod);
    let Ok(host) = Host::parse(&format!("{}.{}", facts.workload, facts.namespace)) else { return Vec::new() };
    let fresh = modes.named().iter().filter(|(port, _)| declared.iter().all(|known| known.port != *port));
    fresh
        .map(|&(port, mtls)| InboundPort {
            port,
            protocol: Protocol::Detect,
            mtls,
            service: host.clone(),
            service_name: facts.workload.clone(),
            service_namespace: facts.namespace.clone(),
        })
        .collect()
}
