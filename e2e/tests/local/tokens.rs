//! Tokens of users (RequestAuthentication): which are good, what follows from their claims, where keys come from.

use anyhow::ensure;
use serde_json::json;

use crate::answers::Summary;
use crate::mesh::Mesh;
use crate::scenario::{Given, Key, Scenario};
use crate::token::{forged, now, token};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "tokens are verified with keys of the object",
        given: &[],
        key: Key::Manifest("tokens/written-keys.yaml"),
        then: verified,
    },
    Scenario {
        name: "tokens decide who may pass",
        given: &["tokens/written-keys.yaml"],
        key: Key::Manifest("tokens/only-principals.yaml"),
        then: wanted,
    },
    Scenario {
        name: "tokens are verified with keys that a pod serves",
        given: &["tokens/keys.yaml"],
        key: Key::Manifest("tokens/fetched-keys.yaml"),
        then: fetched,
    },
    Scenario {
        name: "tokens choose the route at the ingress gateway",
        given: &["tokens/gateway.yaml"],
        key: Key::Instead { with: "tokens/routes-by-claim.yaml", without: "tokens/routes-for-all.yaml" },
        then: routed,
    },
];

const URL: &str = "http://database:8080/";

fn verified(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let expired = token(&json!({"exp": now() - 3600}));
    mesh.eventually(|| refused(&call(mesh, URL, &expired), 401, "Jwt is expired"))?;
    mesh.get("frontend", &[URL]).answered_by("database")?;
    let elsewhere = token(&json!({"aud": "elsewhere"}));
    refused(&call(mesh, URL, &elsewhere), 403, "Audiences in Jwt are not allowed")?;
    let unknown = token(&json!({"iss": "https://unknown.example"}));
    refused(&call(mesh, URL, &unknown), 401, "Jwt issuer is not configured")?;
    refused(&call(mesh, URL, &forged()), 401, "Jwt verification fails")?;

    let good = call(mesh, URL, &token(&json!({}))).answered_by("database")?;
    ensure!(good.seen_header("authorization").is_none(), "the token reached the application");
    ensure!(good.seen_header("x-group").as_deref() == Some("admins"), "claims are not told: {}", good.body);
    let claimed = mesh.get("frontend", &[URL, "-H", "x-group: admins"]).answered_by("database")?;
    ensure!(claimed.seen_header("x-group").is_none(), "a caller could tell claims itself");
    Ok(())
}

fn wanted(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let denied = "RBAC: access denied";
    mesh.eventually(|| refused(&mesh.get("frontend", &[URL]), 403, denied))?;
    let (admin, guest) = (token(&json!({})), token(&json!({"group": ["guests", "others"]})));
    call(mesh, URL, &guest).answered_by("database")?;
    let below = "http://database:8080/admin/users";
    refused(&call(mesh, below, &guest), 403, denied)?;
    call(mesh, below, &admin).answered_by("database")?;
    refused(&call(mesh, URL, &token(&json!({"exp": 1}))), 401, "Jwt is expired")
}

fn fetched(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| refused(&call(mesh, URL, &forged()), 401, "Jwt verification fails"))?;
    let good = token(&json!({}));
    mesh.eventually(|| call(mesh, URL, &good).answered_by("database"))?;
    Ok(())
}

fn routed(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let through = |token: &str| mesh.ingress("http://shop.example.com/", &["-H", &bearer(token)]);
    let (admin, guest) = (token(&json!({})), token(&json!({"group": "guests"})));
    mesh.eventually(|| through(&admin).answered_by("backend"))?;
    through(&guest).answered_by("database")?;
    mesh.ingress("http://shop.example.com/", &[]).answered_by("database")?;
    refused(&through(&forged()), 401, "Jwt verification fails")
}

fn call(mesh: &Mesh, url: &str, token: &str) -> Summary {
    mesh.get("frontend", &[url, "-H", &bearer(token)])
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

fn refused(summary: &Summary, status: u16, words: &str) -> anyhow::Result<()> {
    summary.status(status)?;
    let answer = summary.answer();
    ensure!(answer.body.as_str() == Some(words), "the body is {} instead of {words:?}", answer.body);
    Ok(())
}
