//! The mesh's settings as they hold for one workload: mesh configuration, with Telemetry over it.

use mesh_core::model::{MeshSettings, Millis, OutboundPolicy, PathNormalization, Role};

use super::proxy_config;
use super::scope::Scope;
use super::telemetry;
use crate::api::Item;
use crate::api::core::Pod;
use crate::api::mesh_config::NormalizationType;
use crate::api::networking::{OutboundMode, Sidecar};

/// How long a drain waits when nobody says (Istio's `terminationDrainDuration`).
const DRAIN: Millis = Millis::seconds(5);

/// The settings for a pod's proxy.
pub fn of(scope: &Scope<'_>, pod: &Item<'_, Pod>, role: Role) -> MeshSettings {
    let config = scope.world.mesh_config();
    let proxy = proxy_config::of(config, pod);
    let telemetry = telemetry::of(scope, pod, &proxy);
    let topology = &proxy.gateway_topology;
    MeshSettings {
        trust_domain: config.trust_domain.clone(),
        trust_domain_aliases: config.trust_domain_aliases.clone(),
        access_logs: telemetry.logs,
        tracing: telemetry.spans,
        metrics: telemetry.metrics,
        path_normalization: match config.path_normalization.normalization {
            NormalizationType::Default | NormalizationType::Base => PathNormalization::Base,
            NormalizationType::None => PathNormalization::None,
            NormalizationType::MergeSlashes => PathNormalization::MergeSlashes,
            NormalizationType::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
        },
        trusted_proxies: u8::try_from(topology.num_trusted_proxies).unwrap_or(u8::MAX),
        proxy_protocol: role.is_gateway() && topology.proxy_protocol.is_some(),
        headers: proxy_config::headers(&proxy, role),
        drain_timeout: proxy.termination_drain_duration.map_or(DRAIN, |time| time.get().into()),
    }
}

/// What becomes of traffic to undeclared destinations: the workload's Sidecar says, else the mesh configuration.
pub fn outbound_policy(scope: &Scope<'_>) -> OutboundPolicy {
    let sidecar = scope.client.sidecar.and_then(|sidecar| {
        scope.world.get::<Sidecar>(&sidecar.key.namespace, &sidecar.key.name).map(|item| item.spec)
    });
    let own = sidecar.and_then(|sidecar| sidecar.outbound_traffic_policy.as_ref());
    let policy = own.or_else(|| scope.world.mesh_config().outbound_traffic_policy.as_ref());
    match policy.and_then(|policy| policy.mode) {
        Some(OutboundMode::RegistryOnly) => OutboundPolicy::RegistryOnly,
        Some(OutboundMode::AllowAny) | None => OutboundPolicy::AllowAny,
    }
}
