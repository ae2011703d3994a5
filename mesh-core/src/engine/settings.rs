//! What a binary tells the engine once, at start. What may change while it runs comes with the snapshot.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use super::codec::{h1, h2};
use crate::broker::Broker;

/// The socket mark that capture rules leave alone.
pub const MARK: u32 = 1337;

/// How an engine is set up.
#[derive(Debug)]
pub struct Settings {
    /// Worker threads; zero counts as one.
    pub workers: usize,
    /// Where captured outbound connections arrive; `None` for gateways.
    pub outbound: Option<Entrance>,
    /// Where captured inbound connections arrive; `None` for gateways.
    pub inbound: Option<Entrance>,
    /// The address on which a gateway opens the listeners that its configuration names; `None` for sidecars.
    pub gateway: Option<IpAddr>,
    /// Whether a gateway's cleartext servers also take clients that do not speak mesh TLS. Default true; an egress
    /// gateway, whose clients are the mesh's own, takes none unless told to (D7).
    pub plaintext: bool,
    /// Listening sockets opened by someone else, by port; used instead of opening the port.
    pub inherited: HashMap<u16, TcpListener>,
    /// The mark set on upstream sockets, so that capture leaves them alone. Default [`MARK`].
    pub mark: Option<u32>,
    /// Who opens connections to addresses outside of the mesh's own networks; ourselves when `None`.
    pub broker: Option<Broker>,
    /// Who resolves the names of destinations; empty for those of `/etc/resolv.conf`.
    pub resolvers: Vec<SocketAddr>,
    /// PEM file with authorities that count beside the system's for TLS that is originated.
    pub extra_roots: Option<PathBuf>,
    /// Bounds on time and space.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 1,
            outbound: None,
            inbound: None,
            gateway: None,
            plaintext: true,
            inherited: HashMap::new(),
            mark: Some(MARK),
            broker: None,
            resolvers: Vec::new(),
            extra_roots: None,
            limits: Limits::default(),
        }
    }
}

impl Settings {
    /// A sidecar with the usual ports, 15001 and 15006, on all addresses.
    pub fn sidecar() -> Self {
        let entrance = |port| Entrance {
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            capture: Capture::Kernel,
        };
        Self { outbound: Some(entrance(15001)), inbound: Some(entrance(15006)), ..Self::default() }
    }

    /// A gateway, with the listening sockets it was given.
    pub fn gateway(inherited: HashMap<u16, TcpListener>) -> Self {
        Self { gateway: Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), inherited, ..Self::default() }
    }
}

/// A listener for captured connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entrance {
    /// Where it listens; port 0 lets the system choose.
    pub address: SocketAddr,
    /// How the address that the client dialled is learnt.
    pub capture: Capture,
}

/// How the address that a client dialled is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capture {
    /// From the kernel's address translation (`SO_ORIGINAL_DST`).
    Kernel,
    /// It is always this one: for programs that embed the engine, and for tests.
    Fixed(SocketAddr),
}

/// Bounds on time and space. Every await on the network ends by one of these, or by a route's own timeout.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Downstream connections of one worker; more wait in the listener's queue. Default 16,384.
    pub connections: usize,
    /// How long the first bytes of an undeclared protocol are waited for. Default 100 ms.
    pub detect: Duration,
    /// For a TLS handshake, and for the first bytes where a protocol is declared. Default 10 s.
    pub handshake: Duration,
    /// A stream on which neither side sends anything. Default 5 min (Envoy's `stream_idle_timeout`).
    pub stream_idle: Duration,
    /// A TCP connection on which neither side sends anything. Default 1 h (Envoy's TCP proxy).
    pub tcp_idle: Duration,
    /// An idle downstream connection between requests. Default 1 h (Envoy's HTTP connection manager).
    pub keep_alive: Duration,
    /// How much of a request body is kept to be able to send it again. Default 64 KiB.
    pub replay: usize,
    /// How long the control plane's answer is waited for. Default 5 s.
    pub discovery: Duration,
    /// Idle connections kept for one endpoint by one worker. Default 256.
    pub idle_per_endpoint: usize,
    /// Bounds of HTTP/1.1 connections; their idle time is `keep_alive`.
    pub http1: h1::Limits,
    /// Bounds of HTTP/2 connections.
    pub http2: h2::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            detect: Duration::from_millis(100),
            handshake: Duration::from_secs(10),
            stream_idle: Duration::from_secs(300),
            tcp_idle: Duration::from_secs(3600),
            keep_alive: Duration::from_secs(3600),
            replay: 64 * 1024,
            discovery: Duration::from_secs(5),
            idle_per_endpoint: 256,
            http1: h1::Limits { idle_time: Duration::from_secs(3600), ..h1::Limits::default() },
            http2: h2::Limits::default(),
        }
    }
}
