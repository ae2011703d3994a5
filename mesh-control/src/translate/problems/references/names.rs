//! Names of namespaces, service accounts and ports that nobody bears.

use std::collections::BTreeSet;

use super::super::blame;
use super::super::pods::Pods;
use crate::api::core::{Pod, ServiceAccount};
use crate::api::networking::{DestinationRule, ServiceEntry, VirtualService};
use crate::api::security::PeerAuthentication;
use crate::api::{Content, Item};
use crate::problem::Problem;
use crate::world::{World, target_port};

/// All of them.
pub(super) fn all(world: &World, pods: &Pods<'_>, problems: &mut Vec<Problem>) {
    let namespaces: BTreeSet<&str> = world
        .objects()
        .map(|object| match object.key.namespace.as_ref() {
            "" => object.key.name.as_ref(),
            namespace => namespace,
        })
        .collect();
    exports::<VirtualService>(world, &namespaces, problems, |service| &service.export_to);
    exports::<DestinationRule>(world, &namespaces, problems, |rule| &rule.export_to);
    exports::<ServiceEntry>(world, &namespaces, problems, |entry| &entry.export_to);
    service_accounts(world, problems);
    for policy in world.all::<PeerAuthentication>() {
        ports(world, pods, &policy, problems);
    }
}

fn exports<T: Content>(
    world: &World,
    namespaces: &BTreeSet<&str>,
    problems: &mut Vec<Problem>,
    list: impl Fn(&T) -> &[String],
) {
    for item in world.all::<T>() {
        let unknown = |name: &str| !matches!(name, "." | "*" | "~") && !namespaces.contains(name);
        let named = list(item.spec).iter().enumerate().filter(|(_, name)| unknown(name));
        let told = named.map(|(at, name)| {
            let message = format!("there is no namespace {name:?}; nobody there sees this");
            Problem::warning(format!("spec.exportTo[{at}]"), message)
        });
        let told: Vec<_> = told.collect();
        blame(item.object, problems, |report| report.extend(told));
    }
}

/// A cluster does not make pods of an account that does not exist; here they run, under its name.
fn service_accounts(world: &World, problems: &mut Vec<Problem>) {
    for object in world.objects() {
        let Some(controller) = object.spec.pod_controller() else { continue };
        let name = controller.template.spec.service_account_name.as_deref().unwrap_or("default");
        if matches!(name, "" | "default")
            || world.get::<ServiceAccount>(&object.key.namespace, name).is_some()
        {
            continue;
        }
        let message = format!(
            "there is no ServiceAccount {name:?} in {}; a cluster makes no pods",
            object.key.namespace
        );
        let problem = Problem::warning("spec.template.spec.serviceAccountName", message);
        blame(object, problems, |report| report.push(problem));
    }
}

/// Ports are the workload's, not a Service's (semantics.md 30). Pods that list no ports may have any.
fn ports(world: &World, pods: &Pods<'_>, policy: &Item<'_, PeerAuthentication>, problems: &mut Vec<Problem>) {
    let Some(selector) = &policy.selector else { return };
    let pods: Vec<_> = pods.selected(Some(policy.namespace()), &selector.match_labels).collect();
    let mut told = Vec::new();
    for port in policy.port_level_mtls.keys() {
        if !pods.is_empty() && pods.iter().all(|pod| listens(world, pod, *port) == Some(false)) {
            let message = format!("none of the pods it selects has a port {port}; no effect");
            told.push(Problem::warning(format!("spec.portLevelMtls.{port}"), message));
        }
    }
    blame(policy.object, problems, |report| report.extend(told));
}

/// Whether a pod listens on a port, as far as it or a Service says; `None` when neither says anything.
fn listens(world: &World, pod: &Item<'_, Pod>, port: u16) -> Option<bool> {
    let declared = pod.spec.spec.containers.iter().flat_map(|container| &container.ports);
    let mut known: BTreeSet<u16> = declared.map(|declared| declared.container_port).collect();
    for service in world.services_of(pod) {
        known.extend(service.spec.ports.iter().filter_map(|port| target_port(port, pod.spec)));
    }
    (!known.is_empty()).then(|| known.contains(&port))
}
