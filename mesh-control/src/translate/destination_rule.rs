//! Which DestinationRules hold for a service, and what they come to together (semantics.md 25, 26).

use mesh_core::model::{HostPattern, Origin};

use super::catalog::Service;
use super::origin;
use super::scope::{Scope, covers, pattern, specificity};
use crate::api::Item;
use crate::api::networking::{DestinationRule, PortTrafficPolicy, Subset, TrafficPolicy};

/// The rules of one host, merged.
#[derive(Debug, Default)]
pub struct Merged<'w> {
    /// The first top-level policy.
    pub policy: Option<&'w TrafficPolicy>,
    /// Where it, or the first subset, was written.
    pub origin: Option<Origin>,
    subsets: Vec<&'w Subset>,
}

impl<'w> Merged<'w> {
    /// A subset by name.
    pub fn subset(&self, name: &str) -> Option<&'w Subset> {
        self.subsets.iter().find(|subset| subset.name == name).copied()
    }

    /// What holds for a port of the service, or of one of its subsets.
    pub fn policy_for(&self, subset: Option<&Subset>, port: u16) -> Effective<'w> {
        let mut effective = Effective::default();
        if let Some(policy) = self.policy {
            effective.overlay(policy, port);
        }
        let subset = subset.and_then(|subset| self.subset(&subset.name));
        if let Some(policy) = subset.and_then(|subset| subset.traffic_policy.as_ref()) {
            effective.overlay(policy, port);
        }
        effective
    }
}

/// A traffic policy without ports: each block as the narrowest level that has it says.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "the blocks of Istio's TrafficPolicy")]
pub struct Effective<'w> {
    pub load_balancer: Option<&'w crate::api::networking::LoadBalancerSettings>,
    pub connection_pool: Option<&'w crate::api::networking::ConnectionPoolSettings>,
    pub outlier_detection: Option<&'w crate::api::networking::OutlierDetection>,
    pub tls: Option<&'w crate::api::networking::ClientTlsSettings>,
}

impl<'w> Effective<'w> {
    /// Block by block; settings for the port replace everything, with defaults where they say nothing.
    fn overlay(&mut self, policy: &'w TrafficPolicy, port: u16) {
        if let Some(level) = policy.port_level_settings.iter().find(|level| level.port.number == port) {
            *self = Self::of_port(level);
            return;
        }
        self.load_balancer = policy.load_balancer.as_ref().or(self.load_balancer);
        self.connection_pool = policy.connection_pool.as_ref().or(self.connection_pool);
        self.outlier_detection = policy.outlier_detection.as_ref().or(self.outlier_detection);
        self.tls = policy.tls.as_ref().or(self.tls);
    }

    fn of_port(level: &'w PortTrafficPolicy) -> Self {
        Self {
            load_balancer: level.load_balancer.as_ref(),
            connection_pool: level.connection_pool.as_ref(),
            outlier_detection: level.outlier_detection.as_ref(),
            tls: level.tls.as_ref(),
        }
    }
}

/// The rules for a service: of the client's namespace, else of the service's, else of the root namespace; within each
/// those of the most specific host.
pub fn for_service<'w>(scope: &Scope<'w>, service: &Service) -> Merged<'w> {
    let root = scope.root_namespace();
    let own = (scope.client.namespace != root).then_some(scope.client.namespace);
    let rules = scope.world.oldest_first::<DestinationRule>();
    own.into_iter()
        .chain([service.namespace.as_str(), root])
        .find_map(|namespace| in_namespace(scope, &rules, namespace, &service.host))
        .unwrap_or_default()
}

fn in_namespace<'w>(
    scope: &Scope<'w>,
    rules: &[Item<'w, DestinationRule>],
    namespace: &str,
    host: &HostPattern,
) -> Option<Merged<'w>> {
    let fallback = &scope.world.mesh_config().default_destination_rule_export_to;
    let mut found: Vec<(HostPattern, &Item<'w, DestinationRule>)> = rules
        .iter()
        .filter(|rule| rule.namespace() == namespace && scope.sees(&rule.spec.export_to, fallback, namespace))
        .filter(|rule| selects_client(scope, rule))
        .filter_map(|rule| Some((pattern(&rule.spec.host, namespace)?, rule)))
        .filter(|(pattern, _)| covers(pattern, host))
        .collect();
    let best = found.iter().map(|(pattern, _)| specificity(pattern)).max()?;
    found.retain(|(pattern, _)| specificity(pattern) == best);
    // Rules for chosen clients come first, and merge with each other only.
    found.sort_by_key(|(_, rule)| rule.spec.workload_selector.is_none());
    let chosen = found[0].1.spec.workload_selector.as_ref();
    found.retain(|(_, rule)| rule.spec.workload_selector.as_ref() == chosen);
    Some(merge(&found))
}

fn selects_client(scope: &Scope<'_>, rule: &Item<'_, DestinationRule>) -> bool {
    rule.spec.workload_selector.as_ref().is_none_or(|selector| {
        rule.namespace() == scope.client.namespace && selector.selects(scope.client.labels)
    })
}

fn merge<'w>(rules: &[(HostPattern, &Item<'w, DestinationRule>)]) -> Merged<'w> {
    let mut merged = Merged::default();
    for (_, rule) in rules {
        if merged.policy.is_none() {
            merged.policy = rule.spec.traffic_policy.as_ref();
        }
        if merged.origin.is_none() {
            merged.origin = Some(origin(rule.object, "spec"));
        }
        for subset in &rule.spec.subsets {
            if merged.subset(&subset.name).is_none() {
                merged.subsets.push(subset);
            }
        }
    }
    merged
}
