//! The client side: what an upstream may answer, and what becomes of the connection.

use std::io::ErrorKind;

use futures_util::FutureExt as _;

use super::*;
use crate::engine::codec::{SendError, Sent};
use crate::failure::Replay;

const REQUEST_END: &str = "\r\n\r\n";

/// Sends `head` to an upstream that answers `response` and leaves the connection open. Gives back the answer's status
/// and body, and whether the connection may be used again.
async fn answered(head: &RequestHead, response: impl AsRef<[u8]>) -> (Result<(u16, String), String>, bool) {
    let (io, mut upstream) = duplex(1 << 20);
    let mut connection = client(io);
    let serve = async {
        read_until(&mut upstream, REQUEST_END).await;
        upstream.write_all(response.as_ref()).await.unwrap();
        upstream.shutdown().await.unwrap();
    };
    let ask = async {
        let (head, body) =
            connection.send(head, Body::empty(), ignore).await.map_err(|error| error.to_string())?;
        let (data, _) = read(body).await.map_err(|error| error.to_string())?;
        Ok((head.status, text(&data)))
    };
    let (answer, ()) = tokio::join!(ask, serve);
    let reusable = connection.is_reusable();
    (answer, reusable)
}

#[tokio::test]
async fn sm17_an_ambiguous_answer_is_refused_and_the_connection_never_reused() {
    let heads: [(&str, &[u8]); 18] = [
        ("CL and TE", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("two CL", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ("same CL twice", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"),
        ("CL list", b"HTTP/1.1 200 OK\r\nContent-Length: 1,1\r\n\r\na"),
        ("TE list", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("TE in 1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("bad chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        ("bare CR", b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n"),
        ("bare LF", b"HTTP/1.1 200 OK\nX: a\n\n"),
        ("NUL", b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n"),
        ("folded", b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n"),
        ("status", b"HTTP/1.1 099 No\r\n\r\n"),
        ("status 600", b"HTTP/1.1 600 No\r\n\r\n"),
        ("version", b"HTTP/2.0 200 OK\r\n\r\n"),
        ("empty line first", b"\r\nHTTP/1.1 200 OK\r\n\r\n"),
        ("cut head", b"HTTP/1.1 200 OK\r\nX: "),
        ("cut body", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"),
        (
            "unasked switch",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        ),
    ];
    for (id, response) in heads {
        let (answer, reusable) = answered(&request("GET", "/"), response).await;
        assert!(answer.is_err() && !reusable, "{id}: {answer:?}");
    }
}

#[tokio::test]
async fn sm17_bytes_after_the_end_are_nobodys_answer() {
    for (method, response) in [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nab"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\nab"),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"),
    ] {
        let (answer, reusable) = answered(&request(method, "/"), response).await;
        assert!(answer.is_ok() && !reusable, "{response}: {answer:?}");
    }
}

#[tokio::test]
async fn sm17_an_answer_on_an_idle_connection_ends_it() {
    let (io, mut upstream) = duplex(1 << 16);
    let mut connection = client(io);
    let serve = async {
        read_until(&mut upstream, REQUEST_END).await;
        upstream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    };
    let head = request("GET", "/");
    let (answer, ()) = tokio::join!(connection.send(&head, Body::empty(), ignore), serve);
    answer.unwrap();
    assert!(connection.is_reusable());
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na").await.unwrap();
    connection.useless().await;
    let error = connection.send(&head, Body::empty(), ignore).await.unwrap_err();
    assert!(matches!(error, SendError::Closed { sent: Sent::Nothing, .. }));
    assert_eq!(error.replay(), Replay::NeverSeen);
}

#[tokio::test]
async fn every_framing_of_an_answer_is_read() {
    for (response, body, reusable) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi", true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "hi", true),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", "hi", false),
        ("HTTP/1.1 200 OK\r\n\r\nhi", "hi", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi", false),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", "hi", true),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "", true),
        ("HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nhi", "hi", true),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "hi",
            true,
        ),
    ] {
        let (answer, again) = answered(&request("GET", "/"), response).await;
        assert_eq!((answer, again), (Ok((200, body.to_owned())), reusable), "{response}");
    }
}

#[tokio::test]
async fn up06_interim_answers_are_passed_on_and_bounded() {
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let (answer, _) = answered(&request("GET", "/"), hint.repeat(101)).await;
    assert_eq!(answer, Err("upstream protocol error: too many interim responses".to_owned()));
    let (io, mut upstream) = duplex(1 << 16);
    upstream.write_all(format!("{hint}HTTP/1.1 204 No Content\r\n\r\n").as_bytes()).await.unwrap();
    // What lies there before the request is not its answer.
    assert!(client(io).send(&request("GET", "/"), Body::empty(), ignore).await.is_err());
    let (io, mut upstream) = duplex(1 << 16);
    let (mut connection, head) = (client(io), request("GET", "/"));
    let mut hints = Vec::new();
    let send = connection.send(&head, Body::empty(), |status, headers| hints.push((status, headers.clone())));
    let serve = async {
        read_until(&mut upstream, REQUEST_END).await;
        upstream.write_all(format!("{hint}HTTP/1.1 204 No Content\r\n\r\n").as_bytes()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(send, serve);
    assert_eq!(answer.unwrap().0.status, 204);
    assert!(hints.len() == 1 && hints[0].0 == 103 && hints[0].1.get("link") == Some(b"</a>"));
}

#[tokio::test]
async fn a_connection_lost_says_how_much_was_sent() {
    let (io, mut upstream) = duplex(1 << 16);
    let mut connection = client(io);
    let head = request("POST", "/");
    let serve = async {
        read_until(&mut upstream, "hi").await;
        drop(upstream);
    };
    let (answer, ()) = tokio::join!(connection.send(&head, Body::full("hi"), ignore), serve);
    let error = answer.unwrap_err();
    assert!(matches!(error, SendError::Closed { sent: Sent::Whole, .. }), "{error}");
    assert_eq!(error.replay(), Replay::MayHaveBeenSeen);

    let (io, mut upstream) = duplex(64);
    let mut connection = client(io);
    let serve = async {
        read_until(&mut upstream, REQUEST_END).await;
        drop(upstream);
    };
    let (answer, ()) = tokio::join!(connection.send(&head, Body::full(vec![0; 4096]), ignore), serve);
    assert!(matches!(answer.unwrap_err(), SendError::Closed { sent: Sent::Part, .. }));

    let (io, upstream) = duplex(64);
    drop(upstream);
    let answer = client(io).send(&head, Body::empty(), ignore).await;
    assert!(matches!(answer.unwrap_err(), SendError::Closed { sent: Sent::Nothing, .. }));
}

/// A body that never comes to its end.
struct Stuck;

impl crate::engine::body::Source for Stuck {
    fn poll_frame(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame, BodyError>>> {
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn sm15_an_early_answer_is_read_and_the_connection_not_reused() {
    let (io, mut upstream) = duplex(1 << 16);
    let mut connection = client(io);
    let head = request("POST", "/");
    let serve = async {
        read_until(&mut upstream, REQUEST_END).await;
        upstream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
    };
    let (answer, ()) = tokio::join!(connection.send(&head, Body::stream(Stuck), ignore), serve);
    let (head, body) = answer.unwrap();
    assert_eq!((head.status, &read(body).await.unwrap().0[..]), (401, &b"no"[..]));
    assert!(!connection.is_reusable());
}

/// A body that fails after its first bytes.
struct Failing(bool);

impl crate::engine::body::Source for Failing {
    fn poll_frame(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame, BodyError>>> {
        let first = std::mem::replace(&mut self.0, false);
        let data = || Frame::Data(Bytes::from_static(b"hello"));
        std::task::Poll::Ready(Some(if first {
            Ok(data())
        } else {
            Err(BodyError::Cut(ErrorKind::UnexpectedEof))
        }))
    }
}

#[tokio::test]
async fn hb12_a_request_whose_body_fails_is_never_completed() {
    let (io, mut upstream) = duplex(1 << 16);
    let mut connection = client(io);
    let error =
        connection.send(&request("POST", "/"), Body::stream(Failing(true)), ignore).await.unwrap_err();
    assert_eq!(error.failure(), Failure::DownstreamGone);
    assert!(!connection.is_reusable());
    drop(connection);
    let mut received = String::new();
    upstream.read_to_string(&mut received).await.unwrap();
    assert!(!received.contains("0\r\n\r\n"), "{received}");
}

#[tokio::test]
async fn up02_a_switch_that_was_asked_for_gives_the_stream_back() {
    let (io, mut upstream) = duplex(1 << 16);
    let mut connection = client(io);
    let mut head = request("GET", "/");
    head.upgrade = Some("websocket".into());
    let serve = async {
        let received = read_until(&mut upstream, REQUEST_END).await;
        assert!(received.contains("connection: upgrade\r\nupgrade: websocket\r\n"));
        let answer =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\nframe";
        upstream.write_all(answer.as_bytes()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(connection.send(&head, Body::empty(), ignore), serve);
    assert_eq!(answer.unwrap().0.status, 101);
    assert!(!connection.is_reusable());
    assert_eq!(&connection.into_io().unwrap().1[..], b"frame");
}

/// What a large message needed does not stay with a connection that waits for the next.
#[tokio::test]
async fn a_connection_at_rest_holds_no_buffer() {
    const LARGE: usize = 100_000;
    let (near, far) = duplex(1 << 20);
    let (mut client, mut server) = (client(near), server(far));
    let large = || Body::full(vec![b'x'; LARGE]);
    let head = request("POST", "/");
    let answering = async {
        let (_, body) = server.next_request().await.unwrap().unwrap();
        assert_eq!(read(body).await.unwrap().0.len(), LARGE);
        server.respond(&ResponseHead::new(200), large()).await.unwrap();
    };
    let asking = async {
        let (_, body) = client.send(&head, large(), ignore).await.unwrap();
        assert_eq!(read(body).await.unwrap().0.len(), LARGE);
    };
    tokio::join!(answering, asking);
    client.rest();
    assert!(server.next_request().now_or_never().is_none());
    assert_eq!((server.held(), client.held()), (0, 0));
}

#[tokio::test]
async fn head_and_first_bytes_leave_in_one_write() {
    let mut head = request("POST", "/a");
    head.query = Some("b=c".into());
    head.headers.append("X-Name", "value");
    head.headers.append("te", "trailers");
    let io = recorder::Recorder::default();
    let writes = io.writes.clone();
    let mut connection = ClientConnection::new(io, Limits::default());
    let mut send = std::pin::pin!(connection.send(&head, Body::full("hello"), ignore));
    let waits = std::future::poll_fn(|cx| std::task::Poll::Ready(send.as_mut().poll(cx).is_pending())).await;
    assert!(waits);
    let expected = "POST /a?b=c HTTP/1.1\r\nhost: x\r\nX-Name: value\r\nte: trailers\r\ncontent-length: 5\r\n\
                    connection: te\r\n\r\nhello";
    assert_eq!(*writes.borrow(), [expected]);
}

mod recorder {
    //! A stream that records each write and never answers.

    use std::cell::RefCell;
    use std::io;
    use std::pin::Pin;
    use std::rc::Rc;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    #[derive(Default)]
    pub(super) struct Recorder {
        pub(super) writes: Rc<RefCell<Vec<String>>>,
    }

    impl AsyncRead for Recorder {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Recorder {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.writes.borrow_mut().push(String::from_utf8_lossy(bytes).into_owned());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}
