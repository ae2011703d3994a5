//! What a workload sees of the mesh: Sidecar and `exportTo`.

use anyhow::ensure;

use crate::mesh::Mesh;
use crate::scenario::{Given, Key, Scenario};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a Sidecar shows its workloads only what it names",
        given: &[],
        key: Key::Manifest("visibility/only-backend.yaml"),
        then: only_what_is_named,
    },
    Scenario {
        name: "what a Sidecar hides is passed by without its rules",
        given: &["visibility/marked-app.yaml"],
        key: Key::Manifest("visibility/without-app.yaml"),
        then: passed_by_without_rules,
    },
    Scenario {
        name: "exportTo keeps a rule in its namespace",
        given: &[],
        key: Key::Instead {
            with: "visibility/kept-elsewhere.yaml",
            without: "visibility/marked-from-elsewhere.yaml",
        },
        then: kept_in_its_namespace,
    },
    Scenario {
        name: "a Sidecar leads a port to another endpoint of its workload",
        given: &[],
        key: Key::Manifest("visibility/moved-port.yaml"),
        then: moved_port,
    },
];

fn only_what_is_named(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.get("frontend", &["http://app:8080/"]).status(502))?;
    mesh.get("frontend", &["http://backend:8080/"]).answered_by("backend")?;
    // By the address of a pod it is no more known than by name.
    let pod = mesh.addresses("app").pop().unwrap_or_default();
    mesh.get("frontend", &[&format!("http://{pod}:8080/")]).status(502)?;
    mesh.get("backend", &["http://app:8080/"]).answered_by("app").map(drop)
}

fn passed_by_without_rules(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mark(mesh, "frontend", false))?;
    mark(mesh, "backend", true)
}

fn kept_in_its_namespace(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mark(mesh, "frontend", false))
}

fn moved_port(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.get("frontend", &["http://backend:9000/"]).answered_by("backend"))?;
    mesh.get("frontend", &["http://backend:8080/"]).answered_by("backend").map(drop)
}

/// Whether a call of the application is answered with the mark of the rule.
fn mark(mesh: &Mesh, caller: &str, expected: bool) -> anyhow::Result<()> {
    let answer = mesh.get(caller, &["http://app:8080/"]).answered_by("app")?;
    let marked = answer.headers.iter().any(|(name, value)| name == "x-rule" && value == "marked");
    ensure!(marked == expected, "{caller}: marked is {marked}");
    Ok(())
}
