//! What a pod's annotations ask of its proxy.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::Refusal;
use crate::api::meta::StringMap;

/// The annotations, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// Flags of `mesh-proxy redirect`.
    pub(super) capture: Vec<String>,
    pub(super) rewrite_probes: bool,
    pub(super) log: Option<String>,
    pub(super) hold: Option<bool>,
    /// Zero means one per core that the container may use.
    pub(super) workers: Option<u64>,
    pub(super) cpu: Option<String>,
    pub(super) memory: Option<String>,
    pub(super) cpu_limit: Option<String>,
    pub(super) memory_limit: Option<String>,
}

/// Annotations for capture, the flag each becomes, and how its value is checked.
const CAPTURE: [(&str, &str, Check); 6] = [
    ("traffic.sidecar.istio.io/includeInboundPorts", "--include-inbound-ports", ports_or_all),
    ("traffic.sidecar.istio.io/excludeInboundPorts", "--exclude-inbound-ports", ports),
    ("traffic.sidecar.istio.io/includeOutboundIPRanges", "--include-outbound-cidrs", networks_or_all),
    ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "--exclude-outbound-cidrs", networks),
    ("traffic.sidecar.istio.io/includeOutboundPorts", "--include-outbound-ports", ports),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", "--exclude-outbound-ports", ports),
];
/// Annotations that are read elsewhere.
const ELSEWHERE: &[&str] = &[
    "sidecar.istio.io/inject",
    "sidecar.istio.io/status",
    "sidecar.istio.io/rewriteAppHTTPProbers",
    "sidecar.istio.io/logLevel",
    "sidecar.istio.io/proxyCPU",
    "sidecar.istio.io/proxyMemory",
    "sidecar.istio.io/proxyCPULimit",
    "sidecar.istio.io/proxyMemoryLimit",
    "proxy.istio.io/config",
];
/// Prefixes under which an annotation is meant for the proxy.
const PREFIXES: &[&str] = &["sidecar.istio.io/", "traffic.sidecar.istio.io/", "proxy.istio.io/"];
/// More workers than any machine has use for.
const MOST_WORKERS: u64 = 256;

type Check = fn(&str) -> Result<(), String>;

impl Wishes {
    /// Reads them; warnings are about those that have no effect.
    pub(super) fn read(annotations: &StringMap) -> Result<(Self, Vec<String>), Refusal> {
        let value = |name: &str| annotations.get(name).map(|value| value.trim().to_owned());
        let mut wishes = Self {
            rewrite_probes: value("sidecar.istio.io/rewriteAppHTTPProbers").as_deref() != Some("false"),
            log: value("sidecar.istio.io/logLevel").map(|level| log_filter(&level)).transpose()?,
            cpu: quantity(annotations, "sidecar.istio.io/proxyCPU")?,
            memory: quantity(annotations, "sidecar.istio.io/proxyMemory")?,
            cpu_limit: quantity(annotations, "sidecar.istio.io/proxyCPULimit")?,
            memory_limit: quantity(annotations, "sidecar.istio.io/proxyMemoryLimit")?,
            ..Self::default()
        };
        for (name, flag, check) in CAPTURE {
            let Some(value) = value(name) else { continue };
            check(&value).map_err(|reason| refusal(name, reason))?;
            wishes.capture.push(format!("{flag}={value}"));
        }
        let mut warnings = without_effect(annotations);
        if let Some(config) = annotations.get("proxy.istio.io/config") {
            warnings.extend(wishes.read_config(config)?);
        }
        Ok((wishes, warnings))
    }

    fn read_config(&mut self, text: &str) -> Result<Vec<String>, Refusal> {
        const NAME: &str = "proxy.istio.io/config";
        let config: Value = serde_saphyr::from_str(text).map_err(|error| refusal(NAME, error.to_string()))?;
        let members = config.as_object().ok_or_else(|| refusal(NAME, "must be an object".to_owned()))?;
        let mut warnings = Vec::new();
        for (field, value) in members {
            match field.as_str() {
                "holdApplicationUntilProxyStarts" => {
                    let wrong = || refusal(NAME, format!("{field} must be true or false"));
                    self.hold = Some(value.as_bool().ok_or_else(wrong)?);
                }
                "concurrency" => {
                    let wrong =
                        || refusal(NAME, format!("{field} must be a number from 0 to {MOST_WORKERS}"));
                    let count = value.as_u64().filter(|count| *count <= MOST_WORKERS);
                    self.workers = Some(count.ok_or_else(wrong)?);
                }
                _ => warnings.push(format!("annotation `{NAME}`: {field} has no effect")),
            }
        }
        Ok(warnings)
    }
}

fn without_effect(annotations: &StringMap) -> Vec<String> {
    let ours = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let known = |name: &str| ELSEWHERE.contains(&name) || CAPTURE.iter().any(|(known, ..)| *known == name);
    let unknown = annotations.keys().filter(|name| ours(name) && !known(name));
    unknown.map(|name| format!("annotation `{name}` has no effect")).collect()
}

fn refusal(name: &str, reason: String) -> Refusal {
    Refusal::Annotation { name: name.to_owned(), reason }
}

/// Envoy's levels in our words.
fn log_filter(level: &str) -> Result<String, Refusal> {
    let level = match level {
        "trace" | "debug" | "info" | "error" | "off" => level,
        "warning" | "warn" => "warn",
        "critical" => "error",
        _ => {
            let reason = format!("`{level}` is not a level; one of trace, debug, info, warning, error, off");
            return Err(refusal("sidecar.istio.io/logLevel", reason));
        }
    };
    Ok(level.to_owned())
}

/// A quantity as Kubernetes writes it: the API server would refuse the whole pod without naming the annotation.
fn quantity(annotations: &StringMap, name: &str) -> Result<Option<String>, Refusal> {
    const SUFFIXES: &[&str] = &["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"];
    let Some(text) = annotations.get(name) else { return Ok(None) };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    if number.parse::<f64>().is_ok() && SUFFIXES.contains(&suffix) {
        return Ok(Some(text.clone()));
    }
    Err(refusal(name, format!("`{text}` is not a quantity such as 100m or 64Mi")))
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn ports(text: &str) -> Result<(), String> {
    match list(text).find(|item| item.parse::<u16>().is_err()) {
        Some(item) => Err(format!("`{item}` is not a port")),
        None => Ok(()),
    }
}

fn ports_or_all(text: &str) -> Result<(), String> {
    if text == "*" { Ok(()) } else { ports(text) }
}

fn networks(text: &str) -> Result<(), String> {
    let wrong = |item: &&str| item.parse::<IpNet>().is_err() && item.parse::<IpAddr>().is_err();
    match list(text).find(wrong) {
        Some(item) => Err(format!("`{item}` is not a network such as 10.0.0.0/8")),
        None => Ok(()),
    }
}

fn networks_or_all(text: &str) -> Result<(), String> {
    if text == "*" { Ok(()) } else { networks(text) }
}
