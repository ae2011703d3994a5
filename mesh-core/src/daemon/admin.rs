//! A small HTTP/1.1 server for probes, metrics and inspection.
//!
//! Pages are closures; there is no routing beyond the exact path. It answers GET and HEAD, and POST where a page says
//! so. On loopback it also refuses names in `Host` that are not loopback's, so that a web page in a browser cannot reach
//! it by rebinding a name. Bounded: connections, header size, and ten seconds for a request.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Connections at once.
const CONNECTIONS: usize = 64;
/// Deadline for a request's head, and for a whole connection's life.
const HEAD: Duration = Duration::from_secs(10);
const LIFE: Duration = Duration::from_secs(60);

/// What a page shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Page {
    /// A text.
    pub fn text(body: impl Into<String>) -> Self {
        Self { status: 200, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    /// A JSON document.
    pub fn json(value: &serde_json::Value) -> Self {
        Self { status: 200, content_type: "application/json", body: format!("{value:#}\n") }
    }

    /// A scrape, in the format Prometheus asks for.
    pub fn open_metrics(body: String) -> Self {
        Self { status: 200, content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8", body }
    }

    /// The answer to a probe: 200, or 503 with the reason.
    pub fn probe(outcome: Result<(), String>) -> Self {
        match outcome {
            Ok(()) => Self::text("ok\n"),
            Err(reason) => Self { status: 503, ..Self::text(format!("{reason}\n")) },
        }
    }
}

enum Show {
    Now(Box<dyn Fn(&str) -> Page + Send + Sync>),
    Later(Box<dyn Fn() -> Shown + Send + Sync>),
}

type Shown = Pin<Box<dyn Future<Output = Page> + Send>>;

/// The pages of one server.
#[derive(Default)]
pub struct Admin {
    pages: Vec<(Cow<'static, str>, Method, Show)>,
}

impl Admin {
    /// Adds a page for GET and HEAD. It is given the query.
    #[must_use]
    pub fn get(mut self, path: &'static str, show: impl Fn(&str) -> Page + Send + Sync + 'static) -> Self {
        self.pages.push((path.into(), Method::GET, Show::Now(Box::new(show))));
        self
    }

    /// Adds a page for GET and HEAD that takes time to make; it must bound that itself.
    #[must_use]
    pub fn get_later<F>(mut self, path: String, show: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Page> + Send + 'static,
    {
        let show = move || -> Shown { Box::pin(show()) };
        self.pages.push((path.into(), Method::GET, Show::Later(Box::new(show))));
        self
    }

    /// Adds an action for POST.
    #[must_use]
    pub fn post(mut self, path: &'static str, act: impl Fn(&str) -> Page + Send + Sync + 'static) -> Self {
        self.pages.push((path.into(), Method::POST, Show::Now(Box::new(act))));
        self
    }

    /// Serves until `stop`.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let admin = Arc::new(self);
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let local = listener.local_addr().ok();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                    let admin = Arc::clone(&admin);
                    tokio::spawn(async move {
                        admin.connection(stream, local).await;
                        drop(place);
                    });
                }
                // Out of file descriptors, or the peer is gone already: neither ends the server.
                Err(error) => {
                    tracing::debug!(%error, "admin accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn connection(&self, stream: TcpStream, local: Option<SocketAddr>) {
        let loopback = local.is_some_and(|address| address.ip().is_loopback());
        let service =
            service_fn(|request| async move { Ok::<_, Infallible>(self.answer(&request, loopback).await) });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(stream), service);
        if let Ok(Err(error)) = tokio::time::timeout(LIFE, connection).await {
            tracing::debug!(%error, "admin connection failed");
        }
    }

    async fn answer(&self, request: &Request<Incoming>, loopback: bool) -> Response<Full<Bytes>> {
        let host =
            request.headers().get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let page = if loopback && !names_loopback(host) {
            Page { status: 403, ..Page::text("this server answers to loopback names only\n") }
        } else {
            self.page(request).await
        };
        Response::builder()
            .status(StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
            .header(header::CONTENT_TYPE, page.content_type)
            .header("x-content-type-options", "nosniff")
            .body(Full::new(Bytes::from(page.body)))
            .expect("the status and the header values are valid")
    }

    async fn page(&self, request: &Request<Incoming>) -> Page {
        match self.find(request.method(), request.uri().path()) {
            Ok(Show::Now(show)) => show(request.uri().query().unwrap_or_default()),
            Ok(Show::Later(show)) => show().await,
            Err(page) => page,
        }
    }

    fn find(&self, method: &Method, path: &str) -> Result<&Show, Page> {
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        let mut here = self.pages.iter().filter(|(page, _, _)| page == path).peekable();
        if here.peek().is_none() {
            let known: Vec<_> = self.pages.iter().map(|(page, _, _)| page.as_ref()).collect();
            let known = format!("no such page; there are: {}\n", known.join(" "));
            return Err(Page { status: 404, ..Page::text(known) });
        }
        match here.find(|(_, method, _)| method == wanted) {
            Some((_, _, show)) => Ok(show),
            None => Err(Page { status: 405, ..Page::text("this page takes another method\n") }),
        }
    }
}

fn names_loopback(host: &str) -> bool {
    let name =
        host.rsplit_once(':').map_or(host, |(name, port)| if port.contains(']') { host } else { name });
    matches!(name, "" | "localhost" | "[::1]")
        || name.parse().is_ok_and(|ip: std::net::Ipv4Addr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn pages_answer_by_path_and_method_and_only_to_loopback_names() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let admin = Admin::default()
            .get("/ready", |_| Page::probe(Err("no certificate yet".into())))
            .post("/drain", |query| Page::text(query.to_owned()));
        let served = tokio::spawn(admin.serve(listener, stop.clone()));
        let request =
            |line: &str, host: &str| format!("{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        for (line, host, status) in [
            ("GET /ready", "localhost:15000", "503"),
            ("GET /ready", "evil.example", "403"),
            ("GET /drain", "127.0.0.1", "405"),
            ("POST /drain?now", "127.0.0.1:15000", "200"),
            ("GET /", "[::1]:15000", "404"),
        ] {
            let answer = ask(address, &request(line, host)).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{line} {host}: {answer}");
        }
        stop.cancel();
        served.await.unwrap();
    }
}
