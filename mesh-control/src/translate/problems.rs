//! What in the world cannot be translated or has no effect, object by object.

mod mesh_config;
mod pods;
mod references;
mod secrets;
mod sidecars;
mod slices;
mod workloads;

use std::collections::BTreeSet;

use super::catalog::Catalog;
use super::http::{self, Binding, MESH};
use super::scope::{Client, Scope, pattern};
use super::{
    authorization, cluster, destination, gateway, ingress, rate_limit, tcp, telemetry, tokens, workload,
};
use crate::api::core::Pod;
use crate::api::ingress::Ingress;
use crate::api::meta::StringMap;
use crate::api::networking::{DestinationRule, Gateway, VirtualService};
use crate::api::rate_limit::RateLimit;
use crate::api::security::{AuthorizationPolicy, RequestAuthentication};
use crate::api::{Item, Object};
use crate::problem::{Problem, worst};
use crate::world::World;
use pods::Pods;

/// All problems: of the sources, and of the translation of every object.
pub fn all(world: &World, catalog: &Catalog) -> Vec<Problem> {
    let mut problems: Vec<Problem> = world.problems().cloned().collect();
    for service in world.all::<VirtualService>() {
        blame(service.object, &mut problems, |report| virtual_service(world, catalog, &service, report));
    }
    for rule in world.all::<DestinationRule>() {
        blame(rule.object, &mut problems, |report| {
            cluster::unsupported(rule.spec, report);
            secrets::of_rule(world, &rule, report);
        });
    }
    for policy in world.all::<AuthorizationPolicy>() {
        let labels = StringMap::new();
        let scope = Scope { world, catalog, client: Client::of_namespace(policy.namespace(), &labels) };
        blame(policy.object, &mut problems, |report| drop(authorization::translate(&scope, &policy, report)));
    }
    for limit in world.all::<RateLimit>() {
        blame(limit.object, &mut problems, |report| drop(rate_limit::translate(&limit, report)));
    }
    gateways(world, catalog, &mut problems);
    without_effect(world, &mut problems);
    let pods = Pods::of(world);
    references::all(world, catalog, &pods, &mut problems);
    sidecars::all(world, catalog, &pods, &mut problems);
    slices::all(world, &mut problems);
    workloads::all(world, &mut problems);
    mesh_config::all(world, catalog, &mut problems);
    problems.sort();
    problems.dedup();
    problems
}

fn blame(object: &Object, problems: &mut Vec<Problem>, check: impl FnOnce(&mut Vec<Problem>)) {
    let mut report = Vec::new();
    check(&mut report);
    problems.extend(object.blame_all(worst(report)));
}

fn virtual_service(
    world: &World,
    catalog: &Catalog,
    service: &Item<'_, VirtualService>,
    report: &mut Vec<Problem>,
) {
    let labels = StringMap::new();
    let scope = Scope { world, catalog, client: Client::of_namespace(service.namespace(), &labels) };
    for (at, host) in service.spec.hosts.iter().enumerate() {
        if pattern(host, service.namespace()).is_none() {
            report.push(Problem::error(format!("spec.hosts[{at}]"), format!("{host:?} is not a host")));
        }
    }
    let bindings =
        if service.spec.gateways.is_empty() { vec![MESH.to_owned()] } else { service.spec.gateways.clone() };
    for (at, name) in bindings.iter().enumerate() {
        let gateway = http::gateway_name(name, service.namespace());
        let known = gateway.split_once('/').is_none_or(|(ns, name)| world.get::<Gateway>(ns, name).is_some());
        if !known {
            let message = format!("Gateway {gateway} does not exist");
            report.push(Problem::warning(format!("spec.gateways[{at}]"), message));
        }
        http::rules(&scope, service, Binding { gateway: &gateway, port: 80 }, report);
    }
    tcp::problems(service, report);
    subsets(&scope, service, report);
}

/// D6: a route that names a subset nobody defines answers 503.
fn subsets(scope: &Scope<'_>, service: &Item<'_, VirtualService>, report: &mut Vec<Problem>) {
    let spec = service.spec;
    let http = spec.http.iter().enumerate().flat_map(|(at, route)| {
        let to = route.route.iter().enumerate();
        let to = to
            .map(move |(index, to)| (format!("spec.http[{at}].route[{index}].destination"), &to.destination));
        let mirrors = route.mirrors.iter().enumerate();
        let mirrors = mirrors.map(move |(index, to)| {
            (format!("spec.http[{at}].mirrors[{index}].destination"), &to.destination)
        });
        to.chain(route.mirror.iter().map(move |to| (format!("spec.http[{at}].mirror"), to))).chain(mirrors)
    });
    let tcp = spec.tcp.iter().map(|route| &route.route).enumerate().map(|(at, to)| ("tcp", at, to));
    let tls = spec.tls.iter().map(|route| &route.route).enumerate().map(|(at, to)| ("tls", at, to));
    let connections = tcp.chain(tls).flat_map(|(part, at, to)| {
        let field = move |index| format!("spec.{part}[{at}].route[{index}].destination");
        to.iter().enumerate().map(move |(index, to)| (field(index), &to.destination))
    });
    let http: Vec<_> = http.chain(connections).collect();
    for (field, to) in http {
        let Some(found) = destination::service(scope, &to.host, service.namespace()) else {
            let message = format!("no service has the host {:?}; requests are answered with 503", to.host);
            report.push(Problem::warning(format!("{field}.host"), message));
            continue;
        };
        let rules = super::destination_rule::for_service(scope, found);
        if !to.subset.is_empty() && rules.subset(&to.subset).is_none() {
            let message =
                format!("no DestinationRule defines subset {:?}; requests are answered with 503", to.subset);
            report.push(Problem::error(format!("{field}.subset"), message));
        }
    }
}

/// Gateways are told about through the pods that they select.
fn gateways(world: &World, catalog: &Catalog, problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    for pod in world.all::<Pod>().filter(workload::is_gateway) {
        let labels = &pod.object.meta.labels;
        if !seen.insert((&pod.object.key.namespace, labels)) {
            continue;
        }
        let scope = Scope { world, catalog, client: Client::of_namespace(pod.namespace(), labels) };
        let is_ingress = pod.object.meta.label("istio") != Some("egressgateway");
        gateway::build(&scope, &pod, is_ingress, problems);
    }
    for ingress in world.all::<Ingress>().filter(|ingress| !ingress::is_ours(world, ingress)) {
        problems.push(
            ingress.object.blame(Problem::info("spec.ingressClassName", "another controller's; skipped")),
        );
    }
}

/// Whole kinds, or parts of them, that are read and not carried out yet.
fn without_effect(world: &World, problems: &mut Vec<Problem>) {
    for item in world.all::<RequestAuthentication>() {
        blame(item.object, problems, |report| drop(tokens::translate(world, &item, report)));
    }
    telemetry::problems::all(world, problems);
}
