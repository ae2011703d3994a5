//! One accepted connection, up to the protocol inside it: where it was going, who sent it, what it carries.
//!
//! Nothing of the connection's bytes is decided on here but the protocol and the peer: requests are judged one by one in
//! `http`, other connections once in `tcp`. What cannot be told apart safely is closed.

mod gateway;
mod inbound;
mod outbound;
mod proxy_protocol;
pub(crate) mod revoke;
pub(crate) mod terminate;

use std::cell::{OnceCell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;

use super::detect::First;
use super::listen::Door;
use super::settings::Capture;
use super::stream::Stream;
use super::worker::Worker;
use super::{http, socket, tcp};
use crate::decide::{Entry, Peer};
use crate::failure::Failure;
use crate::identity::SpiffeId;
use crate::message::{Scheme, Version};
use crate::name::Host;
use crate::telemetry::{Counter, Record};
use crate::tls::TlsError;

/// What is known of a downstream connection once its protocol is told.
#[derive(Debug)]
pub(crate) struct Downstream {
    /// Who is there, and where it dialled.
    pub(crate) peer: Peer,
    /// How it came in.
    pub(crate) through: Through,
    /// Of the requests on it.
    pub(crate) scheme: Scheme,
    /// When it was accepted.
    pub(crate) accepted: Instant,
    /// What a peer of the mesh has shown, leaf first: it is looked at again when other authorities are trusted.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    address: OnceCell<Bytes>,
    element: RefCell<Element>,
}

/// What upstreams are told of the peer's certificate, and by whom.
#[derive(Debug, Default)]
struct Element {
    by: Option<SpiffeId>,
    text: Option<Bytes>,
}

/// How a connection came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Through {
    /// From the workload, to this address.
    Outbound(SocketAddr),
    /// To the workload's port.
    Inbound(u16),
    /// Through a gateway's port.
    Gateway {
        /// The port.
        port: u16,
        /// The route table of HTTP; empty when the port has none.
        routes: Arc<str>,
        /// Whether TLS was terminated.
        tls: bool,
    },
}

impl Downstream {
    /// As `decide` names it.
    pub(crate) fn entry(&self) -> Entry<'_> {
        match &self.through {
            Through::Outbound(destination) => Entry::Outbound { destination: *destination },
            Through::Inbound(port) => Entry::Inbound { port: *port },
            Through::Gateway { port, routes, tls } => Entry::Gateway { port: *port, routes, tls: *tls },
        }
    }

    /// The peer's IP address as text, made when it is first needed.
    pub(crate) fn address(&self) -> &Bytes {
        self.address.get_or_init(|| self.peer.address.ip().to_string().into())
    }

    /// What upstreams are told of the peer's certificate (`x-forwarded-client-cert`); none when it has shown none. It is
    /// the same for all requests while we are the same, so `text` is asked for once.
    pub(crate) fn element(
        &self,
        by: Option<&SpiffeId>,
        text: impl FnOnce(&Peer) -> Option<Bytes>,
    ) -> Option<Bytes> {
        self.peer.tls.as_ref()?;
        let mut element = self.element.borrow_mut();
        if element.text.is_none() || element.by.as_ref() != by {
            *element = Element { by: by.cloned(), text: text(&self.peer) };
        }
        element.text.clone()
    }

    /// What is known of anything on this connection.
    pub(crate) fn record(&self, worker: &Worker) -> Record {
        worker.own().map(|own| own.record(self)).unwrap_or_default()
    }
}

