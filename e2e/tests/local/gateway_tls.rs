//! TLS at a Gateway's servers: whom they let in, what they show to whom, and what becomes of a renewed certificate.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, ensure};
use mesh_core::tls::{certificates, fingerprint};
use tempfile::NamedTempFile;

use crate::answers::Summary;
use crate::certificates::{Certificate, certificate};
use crate::mesh::{Mesh, summary};
use crate::scenario::{Given, Key, Scenario};

const MUTUAL: &str = "https://mutual.example.com/";
const ROTATED: &str = "https://rotated.example.com/";
const FIRST_SECRET: &str = "secret/first-cert/first.example.com";
const SECOND_SECRET: &str = "secret/second-cert/second.example.com";
/// All CAs of tests have the same name, so that only the signature tells a foreign one.
const FOREIGN_CLIENT: &str = "DecryptError";
const FOREIGN_SERVER: &str = "BadSignature";
const WILD_SECRET: &str = "secret/wild-cert/*.wild.example.com,alias.example.com";

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "S33 MUTUAL at a gateway: ours enter and are named, strangers do not",
        given: &["secret/mutual-cert/mutual.example.com", "ingress/mutual.yaml"],
        key: Key::Manifest("authority/gateway-client/mutual-cert-cacert/default"),
        then: mutual,
    },
    Scenario {
        name: "S33 OPTIONAL_MUTUAL at a gateway: without a certificate one enters, with a wrong one not",
        given: &[
            "secret/mutual-cert/mutual.example.com",
            "authority/gateway-client/mutual-cert-cacert/default",
            "ingress/mutual.yaml#VirtualService",
        ],
        key: Key::Instead { with: "ingress/optional-mutual.yaml", without: "ingress/mutual.yaml#Gateway" },
        then: optional_mutual,
    },
    Scenario {
        name: "S05 S35 several certificates on one address, each for its own names and nobody else",
        given: &[FIRST_SECRET, WILD_SECRET, "ingress/certificates.yaml", "ingress/second-certificate.yaml"],
        key: Key::Manifest(SECOND_SECRET),
        then: several_certificates,
    },
    Scenario {
        name: "S35 a request for another server's host is misdirected",
        given: &[FIRST_SECRET, SECOND_SECRET, WILD_SECRET, "ingress/certificates.yaml"],
        key: Key::Manifest("ingress/second-certificate.yaml"),
        then: misdirected,
    },
    Scenario {
        name: "S20 httpsRedirect sends cleartext to HTTPS",
        given: &["secret/moved-cert/moved.example.com", "ingress/to-https.yaml#VirtualService"],
        key: Key::Instead { with: "ingress/to-https.yaml#Gateway", without: "ingress/not-to-https.yaml" },
        then: to_https,
    },
    Scenario {
        name: "S05 a certificate is renewed under new connections, and a bad one changes nothing",
        given: &["ingress/rotated.yaml"],
        key: Key::Manifest("secret/rotated-cert/rotated.example.com"),
        then: renewed_under_load,
    },
    Scenario {
        name: "S05 a Secret that loses its key leaves the last certificate, one that is deleted leaves none",
        given: &[
            FIRST_SECRET,
            SECOND_SECRET,
            WILD_SECRET,
            "ingress/certificates.yaml",
            "ingress/rotated.yaml",
        ],
        key: Key::Manifest("secret/rotated-cert/rotated.example.com"),
        then: unusable_and_deleted,
    },
];

/// Whom the gateway is told to trust, and somebody else.
struct Clients {
    ours: ClientFiles,
    foreign: ClientFiles,
}

impl Clients {
    fn new() -> anyhow::Result<Self> {
        let ours = ClientFiles::of(&certificate("gateway-client", &[]))?;
        let foreign = ClientFiles::of(&certificate("foreign-client", &[]))?;
        Ok(Self { ours, foreign })
    }
}

/// What a client shows, as files.
struct ClientFiles {
    chain: NamedTempFile,
    key: NamedTempFile,
}

impl ClientFiles {
    fn of(certificate: &Certificate) -> anyhow::Result<Self> {
        Ok(Self { chain: file(&certificate.chain)?, key: file(&certificate.key)? })
    }

    /// Calls the gateway that may ask for them.
    fn call(&self, mesh: &Mesh, more: &[&str]) -> Summary {
        let [chain, key] = [&self.chain, &self.key].map(|file| file.path().to_string_lossy());
        call_mutual(mesh, &[&["--cert", &chain, "--key", &key], more].concat())
    }
}

