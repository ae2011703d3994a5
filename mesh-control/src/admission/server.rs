//! The webhooks' HTTPS server.
//!
//! Its certificate comes from the mesh's own authority and is made anew long before it ends, and at each start: there is no
//! Secret that could be lost or expire. Bounded: connections at once, the size of a request, and the time of a connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{mutate, validate};
use crate::ca::LIFETIME;
use crate::inject::Settings;

/// Connections at once; the API server keeps a few.
const CONNECTIONS: usize = 256;
/// The API server takes objects of up to 3 MiB, and sends the old one along.
const LARGEST: usize = 8 * 1024 * 1024;
/// For a TLS handshake, for the head of a request, and for the whole of it: the API server waits 10 s at most.
const DEADLINE: Duration = Duration::from_secs(10);
/// The API server comes back when it needs a connection.
const LIFE: Duration = Duration::from_secs(3600);

/// Makes a certificate and key, PEM.
pub type Issue = Box<dyn Fn() -> anyhow::Result<(String, String)> + Send + Sync>;

/// Serves until `stop`.
///
/// # Errors
/// When no certificate can be made at first.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    issue: Issue,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut acceptor = acceptor(&issue)?;
    let settings = Arc::new(settings);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut renewal = tokio::time::interval(LIFETIME / 2);
    renewal.tick().await;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                    let (acceptor, settings) = (acceptor.clone(), Arc::clone(&settings));
                    tokio::spawn(async move {
                        connection(stream, peer, acceptor, settings).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            _ = renewal.tick() => match self::acceptor(&issue) {
                Ok(renewed) => acceptor = renewed,
                Err(error) => tracing::error!(%error, "the webhooks' certificate cannot be renewed"),
            },
            () = stop.cancelled() => return Ok(()),
        }
    }
}

fn acceptor(issue: &Issue) -> anyhow::Result<TlsAcceptor> {
    let (chain, key) = issue()?;
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn connection(stream: TcpStream, peer: SocketAddr, acceptor: TlsAcceptor, settings: Arc<Settings>) {
    let stream = match tokio::time::timeout(DEADLINE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS with a caller of the webhooks"),
        Err(_) => return,
    };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| {
        let settings = Arc::clone(&settings);
        async move { Ok::<_, Infallible>(answer(request, &settings).await) }
    });
    let stream = TokioIo::new(stream);
    let served = async {
        if http2 {
            let executor = hyper_util::rt::TokioExecutor::new();
            let mut builder = hyper::server::conn::http2::Builder::new(executor);
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(64)
                .serve_connection(stream, service)
                .await
        } else {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(LIFE).serve_connection(stream, service).await
        }
    };
    if let Ok(Err(error)) = tokio::time::timeout(LIFE, served).await {
        tracing::debug!(%peer, %error, "a connection to the webhooks failed");
    }
}

async fn answer(request: Request<Incoming>, settings: &Settings) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if request.method() != Method::POST || !matches!(path.as_str(), "/inject" | "/validate") {
        return plain(StatusCode::NOT_FOUND, "POST an AdmissionReview to /inject or /validate");
    }
    let body = Limited::new(request.into_body(), LARGEST).collect();
    let body = match tokio::time::timeout(DEADLINE, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return plain(StatusCode::PAYLOAD_TOO_LARGE, "too large, or broken off"),
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the request did not end in time"),
    };
    let Ok(review) = serde_json::from_slice::<Value>(&body) else {
        return plain(StatusCode::BAD_REQUEST, "not an AdmissionReview");
    };
    if !review["request"]["uid"].is_string() {
        return plain(StatusCode::BAD_REQUEST, "not an AdmissionReview with a request");
    }
    let answer = if path == "/inject" { mutate(&review, settings) } else { validate(&review) };
    let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
