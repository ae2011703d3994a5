//! What people type and see: names, short names, and the columns of `kubectl get`. Istio's, where the kind is Istio's.

use serde_json::{Value, json};

use crate::api::Kind;

pub(super) struct Shape {
    pub(super) singular: String,
    pub(super) plural: String,
    pub(super) short: Vec<&'static str>,
    pub(super) columns: Vec<Value>,
}

impl Shape {
    pub(super) fn of(kind: Kind) -> Self {
        let singular = kind.as_str().to_ascii_lowercase();
        let (short, columns): (&[&str], &[(&str, &str)]) = match kind {
            Kind::DestinationRule => (&["dr"], &[("Host", ".spec.host")]),
            Kind::Gateway => (&["gw"], &[("Selector", ".spec.selector")]),
            Kind::ServiceEntry => (
                &["se"],
                &[
                    ("Hosts", ".spec.hosts"),
                    ("Location", ".spec.location"),
                    ("Resolution", ".spec.resolution"),
                ],
            ),
            Kind::VirtualService => (&["vs"], &[("Gateways", ".spec.gateways"), ("Hosts", ".spec.hosts")]),
            Kind::WorkloadEntry => (&["we"], &[("Address", ".spec.address")]),
            Kind::AuthorizationPolicy => (&["ap"], &[("Action", ".spec.action")]),
            Kind::PeerAuthentication => (&["pa"], &[("Mode", ".spec.mtls.mode")]),
            Kind::RequestAuthentication => (&["ra"], &[]),
            Kind::Telemetry => (&["tm"], &[]),
            Kind::RateLimit => (&["rl"], &[("Selector", ".spec.selector.matchLabels")]),
            _ => (&[], &[]),
        };
        let column = |name: &str, path: &str, of: &str| json!({"name": name, "type": of, "jsonPath": path});
        let mut columns: Vec<Value> =
            columns.iter().map(|(name, path)| column(name, path, "string")).collect();
        let accepted = ".status.conditions[?(@.type==\"Accepted\")].status";
        columns.push(column("Accepted", accepted, "string"));
        columns.push(column("Age", ".metadata.creationTimestamp", "date"));
        Self { plural: plural(&singular), short: short.to_vec(), columns, singular }
    }
}

fn plural(singular: &str) -> String {
    match singular.strip_suffix('y') {
        Some(stem) if !stem.ends_with('a') => format!("{stem}ies"),
        _ => format!("{singular}s"),
    }
}