fn file(text: &str) -> anyhow::Result<NamedTempFile> {
    let mut file = NamedTempFile::new()?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

fn call_mutual(mesh: &Mesh, more: &[&str]) -> Summary {
    let authority = &certificate("mutual-cert", &["mutual.example.com"]).authority;
    mesh.ingress_tls(MUTUAL, authority, more)
}

fn mutual(given: &Given<'_>) -> anyhow::Result<()> {
    let (mesh, clients) = (given.mesh, Clients::new()?);
    mesh.eventually(|| clients.ours.call(mesh, &[]).answered_by("web-service"))?;
    let http2 = clients.ours.call(mesh, &["--http2"]).answered_by("web-service")?;
    ensure!(http2.protocol == "HTTP/2.0", "the gateway answered in {}", http2.protocol);

    is_named(&clients.ours.call(mesh, &["-H", "x-forwarded-client-cert: Hash=forged"]))?;
    is_refused(&call_mutual(mesh, &[]), "CertificateRequired")?;
    is_refused(&clients.foreign.call(mesh, &[]), FOREIGN_CLIENT)
}

/// semantics.md 39: the application is told of the certificate that was verified, and of nothing that the client says.
fn is_named(summary: &Summary) -> anyhow::Result<()> {
    let answer = summary.answered_by("web-service")?;
    let told = answer.seen_header("x-forwarded-client-cert").context("the client is not named")?;
    let leaf = certificates(&certificate("gateway-client", &[]).chain)?;
    let hash = fingerprint(&leaf[0]);
    ensure!(told.starts_with(&format!("Hash={hash};Cert=\"")), "another client is named: {told}");
    ensure!(told.contains(";Subject=\"CN="), "the client's subject is not told: {told}");
    ensure!(!told.contains("forged"), "the client's own word is passed on: {told}");
    Ok(())
}

fn is_refused(summary: &Summary, alert: &str) -> anyhow::Result<()> {
    let answer = summary.answer();
    let error = answer.error.unwrap_or_default();
    ensure!(answer.status == 0 && error.contains(alert), "status {}, no {alert}: {error}", answer.status);
    Ok(())
}

fn optional_mutual(given: &Given<'_>) -> anyhow::Result<()> {
    let (mesh, clients) = (given.mesh, Clients::new()?);
    let claim = ["-H", "x-forwarded-client-cert: Hash=forged"];
    let nobody = mesh.eventually(|| call_mutual(mesh, &claim).answered_by("web-service"))?;
    let told = nobody.seen_header("x-forwarded-client-cert").unwrap_or_default();
    // What is told there is the gateway, by the sidecar.
    ensure!(told.starts_with("By=spiffe://"), "who shows nothing is named: {told}");
    is_named(&clients.ours.call(mesh, &[]))?;
    is_refused(&clients.foreign.call(mesh, &[]), FOREIGN_CLIENT)
}

fn several_certificates(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let [first, second, wild] =
        ["first-cert", "second-cert", "wild-cert"].map(|name| certificate(name, &[]).authority.clone());
    let served = [
        ("first.example.com", &first),
        ("second.example.com", &second),
        ("a.wild.example.com", &wild),
        ("alias.example.com", &wild),
    ];
    for (host, authority) in served {
        let url = format!("https://{host}/");
        mesh.eventually(|| mesh.ingress_tls(&url, authority, &[]).answered_by("web-service"))?;
    }
    // The name that is asked for and the CA that is trusted decide alone: nobody else's certificate comes.
    is_refused(&mesh.ingress_tls("https://second.example.com/", &first, &[]), FOREIGN_SERVER)?;
    let unknown = ["third.example.com", "wild.example.com", "a.first.example.com"];
    for host in unknown {
        is_refused(&mesh.ingress_tls(&format!("https://{host}/"), &first, &[]), "UnrecognisedName")?;
    }
    // An address is no server name (RFC 6066 §3).
    is_refused(&mesh.ingress_tls("https://192.0.2.1/", &first, &[]), "MissingExtension")
}

/// semantics.md 45.
fn misdirected(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let [first, wild] = ["first-cert", "wild-cert"].map(|name| certificate(name, &[]).authority.clone());
    for version in [&[][..], &["--http2"]] {
        let through_first = |host: &str| {
            let arguments = [&["--server-name", "first.example.com"], version].concat();
            mesh.ingress_tls(&format!("https://{host}/"), &first, &arguments)
        };
        mesh.eventually(|| through_first("second.example.com").status(421))?;
        through_first("a.wild.example.com").status(421)?;
        through_first("nobody.example.org").status(404)?;
        through_first("first.example.com").answered_by("web-service")?;
        // Two hosts of one server share its certificate and its connections.
        let arguments = [&["--server-name", "a.wild.example.com"], version].concat();
        mesh.ingress_tls("https://alias.example.com/", &wild, &arguments).answered_by("web-service")?;
    }
    Ok(())
}

/// semantics.md 24.
fn to_https(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let authority = &certificate("moved-cert", &["moved.example.com"]).authority;
    let secure = "https://moved.example.com/a/b?c=d";
    mesh.eventually(|| mesh.ingress_tls(secure, authority, &[]).answered_by("web-service"))?;
    mesh.eventually(|| mesh.ingress("http://moved.example.com/a/b?c=d", &["-X", "POST"]).status(301))?;
    let answer = mesh.ingress("http://moved.example.com/a/b?c=d", &[]).answer();
    let location = answer.header("location").map(String::as_str);
    ensure!(location == Some(secure), "{} leads to {location:?}", answer.status);
    // What the client says of itself is no HTTPS.
    mesh.ingress("http://moved.example.com/", &["-H", "x-forwarded-proto: https"]).status(301)
}

fn unusable_and_deleted(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let rotated = certificate("rotated-cert", &["rotated.example.com"]);
    let first = certificate("first-cert", &["first.example.com"]);
    let served = || mesh.ingress_tls(ROTATED, &rotated.authority, &[]);
    let beside = || mesh.ingress_tls("https://first.example.com/", &first.authority, &[]);
    mesh.eventually(|| served().answered_by("web-service"))?;
    mesh.eventually(|| beside().answered_by("web-service"))?;

    let keyless = Certificate { key: String::new(), ..(*rotated).clone() };
    let said = mesh.apply_dubious(&keyless.secret("rotated-cert", "default"));
    ensure!(said.contains("tls.key"), "mesh apply does not tell: {said}");
    mesh.eventually(|| {
        let refused = mesh.status()["control"].to_string();
        ensure!(refused.contains("rotated-cert"), "mesh status does not tell: {refused}");
        Ok(())
    })?;
    served().answered_by("web-service")?;

    mesh.delete_text(&rotated.secret("rotated-cert", "default"));
    mesh.eventually(|| is_refused(&served(), "InternalError"))?;
    beside().answered_by("web-service")?;

    mesh.apply_text(&rotated.secret("rotated-cert", "default"));
    mesh.eventually(|| served().answered_by("web-service")).map(drop)
}

fn renewed_under_load(given: &Given<'_>) -> anyhow::Result<()> {
    const LOAD: [&str; 8] =
        ["--no-keep-alive", "--rate", "40", "--connections", "8", "--duration", "6s", "--cacert"];
    let mesh = given.mesh;
    let old = certificate("rotated-cert", &["rotated.example.com"]);
    let renewed = Certificate::for_hosts(&["rotated.example.com"]);
    let served = |with: &Certificate| mesh.ingress_tls(ROTATED, &with.authority, &[]);
    mesh.eventually(|| served(&old).answered_by("web-service"))?;

    let both = file(&(old.authority.clone() + &renewed.authority))?;
    let path = both.path().to_string_lossy();
    let mut load = mesh.start_outside_tls(&[&["load", ROTATED], &LOAD[..], &[&path]].concat());
    ensure!(load.line(Duration::from_secs(10))?.is_some(), "the load does not start");

    mesh.apply_text(&renewed.secret("rotated-cert", "default"));
    mesh.eventually(|| served(&renewed).answered_by("web-service"))?;
    is_refused(&served(&old), FOREIGN_SERVER)?;

    let bad = Certificate { key: old.key.clone(), ..Certificate::for_hosts(&["rotated.example.com"]) };
    let said = mesh.apply_dubious(&bad.secret("rotated-cert", "default"));
    ensure!(said.contains("cannot be used together"), "mesh apply does not tell: {said}");
    mesh.eventually(|| {
        let refused = mesh.status()["control"].to_string();
        ensure!(refused.contains("rotated-cert"), "mesh status does not tell: {refused}");
        Ok(())
    })?;
    served(&renewed).answered_by("web-service")?;
    summary(&load.finish(Duration::from_secs(30))?).none_failed()
}
