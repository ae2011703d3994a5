//! What objects say of each other: names nobody bears, and two objects that speak for one thing.
//!
//! Routes' own references (services, subsets, gateways, secrets) are told where they are translated; here is what no
//! translation comes across, because it has no effect at all.

mod names;

use std::collections::BTreeMap;

use super::blame;
use super::pods::Pods;
use crate::api::core::{IntOrString, Pod, Service};
use crate::api::ingress::Ingress;
use crate::api::meta::StringMap;
use crate::api::networking::{DestinationRule, Gateway, ServiceEntry, Sidecar, VirtualService};
use crate::api::rate_limit::RateLimit;
use crate::api::security::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication};
use crate::api::telemetry::Telemetry;
use crate::api::{Content, Item};
use crate::problem::Problem;
use crate::translate::catalog::Catalog;
use crate::translate::http::MESH;
use crate::translate::scope::{Client, Scope, pattern};
use crate::translate::{destination, workload};
use crate::world::World;

/// All of them.
pub(super) fn all(world: &World, catalog: &Catalog, pods: &Pods<'_>, problems: &mut Vec<Problem>) {
    rules_without_service(world, catalog, problems);
    rules_of_one_host(world, problems);
    services_of_one_host(world, problems);
    gateways_without_pod(world, pods, problems);
    policies_of_one_workload::<PeerAuthentication>(world, problems, |policy| {
        policy.selector.as_ref().map(|selector| &selector.match_labels)
    });
    policies_of_one_workload::<Telemetry>(world, problems, |policy| {
        policy.selector.as_ref().map(|selector| &selector.match_labels)
    });
    policies_of_one_workload::<Sidecar>(world, problems, |sidecar| {
        sidecar.workload_selector.as_ref().map(|selector| &selector.labels)
    });
    ingress_ports(world, problems);
    providers(world, problems);
    // A mesh that is still empty, or a file of policies alone, selects nothing and means no harm.
    if world.all::<Pod>().any(|pod| !workload::is_gateway(&pod)) {
        names::all(world, pods, problems);
        policies_without_pod(world, pods, problems);
        services(world, pods, problems);
    }
}

fn rules_without_service(world: &World, catalog: &Catalog, problems: &mut Vec<Problem>) {
    let labels = StringMap::new();
    for rule in world.all::<DestinationRule>().filter(|rule| !rule.spec.host.contains('*')) {
        let client = Client::of_namespace(rule.namespace(), &labels);
        let scope = Scope { world, catalog, client };
        let host = &rule.spec.host;
        if destination::service(&scope, host, rule.namespace()).is_none() {
            let message = if host.is_empty() {
                "missing; the rule has no effect".to_owned()
            } else {
                format!("no service has the host {host:?}; the rule has no effect")
            };
            blame(rule.object, problems, |report| report.push(Problem::warning("spec.host", message)));
        }
    }
}

/// Of several rules for a host the first top-level policy counts, and the first of each subset (semantics.md 26).
fn rules_of_one_host(world: &World, problems: &mut Vec<Problem>) {
    let mut earlier: BTreeMap<_, Vec<Item<'_, DestinationRule>>> = BTreeMap::new();
    let unselective = |rule: &Item<'_, DestinationRule>| rule.spec.workload_selector.is_none();
    for rule in world.oldest_first::<DestinationRule>().into_iter().filter(unselective) {
        let Some(host) = pattern(&rule.spec.host, rule.namespace()) else { continue };
        let others = earlier.entry((rule.namespace().to_owned(), host.to_string())).or_default();
        blame(rule.object, problems, |report| {
            let first = others.iter().find(|other| other.spec.traffic_policy.is_some());
            if let (Some(first), Some(_)) = (first, &rule.spec.traffic_policy) {
                report
                    .push(Problem::warning("spec.trafficPolicy", came_first(first, "policy for this host")));
            }
            for (at, subset) in rule.spec.subsets.iter().enumerate() {
                let same = |other: &&Item<'_, DestinationRule>| {
                    other.spec.subsets.iter().any(|known| known.name == subset.name)
                };
                if let Some(first) = others.iter().find(same) {
                    let field = format!("spec.subsets[{at}].name");
                    report.push(Problem::warning(field, came_first(first, "subset of this name")));
                }
                if rule.spec.subsets[..at].iter().any(|known| known.name == subset.name) {
                    let message = format!("{:?} is here twice; the first counts", subset.name);
                    report.push(Problem::warning(format!("spec.subsets[{at}].name"), message));
                }
            }
        });
        others.push(rule);
    }
}

