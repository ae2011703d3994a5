//! What a mesh gives without any configuration: discovery, a proxy at both ends of each call, encryption.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::mesh::Mesh;
use crate::scenario::{Given, Key, Scenario};
use crate::wait::within;

const MARKER: &str = "can-you-read-this";
/// With its sidecar the caller is part of the mesh; without, it is not.
const SIDECAR: Key = Key::Instead { with: "mesh/caller-meshed.yaml", without: "mesh/caller-plain.yaml" };

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "S18 new instances are found, calls are mTLS, with zero configuration",
        given: &["mesh/grow-1.yaml"],
        key: Key::Midway("mesh/grow-3.yaml"),
        then: new_instances,
    },
    Scenario { name: "S21 two proxies per call", given: &[], key: SIDECAR, then: two_proxies_per_call },
    Scenario {
        name: "S22 nobody on the wire can read along",
        given: &[],
        key: SIDECAR,
        then: unreadable_on_the_wire,
    },
];

fn new_instances(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let answer = mesh.eventually(|| mesh.get("frontend", &["http://grow:8080/"]).answered_by("grow"))?;
    let caller = answer.text("/caller");
    ensure!(caller == "spiffe://cluster.local/ns/default/sa/frontend", "called by {caller:?}");

    given.apply_key();
    mesh.eventually(|| {
        ensure!(mesh.ready_pods("grow").len() == 3, "not three ready pods");
        Ok(())
    })?;
    within(Duration::from_secs(2), || {
        let spread = mesh.get("frontend", &["http://grow:8080/", "--repeat", "60"]);
        spread.none_failed()?;
        ensure!(spread.counts.len() == 3, "not all three are hit: {:?}", spread.counts);
        Ok(())
    })
}

fn two_proxies_per_call(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let calls = mesh.get("caller", &["http://backend:8080/", "--repeat", "10"]);
    calls.none_failed()?;
    mesh.eventually(|| {
        let sent = counted(mesh, "caller", &[r#"reporter="source""#, r#"destination_workload="backend""#]);
        ensure!(sent == 10, "the caller's proxy counted {sent} of 10 calls");
        let backends = mesh.ready_pods("backend");
        let labels = [r#"reporter="destination""#, r#"source_workload="caller""#];
        let received: u64 = backends.iter().map(|pod| counted(mesh, pod, &labels)).sum();
        ensure!(received == 10, "the backends' proxies counted {received} of 10 calls");
        Ok(())
    })
}

fn unreadable_on_the_wire(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let url = format!("http://backend:8080/{MARKER}");
    mesh.eventually(|| mesh.get("caller", &[&url]).answered_by("backend"))?;
    let mut sniffer = mesh.start_in("caller", &["sniff", MARKER, "--duration", "2s"]);
    assert_eq!(
        sniffer.line(Duration::from_secs(10))?.as_deref(),
        Some("listening"),
        "the sniffer cannot listen"
    );
    mesh.get("caller", &[&url, "--repeat", "5"]).none_failed()?;
    let output = sniffer.finish(Duration::from_secs(20))?;
    let seen: Value =
        serde_json::from_str(output.stdout.lines().last().context("no result of the sniffer")?)?;
    ensure!(seen["marked"] == 0, "the request can be read on the wire: {seen}");
    ensure!(seen["encrypted"].as_u64() > Some(0), "nothing encrypted was seen: {seen}");
    Ok(())
}

/// The sum of `istio_requests_total` over all series of one pod's proxy that have these labels.
fn counted(mesh: &Mesh, pod: &str, labels: &[&str]) -> u64 {
    let metrics = mesh.metrics(pod);
    let series = metrics.lines().filter(|line| line.starts_with("istio_requests_total{"));
    let chosen = series.filter(|line| labels.iter().all(|label| line.contains(label)));
    chosen.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}
