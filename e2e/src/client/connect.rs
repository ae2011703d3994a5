//! Connections of the HTTP client: plain or TLS, to where the URL says or to a fixed address.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::tls;

/// An HTTP client with a pool of connections.
pub(crate) type HttpClient = Client<Connector, Full<Bytes>>;

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const IDLE_CONNECTIONS: usize = 1024;

/// How the client connects.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct HttpOptions {
    /// Speak HTTP/2, without upgrade: in the clear with prior knowledge, or by ALPN.
    #[arg(long)]
    pub http2: bool,
    /// Connect here, whatever the URL says; Host and SNI still follow the URL.
    #[arg(long, value_name = "HOST:PORT")]
    pub connect: Option<String>,
    /// Certificates (PEM) to trust for https.
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// Certificate chain (PEM) to show to an https server that asks for one.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Private key (PEM) of --cert.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Server name (SNI) to ask for and to verify, whatever the URL says; Host still follows the URL.
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// Open a connection for each request, as many clients would.
    #[arg(long)]
    pub no_keep_alive: bool,
}

/// Makes a client; connections are opened as requests need them.
pub(crate) fn http_client(options: &HttpOptions) -> anyhow::Result<HttpClient> {
    let alpn = if options.http2 { "h2" } else { "http/1.1" };
    let tls = tls::client_config(&tls::ClientSettings {
        roots: options.cacert.as_deref(),
        certificate: options.cert.as_deref().zip(options.key.as_deref()),
        alpn,
    })?;
    let server_name = options.server_name.clone().map(ServerName::try_from).transpose();
    let server_name = server_name.context("--server-name is neither a host name nor an address")?;
    let connector = Connector { fixed: options.connect.clone(), server_name, tls };
    let idle = if options.no_keep_alive { 0 } else { IDLE_CONNECTIONS };
    let mut builder = Client::builder(TokioExecutor::new());
    builder.http2_only(options.http2).pool_max_idle_per_host(idle).pool_timer(TokioTimer::new());
    Ok(builder.build(connector))
}

/// An error with its causes, for people.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Opens connections.
#[derive(Clone)]
pub(crate) struct Connector {
    fixed: Option<String>,
    server_name: Option<ServerName<'static>>,
    tls: Arc<ClientConfig>,
}

impl Connector {
    async fn open(self, uri: Uri) -> anyhow::Result<Stream> {
        let host = uri.host().context("the URL names no host")?.trim_matches(['[', ']']);
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = match &self.fixed {
            Some(address) => {
                TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?
            }
            None => TcpStream::connect((host, port))
                .await
                .with_context(|| format!("cannot connect to {host}:{port}"))?,
        };
        stream.set_nodelay(true)?;
        if !secure {
            return Ok(Stream::Plain(stream));
        }
        let name = self.server_name.map_or_else(|| ServerName::try_from(host.to_owned()), Ok)?;
        let stream =
            TlsConnector::from(self.tls).connect(name, stream).await.context("TLS handshake failed")?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = anyhow::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let open = self.clone().open(uri);
        Box::pin(async move {
            let opened = timeout(CONNECT_DEADLINE, open).await.context("cannot connect in time")?;
            opened.map(TokioIo::new)
        })
    }
}

/// A connection, plain or encrypted.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
