//! What no object declares, under ALLOW_ANY and REGISTRY_ONLY: a pod that nothing in the mesh speaks of.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::mesh::Mesh;
use crate::process::Output;
use crate::scenario::{Given, Key, Scenario};

const ALLOW_ANY: &str = "outside/allow-any.yaml";
const REGISTRY_ONLY: &str = "outside/registry-only.yaml";

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "S33 undeclared destinations pass under ALLOW_ANY",
        given: &[],
        key: Key::Instead { with: ALLOW_ANY, without: REGISTRY_ONLY },
        then: passes,
    },
    Scenario {
        name: "S33 undeclared destinations are blocked under REGISTRY_ONLY",
        given: &[],
        key: Key::Instead { with: REGISTRY_ONLY, without: ALLOW_ANY },
        then: is_blocked,
    },
];

/// Goes on from run to run, because the log does.
static ATTEMPT: AtomicU32 = AtomicU32::new(1);

fn stray(mesh: &Mesh) -> anyhow::Result<String> {
    mesh.addresses("stray").pop().context("no stray pod")
}

fn path() -> String {
    format!("/undeclared/{}/", ATTEMPT.fetch_add(1, Ordering::Relaxed))
}

fn tcp(mesh: &Mesh, address: &str) -> Output {
    let client = mesh.start_in("shop", &["tcp", "--timeout", "3s", &format!("{address}:9000"), "whoami"]);
    client.finish(Duration::from_secs(20)).expect("the client has a deadline")
}

fn passes(given: &Given<'_>) -> anyhow::Result<()> {
    let (mesh, address, path) = (given.mesh, stray(given.mesh)?, path());
    let url = format!("http://{address}{path}");
    mesh.eventually(|| mesh.get("shop", &[&url]).answered_by("stray"))?;
    let said = tcp(mesh, &address);
    ensure!(said.stdout.starts_with("stray-"), "over TCP: {said:?}");
    let record: Value = serde_json::from_str(&mesh.eventually_in_log("shop", &path)?)?;
    ensure!(record["source"] == "shop.default.svc", "who called is not on record: {record}");
    ensure!(record["route_name"] == "allow_any", "how it passed is not on record: {record}");
    Ok(())
}

fn is_blocked(given: &Given<'_>) -> anyhow::Result<()> {
    let (mesh, address, path) = (given.mesh, stray(given.mesh)?, path());
    let url = format!("http://{address}{path}");
    mesh.eventually(|| mesh.get("shop", &[&url]).status(502))?;
    let cut = tcp(mesh, &address);
    ensure!(cut.stdout.trim().is_empty(), "TCP passed: {cut:?}");
    let record: Value = serde_json::from_str(&mesh.eventually_in_log("shop", &path)?)?;
    ensure!(record["source"] == "shop.default.svc", "who called is not on record: {record}");
    ensure!(
        record["upstream_cluster"] == "BlackHoleCluster",
        "that it was blocked is not on record: {record}"
    );
    Ok(())
}
