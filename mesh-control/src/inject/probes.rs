//! Probes lead through the proxy: under STRICT the kubelet's own call would be refused, and one to an open port would be
//! answered by the proxy, whether the application lives or not.
//!
//! Each is replaced by a call of port 15020, where the proxy does what was asked for, inside the pod. `exec` stays as it is.

use serde_json::{Map, Value, json};

use super::{PROBE_PORT, Refusal};

/// Fields of a container with a probe, and the last segment of its path.
const PROBES: [(&str, &str); 3] =
    [("readinessProbe", "readyz"), ("livenessProbe", "livez"), ("startupProbe", "startupz")];
const HOOKS: [(&str, &str); 2] = [("postStart", "poststart"), ("preStop", "prestop")];
/// A probe's `timeoutSeconds` when it has none.
const DEFAULT_TIMEOUT: u64 = 1;
/// For hooks, which have no field for it.
const HOOK_TIMEOUT: u64 = 30;

/// Rewrites the probes of all containers. Returns what the proxy is to do, by path.
pub(super) fn rewrite(containers: &mut [Value]) -> Result<Map<String, Value>, Refusal> {
    let mut checks = Map::new();
    for container in containers {
        let name = container["name"].as_str().unwrap_or_default().to_owned();
        let ports = container["ports"].clone();
        for (field, segment) in PROBES {
            let Some(probe) = container.get_mut(field) else { continue };
            let timeout = probe["timeoutSeconds"].as_u64().unwrap_or(DEFAULT_TIMEOUT);
            let path = format!("/app-health/{name}/{segment}");
            checks.extend(rewrite_one(probe, &name, &ports, timeout, path)?);
        }
        for (field, segment) in HOOKS {
            let Some(hook) = container.get_mut("lifecycle").and_then(|hooks| hooks.get_mut(field)) else {
                continue;
            };
            let path = format!("/app-lifecycle/{name}/{segment}");
            checks.extend(rewrite_one(hook, &name, &ports, HOOK_TIMEOUT, path)?);
        }
    }
    Ok(checks)
}

fn rewrite_one(
    probe: &mut Value,
    container: &str,
    ports: &Value,
    timeout: u64,
    path: String,
) -> Result<Option<(String, Value)>, Refusal> {
    let Some(members) = probe.as_object_mut() else { return Ok(None) };
    let ways = ["httpGet", "tcpSocket", "grpc"];
    let Some((way, asked)) = ways.iter().find_map(|way| Some((*way, members.get(*way)?.clone()))) else {
        return Ok(None);
    };
    // A call to another host is no call of this pod.
    if asked["host"].as_str().is_some_and(|host| !host.is_empty()) {
        return Ok(None);
    }
    let number = port_number(&asked["port"], ports).ok_or_else(|| Refusal::Port {
        container: container.to_owned(),
        port: asked["port"].as_str().unwrap_or_default().to_owned(),
    })?;
    let mut check = asked;
    check["port"] = number.into();
    members.remove(way);
    members.insert("httpGet".to_owned(), json!({"path": path, "port": PROBE_PORT}));
    Ok(Some((path, json!({way: check, "timeoutSeconds": timeout}))))
}

fn port_number(port: &Value, ports: &Value) -> Option<u16> {
    if let Some(number) = port.as_u64() {
        return u16::try_from(number).ok();
    }
    let name = port.as_str()?;
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let named = ports.as_array()?.iter().find(|port| port["name"] == name)?;
    u16::try_from(named["containerPort"].as_u64()?).ok()
}