fn came_first<T: Content>(first: &Item<'_, T>, what: &str) -> String {
    format!("{} came first, and its {what} counts; this one has no effect", first.object.key)
}

/// For sidecars, the first VirtualService of a host counts whole. Only those that everyone sees alike are compared: of
/// others, who wins depends on the client (semantics.md 17).
fn services_of_one_host(world: &World, problems: &mut Vec<Problem>) {
    let mut first: BTreeMap<_, Item<'_, VirtualService>> = BTreeMap::new();
    let for_sidecars = |service: &Item<'_, VirtualService>| {
        service.spec.gateways.is_empty() || service.spec.gateways.iter().any(|gateway| gateway == MESH)
    };
    for service in world.oldest_first::<VirtualService>().into_iter().filter(for_sidecars) {
        for (at, host) in service.spec.hosts.iter().enumerate() {
            let Some(host) = pattern(host, service.namespace()) else { continue };
            let place = (service.namespace().to_owned(), service.spec.export_to.clone(), host.to_string());
            let Some(other) = first.get(&place) else {
                first.insert(place, service);
                continue;
            };
            let message = came_first(other, "rules for this host");
            blame(service.object, problems, |report| {
                report.push(
                    Problem::warning(format!("spec.hosts[{at}]"), message)
                        .with_fix("put the rules into one VirtualService"),
                );
            });
        }
    }
}

fn gateways_without_pod(world: &World, pods: &Pods<'_>, problems: &mut Vec<Problem>) {
    for gateway in world.all::<Gateway>() {
        let wanted = &gateway.spec.selector;
        if wanted.is_empty() || pods.selected(None, wanted).next().is_some() {
            continue;
        }
        let message = format!("no gateway has the labels {}; nothing is served", shown(wanted));
        blame(gateway.object, problems, |report| {
            report.push(Problem::warning("spec.selector", message).with_fix("istio: ingressgateway"));
        });
    }
}

/// Of several of one scope the oldest counts (semantics.md 30).
fn policies_of_one_workload<T: Content>(
    world: &World,
    problems: &mut Vec<Problem>,
    labels: impl Fn(&T) -> Option<&StringMap>,
) {
    let mut first: BTreeMap<_, Item<'_, T>> = BTreeMap::new();
    for policy in world.oldest_first::<T>() {
        let place = (policy.namespace().to_owned(), labels(policy.spec).cloned().unwrap_or_default());
        let Some(other) = first.get(&place) else {
            first.insert(place, policy);
            continue;
        };
        let message = came_first(other, &format!("{} for the same workloads", T::KIND));
        blame(policy.object, problems, |report| report.push(Problem::warning("spec", message)));
    }
}