/// Why a connection was closed before a protocol took it over.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("it was not captured: somebody dialled our own listener")]
    NotCaptured,
    #[error("the proxy has no configuration yet")]
    NotReady,
    #[error("no server on the port is for {0:?}")]
    NoServer(Option<Host>),
    #[error("mutual TLS is required, and it began with {0:?}")]
    MutualTlsRequired(First),
    #[error("it began with {0:?} where TLS is spoken")]
    NotTls(First),
    #[error("the peer's certificate has none of the names that the server asks for")]
    WrongPeer,
    #[error("{0}")]
    Failed(Failure),
    #[error("the TLS configuration is not usable")]
    Configuration(#[source] TlsError),
    #[error("the secret {0:?} is not there")]
    NoSecret(Option<String>),
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    #[error("the TLS handshake took too long")]
    HandshakeTimeout,
    #[error("it does not begin with a header of the PROXY protocol")]
    NoProxyHeader(#[source] proxy_protocol::NoHeader),
    #[error("reading its first bytes failed")]
    Read(#[source] io::Error),
}

impl Refused {
    const fn counter(&self) -> Option<Counter> {
        match self {
            Self::MutualTlsRequired(_) => Some(Counter::PlaintextRefused),
            Self::Handshake(_)
            | Self::HandshakeTimeout
            | Self::WrongPeer
            | Self::NoSecret(_)
            | Self::Configuration(_) => Some(Counter::HandshakesFailed),
            _ => None,
        }
    }
}

/// A connection of which everything is known that there is to know before its protocol takes it over.
pub(crate) struct Opened {
    downstream: Rc<Downstream>,
    stream: Stream,
    inside: Inside,
}

/// What a connection carries.
enum Inside {
    Http(Version),
    /// Opaque bytes, with the server name of the application's own TLS.
    Bytes(Option<Host>),
}

/// Serves a connection until it ends. What goes wrong ends this connection and is said at debug level.
pub(crate) async fn serve(worker: Rc<Worker>, door: Door, stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot switch off Nagle's algorithm");
    }
    worker.count(Counter::Connections);
    // Boxed: what it takes to learn what a connection carries is large, and goes when that is known.
    let opened = Box::pin(open(&worker, door, stream, peer)).await;
    match opened {
        Ok(Some(opened)) => opened.serve(&worker).await,
        // The client went away first.
        Ok(None) => {}
        Err(refused) => {
            if let Some(counter) = refused.counter() {
                worker.count(counter);
            }
            let cause = std::error::Error::source(&refused).map(ToString::to_string);
            tracing::debug!(%peer, ?door, %refused, cause, "connection refused");
        }
    }
}

async fn open(
    worker: &Rc<Worker>,
    door: Door,
    stream: TcpStream,
    peer: SocketAddr,
) -> Result<Option<Opened>, Refused> {
    match door {
        Door::Outbound(capture) => outbound::open(worker, stream, peer, capture).await,
        Door::Inbound(capture) => inbound::open(worker, stream, peer, capture).await,
        Door::Gateway(port) => gateway::open(worker, stream, peer, port).await,
    }
}

impl Opened {
    /// A connection of opaque bytes.
    const fn bytes(downstream: Rc<Downstream>, stream: Stream, sni: Option<Host>) -> Self {
        Self { downstream, stream, inside: Inside::Bytes(sni) }
    }

    /// Boxed, each as large as it has to be.
    pub(crate) fn serve(self, worker: &Rc<Worker>) -> LocalBoxFuture<'_, ()> {
        let Self { downstream, stream, inside } = self;
        match inside {
            Inside::Http(Version::Http2) => Box::pin(http::serve_http2(worker, downstream, stream)),
            Inside::Http(_) => Box::pin(http::serve_http1(worker, downstream, stream)),
            Inside::Bytes(sni) => Box::pin(tcp::serve(worker, downstream, stream, sni)),
        }
    }
}

#[cfg(test)]
impl Opened {
    /// A connection of requests in the clear.
    pub(crate) fn of_requests(stream: TcpStream, peer: SocketAddr) -> Self {
        let through = Through::Outbound(peer);
        let peer = Peer { address: peer, local: peer, identity: None, workload: None, tls: None };
        let stream = Stream::new(super::stream::Transport::Plain(stream));
        Self {
            downstream: downstream(peer, through, Scheme::Http),
            stream,
            inside: Inside::Http(Version::Http11),
        }
    }
}

/// The address that the client dialled.
fn destination(stream: &TcpStream, capture: Capture) -> Result<SocketAddr, Refused> {
    match capture {
        Capture::Kernel => socket::original_destination(stream).ok_or(Refused::NotCaptured),
        Capture::Fixed(address) => Ok(address),
    }
}

fn downstream(peer: Peer, through: Through, scheme: Scheme) -> Rc<Downstream> {
    downstream_with(peer, through, scheme, Vec::new())
}

/// The same for a peer of the mesh, which has shown these certificates.
fn downstream_with(
    peer: Peer,
    through: Through,
    scheme: Scheme,
    certificates: Vec<CertificateDer<'static>>,
) -> Rc<Downstream> {
    Rc::new(Downstream {
        peer,
        through,
        scheme,
        accepted: Instant::now(),
        certificates,
        address: OnceCell::new(),
        element: RefCell::default(),
    })
}
