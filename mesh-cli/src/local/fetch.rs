//! One HTTP GET on a plain connection: probes, and the admin ports of proxies and control plane.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};

/// The largest answer that is read.
const BODY_LIMIT: usize = 64 << 20;
/// The socket mark that capture exempts.
const EXEMPT_MARK: NonZeroU32 = NonZeroU32::new(1337).expect("not zero");

/// Connects without being captured by the pod's own proxy.
pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // Fails without CAP_NET_ADMIN, which only processes of the runner outside pods lack; there is no capture there.
    let _ = socket2::SockRef::from(&socket).set_mark(EXEMPT_MARK.get());
    socket.connect(address).await.with_context(|| format!("connecting to {address}"))
}

/// Fetches a path; the deadline covers everything.
pub(crate) async fn get(
    address: SocketAddr,
    path: &str,
    deadline: Duration,
) -> anyhow::Result<(u16, String)> {
    get_with(address, path, &[], deadline).await
}

/// The same with further headers; one of them may be `Host`.
pub(crate) async fn get_with(
    address: SocketAddr,
    path: &str,
    headers: &[(String, String)],
    deadline: Duration,
) -> anyhow::Result<(u16, String)> {
    match tokio::time::timeout(deadline, exchange(address, path, headers)).await {
        Ok(result) => result,
        Err(_) => bail!("{address} did not answer within {deadline:?}"),
    }
}

async fn exchange(
    address: SocketAddr,
    path: &str,
    headers: &[(String, String)],
) -> anyhow::Result<(u16, String)> {
    let stream = connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends when `sender` is dropped.
    tokio::task::spawn_local(connection);
    let mut request = http::Request::get(path);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header(http::header::HOST, address.to_string());
    }
    request = request.header(http::header::USER_AGENT, "mesh-runner");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    let request = request.body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.with_context(|| format!("asking {address}{path}"))?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("reading the answer of {address}{path}: {error}"))?;
    Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}
