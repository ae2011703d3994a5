//! What users wrote that has no effect yet: reported, never dropped in silence.

use super::hosts;
use super::ingress::{is_canary, is_ours};
use super::rules::retry_on;
use crate::api::ingress::Ingress;
use crate::api::networking::{DestinationRule, Gateway, Sidecar, VirtualService};
use crate::api::security::{AuthorizationAction, AuthorizationPolicy, RequestAuthentication};
use crate::api::{Content, Item};
use crate::problem::Problem;
use crate::world::World;

/// Everything in the world that is read but not acted on, and references that lead nowhere.
pub fn problems(world: &World) -> Vec<Problem> {
    let mut found = Vec::new();
    each::<VirtualService>(world, &mut found, |service| virtual_service(world, service));
    each::<DestinationRule>(world, &mut found, destination_rule);
    each::<Gateway>(world, &mut found, gateway);
    each::<Sidecar>(world, &mut found, sidecar);
    each::<Ingress>(world, &mut found, |ingress| ingress_problems(world, ingress));
    each::<AuthorizationPolicy>(world, &mut found, authorization);
    each::<RequestAuthentication>(world, &mut found, |_| {
        vec![not_yet("spec", "tokens are not checked yet; policies that need one deny")]
    });
    found
}

fn each<T: Content>(world: &World, found: &mut Vec<Problem>, look: impl Fn(&Item<'_, T>) -> Vec<Problem>) {
    for item in world.all::<T>() {
        found.extend(look(&item).into_iter().map(|problem| item.object.blame(problem)));
    }
}

fn not_yet(field: impl Into<String>, message: &str) -> Problem {
    Problem::warning(field, format!("no effect yet: {message}"))
}

fn virtual_service(world: &World, service: &Item<'_, VirtualService>) -> Vec<Problem> {
    let mut found = Vec::new();
    for (at, route) in service.http.iter().enumerate() {
        let field = |name: &str| format!("spec.http[{at}].{name}");
        if route.delegate.is_some() {
            found.push(not_yet(field("delegate"), "delegates"));
        }
        if let Some(retries) = &route.retries {
            let words = retries.retry_on.split(',').map(str::trim).filter(|word| !word.is_empty());
            for word in words.filter(|word| retry_on(word).is_none() && word.parse::<u16>().is_err()) {
                found.push(Problem::warning(
                    field("retries.retryOn"),
                    format!("{word:?} is not a condition we know"),
                ));
            }
            if retries.retry_remote_localities.is_some() {
                found.push(not_yet(field("retries.retryRemoteLocalities"), "localities"));
            }
        }
        if route
            .fault
            .as_ref()
            .and_then(|fault| fault.abort.as_ref())
            .is_some_and(|abort| abort.http2_error.is_some())
        {
            found.push(not_yet(field("fault.abort.http2Error"), "HTTP/2 errors as faults"));
        }
        for (to_at, to) in route.route.iter().enumerate() {
            let to_field = field(&format!("route[{to_at}].destination"));
            found.extend(destination(world, service, &to.destination, &to_field));
        }
    }
    found
}

/// D6: a route to a subset or service that nobody defines answers 503.
fn destination(
    world: &World,
    service: &Item<'_, VirtualService>,
    to: &crate::api::networking::Destination,
    field: &str,
) -> Option<Problem> {
    let host = hosts::resolve(&to.host, service.namespace());
    let entry = !world.entries_for(&host).is_empty();
    if hosts::service(world, &host, service.namespace()).is_none() && !entry {
        let message = format!("no Service or ServiceEntry has the host {host:?}; requests get 503");
        return Some(Problem::warning(format!("{field}.host"), message));
    }
    let defined = |rule: &Item<'_, DestinationRule>| {
        hosts::covers(&hosts::resolve(&rule.host, rule.namespace()), &host)
            && rule.subsets.iter().any(|subset| subset.name == to.subset)
    };
    if !to.subset.is_empty() && !world.all::<DestinationRule>().any(|rule| defined(&rule)) {
        let message =
            format!("no DestinationRule for {host:?} has the subset {:?}; requests get 503", to.subset);
        let fix = format!("add subset {:?} to a DestinationRule", to.subset);
        return Some(Problem::error(format!("{field}.subset"), message).with_fix(fix));
    }
    None
}

