//! Scenarios on one machine: the real binaries, started with `mesh up` and driven through the command line, as a user
//! would. Each row of the requirements is shown by a scenario, and each scenario is run twice: with its key resource,
//! when it must pass, and without it, when it must fail.
//!
//! A test starts one mesh and runs several scenarios on it, because a start costs seconds. Where namespaces cannot
//! be had, tests are skipped with a loud notice, unless `MESH_REQUIRE` names `netns`; the same goes for a `prometheus`
//! in `PATH`. `MESH_LONG` makes outages a minute long and samples ten times as large, and waits for the end of ejections.

mod answers;
mod authority;
mod authorization;
mod bad;
mod binaries;
mod calls;
mod canary;
mod certificates;
mod change;
mod client_address;
mod crowd;
mod dashboards;
mod egress;
mod failover;
mod fixture;
mod footprint;
mod gateway;
mod gateway_tls;
mod ingress;
mod limits;
mod mesh;
mod nginx;
mod observe;
mod outage;
mod outside;
mod process;
mod prometheus;
mod resilience;
mod reviews;
mod scenario;
mod secure;
mod sessions;
mod slices;
mod spans;
mod token;
mod tokens;
mod trust;
mod visibility;
mod wait;

use mesh::Mesh;

const INGRESS: [&[scenario::Scenario]; 8] = [
    ingress::SCENARIOS,
    secure::SCENARIOS,
    gateway::SCENARIOS,
    gateway_tls::SCENARIOS,
    client_address::SCENARIOS,
    canary::SCENARIOS,
    limits::SCENARIOS,
    nginx::SCENARIOS,
];
const AUTHORIZATION: [&[scenario::Scenario]; 2] = [authorization::SCENARIOS, tokens::SCENARIOS];
const BOOKINFO: [&[scenario::Scenario]; 2] = [reviews::SCENARIOS, spans::SCENARIOS];
const RESILIENCE: [&[scenario::Scenario]; 2] = [resilience::SCENARIOS, sessions::SCENARIOS];
const SERVICES: [&[scenario::Scenario]; 9] = [
    calls::SCENARIOS,
    trust::SCENARIOS,
    observe::SCENARIOS,
    change::SCENARIOS,
    failover::SCENARIOS,
    slices::SCENARIOS,
    visibility::SCENARIOS,
    outage::SCENARIOS,
    authority::SCENARIOS,
];

/// Rows Y1-Y4, Y9, Y11-Y13, S01, S02, S04-S07, S15 (clients behind proxies), S20, S26, S29, S30, S33 (at the way in), S35, S36,
/// and annotations of ingress-nginx on backends.
#[test]
fn ingress_gateway() {
    let secret = format!("secret/backend-cert/{}", nginx::BACKEND);
    let workloads = [
        "ingress/workloads.yaml",
        "ingress/order-subsets.yaml",
        secret.as_str(),
        "authority/backend-cert/backend-ca/default",
        "authority/backend-client/backend-clients/default",
        "credential/backend-client/default",
        "ingress/tls-backend.yaml",
    ];
    let Some(mesh) = Mesh::up(&workloads) else { return };
    scenario::run(&mesh, &INGRESS);
}

/// Rows Y5, S08, S19 (spans), S27.
#[test]
fn bookinfo() {
    let services = ["details", "ratings", "reviews", "productpage"];
    let files = services.map(|name| format!("examples/bookinfo/{name}.yaml"));
    let mut manifests: Vec<_> = files.iter().map(String::as_str).collect();
    manifests.push("examples/bookinfo/gateway.yaml#Gateway");
    let Some(mesh) = Mesh::up(&manifests) else { return };
    scenario::run(&mesh, &BOOKINFO);
}

/// Rows Y10, S15 (routing and timeouts), S16, S18, S19 (Prometheus, dashboards), S21-S25, S34.
#[test]
fn service_to_service() {
    let Some(mesh) = Mesh::up(&["mesh/workloads.yaml"]) else { return };
    scenario::run(&mesh, &[&SERVICES[..], &[prometheus::scenarios()]].concat());
}

/// Rows S33 (ALLOW_ANY, REGISTRY_ONLY), and the way out of a mesh on one machine.
#[test]
fn way_out() {
    let workloads = ["outside/workloads.yaml"];
    let Some(mesh) = Mesh::up_with(&["--allow-host"], &workloads) else { return };
    scenario::run(&mesh, &[outside::SCENARIOS]);
    drop(mesh);
    let Some(mesh) = Mesh::up(&workloads) else { return };
    outside::host_is_closed(&mesh);
}

/// Row S16 at its size.
#[test]
fn fifty_pods() {
    let Some(mesh) = Mesh::up(&["mesh/crowd.yaml"]) else { return };
    scenario::run(&mesh, &[crowd::SCENARIOS]);
}

/// A bad or huge object harms nobody else (TM-06).
#[test]
fn bad_manifests() {
    let workloads = [
        "mesh/workloads.yaml",
        "documents/10-virtualservice-canary.yaml",
        "mesh/app-gateway.yaml",
        "mesh/app-from-outside-90-10.yaml",
        "bad/world.yaml",
    ];
    let Some(mesh) = Mesh::up(&workloads) else { return };
    for check in [bad::every_manifest, bad::something_huge] {
        check(&mesh).unwrap_or_else(|error| panic!("{error:?}"));
    }
}

/// Rows Y6, Y7, S15 (mutual TLS and policy), external authorization, and tokens.
#[test]
fn who_may_call_whom() {
    let Some(mesh) = Mesh::up(&["authorization/workloads.yaml"]) else { return };
    scenario::run(&mesh, &AUTHORIZATION);
}

/// Rows Y14-Y17, S09-S14, S31-S33.
#[test]
fn egress() {
    let certificate = certificates::certificate("outside-cert", egress::HOSTS);
    let secret = format!("secret/outside-cert/{}", egress::HOSTS.join(","));
    let workloads = [
        secret.as_str(),
        "authority/outside-cert/outside-ca/default",
        "authority/egress-client/client-ca/default",
        "egress/workloads.yaml",
    ];
    let Some(mesh) = Mesh::up_trusting(&workloads, &certificate.authority) else { return };
    scenario::run(&mesh, &[egress::SCENARIOS]);
}

/// Rows Y8, S15 (circuit breaking, ejection, retries, sessions).
#[test]
fn resilience() {
    let Some(mesh) = Mesh::up(&["resilience/workloads.yaml"]) else { return };
    scenario::run(&mesh, &RESILIENCE);
}

/// Cheap, and runs everywhere: a typing error in a reference should not need a mesh to be found.
#[test]
fn every_reference_names_a_manifest() {
    let others = [prometheus::all(), outside::SCENARIOS, egress::SCENARIOS, crowd::SCENARIOS];
    let all = [&INGRESS[..], &BOOKINFO, &SERVICES, &AUTHORIZATION, &RESILIENCE, &others].concat().concat();
    for reference in all.iter().flat_map(scenario::Scenario::references) {
        assert!(fixture::manifest(reference).contains("\nkind: "), "{reference} holds no object");
    }
}
