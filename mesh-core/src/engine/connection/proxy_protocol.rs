//! The PROXY protocol, versions 1 and 2: a load balancer says before the first byte who its client is
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! Read at gateways only where an operator says that one stands in front (`gatewayTopology.proxyProtocol`): anybody else
//! could name any client. Who says nothing there is turned away. Extensions are read over, and so are addresses that are
//! not of the internet: the balancer itself is the client then.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::engine::stream::Ahead;

/// The longest header of version 1, its end included (specification §2.1).
const LONGEST_LINE: usize = 107;
const TEXT: &[u8] = b"PROXY ";
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;
/// Extensions may make a header of version 2 longer than its addresses; more than this is nobody's.
const LONGEST_REST: usize = 4096;

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoHeader {
    #[error("reading it failed")]
    Read(#[source] io::Error),
    #[error("the connection was closed within it")]
    Closed,
    #[error("it took too long")]
    Timeout,
    #[error("the first bytes are none")]
    Malformed,
}

/// A header, and where it ends.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    length: usize,
    client: Option<SocketAddr>,
}

/// Takes the header off a stream; `None` when the balancer speaks for itself.
pub(crate) async fn client<S: AsyncRead + Unpin>(
    stream: &mut Ahead<S>,
    wait: Duration,
) -> Result<Option<SocketAddr>, NoHeader> {
    timeout(wait, read(stream)).await.unwrap_or(Err(NoHeader::Timeout))
}

async fn read<S: AsyncRead + Unpin>(stream: &mut Ahead<S>) -> Result<Option<SocketAddr>, NoHeader> {
    loop {
        if let Some(header) = parse(stream.seen())? {
            let mut consumed = vec![0; header.length];
            stream.read_exact(&mut consumed).await.map_err(NoHeader::Read)?;
            return Ok(header.client);
        }
        if stream.read_ahead().await.map_err(NoHeader::Read)? == 0 {
            return Err(NoHeader::Closed);
        }
    }
}

/// The header at the beginning of what has been seen; `None` when more is needed.
fn parse(seen: &[u8]) -> Result<Option<Header>, NoHeader> {
    let begins = |signature: &[u8]| seen.iter().zip(signature).all(|(seen, expected)| seen == expected);
    match (begins(TEXT), begins(BINARY)) {
        (true, _) => text(seen),
        (_, true) => binary(seen),
        _ => Err(NoHeader::Malformed),
    }
}

fn text(seen: &[u8]) -> Result<Option<Header>, NoHeader> {
    let Some(end) = seen.windows(2).take(LONGEST_LINE - 1).position(|pair| pair == b"\r\n") else {
        return if seen.len() < LONGEST_LINE { Ok(None) } else { Err(NoHeader::Malformed) };
    };
    let line = std::str::from_utf8(&seen[TEXT.len().min(end)..end]).map_err(|_| NoHeader::Malformed)?;
    let words: Vec<&str> = line.split(' ').collect();
    let client = match words[..] {
        ["UNKNOWN", ..] => None,
        ["TCP4", source, _, port, _] => Some(endpoint::<Ipv4Addr>(source, port)?),
        ["TCP6", source, _, port, _] => Some(endpoint::<Ipv6Addr>(source, port)?),
        _ => return Err(NoHeader::Malformed),
    };
    Ok(Some(Header { length: end + 2, client }))
}

fn endpoint<A: std::str::FromStr + Into<IpAddr>>(address: &str, port: &str) -> Result<SocketAddr, NoHeader> {
    let address: A = address.parse().map_err(|_| NoHeader::Malformed)?;
    let port = port.parse().map_err(|_| NoHeader::Malformed)?;
    Ok(SocketAddr::new(address.into().to_canonical(), port))
}