fn destination_rule(rule: &Item<'_, DestinationRule>) -> Vec<Problem> {
    let mut found = Vec::new();
    if rule.workload_selector.is_some() {
        found.push(not_yet("spec.workloadSelector", "the whole rule is left out"));
    }
    let Some(policy) = &rule.traffic_policy else { return found };
    if let Some(balancer) = &policy.load_balancer {
        if balancer.locality_lb_setting.is_some() {
            found.push(not_yet("spec.trafficPolicy.loadBalancer.localityLbSetting", "localities"));
        }
        if balancer.warmup.is_some() || balancer.warmup_duration_secs.is_some() {
            found.push(not_yet("spec.trafficPolicy.loadBalancer.warmup", "slow start"));
        }
    }
    for (name, given) in [
        ("tunnel", policy.tunnel.is_some()),
        ("proxyProtocol", policy.proxy_protocol.is_some()),
        ("retryBudget", policy.retry_budget.is_some()),
    ] {
        if given {
            found.push(not_yet(format!("spec.trafficPolicy.{name}"), name));
        }
    }
    found
}

fn gateway(gateway: &Item<'_, Gateway>) -> Vec<Problem> {
    let mut found = Vec::new();
    for (at, server) in gateway.servers.iter().enumerate() {
        let field = |name: &str| format!("spec.servers[{at}].{name}");
        if !server.bind.is_empty() {
            found.push(not_yet(field("bind"), "gateways listen on all addresses"));
        }
        let Some(tls) = &server.tls else { continue };
        for (name, given) in [
            ("tls.minProtocolVersion", tls.min_protocol_version.is_some()),
            ("tls.maxProtocolVersion", tls.max_protocol_version.is_some()),
            ("tls.cipherSuites", !tls.cipher_suites.is_empty()),
            ("tls.serverCertificate", !tls.server_certificate.is_empty()),
            ("tls.credentialNames", !tls.credential_names.is_empty()),
            ("tls.subjectAltNames", !tls.subject_alt_names.is_empty()),
        ] {
            if given {
                found.push(not_yet(field(name), name));
            }
        }
    }
    found
}

fn sidecar(sidecar: &Item<'_, Sidecar>) -> Vec<Problem> {
    let mut found = Vec::new();
    if !sidecar.egress.is_empty() {
        found.push(not_yet("spec.egress", "every destination stays visible"));
    }
    if !sidecar.ingress.is_empty() {
        found.push(not_yet("spec.ingress", "inbound ports follow the Services"));
    }
    found
}

fn ingress_problems(world: &World, ingress: &Item<'_, Ingress>) -> Vec<Problem> {
    const PREFIX: &str = "nginx.ingress.kubernetes.io/";
    if !is_ours(world, ingress) {
        return vec![Problem::info("spec.ingressClassName", "of another class; not served by this mesh")];
    }
    let annotations = ingress.object.meta.annotations.keys().filter(|name| name.starts_with(PREFIX));
    let mut found: Vec<_> = annotations
        .map(|name| not_yet(format!("metadata.annotations[{name:?}]"), "this annotation"))
        .collect();
    if is_canary(ingress) {
        found.push(not_yet(
            "metadata.annotations",
            "the canary Ingress is left out; all traffic goes to the main one",
        ));
    }
    found
}

fn authorization(policy: &Item<'_, AuthorizationPolicy>) -> Vec<Problem> {
    let mut found = Vec::new();
    match policy.action {
        AuthorizationAction::Custom => {
            found.push(not_yet("spec.action", "external authorization; what the rules match is denied"));
        }
        AuthorizationAction::Audit => found.push(not_yet("spec.action", "AUDIT")),
        AuthorizationAction::Allow | AuthorizationAction::Deny => {}
    }
    if policy.target_ref.is_some() || !policy.target_refs.is_empty() {
        found.push(not_yet("spec.targetRefs", "the whole policy is left out"));
    }
    found
}
