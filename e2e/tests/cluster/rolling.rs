//! Rolling restarts of every component under load.

use std::time::Duration;

use serde_json::Value;

use crate::kubectl;
use crate::mesh::{Mesh, summary};
use crate::process::Running;

/// Longer than any of the restarts takes; the load ends by itself.
const LOAD: [&str; 6] = ["--rate", "20", "--connections", "8", "--duration", "40s"];
const COMPONENTS: [(&str, &str); 4] = [
    ("mesh-system", "deployment/mesh-control"),
    ("istio-system", "deployment/istio-ingressgateway"),
    ("istio-system", "deployment/istio-egressgateway"),
    ("default", "deployment/backend"),
];

/// Restarts one component after the other; what was sent meanwhile must all have been answered.
pub(crate) fn restarts(mesh: &Mesh) {
    let problems: Vec<_> =
        COMPONENTS.iter().filter_map(|component| restart(mesh, *component).err()).collect();
    assert!(problems.is_empty(), "{}", problems.iter().map(|one| format!("{one:#}\n")).collect::<String>());
}

fn restart(mesh: &Mesh, (namespace, deployment): (&str, &str)) -> anyhow::Result<()> {
    mesh.eventually(|| mesh.get("frontend", &["http://backend:8080/"]).status(200))?;
    mesh.eventually(|| mesh.ingress("http://app.example.com/", &[]).status(200))?;
    let inside = mesh.start_in("frontend", &[&["load", "http://backend:8080/"], &LOAD[..]].concat());
    let outside = mesh.start_outside(&[&["load", "http://app.example.com/"], &LOAD[..]].concat());
    kubectl::expect(&["rollout", "restart", "-n", namespace, deployment]);
    kubectl::expect(&["rollout", "status", "--timeout=120s", "-n", namespace, deployment]);
    let (inside, outside) = (finished(inside)?, finished(outside)?);
    report(deployment, &[&inside, &outside]);
    for (side, load) in [("in the mesh", &inside), ("through the gateway", &outside)] {
        anyhow::ensure!(
            load["ok"] == load["sent"] && load["sent"].as_u64() > Some(0),
            "{deployment} restarted: {side} {} of {} were answered: {}",
            load["ok"],
            load["sent"],
            load["failed"]
        );
    }
    Ok(())
}

fn finished(load: Running) -> anyhow::Result<Value> {
    let output = load.finish(Duration::from_secs(120))?;
    summary(&output).none_failed().ok();
    Ok(serde_json::from_str(output.stdout.lines().last().unwrap_or_default())?)
}

/// Figures for docs/cluster-run.md.
fn report(deployment: &str, loads: &[&Value]) {
    use std::io::Write;
    for load in loads {
        let _ = writeln!(
            std::io::stderr(),
            "  {deployment}: sent {}, ok {}, failed {}, latency {}",
            load["sent"],
            load["ok"],
            load["failed"],
            load["latency_ms"]
        );
    }
}
