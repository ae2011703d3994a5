//! Scenarios in a cluster: an installed mesh, driven with `kubectl`.
//!
//! The scenarios that `e2e/tests/local` runs against `mesh up` are run here from the same source; what only a cluster has (native
//! sidecars, Jobs, kubelets' probes, rolling restarts) comes in addition. They run where `KUBECONFIG` names a cluster and
//! `MESH_CLUSTER` says that it may be used, and skip loudly elsewhere. docs/cluster-run.md says how to prepare one.
#![expect(
    dead_code,
    reason = "modules are shared with the scenarios on one machine, which need more of them"
)]

#[path = "../local/answers.rs"]
mod answers;
#[path = "../local/authorization.rs"]
mod authorization;
mod beyond;
#[path = "../local/binaries.rs"]
mod binaries;
#[path = "../local/calls.rs"]
mod calls;
#[path = "../local/canary.rs"]
mod canary;
#[path = "../local/certificates.rs"]
mod certificates;
#[path = "../local/change.rs"]
mod change;
#[path = "../local/egress.rs"]
mod egress;
#[path = "../local/failover.rs"]
mod failover;
#[path = "../local/fixture.rs"]
mod fixture;
#[path = "../local/gateway.rs"]
mod gateway;
#[path = "../local/ingress.rs"]
mod ingress;
mod kubectl;
#[path = "../local/limits.rs"]
mod limits;
mod mesh;
mod outage;
mod pods;
#[path = "../local/process.rs"]
mod process;
#[path = "../local/reviews.rs"]
mod reviews;
mod rolling;
#[path = "../local/scenario.rs"]
mod scenario;
#[path = "../local/secure.rs"]
mod secure;
#[path = "../local/slices.rs"]
mod slices;
#[path = "../local/spans.rs"]
mod spans;
#[path = "../local/token.rs"]
mod token;
#[path = "../local/tokens.rs"]
mod tokens;
#[path = "../local/trust.rs"]
mod trust;
mod undeclared;
#[path = "../local/wait.rs"]
mod wait;

use beyond::Beyond;
use mesh::Mesh;

/// Rows Y5, S03 (NodePort), S08, S27: bookinfo as the examples ship it.
#[test]
fn bookinfo() {
    let services = ["details", "ratings", "reviews", "productpage"];
    let files = services.map(|name| format!("examples/bookinfo/{name}.yaml"));
    let mut manifests: Vec<_> = files.iter().map(String::as_str).collect();
    manifests.push("examples/bookinfo/gateway.yaml#Gateway");
    let Some(mesh) = Mesh::up(&manifests) else { return };
    scenario::run(&mesh, &[reviews::SCENARIOS]);
}

/// Rows S17, S18, S21, S22, S33 (native sidecars), Y10, S15: pods with a proxy and without, and what only a kubelet does.
#[test]
fn service_to_service() {
    let Some(mesh) = Mesh::up(&["mesh/workloads.yaml"]) else { return };
    scenario::run(&mesh, &[calls::SCENARIOS, trust::SCENARIOS, pods::SCENARIOS, slices::SCENARIOS]);
}

/// Rows Y6, Y7, S15 (mutual TLS and policy), external authorization, and tokens.
#[test]
fn who_may_call_whom() {
    let Some(mesh) = Mesh::up(&["authorization/workloads.yaml"]) else { return };
    scenario::run(&mesh, &[authorization::SCENARIOS, tokens::SCENARIOS]);
}

/// Rows Y1-Y4, Y9, Y11-Y13, S01, S02, S04, S05.
#[test]
fn ingress_gateway() {
    let Some(mesh) = Mesh::up(&["ingress/workloads.yaml", "ingress/order-subsets.yaml"]) else { return };
    scenario::run(&mesh, &[canary::SCENARIOS, ingress::SCENARIOS, secure::SCENARIOS, gateway::SCENARIOS]);
}

/// Rows S16, S25, S34: edits, deaths of instances and outages of the control plane under load.
#[test]
fn changes_and_outages() {
    let Some(mesh) = Mesh::up(&["mesh/workloads.yaml"]) else { return };
    scenario::run(&mesh, &[change::SCENARIOS, failover::SCENARIOS, outage::SCENARIOS]);
}

/// Rows Y14-Y17, S09-S14, S31-S33: the way out.
#[test]
fn way_out() {
    let secret = format!("secret/outside-cert/{}", egress::HOSTS.join(","));
    let workloads = [
        secret.as_str(),
        "authority/outside-cert/outside-ca/default",
        "authority/outside-cert/outside-ca/istio-system",
        "authority/egress-client/client-ca/default",
        "egress/workloads.yaml",
    ];
    let Some(beyond) = Beyond::up(&workloads) else { return };
    scenario::run(&beyond.mesh, &[egress::SCENARIOS, undeclared::SCENARIOS]);
}

/// A rolling restart of every component under load, with no failed request.
#[test]
fn rolling_restarts() {
    let versions = [
        "documents/10-virtualservice-canary.yaml",
        "mesh/app-gateway.yaml",
        "mesh/app-from-outside-90-10.yaml",
    ];
    let Some(mesh) = Mesh::up(&[&["mesh/workloads.yaml"], &versions[..]].concat()) else { return };
    rolling::restarts(&mesh);
}
