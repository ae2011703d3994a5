//! What annotations of ingress-nginx say of backends: TLS to them, sessions, copies, and TLS that is passed on.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};

use crate::answers::Answer;
use crate::certificates::certificate;
use crate::scenario::{Given, Key, Scenario};

/// The host of the certificate of `tls-service`, whose authority is the Secret `backend-ca`.
pub(crate) const BACKEND: &str = "backend.example.com";
const SESSIONS: &str = "http://sessions.example.com/";

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "Ingress backend-protocol HTTPS, verified where asked",
        given: &[],
        key: Key::Instead { with: "ingress/backend-https.yaml", without: "ingress/backend-plain.yaml" },
        then: tls_to_backends,
    },
    Scenario {
        name: "Ingress backend-protocol GRPCS",
        given: &[],
        key: Key::Instead { with: "ingress/backend-grpcs.yaml", without: "ingress/backend-grpc.yaml" },
        then: grpc_over_tls,
    },
    Scenario {
        name: "Ingress proxy-ssl-secret: the gateway shows a certificate",
        given: &[],
        key: Key::Instead { with: "ingress/backend-mutual.yaml", without: "ingress/backend-not-mutual.yaml" },
        then: shown_to_backends,
    },
    Scenario {
        name: "Ingress affinity: sessions stay with a pod, and with a canary",
        given: &[],
        key: Key::Instead { with: "ingress/sessions.yaml", without: "ingress/sessions-none.yaml" },
        then: sessions,
    },
    Scenario {
        name: "Ingress mirror-target: another application gets copies",
        given: &[],
        key: Key::Instead { with: "ingress/mirror.yaml", without: "ingress/mirror-none.yaml" },
        then: copies,
    },
    Scenario {
        name: "Ingress mirror-target over TLS, verified",
        given: &["ingress/mirror-tls.yaml"],
        key: Key::Manifest("authority/backend-cert/mirror-ca/istio-system"),
        then: copies_over_tls,
    },
    Scenario {
        name: "Ingress ssl-passthrough: the application ends TLS",
        given: &[],
        key: Key::Instead { with: "ingress/passthrough.yaml", without: "ingress/passthrough-none.yaml" },
        then: passed_on,
    },
];

fn tls_to_backends(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    for host in ["to-tls", "to-verified"] {
        let url = format!("http://{host}.example.com/");
        let answer = mesh.eventually(|| mesh.ingress(&url, &[]).answered_by("tls-service"))?;
        ensure!(answer.body.pointer("/tls").is_some_and(|tls| !tls.is_null()), "the backend saw no TLS");
        ensure!(
            answer.seen_header("x-forwarded-proto").as_deref() == Some("http"),
            "not the client's scheme"
        );
    }
    mesh.ingress("http://to-other.example.com/", &[]).status(503)
}

fn grpc_over_tls(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| {
        let outcome = mesh.ingress_grpc("http://to-grpcs.example.com");
        let reply = outcome.pointer("/replies/0").map(ToString::to_string).unwrap_or_default();
        ensure!(outcome["status"] == "Ok" && reply.contains("hello"), "{outcome}");
        Ok(())
    })
}

fn shown_to_backends(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let answer =
        mesh.eventually(|| mesh.ingress("http://to-strict.example.com/", &[]).answered_by("strict-service"))?;
    let shown = answer.body.pointer("/tls/client_certificate");
    ensure!(shown.is_some_and(|shown| *shown == true), "the backend saw no certificate: {shown:?}");
    Ok(())
}

fn sessions(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let begun = |app: &str, header: &str| {
        mesh.eventually(|| {
            let answer = mesh.ingress(SESSIONS, &["-H", header]).answered_by(app)?;
            cookie(&answer).map(|cookie| (answer, cookie))
        })
    };
    let (first, session) = begun("user-service", "x-canary: never")?;
    let set = first.header("set-cookie").context("no cookie is set")?;
    ensure!(
        set.starts_with("sid=") && set.ends_with("; Max-Age=600; Path=/; HttpOnly; SameSite=Lax"),
        "{set}"
    );
    let (canary, other) = begun("shop-service", "x-canary: always")?;
    // Neither the split nor a header ends a session.
    for (answer, cookie, header) in [
        (&first, &session, "x-canary: always"),
        (&canary, &other, "x-canary: never"),
        (&canary, &other, "x-a: b"),
    ] {
        let arguments = ["-H", cookie, "-H", header, "--repeat", "30", "--concurrency", "4"];
        let kept = mesh.ingress(SESSIONS, &arguments);
        kept.none_failed()?;
        let pod = answer.header("x-echo-pod").context("no pod is named")?;
        ensure!(kept.counts.keys().eq([pod]), "the session began at {pod} and went on at {:?}", kept.counts);
        ensure!(kept.answer().header("set-cookie").is_none(), "a client with a cookie gets another");
    }
    Ok(())
}

/// The header with which a client brings its cookie back.
fn cookie(answer: &Answer) -> anyhow::Result<String> {
    let set = answer.header("set-cookie").context("no cookie is set")?;
    Ok(format!("cookie: {}", set.split(';').next().unwrap_or_default()))
}

/// Logs remember: each run has a path of its own.
fn unseen_path() -> anyhow::Result<String> {
    Ok(format!("/copied-{}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos()))
}

/// The target speaks nothing but TLS.
fn copies_over_tls(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let path = unseen_path()?;
    let url = format!("http://mirror-tls.example.com{path}");
    mesh.eventually(|| {
        mesh.ingress(&url, &[]).answered_by("web-service")?;
        let copy = mesh.eventually_logged("tls-service", &path)?;
        ensure!(copy == format!("GET tls-service {path}"), "the copy has another host: {copy}");
        Ok(())
    })
}

fn copies(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let path = unseen_path()?;
    let url = format!("http://mirror.example.com{path}?q=1");
    mesh.eventually(|| {
        mesh.ingress(&url, &[]).answered_by("web-service")?;
        mesh.eventually_in_log("shop-service", &path)
    })
    .and_then(|line| {
        let is_copy = line.contains(&format!("{path}?q=1")) && line.contains("shop-service:8080");
        ensure!(is_copy, "the copy has another path or host: {line}");
        Ok(())
    })
}

fn passed_on(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let authority = &certificate("backend-cert", &[BACKEND]).authority;
    let url = format!("https://{BACKEND}/users");
    let answer = mesh.eventually(|| mesh.ingress_tls(&url, authority, &[]).answered_by("tls-service"))?;
    ensure!(answer.seen_header("x-forwarded-proto").is_none(), "somebody on the way has read the request");
    mesh.ingress(&format!("http://{BACKEND}/users"), &[]).status(308)
}
