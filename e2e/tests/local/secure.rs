//! TLS at the ingress gateway. The key resource is the Secret with the certificate.

use std::io::Write;
use std::time::Duration;

use anyhow::ensure;

use crate::answers::Summary;
use crate::certificates::{Certificate, certificate};
use crate::mesh::{Mesh, summary};
use crate::scenario::{Given, Key, Scenario};

const URL: &str = "https://secure.example.com/";

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "Y4 an Ingress with TLS",
        given: &["documents/04-ingress-tls.yaml"],
        key: Key::Manifest("secret/tls-secret/example.com"),
        then: ingress_with_tls,
    },
    Scenario {
        name: "S05 a rotated certificate is served, open connections stay",
        given: &["ingress/secure.yaml"],
        key: Key::Manifest("secret/secure-cert/secure.example.com"),
        then: rotation,
    },
    Scenario {
        name: "S20 the backend sees plain HTTP and the original scheme",
        given: &["ingress/secure.yaml"],
        key: Key::Manifest("secret/secure-cert/secure.example.com"),
        then: plain_behind_tls,
    },
    Scenario {
        name: "S05 an Ingress whose Secret is deleted is not served in the clear",
        given: &["ingress/secure.yaml", "ingress/challenge.yaml"],
        key: Key::Manifest("secret/secure-cert/secure.example.com"),
        then: deleted,
    },
    Scenario {
        name: "S29 rules by domain and path behind TLS",
        given: &["secret/domains-cert/one.example.com,two.example.com"],
        key: Key::Manifest("ingress/domain-and-path.yaml"),
        then: domains_and_paths,
    },
];

fn ingress_with_tls(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let authority = &certificate("tls-secret", &["example.com"]).authority;
    mesh.eventually(|| mesh.ingress_tls("https://example.com/", authority, &[]).answered_by("web-service"))?;
    let plain = mesh.ingress("http://example.com/", &[]).answer().status;
    ensure!(plain == 308, "plain HTTP is not redirected: {plain}");
    Ok(())
}

fn rotation(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let old = &certificate("secure-cert", &["secure.example.com"]).authority;
    mesh.eventually(|| secure(mesh, old).answered_by("web-service"))?;

    // It trusts the old CA alone: if its connection were dropped, it could not come back.
    let mut trust = tempfile::NamedTempFile::new()?;
    trust.write_all(old.as_bytes())?;
    let path = trust.path().to_string_lossy().into_owned();
    let arguments =
        ["get", URL, "--output", "lines", "--repeat", "40", "--interval", "100ms", "--cacert", &path];
    let mut open = mesh.start_outside_tls(&arguments);
    ensure!(
        open.line(Duration::from_secs(10))?.as_deref() == Some("200"),
        "the connection to keep open has no answer"
    );

    let renewed = Certificate::for_hosts(&["secure.example.com"]);
    mesh.apply_text(&renewed.secret("secure-cert", "default"));
    mesh.eventually(|| secure(mesh, &renewed.authority).answered_by("web-service"))?;
    ensure!(secure(mesh, old).answer().status == 0, "the old certificate is still served");
    summary(&open.finish(Duration::from_secs(30))?).none_failed()
}

fn plain_behind_tls(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let authority = &certificate("secure-cert", &["secure.example.com"]).authority;
    let answer = mesh.eventually(|| secure(mesh, authority).answered_by("web-service"))?;
    let scheme = answer.seen_header("x-forwarded-proto");
    ensure!(scheme.as_deref() == Some("https"), "x-forwarded-proto is {scheme:?}");
    ensure!(answer.text("/protocol") == "HTTP/1.1", "the backend saw {}", answer.text("/protocol"));
    Ok(())
}

/// As long as there is no certificate, only what its authority asks for (RFC 8555, section 8.3) is answered in the clear.
fn deleted(given: &Given<'_>) -> anyhow::Result<()> {
    const PLAIN: &str = "http://secure.example.com/";
    const CHALLENGE: &str = "http://secure.example.com/.well-known/acme-challenge/token";
    let (mesh, pair) = (given.mesh, certificate("secure-cert", &["secure.example.com"]));
    mesh.eventually(|| secure(mesh, &pair.authority).answered_by("web-service"))?;
    mesh.ingress(PLAIN, &[]).status(308)?;

    mesh.delete_text(&pair.secret("secure-cert", "default"));
    mesh.eventually(|| {
        let answer = secure(mesh, &pair.authority).answer();
        let error = answer.error.unwrap_or_default();
        ensure!(answer.status == 0 && error.contains("InternalError"), "status {}: {error}", answer.status);
        Ok(())
    })?;
    mesh.ingress(PLAIN, &[]).status(308)?;
    mesh.ingress(CHALLENGE, &[]).answered_by("shop-service")?;

    mesh.apply_text(&pair.secret("secure-cert", "default"));
    mesh.eventually(|| secure(mesh, &pair.authority).answered_by("web-service")).map(drop)
}

fn domains_and_paths(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let authority = &certificate("domains-cert", &["one.example.com", "two.example.com"]).authority;
    let cases = [
        ("one.example.com/users/1", "user-service"),
        ("one.example.com/other", "web-service"),
        ("two.example.com/users", "shop-service"),
    ];
    for (place, app) in cases {
        let url = format!("https://{place}");
        let answer = mesh.eventually(|| mesh.ingress_tls(&url, authority, &[]).answered_by(app))?;
        let scheme = answer.seen_header("x-forwarded-proto");
        ensure!(scheme.as_deref() == Some("https"), "x-forwarded-proto is {scheme:?}");
        mesh.ingress(&format!("http://{place}"), &[]).status(308)?;
    }
    Ok(())
}

fn secure(mesh: &Mesh, authority: &str) -> Summary {
    mesh.ingress_tls(URL, authority, &[])
}