fn binary(seen: &[u8]) -> Result<Option<Header>, NoHeader> {
    let Some(fixed) = seen.first_chunk::<FIXED>() else { return Ok(None) };
    let rest = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if rest > LONGEST_REST {
        return Err(NoHeader::Malformed);
    }
    let Some(body) = seen[FIXED..].get(..rest) else { return Ok(None) };
    let client = match (fixed[12], fixed[13]) {
        // Health checks of the balancer's own.
        (0x20, _) => None,
        (0x21, 0x11) => {
            let [a, b, c, d, _, _, _, _, high, low, _, _, ..] = *body else {
                return Err(NoHeader::Malformed);
            };
            Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low])))
        }
        (0x21, 0x21) => {
            let address = body.first_chunk::<16>().ok_or(NoHeader::Malformed)?;
            let port = body.get(32..36).ok_or(NoHeader::Malformed)?;
            let address = IpAddr::from(Ipv6Addr::from(*address)).to_canonical();
            Some(SocketAddr::new(address, u16::from_be_bytes([port[0], port[1]])))
        }
        (0x21, _) => None,
        _ => return Err(NoHeader::Malformed),
    };
    Ok(Some(Header { length: FIXED + rest, client }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Result<Option<Header>, String> {
        parse(bytes).map_err(|error| error.to_string())
    }

    fn binary_header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [BINARY, &[command, family], &length, body].concat()
    }

    fn v4() -> Vec<u8> {
        let addresses = [192, 0, 2, 1, 10, 0, 0, 1, 0x10, 0x01, 0, 80];
        binary_header(0x21, 0x11, &[&addresses[..], &[0x04, 0, 1, 9]].concat())
    }

    #[test]
    fn both_versions_name_the_client() {
        let v6 = [&Ipv6Addr::LOCALHOST.octets()[..], &[0; 16], &[0, 7, 0, 80]].concat();
        for (bytes, client) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4097 80\r\n".to_vec(), Some("192.0.2.1:4097")),
            (b"PROXY TCP6 2001:db8::1 ::1 5 80\r\n".to_vec(), Some("[2001:db8::1]:5")),
            (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 5 80\r\n".to_vec(), Some("192.0.2.1:5")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ff ff 1 2\r\n".to_vec(), None),
            (v4(), Some("192.0.2.1:4097")),
            (binary_header(0x21, 0x21, &v6), Some("[::1]:7")),
            (binary_header(0x20, 0x00, &[]), None),
            (binary_header(0x21, 0x31, &[0; 216]), None),
        ] {
            let client = client.map(|client| client.parse().unwrap());
            let expected = Ok(Some(Header { length: bytes.len(), client }));
            assert_eq!(of(&[&bytes[..], b"GET / HTTP/1.1\r\n"].concat()), expected, "{bytes:?}");
            // However it is cut, nothing is decided early.
            for at in 0..bytes.len() {
                assert_eq!(of(&bytes[..at]), Ok(None), "{bytes:?} cut at {at}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for bytes in [
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 80\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::1 1 80\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 70000 80\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.1 10.0.0.1 1 80\r\n".to_vec(),
            [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
            binary_header(0x11, 0x11, &[0; 12]),
            binary_header(0x22, 0x11, &[0; 12]),
            binary_header(0x21, 0x11, &[0; 11]),
            binary_header(0x21, 0x21, &[0; 33]),
            binary_header(0x21, 0x11, &[0; LONGEST_REST + 1]),
        ] {
            assert!(of(&bytes).is_err(), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn what_follows_is_left_to_be_read() {
        let bytes = [&v4()[..], b"after"].concat();
        let mut stream = Ahead::new(&bytes[..]);
        let found = client(&mut stream, Duration::from_secs(1)).await.unwrap();
        assert_eq!(found, Some("192.0.2.1:4097".parse().unwrap()));
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "after");
        let mut cut = Ahead::new(&b"PROXY TCP4"[..]);
        assert!(matches!(client(&mut cut, Duration::from_secs(1)).await, Err(NoHeader::Closed)));
    }
}
