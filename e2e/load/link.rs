//! One of the generator's places from which requests go out, one at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::backend::find;
use crate::case::{Case, Entrance};
use crate::generator::HOST;
use crate::grpc;

/// For one request; one that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Streams on one connection.
const STREAMS: usize = 8;

/// A byte stream, in the clear or not.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// A way to a subject.
pub(crate) enum Link {
    Kept(Box<dyn Duplex>, Vec<u8>),
    Fresh(SocketAddr, TlsConnector, Vec<u8>),
    Stream(SendRequest<Full<Bytes>>),
}

/// Opens as many as the case asks for.
pub(crate) async fn open(
    address: SocketAddr,
    case: Case,
    certificate: &CertificateDer<'static>,
) -> anyhow::Result<Vec<Link>> {
    let mut links = Vec::with_capacity(case.connections);
    while links.len() < case.connections {
        match case.entrance {
            Entrance::Http1 | Entrance::Tcp | Entrance::Chain => {
                links.push(Link::Kept(Box::new(connect(address).await?), Vec::new()))
            }
            Entrance::Tls => {
                let stream = handshake(address, &connector(certificate)?).await?;
                links.push(Link::Kept(Box::new(stream), Vec::new()));
            }
            Entrance::Handshakes => links.push(Link::Fresh(address, connector(certificate)?, Vec::new())),
            Entrance::Http2 | Entrance::Grpc => {
                let stream = TokioIo::new(connect(address).await?);
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                tokio::task::spawn_local(connection);
                let streams = STREAMS.min(case.connections - links.len());
                links.extend((0..streams).map(|_| Link::Stream(sender.clone())));
            }
        }
    }
    Ok(links)
}

async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One version and one curve for all subjects, and no resumption: every handshake is a full one.
fn connector(certificate: &CertificateDer<'static>) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let curves = vec![aws_lc_rs::kx_group::X25519];
    let provider = CryptoProvider { kx_groups: curves, ..aws_lc_rs::default_provider() };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn handshake(address: SocketAddr, connector: &TlsConnector) -> anyhow::Result<TlsStream<TcpStream>> {
    let stream = connect(address).await?;
    connector.connect(ServerName::try_from(HOST)?, stream).await.context("the TLS handshake has failed")
}

impl Link {
    /// Sends a request and reads its answer. Any but the right one is an error.
    pub(crate) async fn exchange(&mut self, case: Case, request: &[u8]) -> anyhow::Result<()> {
        timeout(PATIENCE, self.exchange_unbounded(case, request))
            .await
            .with_context(|| format!("no answer within {PATIENCE:?}"))?
    }

    async fn exchange_unbounded(&mut self, case: Case, request: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Kept(stream, buffer) => over_bytes(stream, request, case.response, buffer).await,
            Self::Fresh(address, connector, buffer) => {
                let mut stream = handshake(*address, connector).await?;
                over_bytes(&mut stream, request, case.response, buffer).await
            }
            Self::Stream(sender) if case.entrance == Entrance::Grpc => over_grpc(sender, case).await,
            Self::Stream(sender) => over_http2(sender, case).await,
        }
    }
}

async fn over_http2(sender: &mut SendRequest<Full<Bytes>>, case: Case) -> anyhow::Result<()> {
    let body = Bytes::from(vec![b'y'; case.request]);
    let request = hyper::Request::builder()
        .method(if case.request == 0 { "GET" } else { "POST" })
        .uri(format!("http://{HOST}/{}", case.response))
        .header("user-agent", "mesh-bench")
        .header("accept", "*/*")
        .header("accept-encoding", "gzip, deflate, br")
        .header("cookie", "session=7f3a9c51d2e84b60")
        .body(Full::new(body))?;
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    ensure!(answer.status() == 200, "answered {}", answer.status());
    let length = answer.into_body().collect().await?.to_bytes().len();
    ensure!(length == case.response, "answered {length} bytes instead of {}", case.response);
    Ok(())
}

/// A unary call: one message each way, and the status in trailers.
async fn over_grpc(sender: &mut SendRequest<Full<Bytes>>, case: Case) -> anyhow::Result<()> {
    let request = hyper::Request::builder()
        .method("POST")
        .uri(format!("http://{HOST}/bench.Echo/{}", case.response))
        .header("user-agent", "mesh-bench")
        .header("te", "trailers")
        .header("content-type", grpc::CONTENT_TYPE)
        .body(Full::new(grpc::message(&vec![b'y'; case.request])))?;
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    ensure!(answer.status() == 200, "answered {}", answer.status());
    let answer = answer.into_body().collect().await?;
    let status = answer.trailers().and_then(|trailers| trailers.get(grpc::STATUS));
    ensure!(status.is_some_and(|status| status == "0"), "ended with {status:?}");
    let length = answer.to_bytes().len();
    let expected = grpc::message(&[]).len() + case.response;
    ensure!(length == expected, "answered {length} bytes instead of {expected}");
    Ok(())
}

async fn over_bytes(
    stream: &mut impl Duplex,
    request: &[u8],
    expected: usize,
    buffer: &mut Vec<u8>,
) -> anyhow::Result<()> {
    stream.write_all(request).await?;
    stream.flush().await?;
    buffer.clear();
    let head = loop {
        ensure!(stream.read_buf(buffer).await? > 0, "the connection was closed");
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end + 4;
        }
    };
    ensure!(buffer.starts_with(b"HTTP/1.1 200"), "answered {:?}", String::from_utf8_lossy(&buffer[..head]));
    let mut left = length(&buffer[..head], expected)?
        .checked_sub(buffer.len() - head)
        .context("more came than was announced")?;
    while left > 0 {
        buffer.clear();
        buffer.reserve(64 * 1024);
        let read = stream.read_buf(buffer).await?;
        ensure!(read > 0, "cut within a body");
        left = left.checked_sub(read).context("more came than was announced")?;
    }
    Ok(())
}

/// The body's length, which must be the one that was asked for.
fn length(head: &[u8], expected: usize) -> anyhow::Result<usize> {
    let text = std::str::from_utf8(head)?.to_ascii_lowercase();
    let value = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = value.context("no content-length")?.trim().parse()?;
    ensure!(length == expected, "answered {length} bytes instead of {expected}");
    Ok(length)
}
