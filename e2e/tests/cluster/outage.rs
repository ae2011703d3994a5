//! There is no control plane for a while. Traffic does not notice, and what is decided later arrives.

use std::time::Duration;

use anyhow::Context;

use crate::mesh::summary;
use crate::scenario::{Given, Key, Scenario};

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "S16 S34 traffic does not notice an outage of the control plane, and an edit after it takes effect",
    given: &[
        "documents/10-virtualservice-canary.yaml",
        "mesh/app-gateway.yaml",
        "mesh/app-from-outside-90-10.yaml",
    ],
    key: Key::Midway("mesh/app-50-50.yaml#VirtualService"),
    then: outage,
}];

/// Longer than the outage takes to begin; the load ends by itself.
const LOAD: [&str; 6] = ["--rate", "20", "--connections", "8", "--duration", "30s"];

fn outage(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.get("frontend", &["http://app:8080/"]).answered_by("app"))?;
    mesh.eventually(|| mesh.ingress("http://app.example.com/", &[]).answered_by("app"))?;
    let mut inside = mesh.start_in("frontend", &[&["load", "http://app:8080/"], &LOAD[..]].concat());
    let mut outside = mesh.start_outside(&[&["load", "http://app.example.com/"], &LOAD[..]].concat());
    for load in [&mut inside, &mut outside] {
        load.line(Duration::from_secs(10))?.context("the load does not start")?;
    }
    let replicas = mesh.stop_control_plane();
    let ended = [inside, outside].map(|load| load.finish(Duration::from_secs(90)));
    mesh.start_control_plane(replicas);
    for output in ended {
        summary(&output?).none_failed()?;
    }
    given.apply_key();
    let split = ["http://app:8080/", "--repeat", "200", "--concurrency", "8", "--count-by", "x-echo-version"];
    mesh.eventually(|| mesh.get("frontend", &split).share("v2", 0.5, 0.12))
}
