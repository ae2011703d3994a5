//! One question to a resolver (RFC 1035), over UDP and, where the answer is cut, over TCP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::Unresolved;
use crate::engine::socket;
use crate::name::Host;

/// More are ignored, as the C library does.
const MOST_NAMESERVERS: usize = 3;
/// For one resolver; the next is asked then.
const PATIENCE: Duration = Duration::from_millis(1500);
const LONGEST_UDP: usize = 4096;
/// Addresses of one answer that are used.
const MOST_ADDRESSES: usize = 64;

/// The resolvers a resolv.conf names, in its order. Lines that cannot be read are skipped.
pub fn nameservers(resolv_conf: &str) -> Vec<SocketAddr> {
    let address = |line: &str| -> Option<SocketAddr> {
        let mut words = line.split_whitespace();
        let address: IpAddr = (words.next()? == "nameserver").then(|| words.next()?.parse().ok())??;
        Some(SocketAddr::new(address, 53))
    };
    resolv_conf.lines().filter_map(address).take(MOST_NAMESERVERS).collect()
}

/// The addresses of a name and how long they count: of IPv4, or of IPv6 where there are no others.
pub(super) async fn ask_all(
    servers: &[SocketAddr],
    mark: Option<u32>,
    host: &Host,
) -> Result<(Vec<IpAddr>, Duration), Unresolved> {
    let mut last = Unresolved::NoResolver;
    for &server in servers {
        match of_either_family(server, mark, host).await {
            Ok(found) => return Ok(found),
            Err(Unresolved::NoSuchName) => return Err(Unresolved::NoSuchName),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn of_either_family(
    server: SocketAddr,
    mark: Option<u32>,
    host: &Host,
) -> Result<(Vec<IpAddr>, Duration), Unresolved> {
    for kind in [RecordType::A, RecordType::AAAA] {
        let asked = timeout(PATIENCE, ask(server, mark, host, kind)).await;
        let reply = asked.map_err(|_| no_answer(server, "timeout"))?;
        let reply = reply.map_err(|error| no_answer(server, error))?;
        match reply.metadata.response_code {
            ResponseCode::NoError => {}
            ResponseCode::NXDomain => return Err(Unresolved::NoSuchName),
            other => return Err(no_answer(server, other)),
        }
        let found = addresses(&reply);
        if !found.0.is_empty() {
            return Ok(found);
        }
    }
    Err(Unresolved::NoSuchName)
}

fn no_answer(server: SocketAddr, why: impl std::fmt::Display) -> Unresolved {
    Unresolved::NoAnswer(format!("{server}: {why}"))
}

/// The chain of aliases that leads to the addresses counts as long as its shortest link.
fn addresses(reply: &Message) -> (Vec<IpAddr>, Duration) {
    let ttl = reply.answers.iter().map(|record| record.ttl).min().unwrap_or_default();
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    let found = reply.answers.iter().filter_map(|record| address(&record.data)).take(MOST_ADDRESSES);
    (found.collect(), Duration::from_secs(ttl.into()))
}

async fn ask(server: SocketAddr, mark: Option<u32>, host: &Host, kind: RecordType) -> io::Result<Message> {
    let mut query = Message::new(fastrand::u16(..), MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    let name = Name::from_ascii(format!("{host}.")).map_err(io::Error::other)?;
    query.add_query(Query::query(name, kind));
    let bytes = query.to_vec().map_err(io::Error::other)?;
    let reply = over_udp(server, mark, &query, &bytes).await?;
    if reply.metadata.truncation { over_tcp(server, mark, &query, &bytes).await } else { Ok(reply) }
}

/// Skips datagrams that are not the answer: a forger must not be able to end the wait.
async fn over_udp(
    server: SocketAddr,
    mark: Option<u32>,
    query: &Message,
    bytes: &[u8],
) -> io::Result<Message> {
    let socket = Socket::new(Domain::for_address(server), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket::exempt(&SockRef::from(&socket), mark);
    let any = match server {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    socket.bind(&SocketAddr::new(any, 0).into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; LONGEST_UDP];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(reply) = reply_to(query, &buffer[..length]) {
            return Ok(reply);
        }
    }
}

async fn over_tcp(
    server: SocketAddr,
    mark: Option<u32>,
    query: &Message,
    bytes: &[u8],
) -> io::Result<Message> {
    let mut stream = socket::upstream(server, mark)?.connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    reply_to(query, &answer).ok_or_else(|| io::Error::other("the answer is to another question"))
}

fn reply_to(query: &Message, bytes: &[u8]) -> Option<Message> {
    let reply = Message::from_vec(bytes).ok()?;
    let ours = reply.metadata.id == query.metadata.id
        && reply.metadata.message_type == MessageType::Response
        && reply.queries == query.queries;
    ours.then_some(reply)
}
