//! What Sidecars say that cannot hold, and whose rules they leave without effect.

use mesh_core::model::HostPattern;

use super::blame;
use super::pods::Pods;
use crate::api::Item;
use crate::api::meta::{StringMap, selects};
use crate::api::networking::{CaptureMode, Sidecar, VirtualService};
use crate::problem::Problem;
use crate::translate::catalog::Catalog;
use crate::translate::http::MESH;
use crate::translate::inbound::written_endpoint;
use crate::translate::scope::{covers, pattern};
use crate::translate::visibility::{Named, Sight, check_entry};
use crate::translate::workload;
use crate::world::World;

/// All of them.
pub(super) fn all(world: &World, catalog: &Catalog, pods: &Pods<'_>, problems: &mut Vec<Problem>) {
    for item in world.all::<Sidecar>() {
        blame(item.object, problems, |report| {
            egress(world, catalog, &item, report);
            ingress(item.spec, report);
            without_effect(item.spec, report);
        });
    }
    selected_twice(world, pods, problems);
    hidden_rules(world, catalog, problems);
}

fn egress(world: &World, catalog: &Catalog, item: &Item<'_, Sidecar>, report: &mut Vec<Problem>) {
    for (l, listener) in item.spec.egress.iter().enumerate() {
        for (h, text) in listener.hosts.iter().enumerate() {
            let field = format!("spec.egress[{l}].hosts[{h}]");
            match check_entry(text, item.namespace()) {
                Err(reason) => {
                    report.push(Problem::error(field, format!("{text:?} shows nothing: {reason}")));
                }
                Ok(entry) => {
                    if entry.as_ref().is_some_and(|entry| !is_declared(world, catalog, entry)) {
                        let message = "nobody declares such a host; the entry has no effect";
                        let problem = Problem::warning(field, message);
                        report.push(match entry.as_ref().and_then(short_name) {
                            Some(full) => problem.with_fix(full),
                            None => problem,
                        });
                    }
                }
            }
        }
    }
}

/// Hosts are written in full here: `reviews` is none of the namespace's.
fn short_name(entry: &Named) -> Option<String> {
    let namespace = entry.namespace.as_ref()?;
    match &entry.host {
        HostPattern::Exact(host) if !host.as_str().contains('.') => {
            Some(format!("{namespace}/{host}.{namespace}.svc.cluster.local"))
        }
        _ => None,
    }
}

/// Whether a service or a VirtualService of the namespace has a host of the entry's. A wildcard for the mesh or for the
/// own namespace may wait for what is to come.
fn is_declared(world: &World, catalog: &Catalog, entry: &Named) -> bool {
    let inside = |namespace: &str| entry.namespace.as_deref().is_none_or(|wanted| wanted == namespace);
    entry.may_be_empty
        || catalog.all().any(|service| inside(&service.namespace) && covers(&entry.host, &service.host))
        || world.all::<VirtualService>().filter(|item| inside(item.namespace())).any(|item| {
            let mut hosts = item.spec.hosts.iter().filter_map(|host| pattern(host, item.namespace()));
            hosts.any(|host| covers(&entry.host, &host) || covers(&host, &entry.host))
        })
}

fn ingress(sidecar: &Sidecar, report: &mut Vec<Problem>) {
    for (at, listener) in sidecar.ingress.iter().enumerate() {
        if let Err(reason) = written_endpoint(&listener.default_endpoint) {
            report.push(Problem::error(format!("spec.ingress[{at}].defaultEndpoint"), reason));
        }
        let number = listener.port.number;
        if sidecar.ingress[..at].iter().any(|other| other.port.number == number) {
            let message = format!("{number} is here twice; the first listener counts");
            report.push(Problem::warning(format!("spec.ingress[{at}].port.number"), message));
        }
    }
}

