//! The control plane: its Deployment, what its replicas answer, and who of them leads.

use std::collections::BTreeSet;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Check;
use crate::cluster::leader::LEASE;
use crate::cluster::remote::status::Replica;
use crate::cluster::remote::{Remote, SYSTEM_NAMESPACE};

const DEPLOYMENTS: [(&str, &str); 3] = [
    (SYSTEM_NAMESPACE, "mesh-control"),
    ("istio-system", "istio-ingressgateway"),
    ("istio-system", "istio-egressgateway"),
];
const LOG: &str = "mesh logs mesh-control -n mesh-system";

/// The state of control plane and gateways; what is missing if nothing is installed.
pub(super) async fn deployment(remote: &Remote) -> Result<Vec<Check>, Check> {
    let mut checks = Vec::new();
    for (namespace, name) in DEPLOYMENTS {
        let subject = format!("Deployment {namespace}/{name}");
        match remote.look(&format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}")).await {
            Ok(Some(found)) => checks.push(available(subject, &found)),
            Ok(None) if namespace == SYSTEM_NAMESPACE => {
                return Err(Check::error("installation", "the mesh is not installed in this cluster")
                    .fix("mesh check --before, then mesh install --apply --wait"));
            }
            // Gateways are a choice.
            Ok(None) => {}
            Err(error) => checks.push(Check::unseen(subject, &error)),
        }
    }
    Ok(checks)
}

fn available(subject: String, deployment: &Value) -> Check {
    let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
    let status = |name: &str| deployment["status"][name].as_u64().unwrap_or_default();
    let (available, updated) = (status("availableReplicas"), status("updatedReplicas"));
    let namespace = deployment["metadata"]["namespace"].as_str().unwrap_or_default();
    let look = format!("mesh status, and kubectl describe pods -n {namespace}");
    if wanted == 0 || available == 0 {
        Check::error(subject, format!("0 of {wanted} replicas are available")).fix(look)
    } else if available < wanted {
        Check::warning(subject, format!("{available} of {wanted} replicas are available")).fix(look)
    } else if updated < wanted {
        Check::warning(subject, format!("{updated} of {wanted} replicas are of its latest version")).fix(look)
    } else {
        Check::ok(subject, format!("{available} of {wanted} replicas are available"))
    }
}

/// What replicas say, and of which build they are. Proxies tell theirs, the control plane its own.
pub(super) fn replicas(replicas: &[Replica], ours: &str) -> Vec<Check> {
    let mut checks: Vec<Check> = replicas.iter().filter_map(silent).collect();
    let answers = || replicas.iter().filter_map(|replica| replica.status.as_ref().ok());
    if answers().any(|answer| answer["generation"] == 0) {
        let message = "a replica has not read the cluster yet; it may lack a right";
        checks.push(Check::error("control plane", message).fix(LOG));
    }
    let versions: BTreeSet<&str> = answers().filter_map(|answer| answer["version"].as_str()).collect();
    let other: Vec<&str> = versions.iter().copied().filter(|version| *version != ours).collect();
    if !other.is_empty() {
        let message = format!("it is {}, this command {ours}", other.join(" and "));
        checks.push(Check::warning("control plane", message).fix("use one version; one apart is supported"));
    }
    if checks.is_empty() {
        checks.push(Check::ok("control plane", format!("{} replicas answer", replicas.len())));
    }
    checks
}

fn silent(replica: &Replica) -> Option<Check> {
    let error = replica.status.as_ref().err()?;
    Some(Check::warning(format!("Pod {SYSTEM_NAMESPACE}/{}", replica.pod), error.clone()).fix(LOG))
}

/// Only the leader writes status, the root and the webhooks' trust.
pub(super) async fn leader(remote: &Remote) -> Check {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/{LEASE}");
    match remote.look(&path).await {
        Ok(found) => leads(&found.unwrap_or_default(), OffsetDateTime::now_utc()),
        Err(error) => Check::unseen("leader", &error),
    }
}

fn leads(lease: &Value, now: OffsetDateTime) -> Check {
    let text = |field: &str| lease["spec"][field].as_str().unwrap_or_default();
    let nobody = |message: String| {
        Check::error("leader", format!("{message}: statuses and trust anchors are not written")).fix(LOG)
    };
    let holder = text("holderIdentity");
    if holder.is_empty() {
        return nobody("no replica leads".to_owned());
    }
    let duration = lease["spec"]["leaseDurationSeconds"].as_i64().unwrap_or(15);
    let age = OffsetDateTime::parse(text("renewTime"), &Rfc3339).map(|renewed| now - renewed);
    match age {
        // Twice, because clocks differ.
        Ok(age) if age.whole_seconds() > 2 * duration => {
            nobody(format!("{holder} has not renewed its lease for {} s", age.whole_seconds()))
        }
        _ => Check::ok("leader", holder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::remote::check::Level;
    use serde_json::json;

    #[test]
    fn a_lease_that_is_not_renewed_means_that_nobody_leads() {
        let lease = json!({"spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}});
        let at = |text: &str| leads(&lease, OffsetDateTime::parse(text, &Rfc3339).unwrap()).level;
        assert_eq!(at("2026-01-01T00:00:20Z"), Level::Ok);
        assert_eq!(at("2026-01-01T00:00:40Z"), Level::Error);
        assert_eq!(leads(&json!({}), OffsetDateTime::UNIX_EPOCH).level, Level::Error);
    }

    #[test]
    fn a_replica_that_does_not_answer_is_named() {
        let silent = Replica { pod: "b".to_owned(), status: Err("refused".to_owned()) };
        let answers =
            Replica { pod: "a".to_owned(), status: Ok(json!({"generation": 3, "version": "0.1.0"})) };
        let both = replicas(&[answers.clone(), silent], "0.1.0");
        assert_eq!((both.len(), both[0].subject.as_str()), (1, "Pod mesh-system/b"));
        assert_eq!(replicas(&[answers], "0.2.0")[0].message, "it is 0.1.0, this command 0.2.0");
    }

    #[test]
    fn deployments_are_judged_by_what_is_available() {
        let level = |available: u64, updated: u64| {
            available_level(
                json!({"spec": {"replicas": 2}, "status": {"availableReplicas": available, "updatedReplicas": updated}}),
            )
        };
        assert_eq!(
            [level(2, 2), level(1, 2), level(2, 1), level(0, 2)],
            [Level::Ok, Level::Warning, Level::Warning, Level::Error]
        );
    }

    fn available_level(deployment: Value) -> Level {
        available(String::new(), &deployment).level
    }
}
