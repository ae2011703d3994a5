//! The backend's gRPC: a unary call is answered with as many bytes as its method says, `/bench.Echo/64`.

use std::convert::Infallible;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

pub(crate) const CONTENT_TYPE: &str = "application/grpc";
pub(crate) const STATUS: &str = "grpc-status";
/// Requests at once on one connection: more than any case has, for a peer may send all over one.
const STREAMS: u32 = 1_000;

/// Whether a connection begins as HTTP/2 does. Nothing is consumed.
pub(crate) async fn is_spoken(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0; 2];
    let seen = stream.peek(&mut first).await?;
    // No method of ours begins so.
    Ok(first[..seen] == *b"PR")
}

/// Serves a connection until it ends. `filler` is what messages are made of.
pub(crate) async fn serve(stream: TcpStream, filler: &'static [u8]) -> hyper::Result<()> {
    let service = service_fn(move |request| answer(request, filler));
    http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(STREAMS)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(
    request: Request<Incoming>,
    filler: &'static [u8],
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let asked = request.uri().path().rsplit('/').next().and_then(|length| length.parse().ok());
    let asked = asked.unwrap_or(0).min(filler.len());
    // A call that breaks is the generator's to notice.
    let _ = request.into_body().collect().await;
    let trailers = HeaderMap::from_iter([(STATUS.parse().expect("a name"), HeaderValue::from_static("0"))]);
    let frames = [Frame::data(message(&filler[..asked])), Frame::trailers(trailers)];
    let mut response = Response::new(StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>))));
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    Ok(response)
}

/// A message with its prefix: not compressed, and its length.
pub(crate) fn message(content: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(5 + content.len());
    message.put_u8(0);
    message.put_u32(u32::try_from(content.len()).unwrap_or(u32::MAX));
    message.put_slice(content);
    message.freeze()
}
