//! Fifty proxies: what an edit takes to reach them all.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::mesh::Mesh;
use crate::scenario::{Given, Key, Scenario};

const PODS: usize = 50;
const PROPAGATION: Duration = Duration::from_secs(1);

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "S16 an edit is in effect on fifty proxies within a second",
    given: &["mesh/crowd-first.yaml"],
    key: Key::Midway("mesh/crowd-second.yaml"),
    then: edit_reaches_fifty,
}];

fn edit_reaches_fifty(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let pods = mesh.ready_pods("crowd");
    ensure!(pods.len() == PODS, "{} pods are ready", pods.len());
    // A proxy holds what its pod has used.
    for pod in &pods {
        ensure!(policy(mesh, pod)? == "first", "{pod} does not know the first policy");
    }

    let edited = Instant::now();
    given.apply_key();
    let elapsed = edited.elapsed();
    eprintln!("    {elapsed:?}");
    ensure!(elapsed < PROPAGATION, "the edit was acknowledged after {elapsed:?}");
    for pod in &pods {
        ensure!(policy(mesh, pod)? == "second", "{pod} does not know the edit that it acknowledged");
    }
    let control = mesh.status()["control"]["proxies"].as_array().cloned().unwrap_or_default();
    let synchronous = control.iter().filter(|proxy| proxy["in_sync"] == true).count();
    ensure!(synchronous >= PODS, "mesh status shows {synchronous} proxies in sync");
    Ok(())
}

fn policy(mesh: &Mesh, pod: &str) -> anyhow::Result<String> {
    let answer = mesh.get(pod, &["http://crowd:8080/"]).answered_by("crowd")?;
    answer.seen_header("x-policy").context("no policy is applied")
}
