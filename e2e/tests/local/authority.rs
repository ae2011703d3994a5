//! The mesh's certificate authority is replaced while traffic flows.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::mesh::{Mesh, summary};
use crate::scenario::{Given, Key, Scenario};
use crate::wait::within;

/// As long as it takes under `mesh up` until all have renewed, and some more.
const LOAD: [&str; 6] = ["--rate", "200", "--connections", "16", "--duration", "16s"];
const RENEWED: Duration = Duration::from_secs(15);

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "a new certificate authority takes over under load, nothing fails",
    given: &[],
    key: Key::Midway("mesh-authority"),
    then: new_authority,
}];

fn new_authority(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.get("frontend", &["http://backend:8080/"]).answered_by("backend"))?;
    // The mesh's own comes back some time after the Secret is deleted, between the run with it and the one without.
    static OWN: OnceLock<Value> = OnceLock::new();
    let own = OWN.get_or_init(|| authority(mesh)["signer"].clone());
    within(RENEWED, || {
        ensure!(authority(mesh)["signer"] == *own, "the mesh's own authority does not sign");
        Ok(())
    })?;
    let mut load = mesh.start_in("frontend", &[&["load", "http://backend:8080/"], &LOAD[..]].concat());
    ensure!(load.line(Duration::from_secs(10))?.is_some(), "the load does not start");
    given.apply_key();
    within(RENEWED, || {
        let now = authority(mesh);
        ensure!(now["signer"] != *own, "the old authority signs still: {now}");
        let id = now["signer"].as_str().context("nobody signs")?.to_owned();
        let mut pods = mesh.ready_pods("backend");
        pods.extend(mesh.ready_pods("frontend"));
        for pod in pods {
            let log = mesh.proxy_log(&pod);
            let renewed = log.lines().any(|line| line.contains("certificate in use") && line.contains(&id));
            ensure!(renewed, "the certificate of {pod} is not of {id}");
        }
        Ok(())
    })?;
    let summary = summary(&load.finish(Duration::from_secs(40))?);
    summary.none_failed()
}

fn authority(mesh: &Mesh) -> Value {
    mesh.status()["control"]["authority"].clone()
}
