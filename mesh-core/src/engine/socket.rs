//! Sockets: how listeners are opened, what is set on connections, and what the kernel knows about them.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Once;

use rustix::io::Errno;
use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::model::Keepalive;

const BACKLOG: i32 = 4096;

/// Opens one listening socket per worker on the same address, so that the kernel spreads connections over them.
///
/// The address is first bound without sharing: two processes would otherwise share a port in silence, each getting
/// half of the connections.
pub(crate) fn listen(address: SocketAddr, workers: usize) -> io::Result<Vec<StdListener>> {
    if address.port() != 0 {
        open(address, false)?;
    }
    let first = open(address, true)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(open(address, true)?);
    }
    for listener in &listeners {
        SockRef::from(listener).listen(BACKLOG)?;
    }
    Ok(listeners)
}

/// One handle per worker of a listening socket that somebody else has opened: they share its queue.
pub(crate) fn share(listener: &StdListener, workers: usize) -> io::Result<Vec<StdListener>> {
    listener.set_nonblocking(true)?;
    (0..workers).map(|_| listener.try_clone()).collect()
}

fn open(address: SocketAddr, shared: bool) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The address that the client dialled, before the kernel translated it.
///
/// `None` when the connection was not translated: somebody dialled our own listener, and to forward it would make it
/// chase itself.
pub(crate) fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    let local = canonical(stream.local_addr().ok()?);
    let original = match local {
        SocketAddr::V4(_) => sockopt::ip_original_dst(stream).map(SocketAddr::V4),
        SocketAddr::V6(_) => sockopt::ipv6_original_dst(stream).map(SocketAddr::V6),
    };
    original.ok().map(canonical).filter(|original| *original != local)
}

/// An IPv4 address that arrived on an IPv6 socket, written as what it is.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A socket for a connection to an upstream.
pub(crate) fn upstream(address: SocketAddr, mark: Option<u32>) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_nodelay(true)?;
    exempt(&SockRef::from(&socket), mark);
    Ok(socket)
}

/// Without the mark our own traffic would be captured and come back to us. Where the process may not set it, capture must
/// tell us by our user; that is said once.
pub(crate) fn exempt(socket: &Socket, mark: Option<u32>) {
    static WARNED: Once = Once::new();
    if let Some(mark) = mark
        && let Err(error) = socket.set_mark(mark)
    {
        WARNED.call_once(|| {
            tracing::warn!(%error, mark, "cannot mark upstream sockets: capture must exempt this process's user");
        });
    }
}

/// Has the operating system probe an idle connection. What cannot be set is left as it is: the connection works without.
pub(crate) fn keep_alive(stream: &TcpStream, probes: &Keepalive) {
    let mut wanted = TcpKeepalive::new();
    if let Some(time) = probes.time {
        wanted = wanted.with_time(time.duration());
    }
    if let Some(interval) = probes.interval {
        wanted = wanted.with_interval(interval.duration());
    }
    if let Some(count) = probes.probes {
        wanted = wanted.with_retries(count);
    }
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&wanted) {
        tracing::debug!(%error, "keep-alive could not be set");
    }
}

/// Whether an accept failed because something ran out, so that trying at once would only spin.
pub(crate) fn exhausted(error: &io::Error) -> bool {
    let out = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    out.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
