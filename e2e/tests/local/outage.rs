//! The control plane is away: stopped, then dead. Traffic does not notice, and what is decided later arrives.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::mesh::{Mesh, summary};
use crate::process::Running;
use crate::scenario::{Given, Key, Scenario};

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "S16 traffic does not notice an outage of the control plane, and an edit after it takes effect",
    given: &[
        "documents/10-virtualservice-canary.yaml",
        "mesh/caller-meshed.yaml",
        "mesh/app-gateway.yaml",
        "mesh/app-from-outside-90-10.yaml",
    ],
    key: Key::Midway("mesh/app-50-50.yaml#VirtualService"),
    then: outage,
}];

/// How long the control plane answers nothing; a minute where time does not matter.
fn length() -> Duration {
    Duration::from_secs(if std::env::var_os("MESH_LONG").is_some() { 60 } else { 10 })
}

fn outage(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.get("frontend", &["http://app:8080/"]).answered_by("app"))?;
    mesh.eventually(|| mesh.ingress("http://app.example.com/", &[]).answered_by("app"))?;
    // A proxy keeps what its pod has used.
    mesh.eventually(|| mesh.get("caller", &["http://app:8080/"]).answered_by("app"))?;
    let caller = mesh.ready_pods("caller").pop().context("no pod of caller is ready")?;

    mesh.pause_control_plane();
    let result = load(mesh, length()).and_then(unharmed).and_then(|()| proxies_come_back(mesh, &caller));
    mesh.resume_control_plane();
    result?;

    let during = load(mesh, Duration::from_secs(5))?;
    mesh.kill_control_plane();
    unharmed(during)?;

    mesh.eventually(|| {
        ensure!(!mesh.status()["control"].is_null(), "the control plane does not come back");
        Ok(())
    })?;
    given.apply_key();
    let split = ["http://app:8080/", "--repeat", "200", "--concurrency", "8", "--count-by", "x-echo-version"];
    mesh.eventually(|| mesh.get("frontend", &split).share("v2", 0.5, 0.12))
}

/// Proxies that die while nobody can configure them serve again from what they kept.
fn proxies_come_back(mesh: &Mesh, sidecar: &str) -> anyhow::Result<()> {
    mesh.kill_proxy(sidecar);
    mesh.kill_ingress_gateway();
    mesh.eventually(|| {
        let answer = mesh.get("caller", &["http://app:8080/"]).answered_by("app")?;
        let caller = answer.text("/caller");
        ensure!(caller.starts_with("spiffe://"), "the call was not made by a proxy: {caller:?}");
        Ok(())
    })?;
    mesh.eventually(|| mesh.ingress("http://app.example.com/", &[]).answered_by("app"))?;
    Ok(())
}

/// 500 requests per second on 64 connections, under way.
fn load(mesh: &Mesh, duration: Duration) -> anyhow::Result<Running> {
    let duration = format!("{}s", duration.as_secs());
    let arguments =
        ["load", "http://app:8080/", "--rate", "500", "--connections", "64", "--duration", &duration];
    let mut load = mesh.start_in("frontend", &arguments);
    load.line(Duration::from_secs(10))?.context("the load does not start")?;
    Ok(load)
}

fn unharmed(load: Running) -> anyhow::Result<()> {
    summary(&load.finish(length() + Duration::from_secs(30))?).none_failed()
}
