//! Instances that die.

use std::time::Duration;

use anyhow::Context;

use crate::mesh::{PACE, summary};
use crate::scenario::{Given, Key, Scenario};

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "S34 the death of one of three instances does not show",
    given: &[],
    key: Key::Instead { with: "mesh/trio-3.yaml", without: "mesh/trio-1.yaml" },
    then: one_dies,
}];

fn one_dies(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.get("frontend", &["http://trio:8080/"]).answered_by("trio"))?;
    let victim = mesh.ready_pods("trio").pop().context("no pod of trio is ready")?;
    let [rate, connections] = PACE.inside;
    let load =
        ["load", "http://trio:8080/", "--rate", rate, "--connections", connections, "--duration", "5s"];
    let mut load = mesh.start_in("frontend", &load);
    load.line(Duration::from_secs(10))?.context("the load does not start")?;
    // The load itself takes this long; there is nothing to wait for.
    std::thread::sleep(Duration::from_secs(2));
    mesh.kill_application(&victim);
    summary(&load.finish(Duration::from_secs(30))?).none_failed()
}
