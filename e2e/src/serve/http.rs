//! One request: sort it by protocol, do what it asks for, call others, report.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

use super::body::{Body, Error, filler, full, lines, with_trailers};
use super::{App, Drain, calls, grpc, websocket};
use crate::behaviour::Behaviour;
use crate::client::print_line;
use crate::report::{CallReport, Report, TlsReport, caller, header_list};

/// Longest request body, in bytes; it is held in memory.
const MAX_BODY: usize = 64 << 20;
const BODY_DEADLINE: Duration = Duration::from_secs(300);

/// Answers one request; an error closes the connection without an answer.
pub(super) async fn answer(
    app: Arc<App>,
    peer: SocketAddr,
    tls: Option<TlsReport>,
    request: Request<Incoming>,
    drain: Drain,
) -> Result<Response<Body>, Error> {
    if grpc::is_grpc(&request) {
        return Ok(grpc::answer(&app, request).await);
    }
    if websocket::is_upgrade(request.headers()) {
        return Ok(signed(&app, websocket::accept(&app, request, drain)));
    }
    if request.uri().path() == "/healthz" {
        return Ok(Response::new(full("ok\n")));
    }
    if let Some(page) = app.settings.page.as_ref().filter(|page| page.path == request.uri().path()) {
        return Ok(signed(&app, Response::new(full(page.text.clone()))));
    }
    let (parts, body) = request.into_parts();
    if app.settings.log {
        let host = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let host = parts.uri.authority().map(http::uri::Authority::as_str).or(host).unwrap_or_default();
        print_line(&format!("{} {host} {}", parts.method, parts.uri.path()));
    }
    match app.defaults.clone().asked_by(&parts.uri, &parts.headers) {
        Ok(behaviour) => {
            echo(&app, (peer, tls), &parts, body, &behaviour).await.map(|response| signed(&app, response))
        }
        Err(problem) => Ok(with_status(StatusCode::BAD_REQUEST, full(problem + "\n"))),
    }
}

async fn echo(
    app: &App,
    client: (SocketAddr, Option<TlsReport>),
    parts: &Parts,
    body: Incoming,
    behaviour: &Behaviour,
) -> Result<Response<Body>, Error> {
    if behaviour.hold {
        std::future::pending::<()>().await;
    }
    let received =
        tokio::time::timeout(BODY_DEADLINE, Limited::new(body, MAX_BODY).collect()).await??.to_bytes();
    tokio::time::sleep(behaviour.delay).await;
    if behaviour.close {
        return Err("asked to close".into());
    }
    let failing = behaviour.fail_rate > 0.0 && fastrand::f64() < behaviour.fail_rate;
    let calls = if failing { Vec::new() } else { calls::run(app, parts).await };
    let status = match behaviour.status {
        Some(status) => status,
        None if failing => StatusCode::INTERNAL_SERVER_ERROR,
        None if calls.iter().any(CallReport::failed) => StatusCode::BAD_GATEWAY,
        None => StatusCode::OK,
    };
    let report = report(app, client, parts, received.len(), calls);
    Ok(with_status(status, body_of(app, behaviour, received, &report)?))
}

fn report(
    app: &App,
    (peer, tls): (SocketAddr, Option<TlsReport>),
    parts: &Parts,
    request_bytes: usize,
    calls: Vec<CallReport>,
) -> Report {
    let host = parts.headers.get("host").and_then(|host| host.to_str().ok());
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    Report {
        pod: app.pod.clone(),
        protocol: format!("{:?}", parts.version),
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().map_or("*", http::uri::PathAndQuery::as_str).to_owned(),
        host: authority.or(host).unwrap_or_default().to_owned(),
        peer: peer.to_string(),
        tls,
        caller: caller(&parts.headers),
        headers: header_list(&parts.headers),
        request_bytes,
        calls,
    }
}

fn body_of(app: &App, behaviour: &Behaviour, received: Bytes, report: &Report) -> Result<Body, Error> {
    let body = match (behaviour.size, behaviour.stream) {
        (Some(size), _) => filler(size),
        (None, Some(count)) => lines(&app.pod, count, behaviour.interval),
        (None, None) if behaviour.echo => full(received),
        (None, None) => full(serde_json::to_vec(report)?),
    };
    Ok(if behaviour.trailers { with_trailers(body, &app.pod) } else { body })
}

fn with_status(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// Names the pod in headers, for answers whose body is something else.
fn signed(app: &App, mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    for (name, value) in [("x-echo-pod", &app.pod.pod), ("x-echo-version", &app.pod.version)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}
