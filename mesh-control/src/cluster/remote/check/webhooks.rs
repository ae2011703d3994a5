//! The webhooks: there, answered, trusted, and failing as they should.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Check, certificates, few};
use crate::cluster::remote::list::list;
use crate::cluster::remote::{Remote, RemoteError, SYSTEM_NAMESPACE};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
/// Kind, path, name, and what is to happen while nobody answers.
const CONFIGURATIONS: [(&str, &str, &str, &str); 2] = [
    ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "mesh-injection", "Fail"),
    ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", "mesh-validation", "Ignore"),
];
/// Where the control plane's pods answer them.
const PORT: u16 = 15017;
const LOG: &str = "mesh logs mesh-control -n mesh-system";

pub(super) async fn check(remote: &Remote) -> Vec<Check> {
    let mut checks = vec![endpoints(remote).await];
    for (kind, plural, name, policy) in CONFIGURATIONS {
        let subject = format!("{kind} {name}");
        match remote.look(&format!("{GROUP}/{plural}/{name}")).await {
            Ok(Some(found)) => match judge(&subject, &found, policy) {
                Ok(bundle) => checks.push(trusted(remote, subject, &found, &bundle).await),
                Err(check) => checks.push(check),
            },
            Ok(None) => checks.push(Check::error(subject, "is missing").fix("mesh install --apply")),
            Err(error) => checks.push(Check::unseen(subject, &error)),
        }
    }
    checks
}

/// The bundle that all its webhooks trust, or what is wrong.
fn judge(subject: &str, configuration: &Value, policy: &str) -> Result<String, Check> {
    let webhooks: Vec<&Value> = configuration["webhooks"].as_array().into_iter().flatten().collect();
    let named = |holds: &dyn Fn(&Value) -> bool| {
        let odd = webhooks.iter().filter(|webhook| !holds(webhook));
        odd.filter_map(|webhook| webhook["name"].as_str()).collect::<Vec<_>>()
    };
    if webhooks.is_empty() {
        return Err(Check::error(subject, "has no webhooks").fix("mesh install --apply"));
    }
    let bundle = webhooks[0]["clientConfig"]["caBundle"].as_str().unwrap_or_default();
    let untrusted = named(&|webhook| !bundle.is_empty() && webhook["clientConfig"]["caBundle"] == bundle);
    if !untrusted.is_empty() {
        let message = format!("the control plane has not written the caBundle of {}", few(untrusted));
        return Err(Check::error(subject, message).fix(LOG));
    }
    let odd = named(&|webhook| webhook["failurePolicy"] == policy);
    if !odd.is_empty() {
        let message = match policy {
            "Fail" => "would let pods start without their proxy while the control plane is away",
            _ => "would refuse the mesh's objects while the control plane is away",
        };
        return Err(Check::warning(subject, format!("{} {message}", few(odd)))
            .fix(format!("failurePolicy: {policy}, as mesh install --apply writes it")));
    }
    let bytes = STANDARD.decode(bundle).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Check::error(subject, "its caBundle is not PEM in base64").fix(LOG))
}

/// Whether what the control plane shows is what the API server has been told to trust.
async fn trusted(remote: &Remote, subject: String, configuration: &Value, bundle: &str) -> Check {
    let service = &configuration["webhooks"][0]["clientConfig"]["service"];
    let name = |field: &str| service[field].as_str().unwrap_or_default();
    let name = format!("{}.{}.svc", name("name"), name("namespace"));
    let pods = match remote.control_pods().await {
        Ok(pods) => pods,
        Err(error) => return Check::unseen(subject, &error),
    };
    let Some(pod) = pods.iter().find(|pod| pod.is_ready()) else {
        return Check::error(subject, "no replica of the control plane is ready to answer it").fix(LOG);
    };
    match certificates::shown(remote, pod.name(), PORT, &name, bundle).await {
        Ok(until) => {
            let (day, hour, minute) = (until.date(), until.hour(), until.minute());
            let message = format!(
                "is answered with a certificate that its caBundle trusts, good until {day} {hour:02}:{minute:02} UTC"
            );
            Check::ok(subject, message)
        }
        Err(error) => {
            Check::error(subject, format!("the API server cannot trust who answers it as {name}: {error}"))
                .fix("kubectl rollout restart deployment mesh-control -n mesh-system")
        }
    }
}

async fn endpoints(remote: &Remote) -> Check {
    let subject = format!("Service {SYSTEM_NAMESPACE}/mesh-control");
    let collection = format!("/apis/discovery.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/endpointslices");
    match list(remote.client(), &collection, "kubernetes.io/service-name=mesh-control").await {
        Ok(slices) => ready(subject, &slices.unwrap_or_default()),
        Err(error @ RemoteError::Request(..)) => Check::unseen(subject, &error),
        Err(error) => Check::error(subject, error.to_string()),
    }
}

fn ready(subject: String, slices: &[Value]) -> Check {
    let endpoints = slices.iter().flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
    // Unknown counts as ready (discovery/v1, EndpointConditions).
    let count = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false).count();
    match count {
        0 => Check::error(subject, "has no ready endpoint: no pod with a proxy can start").fix(LOG),
        _ => Check::ok(subject, format!("{count} ready endpoints")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::remote::check::Level;
    use serde_json::json;

    fn webhook(bundle: &str, policy: &str) -> Value {
        json!({"webhooks": [{"name": "a", "clientConfig": {"caBundle": bundle}, "failurePolicy": policy}]})
    }

    #[test]
    fn a_webhook_needs_a_bundle_and_its_failure_policy() {
        let level = |configuration: Value| judge("w", &configuration, "Fail").map_err(|check| check.level);
        assert_eq!(level(webhook("cGVt", "Fail")), Ok("pem".to_owned()));
        assert_eq!(level(webhook("", "Fail")), Err(Level::Error));
        assert_eq!(level(webhook("cGVt", "Ignore")), Err(Level::Warning));
        assert_eq!(level(webhook("?", "Fail")), Err(Level::Error));
        assert_eq!(level(json!({})), Err(Level::Error));
    }

    #[test]
    fn endpoints_that_are_not_ready_answer_no_webhook() {
        let level = |ready: Value| ready_level(json!([{"conditions": {"ready": ready}}]));
        assert_eq!(
            [level(json!(true)), level(Value::Null), level(json!(false))],
            [Level::Ok, Level::Ok, Level::Error]
        );
    }

    fn ready_level(endpoints: Value) -> Level {
        ready(String::new(), &[json!({"endpoints": endpoints})]).level
    }
}
