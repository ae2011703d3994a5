//! NetworkPolicies that leave the egress gateway as the only way out of the cluster for whole namespaces.
//!
//! They bind what an application does behind its proxy's back too, which no rule of a proxy can. Who enforces them is the
//! cluster's network plugin; whether it does is not looked at. They hold for pods of the namespaces named: what pods elsewhere
//! forward is theirs. Policies of a namespace add up, so another one may open more.

use std::str::FromStr;

use ipnet::IpNet;
use serde_json::{Value, json};

/// The name of the policy in each namespace.
pub const NAME: &str = "mesh-egress-only";
/// Carried by every such policy, and by nothing else. Not the label of what is installed: removing the mesh must not open a way out.
pub const LABEL: &str = "minimesh.io/egress-only";
/// Where pods must get out: the gateway itself, the control plane to the API server, DNS to other resolvers.
const NEEDED: [(&str, &str); 3] = [
    ("istio-system", "the egress gateway is there"),
    ("mesh-system", "the control plane is there"),
    ("kube-system", "the cluster's own pods are there"),
];

/// What pods of the namespaces may reach beside the egress gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// Namespaces whose pods may be reached, beside the own one; empty means every pod of the cluster.
    pub namespaces: Vec<String>,
    /// Places that are no pods.
    pub networks: Vec<Opening>,
}

/// A place past the egress gateway, such as the API server: `192.0.2.1/32:6443`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    network: IpNet,
    /// TCP; all ports and protocols where absent.
    port: Option<u16>,
}

/// Why there is no such policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its pods would be cut off from what they are for.
    #[error("{0} must keep its way out: {1}")]
    Needed(String, &'static str),
    /// No namespace can be called so.
    #[error("{0:?} is no name of a namespace")]
    Name(String),
    /// Not `ADDRESS/LENGTH` or `ADDRESS/LENGTH:PORT`.
    #[error("{0:?} is not a network, such as 192.0.2.1/32 or 192.0.2.1/32:6443")]
    Network(String),
    /// All addresses of a family.
    #[error("{0} is every address: no way out would be closed")]
    Everything(String),
}

impl FromStr for Opening {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let wrong = || Refused::Network(text.to_owned());
        // Colons before the slash are IPv6's.
        let (address, rest) = text.split_once('/').ok_or_else(wrong)?;
        let (length, port) = match rest.split_once(':') {
            Some((length, port)) => {
                (length, Some(port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?))
            }
            None => (rest, None),
        };
        let network: IpNet = format!("{address}/{length}").parse().map_err(|_| wrong())?;
        if network.prefix_len() == 0 {
            return Err(Refused::Everything(text.to_owned()));
        }
        Ok(Self { network: network.trunc(), port })
    }
}

impl Opening {
    fn rule(&self) -> Value {
        let mut rule = json!({"to": [{"ipBlock": {"cidr": self.network.to_string()}}]});
        if let Some(port) = self.port {
            rule["ports"] = json!([{"protocol": "TCP", "port": port}]);
        }
        rule
    }
}

/// One policy for each namespace.
///
/// # Errors
/// When a namespace cannot have one.
pub fn policies(namespaces: &[String], reach: &Reach) -> Result<Vec<Value>, Refused> {
    for name in namespaces.iter().chain(&reach.namespaces) {
        if !is_label(name) {
            return Err(Refused::Name(name.clone()));
        }
    }
    let needed = |name: &String| NEEDED.iter().find(|(needed, _)| needed == name);
    if let Some((name, reason)) = namespaces.iter().find_map(needed) {
        return Err(Refused::Needed((*name).to_owned(), reason));
    }
    Ok(namespaces.iter().map(|namespace| policy(namespace, reach)).collect())
}

fn policy(namespace: &str, reach: &Reach) -> Value {
    let mut egress = if reach.namespaces.is_empty() { vec![every_pod()] } else { pods_of(&reach.namespaces) };
    egress.extend(reach.networks.iter().map(Opening::rule));
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": NAME, "namespace": namespace, "labels": {LABEL: "true"}},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": egress},
    })
}

/// The mesh, the gateway, the control plane and DNS are pods; what is outside is none.
fn every_pod() -> Value {
    json!({"to": [{"namespaceSelector": {}}]})
}

fn pods_of(namespaces: &[String]) -> Vec<Value> {
    let mut rules = vec![
        json!({"to": [{"podSelector": {}}]}),
        json!({"to": [in_namespace("istio-system", &json!({"istio": "egressgateway"}))]}),
        json!({
            "to": [in_namespace("mesh-system", &json!({"app": "mesh-control"}))],
            "ports": [{"protocol": "TCP", "port": 15012}],
        }),
        // By namespace and port: the labels of DNS' pods differ between clusters.
        json!({
            "to": [in_namespace("kube-system", &json!({}))],
            "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
        }),
    ];
    rules.extend(namespaces.iter().map(|name| json!({"to": [in_namespace(name, &json!({}))]})));
    rules
}

fn in_namespace(name: &str, pods: &Value) -> Value {
    let mut peer = json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}});
    if pods.as_object().is_some_and(|labels| !labels.is_empty()) {
        peer["podSelector"] = json!({"matchLabels": pods});
    }
    peer
}

/// A label of DNS (RFC 1123), as names of namespaces are.
fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests;
