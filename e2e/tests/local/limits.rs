//! Rate limits, at the way in and beside an application.

use std::time::Instant;

use anyhow::ensure;

use crate::answers::Summary;
use crate::certificates::certificate;
use crate::scenario::{Given, Key, Scenario};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "Y11 an Ingress with a rate limit leads into the gateway",
        given: &[
            "secret/tls-cert/api.example.com",
            "documents/11-ingress-into-gateway.yaml#Gateway",
            "documents/11-ingress-into-gateway.yaml#VirtualService",
        ],
        key: Key::Manifest("documents/11-ingress-into-gateway.yaml#Ingress"),
        then: limited_into_the_gateway,
    },
    Scenario {
        name: "S26 an Ingress before a Gateway before sidecars",
        given: &[
            "secret/tls-cert/api.example.com",
            "documents/11-ingress-into-gateway.yaml#Gateway",
            "documents/11-ingress-into-gateway.yaml#VirtualService",
        ],
        key: Key::Manifest("ingress/layered-ingress.yaml"),
        then: layered,
    },
    Scenario {
        name: "S13 a RateLimit at a gateway",
        given: &["documents/01-ingress-hosts-and-paths.yaml"],
        key: Key::Manifest("ingress/limit-at-gateway.yaml"),
        then: at_a_gateway,
    },
    Scenario {
        name: "S13 a RateLimit beside an application",
        given: &[],
        key: Key::Manifest("ingress/limit-at-sidecar.yaml"),
        then: beside_an_application,
    },
];

/// nginx lets five times the limit, and one, through at once.
const BURST: u64 = 501;

fn limited_into_the_gateway(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let authority = &certificate("tls-cert", &["api.example.com"]).authority;
    let users = |more: &[&str]| mesh.ingress_tls("https://api.example.com/users/1", authority, more);
    let answer = mesh.eventually(|| users(&[]).answered_by("user-service"))?;
    let host = answer.seen_header("host");
    ensure!(host.as_deref() == Some("api.example.com"), "the application saw the host {host:?}");
    let started = Instant::now();
    let flood = users(&["--repeat", "3000", "--concurrency", "16"]);
    let most = BURST + 100 * (started.elapsed().as_secs() + 1);
    let (admitted, refused) = (counted(&flood, 200), counted(&flood, 503));
    ensure!(admitted + refused == 3000, "other answers: {:?}", flood.statuses);
    ensure!((BURST - 100..=most).contains(&admitted), "{admitted} were let in, at most {most} should be");
    Ok(())
}

fn layered(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let authority = &certificate("tls-cert", &["api.example.com"]).authority;
    mesh.eventually(|| {
        mesh.ingress_tls("https://api.example.com/users/1", authority, &[]).answered_by("user-service")
    })?;
    let arguments = ["--repeat", "10000", "--concurrency", "8", "--count-by", "x-echo-version"];
    let orders = mesh.ingress_tls("https://api.example.com/orders/1", authority, &arguments);
    orders.none_failed()?;
    orders.share("v2", 0.1, 0.015)
}

fn at_a_gateway(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.ingress("http://api.example.com/users", &[]).answered_by("user-service"))?;
    let few = mesh.ingress("http://api.example.com/users/limited", &["--repeat", "11"]);
    ten_of_eleven(&few)?;
    // What it is not about goes on.
    mesh.ingress("http://api.example.com/users", &[]).answered_by("user-service")?;
    Ok(())
}

fn beside_an_application(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let place = "http://shop-service:8080/limited";
    ten_of_eleven(&mesh.get("web-service", &[place, "--repeat", "11"]))?;
    mesh.get("web-service", &["http://shop-service:8080/"]).answered_by("shop-service")?;
    // Whoever asks: it is one number.
    mesh.get("user-service", &[place]).status(429)
}

pub(crate) fn ten_of_eleven(few: &Summary) -> anyhow::Result<()> {
    ensure!((counted(few, 200), counted(few, 429)) == (10, 1), "not ten of eleven: {:?}", few.statuses);
    Ok(())
}

fn counted(summary: &Summary, status: u16) -> u64 {
    summary.statuses.get(&status).copied().unwrap_or_default()
}
