//! What in one object cannot be meant, though every value of it could: two ports of one number, a selector that its own
//! template does not satisfy, a condition that nobody knows.

use std::collections::BTreeSet;

use crate::api::core::{PodController, Service, ServiceType};
use crate::api::discovery::EndpointSlice;
use crate::api::networking::{Gateway, Resolution, ServiceEntry, WorkloadEntry};
use crate::api::rate_limit::RateLimit;
use crate::api::security::{AuthorizationPolicy, Condition, PeerAuthentication, Source};
use crate::api::{Object, Spec};
use crate::problem::Problem;

/// The longest time that limits are counted over.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(49 * 24 * 3600);
/// Keys of conditions with a value of their own, and those with a name in brackets.
const KEYS: &[&str] = &[
    "remote.ip",
    "source.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "destination.ip",
    "destination.port",
    "connection.sni",
];
const NAMED_KEYS: &[&str] = &["request.headers[", "request.auth.claims[", "experimental."];

/// All that is found in an object.
pub(super) fn contradictions(object: &Object) -> Vec<Problem> {
    match &object.spec {
        Spec::Service(service) => service_problems(service),
        Spec::EndpointSlice(slice) => slice_problems(slice),
        Spec::ServiceEntry(entry) => entry_problems(entry),
        Spec::WorkloadEntry(workload) => workload_problems(workload, "spec"),
        Spec::Gateway(gateway) => gateway_problems(gateway),
        Spec::PeerAuthentication(policy) => peer_problems(policy),
        Spec::AuthorizationPolicy(policy) => authorization_problems(policy),
        Spec::RateLimit(limit) => limit_problems(limit),
        _ => object.spec.pod_controller().map_or_else(Vec::new, controller_problems),
    }
}

fn service_problems(service: &Service) -> Vec<Problem> {
    let numbers = service.ports.iter().map(|port| format!("{:?} {}", port.protocol, port.port));
    let mut problems = repeated(numbers, |at| format!("spec.ports[{at}].port"));
    let names = service.ports.iter().map(|port| port.name.clone());
    problems.extend(repeated(names, |at| format!("spec.ports[{at}].name")));
    let target = service.external_name.as_deref().unwrap_or_default();
    if service.service_type == ServiceType::ExternalName && target.is_empty() {
        problems.push(Problem::warning("spec.externalName", "missing; type ExternalName needs it"));
    }
    problems
}

fn slice_problems(slice: &EndpointSlice) -> Vec<Problem> {
    let names = slice.ports.iter().map(|port| format!("{:?} {}", port.protocol, port.name));
    repeated(names, |at| format!("ports[{at}].name"))
}

/// One problem for each value that was there before.
fn repeated(values: impl Iterator<Item = String>, field: impl Fn(usize) -> String) -> Vec<Problem> {
    let mut seen = BTreeSet::new();
    let again = values.enumerate().filter(|(_, value)| !seen.insert(value.clone())).map(|(at, _)| at);
    again.map(|at| Problem::warning(field(at), "here twice; a cluster refuses this")).collect()
}

fn entry_problems(entry: &ServiceEntry) -> Vec<Problem> {
    let mut problems = Vec::new();
    if entry.resolution == Resolution::Static
        && entry.endpoints.is_empty()
        && entry.workload_selector.is_none()
    {
        let message = "STATIC needs endpoints or a workloadSelector; calls are answered with 503";
        problems.push(Problem::warning("spec.resolution", message));
    }
    for (at, host) in entry.hosts.iter().enumerate() {
        let by_name = matches!(entry.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        if host == "*" {
            let message = "too wide; write *.DOMAIN, or outboundTrafficPolicy ALLOW_ANY for all hosts";
            problems.push(Problem::warning(format!("spec.hosts[{at}]"), message));
        } else if host.starts_with('*') && by_name && entry.endpoints.is_empty() {
            let message = "a wildcard has no address of its own to look up";
            problems.push(
                Problem::warning(format!("spec.hosts[{at}]"), message).with_fix("resolution: DYNAMIC_DNS"),
            );
        }
    }
    let known = |name: &String| entry.ports.iter().any(|port| port.name == *name);
    for (at, endpoint) in entry.endpoints.iter().enumerate() {
        problems.extend(workload_problems(endpoint, &format!("spec.endpoints[{at}]")));
        for name in endpoint.ports.keys().filter(|name| !known(name)) {
            let message = format!("spec.ports has no port of the name {name:?}; no effect");
            problems.push(Problem::warning(format!("spec.endpoints[{at}].ports.{name}"), message));
        }
    }
    problems
}

fn workload_problems(workload: &WorkloadEntry, field: &str) -> Vec<Problem> {
    let is_file = workload.address.starts_with("unix:");
    let problem =
        || Problem::warning(format!("{field}.ports"), "the socket of a file has no ports; no effect");
    (is_file && !workload.ports.is_empty()).then(problem).into_iter().collect()
}

fn gateway_problems(gateway: &Gateway) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (s, server) in gateway.servers.iter().enumerate() {
        for (h, host) in server.hosts.iter().enumerate() {
            let name = host.split_once('/').map_or(host.as_str(), |(_, name)| name);
            if name != "*" && name.strip_prefix("*.").unwrap_or(name).contains('*') {
                let message = format!("{host:?} is not a host; a * may only stand for the first labels");
                problems.push(Problem::warning(format!("spec.servers[{s}].hosts[{h}]"), message));
            }
        }
    }
    problems
}

