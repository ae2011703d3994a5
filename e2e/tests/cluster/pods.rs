//! What only a kubelet shows: native sidecars, Jobs that end, probes under STRICT.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::kubectl;
use crate::scenario::{Given, Key, Scenario};
use crate::wait::within;

/// How long a pod may take to start.
const START: Duration = Duration::from_secs(60);

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "S17 a pod is injected unless it opts out",
        given: &[],
        key: Key::Instead { with: "mesh/caller-meshed.yaml", without: "mesh/caller-plain.yaml" },
        then: injected,
    },
    Scenario {
        name: "S33 a Job with a native sidecar finishes, and its call is the mesh's",
        given: &[],
        key: Key::Instead { with: "cluster/job.yaml", without: "cluster/job-without-sidecar.yaml" },
        then: job_finishes,
    },
    Scenario {
        name: "S17 probes of the kubelet pass under STRICT",
        given: &["cluster/strict.yaml"],
        key: Key::Instead { with: "cluster/probed.yaml", without: "cluster/probed-unrewritten.yaml" },
        then: probed,
    },
];

fn pods(selector: &str) -> Vec<Value> {
    kubectl::list(&["get", "pods", "-n", "default", "-l", selector])
}

/// The proxy is an init container that goes on, and without any privilege; only the one that captures has one.
fn injected(_: &Given<'_>) -> anyhow::Result<()> {
    let all = pods("app=caller");
    let pod = all.iter().find(|pod| pod["metadata"]["deletionTimestamp"].is_null()).context("no caller")?;
    let containers = pod["spec"]["initContainers"].as_array().cloned().unwrap_or_default();
    let named = |name: &str| containers.iter().find(|one| one["name"] == name);
    let proxy = named("istio-proxy").context("no istio-proxy among the init containers")?;
    ensure!(proxy["restartPolicy"] == "Always", "it is no native sidecar");
    ensure!(proxy["securityContext"]["runAsUser"] == 1337, "it runs as another user");
    let added = &named("istio-init").context("no istio-init")?["securityContext"]["capabilities"]["add"];
    ensure!(*added == serde_json::json!(["NET_ADMIN"]), "istio-init has {added}");
    Ok(())
}

fn job_finishes(given: &Given<'_>) -> anyhow::Result<()> {
    given.mesh.eventually(|| {
        let job = kubectl::read(&["get", "job", "-n", "default", "once"]);
        ensure!(job["status"]["succeeded"] == 1, "the Job's status is {}", job["status"]);
        Ok(())
    })?;
    let log = kubectl::expect(&["logs", "-n", "default", "job/once", "-c", "once"]);
    ensure!(log.contains("spiffe://cluster.local/ns/default/sa/default"), "called by nobody: {log}");
    Ok(())
}

fn probed(given: &Given<'_>) -> anyhow::Result<()> {
    // However long that takes: the probe is what matters.
    within(START, || {
        let pod = kubectl::read(&["get", "pod", "-n", "default", "probed"]);
        ensure!(pod["status"]["containerStatuses"][0]["started"] == true, "the application does not start");
        Ok(())
    })
    .unwrap_or_else(|error| panic!("{error:#}"));
    given.mesh.eventually(|| {
        ensure!(given.mesh.ready_pods("probed").len() == 1, "not ready");
        Ok(())
    })
}
