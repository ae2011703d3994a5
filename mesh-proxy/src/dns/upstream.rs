//! Asking another resolver, over sockets that the capture rules leave alone.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Once;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::Settings;
use super::question::{LONGEST_UDP, Question, Transport};
use crate::sys;

/// The answer of the first resolver that gives one, with the question's id. The servers share the deadline.
pub(super) async fn forward(settings: &Settings, question: &Question<'_>) -> Option<Vec<u8>> {
    let deadline = Instant::now() + settings.upstream_deadline;
    for (index, &server) in settings.upstream.iter().enumerate() {
        let servers_left = u32::try_from(settings.upstream.len() - index).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / servers_left;
        match ask(settings, server, question, share).await {
            Ok(answer) => return Some(answer),
            Err(error) => debug!(%server, name = %question.query().name(), %error, "resolver gave no answer"),
        }
    }
    None
}

async fn ask(
    settings: &Settings,
    server: SocketAddr,
    question: &Question<'_>,
    share: Duration,
) -> io::Result<Vec<u8>> {
    // An id of our own: the application's may be guessable.
    let id = Message::query().metadata.id;
    let query = with_id(question.bytes, id);
    let exchange = async {
        match question.transport {
            Transport::Udp => {
                ask_over_udp(settings, server, &query, |answer| is_answer(answer, id, question)).await
            }
            Transport::Tcp => ask_over_tcp(settings, server, &query).await,
        }
    };
    let answer = timeout_at(Instant::now() + share, exchange).await??;
    if !is_answer(&answer, id, question) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is to another question"));
    }
    Ok(with_id(&answer, question.message.metadata.id))
}

/// Skips datagrams that are not the answer: a forger must not be able to end the wait.
async fn ask_over_udp(
    settings: &Settings,
    server: SocketAddr,
    query: &[u8],
    is_answer: impl Fn(&[u8]) -> bool,
) -> io::Result<Vec<u8>> {
    let socket = std::net::UdpSocket::bind((unspecified(server), 0))?;
    socket.set_nonblocking(true)?;
    exempt(settings, &socket)?;
    let socket = UdpSocket::from_std(socket)?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; usize::from(LONGEST_UDP)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if is_answer(&buffer[..length]) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn ask_over_tcp(settings: &Settings, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    exempt(settings, &socket)?;
    let mut stream = socket.connect(server).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], query].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Without the mark the query would be captured and come back to us.
fn exempt(settings: &Settings, socket: impl AsFd) -> io::Result<()> {
    static SAID: Once = Once::new();
    let Some(mark) = settings.mark else { return Ok(()) };
    sys::mark_socket(socket, mark).inspect_err(|error| {
        SAID.call_once(
            || warn!(%error, %mark, "cannot mark dns queries: give CAP_NET_ADMIN or exempt the proxy by uid"),
        );
    })
}

fn is_answer(bytes: &[u8], id: u16, question: &Question<'_>) -> bool {
    Message::from_vec(bytes).is_ok_and(|answer| {
        answer.metadata.id == id
            && answer.metadata.message_type == MessageType::Response
            && answer.queries == question.message.queries
    })
}

fn with_id(message: &[u8], id: u16) -> Vec<u8> {
    let mut bytes = message.to_vec();
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    bytes
}

fn unspecified(server: SocketAddr) -> IpAddr {
    match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