fn without_effect(sidecar: &Sidecar, report: &mut Vec<Problem>) {
    let mut tell = |set: bool, field: String| {
        if set {
            report.push(Problem::warning(field, "not supported; has no effect"));
        }
    };
    for (at, listener) in sidecar.egress.iter().enumerate() {
        tell(!listener.bind.is_empty(), format!("spec.egress[{at}].bind"));
        let uncaptured = listener.capture_mode == Some(CaptureMode::None);
        tell(uncaptured, format!("spec.egress[{at}].captureMode"));
    }
    for (at, listener) in sidecar.ingress.iter().enumerate() {
        tell(!listener.bind.is_empty(), format!("spec.ingress[{at}].bind"));
        let uncaptured = listener.capture_mode == Some(CaptureMode::None);
        tell(uncaptured, format!("spec.ingress[{at}].captureMode"));
        tell(listener.tls.is_some(), format!("spec.ingress[{at}].tls"));
        tell(listener.connection_pool.is_some(), format!("spec.ingress[{at}].connectionPool"));
    }
    tell(sidecar.inbound_connection_pool.is_some(), "spec.inboundConnectionPool".to_owned());
    let proxy = sidecar.outbound_traffic_policy.as_ref().is_some_and(|policy| policy.egress_proxy.is_some());
    tell(proxy, "spec.outboundTrafficPolicy.egressProxy".to_owned());
}

/// Pods that several selectors select: the oldest Sidecar holds for them. Equal selectors are told about elsewhere.
fn selected_twice(world: &World, pods: &Pods<'_>, problems: &mut Vec<Problem>) {
    let sidecars = world.oldest_first::<Sidecar>();
    for (at, item) in sidecars.iter().enumerate() {
        let Some(labels) = selector(item) else { continue };
        let earlier = || {
            sidecars[..at].iter().filter_map(|other| Some((other, selector(other)?))).filter(
                |(other, other_labels)| other.namespace() == item.namespace() && *other_labels != labels,
            )
        };
        let both = pods.selected(Some(item.namespace()), labels).find_map(|pod| {
            let (first, _) = earlier().find(|(_, others)| selects(others, &pod.object.meta.labels))?;
            (!workload::is_gateway(&pod)).then_some((pod, first))
        });
        let Some((pod, first)) = both else { continue };
        let message = format!(
            "selects pod {} as {} does, which came first and holds there",
            pod.name(),
            first.object.key
        );
        blame(item.object, problems, |report| {
            report.push(Problem::warning("spec.workloadSelector.labels", message));
        });
    }
}

fn selector<'s>(item: &Item<'s, Sidecar>) -> Option<&'s StringMap> {
    item.spec.workload_selector.as_ref().map(|selector| &selector.labels).filter(|labels| !labels.is_empty())
}

/// Rules for hosts that the Sidecar of their own namespace hides from its workloads.
fn hidden_rules(world: &World, catalog: &Catalog, problems: &mut Vec<Problem>) {
    let for_sidecars = |item: &Item<'_, VirtualService>| {
        item.spec.gateways.is_empty() || item.spec.gateways.iter().any(|gateway| gateway == MESH)
    };
    for item in world.all::<VirtualService>().filter(for_sidecars) {
        let namespace = item.namespace();
        let Some(sidecar) = catalog.sidecars().of(namespace, &StringMap::new()) else { continue };
        // Others than the workloads of its namespace may see them.
        let sight = Sight { namespace, sidecar: Some(sidecar) };
        for (at, host) in item.spec.hosts.iter().enumerate() {
            let Some(HostPattern::Exact(host)) = pattern(host, namespace) else { continue };
            if catalog.find(&host, namespace).is_none() || catalog.find(&host, sight).is_some() {
                continue;
            }
            let message = format!("{} hides this host from the workloads of {namespace}", sidecar.key);
            blame(item.object, problems, |report| {
                report.push(Problem::warning(format!("spec.hosts[{at}]"), message));
            });
        }
    }
}