/// What Services and ServiceEntries select, and whose else their hosts and addresses are.
fn services(world: &World, pods: &Pods<'_>, problems: &mut Vec<Problem>) {
    without_workload::<Service>(world, pods, problems, "selector", |service| Some(&service.selector));
    without_workload::<ServiceEntry>(world, pods, problems, "workloadSelector.labels", |entry| {
        entry.workload_selector.as_ref().map(|selector| &selector.labels)
    });
    let mut addresses: BTreeMap<&str, Item<'_, Service>> = BTreeMap::new();
    for service in world.oldest_first::<Service>() {
        target_ports(pods, &service, problems);
        let address = service.spec.cluster_ip.as_deref().filter(|address| !matches!(*address, "" | "None"));
        let Some(address) = address else { continue };
        if let Some(other) = addresses.get(address) {
            let message = format!("{} has the address {address} already", other.object.key);
            blame(service.object, problems, |report| {
                report.push(Problem::warning("spec.clusterIP", message))
            });
        } else {
            addresses.insert(address, service);
        }
    }
    let mut hosts: BTreeMap<_, Item<'_, ServiceEntry>> = BTreeMap::new();
    for entry in world.oldest_first::<ServiceEntry>() {
        for (at, host) in entry.spec.hosts.iter().enumerate() {
            let place = (entry.namespace().to_owned(), host.to_ascii_lowercase());
            let Some(other) = hosts.get(&place) else {
                hosts.insert(place, entry);
                continue;
            };
            if other
                .spec
                .ports
                .iter()
                .any(|port| entry.spec.ports.iter().any(|own| own.number == port.number))
            {
                let message = format!("{} has this host and port already", other.object.key);
                let problem = Problem::warning(format!("spec.hosts[{at}]"), message);
                blame(entry.object, problems, |report| report.push(problem));
            }
        }
    }
}

fn target_ports(pods: &Pods<'_>, service: &Item<'_, Service>, problems: &mut Vec<Problem>) {
    let wanted = &service.spec.selector;
    let pods: Vec<_> = match wanted.is_empty() {
        true => Vec::new(),
        false => pods.selected(Some(service.namespace()), wanted).collect(),
    };
    for (at, port) in service.spec.ports.iter().enumerate() {
        let Some(IntOrString::Name(name)) = &port.target_port else { continue };
        let containers = pods.iter().flat_map(|pod| &pod.spec.spec.containers);
        let known =
            containers.flat_map(|container| &container.ports).any(|known| known.name.as_ref() == Some(name));
        if !known && !pods.is_empty() {
            let message = format!("no container of the pods it selects has a port of the name {name:?}");
            let problem = Problem::warning(format!("spec.ports[{at}].targetPort"), message);
            blame(service.object, problems, |report| report.push(problem));
        }
    }
}

fn ingress_ports(world: &World, problems: &mut Vec<Problem>) {
    for ingress in world.all::<Ingress>() {
        for (r, rule) in ingress.spec.rules.iter().enumerate() {
            for (p, path) in rule.http.iter().flat_map(|http| &http.paths).enumerate() {
                let Some(backend) = &path.backend.service else { continue };
                let Some(number) = backend.port.as_ref().and_then(|port| port.number) else { continue };
                let Some(service) = world.get::<Service>(ingress.namespace(), &backend.name) else {
                    continue;
                };
                if !service.spec.ports.iter().any(|port| port.port == number) {
                    let message = format!("service {} has no port {number}", service.name());
                    let field = format!("spec.rules[{r}].http.paths[{p}].backend.service.port.number");
                    blame(ingress.object, problems, |report| report.push(Problem::warning(field, message)));
                }
            }
        }
    }
}

fn providers(world: &World, problems: &mut Vec<Problem>) {
    // What Istio defines itself, and Stackdriver, of which the translation says that it is not supported.
    let built_in = |part: &str| match part {
        "accessLogging" => &["envoy"][..],
        "metrics" => &["prometheus", "stackdriver", "envoy"],
        _ => &[],
    };
    let defined = |name: &str| world.mesh_config().extension_providers.iter().any(|it| it.name == name);
    let known = |part: &str, name: &str| built_in(part).contains(&name) || defined(name);
    for item in world.all::<Telemetry>() {
        let logs = item.spec.access_logging.iter().map(|it| &it.providers).enumerate();
        let traces = item.spec.tracing.iter().map(|it| &it.providers).enumerate();
        let metrics = item.spec.metrics.iter().map(|it| &it.providers).enumerate();
        let named = logs
            .map(|(at, it)| ("accessLogging", at, it))
            .chain(traces.map(|(at, it)| ("tracing", at, it)))
            .chain(metrics.map(|(at, it)| ("metrics", at, it)));
        for (part, at, list) in named {
            for (p, provider) in list.iter().enumerate().filter(|(_, provider)| !known(part, &provider.name))
            {
                let message =
                    format!("the mesh configuration has no provider named {:?}; no effect", provider.name);
                let field = format!("spec.{part}[{at}].providers[{p}].name");
                blame(item.object, problems, |report| report.push(Problem::warning(field, message)));
            }
        }
    }
}

