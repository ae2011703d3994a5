//! One HTTP connection, HTTP/1.1 or HTTP/2 as the client's first bytes say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{App, Drain, http};
use crate::report::TlsReport;

/// A peer that has not sent a whole head by then is cut off; proxies keep idle connections for long.
const HEAD_DEADLINE: Duration = Duration::from_secs(600);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Finishes the TLS handshake, then serves.
pub(super) async fn serve_tls(
    app: Arc<App>,
    tls: &TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    drain: Drain,
) {
    if let Ok(Ok(stream)) = timeout(HANDSHAKE_DEADLINE, tls.accept(stream)).await {
        let session = stream.get_ref().1;
        let seen = TlsReport {
            server_name: session.server_name().map(str::to_owned),
            client_certificate: session.peer_certificates().is_some(),
        };
        serve(app, stream, peer, Some(seen), drain).await;
    }
}

/// Serves requests until the client leaves or the server stops.
pub(super) async fn serve<S>(
    app: Arc<App>,
    stream: S,
    peer: SocketAddr,
    tls: Option<TlsReport>,
    mut drain: Drain,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let held = drain.clone();
    let service =
        service_fn(move |request| http::answer(app.clone(), peer, tls.clone(), request, held.clone()));
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(1000);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // How a connection ends is the client's business: requests were answered or not, there is nobody to tell.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = drain.stopped() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
