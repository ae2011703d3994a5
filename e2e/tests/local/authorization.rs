//! Who may call whom, and who is asked about it.

use anyhow::ensure;

use crate::answers::Summary;
use crate::scenario::{Given, Key, Scenario};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "Y7 only the backend may query the database",
        given: &[],
        key: Key::Manifest("documents/07-authorizationpolicy-allow.yaml"),
        then: allowed_by_principal,
    },
    Scenario {
        name: "CUSTOM asks an authorizer over HTTP",
        given: &[],
        key: Key::Manifest("authorization/custom.yaml"),
        then: asked_over_http,
    },
];

fn allowed_by_principal(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let query = "http://database:8080/api/query";
    mesh.eventually(|| denied(&mesh.get("frontend", &[query])))?;
    mesh.get("backend", &[query]).answered_by("database")?;
    denied(&mesh.get("backend", &["http://database:8080/api/data", "-X", "DELETE"]))?;
    denied(&mesh.get("backend", &[query, "-X", "DELETE"]))?;
    let details = "rbac_access_denied_matched_policy[none]";
    mesh.eventually_in_log("database", details).map(drop)
}

/// The door answers as the query says; the application is reached only when the door says 200.
fn asked_over_http(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let no = "http://database:8080/guarded?status=401";
    mesh.eventually(|| mesh.get("frontend", &[no]).status(401))?;
    let answer = mesh.get("frontend", &[no]).answer();
    ensure!(answer.text("/app") == "door", "{} answered instead of the door", answer.text("/app"));
    ensure!(answer.text("/path") == "/check/guarded?status=401", "the door saw {}", answer.text("/path"));
    let yes = mesh.get("frontend", &["http://database:8080/guarded"]).answered_by("database")?;
    let told = yes.seen_header("x-echo-pod").unwrap_or_default();
    ensure!(told.starts_with("door"), "x-echo-pod came as {told:?}");
    mesh.get("frontend", &["http://database:8080/free"]).answered_by("database")?;
    mesh.eventually_in_log("database", "ask-the-door").map(drop)
}

fn denied(summary: &Summary) -> anyhow::Result<()> {
    summary.status(403)?;
    let body = summary.answer().body.to_string();
    ensure!(body.contains("RBAC: access denied"), "the body is {body}");
    Ok(())
}
