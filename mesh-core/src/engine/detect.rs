//! What a connection carries, told by its first bytes. Nothing is consumed.

use std::io;
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::AsyncRead;
use tokio::time::{Instant, timeout_at};

use super::codec::preface::Preface;
use super::stream::Ahead;
use crate::name::Host;
use crate::tls::alpn;

/// More than any ClientHello of a sane client; a longer one is not looked into.
const MAX_HELLO: usize = 16 * 1024;

/// What the first bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum First {
    /// A TLS ClientHello.
    Tls(Hello),
    /// A request line.
    Http1,
    /// The connection preface.
    Http2,
    /// Something else.
    Other,
    /// Nothing, or too little to tell, in the time given.
    Silent,
    /// The peer closed without a byte.
    Closed,
}

/// What a ClientHello says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Hello {
    /// The server name, if it is one.
    pub(crate) sni: Option<Host>,
    /// Whether it offers one of the mesh's protocols.
    pub(crate) mesh: bool,
}

/// Reads ahead until the protocol is plain, at most for `wait`.
pub(crate) async fn first_bytes<S: AsyncRead + Unpin>(
    stream: &mut Ahead<S>,
    wait: Duration,
) -> io::Result<First> {
    let deadline = Instant::now() + wait;
    loop {
        if let Some(first) = tell(stream.seen()) {
            return Ok(first);
        }
        match timeout_at(deadline, stream.read_ahead()).await {
            Err(_) => return Ok(First::Silent),
            Ok(read) => {
                if read? == 0 {
                    return Ok(if stream.seen().is_empty() { First::Closed } else { First::Other });
                }
            }
        }
    }
}

/// What the bytes are, or `None` when more are needed.
fn tell(seen: &[u8]) -> Option<First> {
    match Preface::detect(seen)? {
        Preface::Http1 => Some(First::Http1),
        Preface::Http2 => Some(First::Http2),
        Preface::Other => Some(First::Other),
        Preface::Tls => hello(seen),
    }
}

fn hello(seen: &[u8]) -> Option<First> {
    let mut acceptor = Acceptor::default();
    let mut unread = seen;
    while !unread.is_empty() {
        if acceptor.read_tls(&mut unread).is_err() {
            return Some(First::Other);
        }
    }
    match acceptor.accept() {
        Err(_) => Some(First::Other),
        Ok(None) if seen.len() > MAX_HELLO => Some(First::Other),
        Ok(None) => None,
        Ok(Some(accepted)) => {
            let hello = accepted.client_hello();
            let sni = hello.server_name().and_then(|name| Host::parse(name).ok());
            let mesh = hello.alpn().is_some_and(|mut offered| offered.any(alpn::is_mesh));
            Some(First::Tls(Hello { sni, mesh }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_says_nothing_is_not_waited_for() {
        let (_client, server) = tokio::io::duplex(64);
        let mut stream = Ahead::new(server);
        assert_eq!(first_bytes(&mut stream, Duration::from_millis(5)).await.unwrap(), First::Silent);
    }

    #[tokio::test]
    async fn nothing_is_consumed() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut client, server) = tokio::io::duplex(64);
        let mut stream = Ahead::new(server);
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        assert_eq!(first_bytes(&mut stream, Duration::from_secs(5)).await.unwrap(), First::Http1);
        let mut read = [0; 16];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"GET / HTTP/1.1\r\n");
    }
}
