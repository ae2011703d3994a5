//! Routing of calls between services.

use anyhow::ensure;

use crate::scenario::{Given, Key, Scenario};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "Y10 a weighted split for callers in the mesh",
        given: &["documents/10-virtualservice-canary.yaml#DestinationRule"],
        key: Key::Manifest("documents/10-virtualservice-canary.yaml#VirtualService"),
        then: weighted_split,
    },
    Scenario {
        name: "S15 routing by path and method, and a deadline",
        given: &[],
        key: Key::Manifest("mesh/backend-timeout.yaml"),
        then: routing_and_deadline,
    },
];

fn weighted_split(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let arguments =
        ["http://app:8080/", "--repeat", "800", "--concurrency", "8", "--count-by", "x-echo-version"];
    mesh.eventually(|| mesh.get("frontend", &arguments).share("v1", 0.9, 0.04))?;
    // The same service by its other names.
    for host in ["app.default", "app.default.svc.cluster.local"] {
        let url = format!("http://{host}:8080/");
        let all = [&[url.as_str()], &arguments[1..]].concat();
        mesh.get("frontend", &all).share("v1", 0.9, 0.04)?;
    }
    Ok(())
}

fn routing_and_deadline(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let write = ["http://backend:8080/write/1", "-X", "POST", "-d", "text"];
    mesh.eventually(|| mesh.get("frontend", &write).answered_by("app"))?;
    mesh.get("frontend", &["http://backend:8080/write/1"]).answered_by("backend")?;
    let late = mesh.get("frontend", &["http://backend:8080/?delay=5s"]);
    late.status(504)?;
    let elapsed = late.answer().elapsed_ms;
    ensure!((450.0..1500.0).contains(&elapsed), "the deadline of 500 ms came after {elapsed} ms");
    Ok(())
}
