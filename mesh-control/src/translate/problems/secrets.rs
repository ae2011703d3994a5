//! Secrets that DestinationRules name.

use crate::api::Item;
use crate::api::networking::{ClientTlsMode, ClientTlsSettings, DestinationRule, TrafficPolicy};
use crate::problem::Problem;
use crate::world::World;

/// Tells of every secret that is not there or does not hold what TLS needs: its connections cannot be made.
pub(super) fn of_rule(world: &World, rule: &Item<'_, DestinationRule>, report: &mut Vec<Problem>) {
    let top = rule.traffic_policy.iter().map(|policy| ("spec.trafficPolicy".to_owned(), policy));
    let subsets = rule.subsets.iter().enumerate().filter_map(|(at, subset)| {
        Some((format!("spec.subsets[{at}].trafficPolicy"), subset.traffic_policy.as_ref()?))
    });
    for (field, settings) in top.chain(subsets).flat_map(|(at, policy)| settings(at, policy)) {
        let name = settings.credential_name.trim_start_matches("kubernetes://");
        if name.is_empty() || name == "system" {
            continue;
        }
        // Where no pod is selected it is gateways that read it, in their own namespaces: any of that name will do.
        let places: Vec<&str> = match &rule.workload_selector {
            Some(_) => vec![rule.namespace()],
            None => namespaces(world, name, rule.namespace()),
        };
        let outcomes: Vec<_> =
            places.into_iter().map(|place| usable(world, place, name, settings.mode)).collect();
        if let Some(Err(message)) = outcomes.first().filter(|_| outcomes.iter().all(Result::is_err)) {
            let message = format!("{message}; connections fail");
            report.push(Problem::warning(format!("{field}.tls.credentialName"), message));
        }
    }
}

fn settings(at: String, policy: &TrafficPolicy) -> Vec<(String, &ClientTlsSettings)> {
    let ports = policy.port_level_settings.iter().enumerate();
    let ports =
        ports.filter_map(|(p, port)| Some((format!("{at}.portLevelSettings[{p}]"), port.tls.as_ref()?)));
    policy.tls.iter().map(|tls| (at.clone(), tls)).chain(ports).collect()
}

/// The rule's own namespace, and others with a Secret of the name.
fn namespaces<'w>(world: &'w World, name: &str, own: &'w str) -> Vec<&'w str> {
    let others = world.all::<crate::api::core::Secret>().filter(|secret| secret.name() == name);
    let others = others.map(|secret| &*secret.object.key.namespace);
    std::iter::once(own).chain(others).collect()
}

fn usable(world: &World, namespace: &str, name: &str, mode: ClientTlsMode) -> Result<(), String> {
    if mode == ClientTlsMode::Mutual {
        world.tls_secret(namespace, name).map_err(|error| error.to_string())?;
    }
    world.trust_secret(namespace, name).map(drop).map_err(|error| error.to_string())
}
