//! External authorization on the inbound side (semantics.md 32).

use super::harness::*;
use crate::engine::Engine;
use crate::model::{
    Authorizer, AuthzAction, AuthzPolicy, AuthzRule, CheckBody, CheckProtocol, HttpCheck, Millis, MtlsMode,
    OperationMatch, Origin, Protocol, Resource, Role, StringMatch,
};

const AUTHORIZER: &str = "outbound|9000||authorizer.default.svc.cluster.local";

fn http(check: HttpCheck) -> Authorizer {
    Authorizer {
        name: "door".into(),
        cluster: Some(AUTHORIZER.into()),
        protocol: CheckProtocol::Http(Box::new(check)),
        timeout: Millis::new(300),
        fail_open: false,
        status_on_error: 403,
        body: None,
    }
}

/// A sidecar before `application`, where everything but `/free` is asked about.
fn guarded(authorizer: Authorizer, application: &Upstream, door: std::net::SocketAddr) -> Mesh {
    let operation =
        OperationMatch { not_paths: vec![StringMatch::Exact("/free".into())], ..Default::default() };
    let rule = AuthzRule { to: vec![operation], ..AuthzRule::default() };
    let policy = AuthzPolicy {
        origin: Origin::default(),
        action: AuthzAction::Custom(Box::new(authorizer)),
        rules: vec![rule],
        dry_run: false,
    };
    let mut own = own(Role::Sidecar);
    own.inbound = vec![inbound_port(application.address.port(), Protocol::Http, MtlsMode::Permissive)];
    own.authorization = vec![policy];
    let resources = vec![
        Resource::Own(Box::new(own)),
        Resource::Cluster(Box::new(cluster(AUTHORIZER, Protocol::Http))),
        endpoints(AUTHORIZER, &[door]),
    ];
    Mesh::start(inbound_settings(application.address), Default::default(), resources)
}

async fn call(engine: &Engine, request: &str) -> String {
    let stream = tokio::net::TcpStream::connect(engine.inbound_address().unwrap()).await.unwrap();
    ask(stream, request).await
}

fn request(path: &str, header: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: reviews:9080\r\n{header}content-length: 5\r\n\r\nhello")
}

/// Says its request back.
async fn mirror() -> Upstream {
    Upstream::start(ok).await
}

#[tokio::test]
async fn an_allowing_authorizer_sees_the_request_and_sets_its_headers() {
    let application = mirror().await;
    let door = Upstream::start(|request| {
        assert!(request.starts_with("POST /check/x?y=1 HTTP/1.1\r\n"), "{request}");
        let lower = request.to_ascii_lowercase();
        assert!(lower.contains("host: reviews:9080\r\n") && lower.contains("x-token: good\r\n"), "{request}");
        assert!(lower.contains("x-asked-by: mesh\r\n") && !lower.contains("x-other"), "{request}");
        "HTTP/1.1 200 OK\r\nx-user: ann\r\nx-mood: fine\r\ncontent-length: 0\r\n\r\n".into()
    })
    .await;
    let check = HttpCheck {
        path_prefix: "/check".into(),
        request_headers: vec![StringMatch::Exact("x-token".into())],
        added_headers: [("x-asked-by".to_owned(), "mesh".to_owned())].into(),
        upstream_on_allow: vec![StringMatch::Prefix("x-us".into())],
        downstream_on_allow: vec![StringMatch::Exact("x-mood".into())],
        ..HttpCheck::default()
    };
    let mesh = guarded(http(check), &application, door.address);
    let answer =
        call(&mesh.engine, &request("/x?y=1", "X-Token: good\r\nX-Other: 1\r\nX-User: mallory\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("x-mood: fine"), "{answer}");
    assert!(answer.contains("ann") && !answer.contains("mallory"), "{answer}");
    assert!(answer.ends_with("hello"), "{answer}");
    call(&mesh.engine, &request("/free", "")).await;
    assert_eq!((door.requests(), application.requests()), (1, 2));
}

#[tokio::test]
async fn a_denying_authorizer_answers_the_client() {
    let application = mirror().await;
    let door = Upstream::start(|_| {
        "HTTP/1.1 401 No\r\nwww-authenticate: Basic\r\nx-why: a\r\nx-secret: b\r\ncontent-length: 2\r\n\r\nno"
            .into()
    })
    .await;
    let check =
        HttpCheck { downstream_on_deny: vec![StringMatch::Exact("x-why".into())], ..HttpCheck::default() };
    let mesh = guarded(http(check), &application, door.address);
    let answer = call(&mesh.engine, &request("/x", "")).await;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.ends_with("no"), "{answer}");
    assert!(answer.contains("www-authenticate: Basic") && answer.contains("x-why: a"), "{answer}");
    assert!(!answer.contains("x-secret"), "{answer}");
    assert_eq!(application.requests(), 0);
}

#[tokio::test]
async fn a_check_that_fails_denies_unless_it_fails_open() {
    let application = mirror().await;
    let broken = Upstream::start(|_| status(503)).await;
    let silent = Upstream::start(|_| "hang".into()).await;
    for door in [broken.address, silent.address, dead().await] {
        let closed = Authorizer { status_on_error: 418, ..http(HttpCheck::default()) };
        let open = Authorizer { fail_open: true, ..closed.clone() };
        let mesh = guarded(closed, &application, door);
        let answer = call(&mesh.engine, &request("/x", "")).await;
        assert!(answer.starts_with("HTTP/1.1 418"), "{answer}");
        let mesh = guarded(open, &application, door);
        let answer = call(&mesh.engine, &request("/x", "")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(application.requests(), 3);
}

#[tokio::test]
async fn the_body_is_shown_and_sent_on_whole() {
    let application = mirror().await;
    let door = Upstream::start(|request| if request.ends_with("hel") { ok("") } else { status(403) }).await;
    let limit = CheckBody { max_bytes: 3, partial: true, as_bytes: false };
    let partial = Authorizer { body: Some(limit), ..http(HttpCheck::default()) };
    let whole = Authorizer { body: Some(CheckBody { partial: false, ..limit }), ..partial.clone() };
    let mesh = guarded(partial, &application, door.address);
    let answer = call(&mesh.engine, &request("/x", "")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    let mesh = guarded(whole, &application, door.address);
    let answer = call(&mesh.engine, &request("/x", "")).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!((door.requests(), application.requests()), (1, 1));
}