fn peer_problems(policy: &PeerAuthentication) -> Vec<Problem> {
    let selects_some = policy.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
    let ignored = !policy.port_level_mtls.is_empty() && !selects_some;
    let problem = || {
        Problem::warning("spec.portLevelMtls", "has no effect without a selector")
            .with_fix("add spec.selector")
    };
    ignored.then(problem).into_iter().collect()
}

fn authorization_problems(policy: &AuthorizationPolicy) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (r, rule) in policy.rules.iter().enumerate() {
        for (f, from) in rule.from.iter().enumerate() {
            if both_identities(&from.source) {
                let message = "serviceAccounts cannot be combined with principals or namespaces";
                let field = format!("spec.rules[{r}].from[{f}].source.serviceAccounts");
                problems.push(Problem::warning(field, message));
            }
        }
        for (w, condition) in rule.when.iter().enumerate() {
            problems.extend(condition_problem(condition, &format!("spec.rules[{r}].when[{w}]")));
        }
    }
    problems
}

fn both_identities(source: &Source) -> bool {
    let accounts = !source.service_accounts.is_empty() || !source.not_service_accounts.is_empty();
    let others = [&source.principals, &source.not_principals, &source.namespaces, &source.not_namespaces];
    accounts && others.iter().any(|list| !list.is_empty())
}

fn condition_problem(condition: &Condition, field: &str) -> Option<Problem> {
    let key = condition.key.as_str();
    if !KEYS.contains(&key) && !NAMED_KEYS.iter().any(|start| key.starts_with(start)) {
        let message =
            format!("{key:?} is not a condition; one of {}, request.headers[NAME]", KEYS.join(", "));
        return Some(Problem::warning(format!("{field}.key"), message));
    }
    if condition.values.is_empty() && condition.not_values.is_empty() {
        return Some(Problem::warning(format!("{field}.values"), "missing; values or notValues are needed"));
    }
    let is_range =
        |text: &String| text.parse::<std::net::IpAddr>().is_ok() || text.parse::<ipnet::IpNet>().is_ok();
    let wrong = condition.values.iter().chain(&condition.not_values).find(|value| !is_range(value));
    let wrong = wrong.filter(|_| key.ends_with(".ip"))?;
    Some(Problem::warning(format!("{field}.values"), format!("{wrong:?} is not an IP or CIDR")))
}

fn limit_problems(limit: &RateLimit) -> Vec<Problem> {
    let long = limit.rules.iter().enumerate().filter(|(_, rule)| rule.limit.per.get() > LONGEST);
    long.map(|(at, _)| Problem::warning(format!("spec.rules[{at}].limit.per"), "longer than 49 days"))
        .collect()
}

fn controller_problems(controller: &PodController) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !controller.selector.selects(&controller.template.metadata.labels) {
        let message = "does not select the pods of spec.template; a cluster refuses this";
        problems.push(Problem::warning("spec.selector", message));
    }
    let (at, pod) = ("spec.template.spec", &controller.template.spec);
    let names = pod.containers.iter().map(|container| container.name.clone());
    problems.extend(repeated(names, |c| format!("{at}.containers[{c}].name")));
    let volumes: BTreeSet<_> = pod.volumes.iter().filter_map(|volume| volume["name"].as_str()).collect();
    for (c, container) in pod.containers.iter().enumerate() {
        let numbers =
            container.ports.iter().map(|port| format!("{:?} {}", port.protocol, port.container_port));
        problems.extend(repeated(numbers, |p| format!("{at}.containers[{c}].ports[{p}].containerPort")));
        for (m, mount) in container.volume_mounts.iter().enumerate() {
            // StatefulSets have volumes that come of claims.
            if !volumes.contains(mount.name.as_str()) && controller.service_name.is_none() {
                let message = format!("{at}.volumes has no volume of the name {:?}", mount.name);
                problems
                    .push(Problem::warning(format!("{at}.containers[{c}].volumeMounts[{m}].name"), message));
            }
        }
    }
    problems
}
