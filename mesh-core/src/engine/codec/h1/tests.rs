//! Behaviour of the HTTP/1.1 codec. `SM-*` and `HB-*` are lines of the attack list.

mod early;
mod oracle;
mod properties;
mod refused;
mod requests;
mod upstream;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::{ClientConnection, Limits, ServerConnection};
use crate::engine::body::{Body, BodyError, Frame};
use crate::failure::Failure;
use crate::message::{Headers, Method, RequestHead, ResponseHead, Scheme, Version};
use crate::name::Host;

/// The request that no attack may bring to life.
const SMUGGLED: &str = "GET /smug HTTP/1.1\r\nHost: x\r\n\r\n";

/// What a server made of some bytes.
#[derive(Debug, PartialEq)]
enum Seen {
    /// Method, path, body.
    Request(String, String, String),
    BodyFailed(String),
    Refused(Failure),
}

fn seen(method: &str, path: &str, body: &str) -> Seen {
    Seen::Request(method.to_owned(), path.to_owned(), body.to_owned())
}

fn server(io: DuplexStream) -> ServerConnection<DuplexStream> {
    ServerConnection::new(io, Scheme::Http, Limits::default())
}

/// Sends `bytes` and then the end of the stream; every request is read whole and answered with 200. Gives back what
/// was seen and the answers.
async fn exchange(bytes: impl AsRef<[u8]>) -> (Vec<Seen>, String) {
    let (mut client, io) = duplex(1 << 20);
    client.write_all(bytes.as_ref()).await.unwrap();
    client.shutdown().await.unwrap();
    let mut connection = server(io);
    let mut all = Vec::new();
    loop {
        let (status, what) = match connection.next_request().await {
            Ok(None) => break,
            Err(reject) => (reject.failure.consequence().status, Seen::Refused(reject.failure)),
            Ok(Some((head, body))) => match read(body).await {
                Ok((data, _)) => (200, seen(head.method.as_str(), &text(&head.path), &text(&data))),
                Err(error) => (400, Seen::BodyFailed(error.to_string())),
            },
        };
        all.push(what);
        connection.respond(&ResponseHead::new(status), Body::empty()).await.unwrap();
    }
    drop(connection);
    let mut answers = String::new();
    client.read_to_string(&mut answers).await.unwrap();
    (all, answers)
}

/// Reads a body to its end.
async fn read(mut body: Body) -> Result<(Bytes, Headers), BodyError> {
    let (mut data, mut trailers) = (Vec::new(), Headers::default());
    while let Some(frame) = body.frame().await {
        match frame? {
            Frame::Data(bytes) => data.extend_from_slice(&bytes),
            Frame::Trailers(fields) => trailers = fields,
        }
    }
    Ok((data.into(), trailers))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn request(method: &'static str, path: &'static str) -> RequestHead {
    RequestHead {
        method: Method::parse(Bytes::from_static(method.as_bytes())).unwrap(),
        scheme: Scheme::Http,
        host: Host::parse("x").unwrap(),
        authority: Bytes::from_static(b"x"),
        path: Bytes::from_static(path.as_bytes()),
        query: None,
        version: Version::Http11,
        upgrade: None,
        headers: Headers::default(),
    }
}

fn client(io: DuplexStream) -> ClientConnection<DuplexStream> {
    ClientConnection::new(io, Limits::default())
}

/// Reads until `end` has come.
async fn read_until(io: &mut DuplexStream, end: &str) -> String {
    let mut received = Vec::new();
    while !received.ends_with(end.as_bytes()) {
        let byte = io.read_u8().await.unwrap_or_else(|_| panic!("no {end:?} in {:?}", text(&received)));
        received.push(byte);
    }
    text(&received)
}

const fn ignore(_: u16, _: &Headers) {}
