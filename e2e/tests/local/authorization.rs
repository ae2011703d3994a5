//! Who may call whom, and who is asked about it.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::answers::Summary;
use crate::mesh::Mesh;
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
    Scenario {
        name: "CUSTOM asks an authorizer over gRPC",
        given: &[],
        key: Key::Manifest("authorization/custom-grpc.yaml"),
        then: asked_over_grpc,
    },
    Scenario {
        name: "S15 a policy denies, and only the operator learns which",
        given: &[],
        key: Key::Manifest("authorization/deny.yaml"),
        then: denied_by_name,
    },
    Scenario {
        name: "a policy in dry run denies nothing, and says what it would",
        given: &[],
        key: Key::Manifest("authorization/dry-run.yaml"),
        then: only_tried,
    },
    Scenario {
        name: "Y6 S15 a namespace takes mutual TLS only",
        given: &["authorization/production.yaml", "mesh/caller-plain.yaml"],
        key: Key::Manifest("documents/06-peerauthentication-strict.yaml"),
        then: strict_namespace,
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

fn asked_over_grpc(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let no = "http://database:8080/guarded?status=401";
    mesh.eventually(|| {
        let summary = mesh.get("frontend", &[no]);
        summary.status(401)?;
        let body = summary.answer().body.to_string();
        let caller = "GET /guarded?status=401 of spiffe://cluster.local/ns/default/sa/frontend";
        ensure!(body.contains(&format!("denies {caller}")), "the body is {body}");
        Ok(())
    })?;
    let yes = mesh.get("frontend", &["http://database:8080/guarded"]).answered_by("database")?;
    let told = yes.seen_header("x-echo-pod").unwrap_or_default();
    ensure!(told.starts_with("door"), "x-echo-pod came as {told:?}");
    mesh.get("frontend", &["http://database:8080/free"]).answered_by("database")?;
    mesh.eventually_in_log("database", "ask-by-grpc").map(drop)
}

fn denied_by_name(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let secret = "http://database:8080/secret/plan";
    mesh.eventually(|| denied(&mesh.get("frontend", &[secret])))?;
    let answer = format!("{:?}", mesh.get("frontend", &[secret]).answer());
    ensure!(!answer.contains("keep-out"), "the client is told: {answer}");
    mesh.get("frontend", &["http://database:8080/open"]).answered_by("database")?;
    let record = record(mesh, "/secret/plan")?;
    let details = "rbac_access_denied_matched_policy[ns[default]-policy[keep-out]-rule[0]]";
    ensure!(record["response_code_details"] == details, "the record is {record}");
    Ok(())
}

fn only_tried(given: &Given<'_>) -> anyhow::Result<()> {
    static ATTEMPT: AtomicU32 = AtomicU32::new(1);
    let mesh = given.mesh;
    mesh.eventually(|| {
        // A path of its own, so that the record is this request's.
        let path = format!("/tried/{}/", ATTEMPT.fetch_add(1, Ordering::Relaxed));
        mesh.get("frontend", &[&format!("http://database:8080{path}")]).answered_by("database")?;
        let record = record(mesh, &path)?;
        let would = record["authorization_dry_run"].as_str().unwrap_or_default();
        ensure!(would.contains("policy[only-trying]-rule[0]"), "the record is {record}");
        Ok(())
    })
}

/// Without a sidecar nobody gets in; with one all is as before, and so it is in other namespaces.
fn strict_namespace(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let ledger = "http://ledger.production:8080/";
    mesh.eventually(|| mesh.get("caller", &["http://database:8080/"]).answered_by("database"))?;
    mesh.eventually(|| {
        let answer = mesh.get("caller", &[ledger]).answer();
        let error = answer.error.clone().unwrap_or_default();
        ensure!(answer.status == 0, "plaintext was answered with {}", answer.status);
        ensure!(error.contains("reset") || error.contains("closed"), "the error is {error:?}");
        Ok(())
    })?;
    let answer = mesh.eventually(|| mesh.get("frontend", &[ledger]).answered_by("ledger"))?;
    let caller = answer.text("/caller");
    ensure!(caller == "spiffe://cluster.local/ns/default/sa/frontend", "called by {caller:?}");
    mesh.get("caller", &["http://database:8080/"]).answered_by("database").map(drop)
}

/// The JSON record of the database's proxy that mentions a text.
fn record(mesh: &Mesh, text: &str) -> anyhow::Result<Value> {
    let line = mesh.eventually_in_log("database", text)?;
    serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))
}

fn denied(summary: &Summary) -> anyhow::Result<()> {
    summary.status(403)?;
    let body = summary.answer().body.to_string();
    ensure!(body.contains("RBAC: access denied"), "the body is {body}");
    Ok(())
}
