//! Behaviour of the HTTP/2 codec, ours against ours and against hyper's bare ends. `HB-*` and `H2-*` are lines of the
//! attack list.

use std::cell::RefCell;
use std::future::{pending, ready};
use std::rc::Rc;

use bytes::Bytes;
use tokio::io::{DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};

use super::{H2Client, Limits, Sending, connect, serve_h2};
use crate::engine::body::{Body, BodyError, Frame, Source};
use crate::engine::codec::{Reject, SendError, Sent};
use crate::failure::{Failure, Replay};
use crate::message::{Headers, Method, RequestHead, ResponseHead, Scheme, Version};
use crate::name::Host;

fn request(method: &'static str, path: &'static str) -> RequestHead {
    RequestHead {
        method: Method::parse(Bytes::from_static(method.as_bytes())).unwrap(),
        scheme: Scheme::Http,
        host: Host::parse("x").unwrap(),
        authority: Bytes::from_static(b"x"),
        path: Bytes::from_static(path.as_bytes()),
        query: Some(Bytes::from_static(b"q")),
        version: Version::Http2,
        upgrade: None,
        headers: Headers::default(),
    }
}

type Heads = Rc<RefCell<Vec<Result<RequestHead, Reject>>>>;

/// A server that sends bodies back and notes the heads.
fn echo(io: DuplexStream) -> Heads {
    let heads = Heads::default();
    let noted = Rc::clone(&heads);
    let handler = async move |head: Result<RequestHead, Reject>, body| {
        let status = head.as_ref().map_or_else(|reject| reject.failure.consequence().status, |_| 200);
        noted.borrow_mut().push(head);
        (ResponseHead::new(status), body)
    };
    spawn_local(serve_h2(io, Scheme::Https, Limits::default(), pending(), handler));
    heads
}

async fn pair() -> (H2Client, Heads) {
    let (io, upstream) = duplex(1 << 16);
    let heads = echo(upstream);
    (connect(io, Limits::default()).await.unwrap(), heads)
}

async fn read(mut body: Body) -> Result<(Vec<u8>, Headers), BodyError> {
    let (mut data, mut trailers) = (Vec::new(), Headers::default());
    while let Some(frame) = body.frame().await {
        match frame? {
            Frame::Data(bytes) => data.extend_from_slice(&bytes),
            Frame::Trailers(fields) => trailers = fields,
        }
    }
    Ok((data, trailers))
}

/// A body that gives out what it is told to.
struct Script(std::vec::IntoIter<Result<Frame, BodyError>>);

