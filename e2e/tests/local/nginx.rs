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

fn copies(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    // Logs remember: each run has a path of its own.
    let path = format!("/copied-{}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos());
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
