//! Who the client is behind proxies that are trusted, and behind nobody's: at the gateway, beside the application, and
//! for the application itself (semantics.md 35).

use anyhow::ensure;

use crate::mesh::Mesh;
use crate::scenario::{Given, Key, Scenario};

/// Of the network that both policies let in.
const ALLOWED: &str = "203.0.113.7";
/// Of another.
const OTHER: &str = "198.51.100.9";
const HOSTS: [&str; 2] = ["edge.example.com", "inner.example.com"];

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "S15 the client before a trusted proxy counts, and nobody is who he says he is",
    given: &["ingress/client-addresses.yaml"],
    key: Key::Midway("ingress/one-trusted-proxy.yaml"),
    then: before_a_trusted_proxy,
}];

fn before_a_trusted_proxy(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    for host in HOSTS {
        mesh.eventually(|| status(mesh, host, &[], 403))?;
        // Nobody is trusted: what a client writes is passed on, and means nothing.
        status(mesh, host, &[ALLOWED], 403)?;
        status(mesh, host, &[ALLOWED, ALLOWED], 403)?;
    }

    given.apply_key();
    for host in HOSTS {
        mesh.eventually(|| status(mesh, host, &[ALLOWED], 200))?;
        status(mesh, host, &[OTHER, ALLOWED], 200)?;
        // The client of the trusted proxy has written the first; the proxy the second.
        status(mesh, host, &[ALLOWED, OTHER], 403)?;
        status(mesh, host, &["somebody"], 403)?;
        status(mesh, host, &[], 403)?;
    }
    let url = format!("http://{}/", HOSTS[0]);
    let answer = mesh.ingress(&url, &["-H", &forwarded(&[OTHER, ALLOWED])]).answered_by("shop-service")?;
    let seen = answer.seen_header("x-forwarded-for").unwrap_or_default();
    let entries: Vec<_> = seen.split(',').map(str::trim).collect();
    ensure!(entries.len() == 3 && entries[..2] == [OTHER, ALLOWED], "the application saw {seen}");
    Ok(())
}

fn status(mesh: &Mesh, host: &str, clients: &[&str], status: u16) -> anyhow::Result<()> {
    let header = forwarded(clients);
    let arguments = if clients.is_empty() { Vec::new() } else { vec!["-H", &header] };
    mesh.ingress(&format!("http://{host}/"), &arguments).status(status)
}

fn forwarded(clients: &[&str]) -> String {
    format!("x-forwarded-for: {}", clients.join(", "))
}