impl Source for Script {
    fn poll_frame(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame, BodyError>>> {
        std::task::Poll::Ready(self.0.next())
    }
}

fn script(frames: impl IntoIterator<Item = Result<Frame, BodyError>>) -> Body {
    Body::stream(Script(frames.into_iter().collect::<Vec<_>>().into_iter()))
}

#[tokio::test]
async fn h2_10_bodies_and_trailers_pass_both_ways() {
    LocalSet::new()
        .run_until(async {
            let (client, heads) = pair().await;
            let mut trailers = Headers::default();
            trailers.append("Grpc-Status", "0");
            trailers.append("authorization", "dropped");
            let body = script([Ok(Frame::Data(vec![7; 300_000].into())), Ok(Frame::Trailers(trailers))]);
            let mut head = request("POST", "/a");
            head.headers.append("TE", "trailers");
            head.headers.append("Connection", "X");
            let (answer, body) = client.send(&head, body).await.unwrap();
            assert_eq!((answer.status, client.active_streams()), (200, 1));
            let (data, trailers) = read(body).await.unwrap();
            assert_eq!(
                (data.len(), trailers.get("grpc-status"), trailers.len()),
                (300_000, Some(&b"0"[..]), 1)
            );
            assert_eq!(client.active_streams(), 0);
            let heads = heads.borrow();
            let seen = heads[0].as_ref().unwrap();
            assert_eq!((&seen.path[..], seen.query.as_deref()), (&b"/a"[..], Some(&b"q"[..])));
            assert_eq!((seen.scheme, seen.version, seen.host.as_str()), (Scheme::Https, Version::Http2, "x"));
            assert_eq!((seen.headers.get("te"), seen.headers.len()), (Some(&b"trailers"[..]), 1));
        })
        .await;
}

/// Sends what hyper's bare client lets one send.
async fn raw(request: http::Request<()>) -> (u16, Result<RequestHead, Reject>) {
    LocalSet::new()
        .run_until(async {
            let (io, upstream) = duplex(1 << 16);
            let heads = echo(upstream);
            let io = hyper_util::rt::TokioIo::new(io);
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(super::OnWorker, io).await.unwrap();
            spawn_local(connection);
            let response = sender.send_request(request.map(|()| Sending(Body::empty()))).await.unwrap();
            let head = heads.borrow_mut().remove(0);
            (response.status().as_u16(), head)
        })
        .await
}

#[tokio::test]
async fn hb15_h2_03_h2_04_ambiguous_heads_are_refused() {
    let get = |uri: &str| http::Request::get(uri);
    for request in [
        get("http://x/").header("host", "evil"),
        get("http://x/").header("host", "x").header("host", "x"),
        get("http://u@x/"),
        get("http://a,b/").header("host", "a,b"),
        get("http://x/\u{e9}"),
        http::Request::builder().method("get").uri("http://x/"),
        http::Request::builder().method("GET").uri("*"),
    ] {
        let Ok(request) = request.body(()) else { continue };
        let shown = format!("{request:?}");
        let (status, head) = raw(request).await;
        assert_eq!((status, head.map(|_| ()).unwrap_err().failure), (400, Failure::BadRequest), "{shown}");
    }
    let connect =
        http::Request::builder().method("GET").uri("http://x/").header("expect", "y").body(()).unwrap();
    assert_eq!(raw(connect).await.0, 417);
}

#[tokio::test]
async fn h2_10_cookie_crumbs_are_one_field_again() {
    let request =
        http::Request::get("http://x/").header("cookie", "a=1").header("cookie", "b=2").body(()).unwrap();
    let head = raw(request).await.1.unwrap();
    assert_eq!(head.headers.get_all("cookie").collect::<Vec<_>>(), [b"a=1; b=2"]);
}

#[tokio::test]
async fn ds11_too_many_fields_are_refused() {
    let mut request = http::Request::get("http://x/");
    for _ in 0..101 {
        request = request.header("x", "y");
    }
    assert_eq!(raw(request.body(()).unwrap()).await.0, 431);
}

#[tokio::test]
async fn a_failing_body_resets_its_stream_alone() {
    LocalSet::new()
        .run_until(async {
            let (client, _) = pair().await;
            let cut = || Err(BodyError::Cut(std::io::ErrorKind::UnexpectedEof));
            let sent = client.send(&request("POST", "/"), script([Ok(Frame::Data("a".into())), cut()])).await;
            let failed = match sent {
                Err(_) => true,
                Ok((_, body)) => read(body).await.is_err(),
            };
            assert!(failed);
            let (_, body) = client.send(&request("POST", "/"), Body::full("b")).await.unwrap();
            assert_eq!(read(body).await.unwrap().0, b"b");
        })
        .await;
}

#[tokio::test]
async fn a_refused_stream_may_be_sent_again_and_a_reset_one_may_not() {
    LocalSet::new()
        .run_until(async {
            for (reason, replay) in [
                (h2::Reason::REFUSED_STREAM, Replay::NeverSeen),
                (h2::Reason::CANCEL, Replay::MayHaveBeenSeen),
            ] {
                let (io, upstream) = duplex(1 << 16);
                spawn_local(async move {
                    let mut connection = h2::server::handshake(upstream).await.unwrap();
                    while let Some(Ok((_, mut answer))) = connection.accept().await {
                        answer.send_reset(reason);
                    }
                });
                let client = connect(io, Limits::default()).await.unwrap();
                let error = client.send(&request("GET", "/"), Body::empty()).await.unwrap_err();
                assert_eq!(error.replay(), replay, "{error}");
            }
        })
        .await;
}

#[tokio::test]
async fn a_closed_connection_takes_nothing() {
    LocalSet::new()
        .run_until(async {
            let (io, upstream) = duplex(1 << 16);
            let handler = async |_, _| (ResponseHead::new(200), Body::empty());
            let served = spawn_local(serve_h2(upstream, Scheme::Http, Limits::default(), ready(()), handler));
            let client = connect(io, Limits::default()).await.unwrap();
            // Told to stop before the preface came, it ends in whatever way: only that it ends matters here.
            let _ = served.await.unwrap();
            let error = client.send(&request("GET", "/"), Body::empty()).await.unwrap_err();
            assert!(
                matches!(error, SendError::Closed { sent: Sent::Nothing, .. } | SendError::Refused),
                "{error:?}"
            );
            assert!(!client.is_ready());
        })
        .await;
}

#[tokio::test]
async fn the_upstreams_limit_of_streams_is_known() {
    LocalSet::new()
        .run_until(async {
            let (io, upstream) = duplex(1 << 16);
            let limits = Limits { concurrent_streams: 1, ..Limits::default() };
            let handler = async |_, _| (ResponseHead::new(200), Body::full("a"));
            spawn_local(serve_h2(upstream, Scheme::Http, limits, pending(), handler));
            let client = connect(io, Limits::default()).await.unwrap();
            let (_, body) = client.send(&request("GET", "/"), Body::empty()).await.unwrap();
            assert!(client.max_streams() == 1 && !client.is_ready());
            read(body).await.unwrap();
            assert!(client.is_ready());
        })
        .await;
}

#[tokio::test]
async fn shutdown_lets_streams_under_way_finish() {
    LocalSet::new()
        .run_until(async {
            let (io, upstream) = duplex(1 << 16);
            let (stop, go, begun) = (Rc::new(Notify::new()), Rc::new(Notify::new()), Rc::new(Notify::new()));
            let (stopped, gone, started) = (Rc::clone(&stop), Rc::clone(&go), Rc::clone(&begun));
            let handler = async move |_, _| {
                started.notify_one();
                gone.notified().await;
                (ResponseHead::new(200), Body::full("done"))
            };
            let shutdown = async move { stopped.notified().await };
            let served = spawn_local(serve_h2(upstream, Scheme::Http, Limits::default(), shutdown, handler));
            let client = connect(io, Limits::default()).await.unwrap();
            let drive = async {
                begun.notified().await;
                stop.notify_one();
                tokio::task::yield_now().await;
                go.notify_one();
            };
            let head = request("GET", "/");
            let (answer, ()) = tokio::join!(client.send(&head, Body::empty()), drive);
            assert_eq!(read(answer.unwrap().1).await.unwrap().0, b"done");
            served.await.unwrap().unwrap();
        })
        .await;
}

#[tokio::test]
async fn hb19_a_client_that_only_cancels_is_shown_out() {
    LocalSet::new()
        .run_until(async {
            let (io, upstream) = duplex(1 << 16);
            let begun = Rc::new(Notify::new());
            let started = Rc::clone(&begun);
            let handler = async move |_, _| {
                started.notify_one();
                pending().await
            };
            let limits = Limits { cancelled: 5, ..Limits::default() };
            let served = spawn_local(serve_h2(upstream, Scheme::Http, limits, pending(), handler));
            let client = connect(io, Limits::default()).await.unwrap();
            let head = request("GET", "/");
            while !client.is_closed() && !served.is_finished() {
                tokio::select! {
                    _ = client.send(&head, Body::empty()) => {}
                    () = begun.notified() => {}
                }
            }
        })
        .await;
}
