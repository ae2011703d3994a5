//! NetworkPolicies, as far as an API server goes: it takes them as they are. Nobody enforces them there.

use kube::Client;
use mesh_control::cluster::way_out::{Reach, policies};
use serde_json::{Value, json};

use crate::{chart, create, send};

const OF_THE_CHART: &str = include_str!("../../../deploy/charts/mesh/templates/60-network-policies.yaml");

/// The chart's, and those that close all other ways out of a namespace.
pub(crate) async fn are_taken(client: &Client) {
    create(client, "/api/v1/namespaces", json!({"metadata": {"name": "payments"}})).await;
    let networks = ["192.0.2.1/32:6443", "2001:db8::/48"].map(|text| text.parse().unwrap()).to_vec();
    let closed = Reach { namespaces: vec!["shop".to_owned()], networks };
    let of = |reach: &Reach| policies(&["payments".to_owned()], reach).unwrap();
    for policy in chart::documents(OF_THE_CHART).into_iter().chain(of(&Reach::default())).chain(of(&closed)) {
        let path = format!("{}?dryRun=All&fieldValidation=Strict", chart::collection(&policy));
        let taken = send(client, "POST", &path, &policy).await.unwrap();
        assert_eq!(without_defaults(&taken["spec"]), without_defaults(&policy["spec"]), "{policy}");
    }
}

/// TCP is what a port means that names no protocol.
fn without_defaults(spec: &Value) -> Value {
    serde_json::from_str(&spec.to_string().replace(r#","protocol":"TCP""#, "")).unwrap()
}
