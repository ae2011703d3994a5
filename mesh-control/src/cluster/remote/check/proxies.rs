//! Proxies: connected, up to date, and of the control plane's version; and what the control plane says of objects.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Check, few};
use crate::cluster::remote::pods::{Part, PodView};
use crate::cluster::remote::status::Replica;

fn answers(replicas: &[Replica]) -> impl Iterator<Item = &Value> {
    replicas.iter().filter_map(|replica| replica.status.as_ref().ok())
}

pub(super) fn judge(pods: &[PodView], replicas: &[Replica]) -> Vec<Check> {
    let proxies = answers(replicas).flat_map(|answer| answer["proxies"].as_array().into_iter().flatten());
    let proxies: BTreeMap<&str, &Value> =
        proxies.filter_map(|proxy| Some((proxy["name"].as_str()?, proxy))).collect();
    let mut checks = Vec::new();
    // While a replica is silent nobody knows who is connected to it.
    if replicas.iter().all(|replica| replica.status.is_ok()) {
        checks.extend(unconnected(pods, &proxies));
    }
    let of = |holds: &dyn Fn(&Value) -> bool| {
        few(proxies.iter().filter(|(_, proxy)| holds(proxy)).map(|(name, _)| *name))
    };
    let refusing = of(&|proxy| proxy["refused"].as_array().is_some_and(|all| !all.is_empty()));
    if !refusing.is_empty() {
        let message = format!("refuse part of their configuration: {refusing}");
        checks.push(Check::error("proxies", message).fix("mesh status -o json says what and why"));
    }
    let behind = of(&|proxy| proxy["in_sync"] == false);
    if !behind.is_empty() {
        checks.push(
            Check::warning("proxies", format!("wait for their configuration: {behind}"))
                .fix("mesh check once more"),
        );
    }
    if let Some(control) = answers(replicas).find_map(|answer| answer["version"].as_str()) {
        let other = of(&|proxy| proxy["version"] != control);
        if !other.is_empty() {
            let message = format!("are not of the control plane's version {control}: {other}");
            checks.push(Check::warning("proxies", message).fix("kubectl rollout restart their workloads"));
        }
    }
    if checks.is_empty() && !proxies.is_empty() {
        checks.push(Check::ok("proxies", format!("{} are connected and up to date", proxies.len())));
    }
    checks
}

fn unconnected(pods: &[PodView], proxies: &BTreeMap<&str, &Value>) -> Option<Check> {
    let is_proxy = |pod: &&PodView| matches!(pod.part(), Part::Meshed | Part::Gateway);
    let running = pods.iter().filter(|pod| pod.phase() == "Running" && !pod.is_leaving());
    let names: Vec<String> =
        running.filter(is_proxy).map(|pod| format!("{}.{}", pod.name(), pod.namespace())).collect();
    let lost: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| !proxies.contains_key(name)).collect();
    if lost.is_empty() {
        return None;
    }
    let first = lost[0].rsplit_once('.').unwrap_or((lost[0], "default"));
    let fix = format!("mesh logs {} -n {} -c istio-proxy", first.0, first.1);
    let message = format!(
        "go on with what they know, because they are not connected to the control plane: {}",
        few(lost)
    );
    Some(Check::error("proxies", message).fix(fix))
}

/// Problems of users' objects, as the control plane has found them.
pub(super) fn problems(replicas: &[Replica]) -> Option<Check> {
    let latest = answers(replicas).max_by_key(|answer| answer["generation"].as_u64())?;
    let problems = latest["problems"].as_array()?;
    let count = |severity: &str| problems.iter().filter(|problem| problem["severity"] == severity).count();
    let (errors, warnings) = (count("error"), count("warning"));
    if errors + warnings == 0 {
        return Some(Check::ok("objects", "have no problems"));
    }
    Some(
        Check::warning("objects", format!("have {errors} errors and {warnings} warnings"))
            .fix("mesh lint --kubernetes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::remote::check::Level;
    use serde_json::json;

    fn pods() -> Vec<PodView> {
        let pod = |name: &str| {
            PodView(json!({"metadata": {"namespace": "shop", "name": name}, "status": {"phase": "Running"},
                "spec": {"containers": [{"name": "istio-proxy"}, {"name": "web"}]}}))
        };
        vec![pod("a"), pod("b")]
    }

    fn replica(proxies: Value) -> Replica {
        Replica {
            pod: "control".to_owned(),
            status: Ok(json!({"version": "0.1.0", "generation": 1, "proxies": proxies, "problems": []})),
        }
    }

    fn proxy(name: &str) -> Value {
        json!({"name": name, "version": "0.1.0", "in_sync": true, "refused": []})
    }

    #[test]
    fn a_proxy_that_is_not_connected_to_any_replica_is_an_error() {
        let both = [replica(json!([proxy("a.shop")])), replica(json!([proxy("b.shop")]))];
        assert_eq!(judge(&pods(), &both)[0].level, Level::Ok);
        let lost = &judge(&pods(), &both[..1])[0];
        assert_eq!(lost.level, Level::Error);
        assert!(lost.message.ends_with(": b.shop"), "{lost:?}");
        assert_eq!(lost.fix.as_deref(), Some("mesh logs b -n shop -c istio-proxy"));
        let silent = Replica { pod: "x".to_owned(), status: Err("refused".to_owned()) };
        assert!(!judge(&pods(), &[both[0].clone(), silent]).iter().any(|check| check.level == Level::Error));
    }

    #[test]
    fn proxies_that_refuse_lag_or_are_of_another_version_are_named() {
        let mut odd = proxy("a.shop");
        odd["refused"] = json!(["route: no"]);
        odd["version"] = json!("0.0.9");
        odd["in_sync"] = json!(false);
        let found = judge(&pods(), &[replica(json!([odd, proxy("b.shop")]))]);
        let levels: Vec<Level> = found.iter().map(|check| check.level).collect();
        assert_eq!(levels, [Level::Error, Level::Warning, Level::Warning]);
        assert!(
            found.iter().all(|check| check.message.contains("a.shop") && !check.message.contains("b.shop"))
        );
    }
}
