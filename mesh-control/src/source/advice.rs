//! What can be said of one good object without looking at any other.

use mesh_core::tls::{self, gateway};

use crate::api::core::Secret;
use crate::api::ingress::{HttpIngressPath, Ingress, IngressBackend};
use crate::api::networking::{DestinationRule, TrafficPolicy, VirtualService};
use crate::api::{Object, Spec};
use crate::problem::{Edit, Problem};

/// The warnings and hints for an object; fields that are read but have no effect are translation's to report.
pub(super) fn advice(object: &Object) -> Vec<Problem> {
    match &object.spec {
        Spec::Ingress(ingress) => ingress_advice(object, ingress),
        Spec::DestinationRule(rule) => rule_advice(rule),
        Spec::Secret(secret) => secret_advice(secret),
        Spec::VirtualService(service) => mirror_advice(service),
        _ => Vec::new(),
    }
}

/// D1 and D2.
fn ingress_advice(object: &Object, ingress: &Ingress) -> Vec<Problem> {
    let mut problems = Vec::new();
    let rate_limit = "nginx.ingress.kubernetes.io/rate-limit";
    if let Some(value) = object.meta.annotation(rate_limit) {
        let message = "not an annotation of ingress-nginx; read as limit-rps";
        problems.push(
            Problem::warning(format!("metadata.annotations[{rate_limit:?}]"), message)
                .with_fix(format!("nginx.ingress.kubernetes.io/limit-rps: {value:?}"))
                .with_edit(Edit::Rename("nginx.ingress.kubernetes.io/limit-rps")),
        );
    }
    if let Some(backend) = &ingress.default_backend {
        problems.extend(backend_advice("spec.defaultBackend", backend));
    }
    for (r, rule) in ingress.rules.iter().enumerate() {
        let paths = rule.http.iter().flat_map(|http| &http.paths);
        for (p, path) in paths.enumerate() {
            problems.extend(path_advice(&format!("spec.rules[{r}].http.paths[{p}]"), path));
        }
    }
    problems
}

fn path_advice(at: &str, path: &HttpIngressPath) -> Vec<Problem> {
    let mut problems = Vec::new();
    if path.path_type.is_none() {
        let message = "missing; a cluster refuses this, read as Prefix";
        problems.push(
            Problem::warning(format!("{at}.pathType"), message)
                .with_fix("pathType: Prefix")
                .with_edit(Edit::Join("pathType: Prefix")),
        );
    }
    problems.extend(backend_advice(&format!("{at}.backend"), &path.backend));
    problems
}

fn backend_advice(at: &str, backend: &IngressBackend) -> Option<Problem> {
    let service = backend.service.as_ref()?;
    let given = service.port.as_ref().is_some_and(|port| port.number.is_some() || port.name.is_some());
    let message =
        format!("missing; a cluster refuses this, read as the only port of service {}", service.name);
    (!given).then(|| {
        Problem::warning(format!("{at}.service.port"), message)
            .with_fix("port: {number: …} of the service")
            .with_edit(Edit::OnlyPortOf(service.name.clone()))
    })
}

/// D4.
fn rule_advice(rule: &DestinationRule) -> Vec<Problem> {
    let top = rule.traffic_policy.iter().map(|policy| ("spec.trafficPolicy".to_owned(), policy));
    let subsets = rule.subsets.iter().enumerate().filter_map(|(s, subset)| {
        Some((format!("spec.subsets[{s}].trafficPolicy"), subset.traffic_policy.as_ref()?))
    });
    top.chain(subsets).flat_map(|(at, policy)| policy_advice(&at, policy)).collect()
}

fn policy_advice(at: &str, policy: &TrafficPolicy) -> Vec<Problem> {
    let own = policy.outlier_detection.iter().map(|outliers| (at.to_owned(), outliers));
    let ports = policy.port_level_settings.iter().enumerate().filter_map(|(p, port)| {
        Some((format!("{at}.portLevelSettings[{p}]"), port.outlier_detection.as_ref()?))
    });
    let deprecated = own.chain(ports).filter(|(_, outliers)| outliers.consecutive_errors.is_some());
    deprecated
        .map(|(at, _)| {
            let message = "deprecated, and without effect in Istio; read as consecutive5xxErrors and \
                           consecutiveGatewayErrors";
            Problem::warning(format!("{at}.outlierDetection.consecutiveErrors"), message)
                .with_fix("consecutive5xxErrors")
                .with_edit(Edit::Rename("consecutive5xxErrors"))
        })
        .collect()
}

fn mirror_advice(service: &VirtualService) -> Vec<Problem> {
    let routes = service.http.iter().enumerate().filter(|(_, route)| route.mirror_percent.is_some());
    let advice = routes.map(|(at, _)| {
        Problem::info(format!("spec.http[{at}].mirrorPercent"), "deprecated")
            .with_fix("mirrorPercentage: {value: …}")
            .with_edit(Edit::Wrap("mirrorPercentage"))
    });
    advice.collect()
}

fn secret_advice(secret: &Secret) -> Vec<Problem> {
    let has = |name: &str| secret.data.contains_key(name) || secret.string_data.contains_key(name);
    let missing = ["tls.crt", "tls.key"]
        .into_iter()
        .filter(|name| secret.secret_type == "kubernetes.io/tls" && !has(name))
        .map(|name| {
            Problem::warning(
                format!("data[{name:?}]"),
                "missing; a secret of type kubernetes.io/tls needs it",
            )
        });
    missing.chain(twice(secret)).chain(pair_advice(secret)).collect()
}

/// Two values for one thing, of which one counts.
fn twice(secret: &Secret) -> Vec<Problem> {
    let hidden = secret.data.keys().filter(|name| secret.string_data.contains_key(*name));
    let hidden = hidden.map(|name| (name.as_str(), "in stringData too, and that one counts".to_owned()));
    let has = |name: &str| secret.data.contains_key(name) || secret.string_data.contains_key(name);
    let forms = [("tls.crt", "cert"), ("tls.key", "key"), ("ca.crt", "cacert")];
    let older = forms.into_iter().filter(|(new, old)| has(new) && has(old));
    let older = older.map(|(new, old)| (old, format!("{new} is there too, and that one counts")));
    let told = hidden.chain(older);
    let place = |name: &str| if secret.data.contains_key(name) { "data" } else { "stringData" };
    told.map(|(name, message)| Problem::warning(format!("{}[{name:?}]", place(name)), message)).collect()
}

/// A renewed certificate whose key was forgotten. Proxies see it too, and keep what they have.
fn pair_advice(secret: &Secret) -> Option<Problem> {
    // What is not base64 is told about as such.
    let text = |name| Some(String::from_utf8_lossy(&secret.value(name).ok()??).into_owned());
    let (chain, key) = (text("tls.crt")?, text("tls.key")?);
    let error = gateway::check_pair(&chain, &key).err()?;
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    let message = format!("{error}{cause}; proxies go on with the last good pair, if they have one");
    let wrong = if tls::certificates(&chain).is_err() { "tls.crt" } else { "tls.key" };
    Some(Problem::warning(format!("data[{wrong:?}]"), message))
}
