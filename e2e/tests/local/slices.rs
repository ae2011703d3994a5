//! Services whose endpoints are written by hand.

use anyhow::Context;

use crate::scenario::{Given, Key, Scenario};

/// In the fixture, for the address that is known only when the mesh runs.
const PLACE_OF_ADDRESS: &str = "203.0.113.1";

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "S18 an EndpointSlice leads a Service without selector to a workload outside of the mesh",
        given: &["mesh/by-hand.yaml"],
        key: Key::Midway("mesh/by-hand-slice.yaml"),
        then: endpoints_by_hand,
    },
    Scenario {
        name: "S18 an endpoint that is leaving is used while none is ready",
        given: &["mesh/by-hand.yaml"],
        key: Key::Midway("mesh/by-hand-leaving.yaml"),
        then: endpoints_by_hand,
    },
];

fn endpoints_by_hand(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let address = mesh.addresses("outside").pop().context("the workload outside has no address")?;
    given.apply_key_with(PLACE_OF_ADDRESS, &address);
    mesh.eventually(|| mesh.get("frontend", &["http://by-hand/"]).answered_by("outside")).map(drop)
}
