//! Workloads that somebody describes, in objects of their own or within a ServiceEntry: those that nobody can be sent to,
//! and what of their description has no effect.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_core::model::Host;

use super::blame;
use crate::api::Item;
use crate::api::core::{IntOrString, Service, ServiceAccount};
use crate::api::networking::{ServiceEntry, WorkloadEntry};
use crate::problem::Problem;
use crate::world::World;

/// All of them.
pub(super) fn all(world: &World, problems: &mut Vec<Problem>) {
    for entry in world.all::<ServiceEntry>() {
        blame(entry.object, problems, |report| {
            for (at, endpoint) in entry.spec.endpoints.iter().enumerate() {
                description(endpoint, &format!("spec.endpoints[{at}]"), report);
            }
        });
    }
    let mut addresses = BTreeMap::new();
    for workload in world.oldest_first::<WorkloadEntry>() {
        let place = (workload.object.key.namespace.clone(), &workload.spec.address);
        let first = *addresses.entry(place).or_insert(workload);
        blame(workload.object, problems, |report| {
            description(workload.spec, "spec", report);
            account(world, &workload, report);
            selection(world, &workload, report);
            if first.object.key != workload.object.key && first.spec.ports == workload.spec.ports {
                let message = format!("{} has this address and these ports already", first.object.key);
                report.push(Problem::warning("spec.address", message));
            }
        });
    }
}

fn description(workload: &WorkloadEntry, field: &str, report: &mut Vec<Problem>) {
    let address = &workload.address;
    if address.starts_with("unix:") {
        let message = "sockets of files are not supported; the workload is left out";
        report.push(Problem::warning(format!("{field}.address"), message));
    } else if !address.is_empty() && address.parse::<IpAddr>().is_err() && Host::parse(address).is_err() {
        let message = format!("{address:?} is not an IP or a DNS name; the workload is left out");
        report.push(Problem::error(format!("{field}.address"), message));
    }
    if !workload.network.is_empty() {
        let message = "networks are not supported; the workload is reached at its address";
        report.push(Problem::warning(format!("{field}.network"), message));
    }
    if workload.locality.split('/').count() > 3 {
        let message = format!("{:?} is more than REGION/ZONE/SUBZONE", workload.locality);
        report.push(Problem::warning(format!("{field}.locality"), message));
    }
}

/// A workload proves that it is who runs under the account: without one nothing can.
fn account(world: &World, workload: &Item<'_, WorkloadEntry>, report: &mut Vec<Problem>) {
    let (name, namespace) = (workload.service_account.as_str(), workload.namespace());
    if !matches!(name, "" | "default") && world.get::<ServiceAccount>(namespace, name).is_none() {
        let message =
            format!("there is no ServiceAccount {name:?} in {namespace}; the workload gets no identity");
        report.push(Problem::warning("spec.serviceAccount", message));
    }
}

/// What selects the workload, and whether it can be used there.
fn selection(world: &World, workload: &Item<'_, WorkloadEntry>, report: &mut Vec<Problem>) {
    let is_it = |selected: Item<'_, WorkloadEntry>| selected.object.key == workload.object.key;
    let services = world.in_namespace::<Service>(workload.namespace());
    let services: Vec<_> = services.filter(|service| world.workloads_of(service).any(is_it)).collect();
    let takes = |entry: &Item<'_, ServiceEntry>| {
        let selector = entry.spec.workload_selector.as_ref();
        selector
            .is_some_and(|selector| world.selected_workloads(entry.namespace(), &selector.labels).any(is_it))
    };
    let entries: Vec<_> = world.in_namespace::<ServiceEntry>(workload.namespace()).filter(takes).collect();
    if services.is_empty() && entries.is_empty() {
        let message = format!("no Service or ServiceEntry of {} selects it; no effect", workload.namespace());
        report.push(Problem::warning("spec.labels", message));
        return;
    }
    if let Some(service) = services.first()
        && workload.address.parse::<IpAddr>().is_err()
        && Host::parse(&workload.address).is_ok()
    {
        let message = format!(
            "{} selects it, and behind a Service only an IP counts; select it by a ServiceEntry",
            service.object.key
        );
        report.push(Problem::warning("spec.address", message));
    }
    let of_services = services.iter().flat_map(|service| &service.spec.ports).flat_map(|port| {
        let target = match &port.target_port {
            Some(IntOrString::Name(name)) => Some(name),
            _ => None,
        };
        target.into_iter().chain([&port.name])
    });
    let of_entries = entries.iter().flat_map(|entry| &entry.spec.ports).map(|port| &port.name);
    let known: Vec<_> = of_services.chain(of_entries).collect();
    for name in workload.ports.keys().filter(|name| !known.contains(name)) {
        let message = format!("nothing that selects it has a port of the name {name:?}; no effect");
        report.push(Problem::warning(format!("spec.ports.{name}"), message));
    }
}