fn policies_without_pod(world: &World, pods: &Pods<'_>, problems: &mut Vec<Problem>) {
    unselective::<PeerAuthentication>(world, pods, problems, "selector.matchLabels", |policy| {
        policy.selector.as_ref().map(|selector| &selector.match_labels)
    });
    unselective::<AuthorizationPolicy>(world, pods, problems, "selector.matchLabels", |policy| {
        policy.selector.as_ref().map(|selector| &selector.match_labels)
    });
    unselective::<RequestAuthentication>(world, pods, problems, "selector.matchLabels", |policy| {
        policy.selector.as_ref().map(|selector| &selector.match_labels)
    });
    unselective::<Telemetry>(world, pods, problems, "selector.matchLabels", |policy| {
        policy.selector.as_ref().map(|selector| &selector.match_labels)
    });
    unselective::<RateLimit>(world, pods, problems, "selector.matchLabels", |policy| {
        policy.selector.as_ref().map(|selector| &selector.match_labels)
    });
    unselective::<Sidecar>(world, pods, problems, "workloadSelector.labels", |sidecar| {
        sidecar.workload_selector.as_ref().map(|selector| &selector.labels)
    });
}

/// Objects of a kind whose labels no pod has; those of the root namespace look at every namespace.
fn unselective<T: Content>(
    world: &World,
    pods: &Pods<'_>,
    problems: &mut Vec<Problem>,
    field: &str,
    labels: impl Fn(&T) -> Option<&StringMap>,
) {
    let root = &world.mesh_config().root_namespace;
    let is_selected = |namespace: &str, wanted: &StringMap| {
        pods.selected(Some(namespace).filter(|namespace| namespace != root), wanted).next().is_some()
    };
    selectors(world, problems, field, labels, &is_selected, "pod");
}

/// Services whose labels neither a pod nor a WorkloadEntry of their namespace has.
fn without_workload<T: Content>(
    world: &World,
    pods: &Pods<'_>,
    problems: &mut Vec<Problem>,
    field: &str,
    labels: impl Fn(&T) -> Option<&StringMap>,
) {
    let is_selected = |namespace: &str, wanted: &StringMap| {
        pods.selected(Some(namespace), wanted).next().is_some()
            || world.selected_workloads(namespace, wanted).next().is_some()
    };
    selectors(world, problems, field, labels, &is_selected, "pod or WorkloadEntry");
}

/// Objects of a kind with labels for which nothing is selected in their namespace.
fn selectors<T: Content>(
    world: &World,
    problems: &mut Vec<Problem>,
    field: &str,
    labels: impl Fn(&T) -> Option<&StringMap>,
    is_selected: &dyn Fn(&str, &StringMap) -> bool,
    what: &str,
) {
    for item in world.all::<T>() {
        let Some(wanted) = labels(item.spec).filter(|wanted| !wanted.is_empty()) else { continue };
        if !is_selected(item.namespace(), wanted) {
            let message =
                format!("no {what} of {} has the labels {}; no effect", item.namespace(), shown(wanted));
            let problem = Problem::warning(format!("spec.{field}"), message);
            blame(item.object, problems, |report| report.push(problem));
        }
    }
}

fn shown(labels: &StringMap) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}
