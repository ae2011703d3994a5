//! Answers that do not wait for the request's body, interim responses, switches and the forms of an answer.

use std::time::Duration;

use super::*;

/// Serves one request without reading its body, then asks for the next.
async fn answered_early(bytes: &str) -> (Option<String>, String) {
    let (mut peer, io) = duplex(1 << 20);
    peer.write_all(bytes.as_bytes()).await.unwrap();
    let limits = Limits { drain_time: Duration::from_millis(50), ..Limits::default() };
    let mut connection = ServerConnection::new(io, Scheme::Http, limits);
    let request = connection.next_request().await.unwrap().unwrap();
    connection.respond(&ResponseHead::new(403), Body::full("no")).await.unwrap();
    drop(request);
    peer.shutdown().await.unwrap();
    let next = connection.next_request().await.unwrap();
    drop(connection);
    let mut answers = String::new();
    peer.read_to_string(&mut answers).await.unwrap();
    (next.map(|(head, _)| text(&head.path)), answers)
}

#[tokio::test]
async fn sm14_an_unread_body_is_drained_or_ends_the_connection() {
    let length = SMUGGLED.len();
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    assert_eq!(answered_early(&format!("{head}{SMUGGLED}")).await.0, None);
    let next = "GET /next HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(answered_early(&format!("{head}{SMUGGLED}{next}")).await.0.as_deref(), Some("/next"));
    let long = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 70 << 10);
    assert_eq!(answered_early(&format!("{long}{}", SMUGGLED.repeat(3000))).await.0, None);
    // The rest never comes.
    assert_eq!(answered_early(&long).await.0, None);
}

#[tokio::test]
async fn sm15_an_answer_before_100_continue_ends_the_connection() {
    let head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 32\r\n\r\n";
    let (next, answers) = answered_early(&format!("{head}{SMUGGLED}")).await;
    assert_eq!(next, None);
    assert!(answers.starts_with("HTTP/1.1 403 ") && answers.contains("connection: close"), "{answers}");
}

#[tokio::test]
async fn continue_is_sent_when_the_body_is_first_read() {
    let (mut peer, io) = duplex(1 << 16);
    let head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    peer.write_all(head.as_bytes()).await.unwrap();
    let mut connection = server(io);
    let (head, body) = connection.next_request().await.unwrap().unwrap();
    assert!(!head.headers.contains("expect"));
    let send = async {
        read_until(&mut peer, "HTTP/1.1 100 Continue\r\n\r\n").await;
        peer.write_all(b"hi").await.unwrap();
    };
    let (data, ()) = tokio::join!(read(body), send);
    assert_eq!(&data.unwrap().0[..], b"hi");
    connection.respond(&ResponseHead::new(204), Body::empty()).await.unwrap();
    assert!(connection.is_persistent());
    read_until(&mut peer, "HTTP/1.1 204 No Content\r\n\r\n").await;
}

/// A body that gives out what it is told to.
struct Script(std::vec::IntoIter<Frame>);

impl crate::engine::body::Source for Script {
    fn poll_frame(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame, BodyError>>> {
        std::task::Poll::Ready(self.0.next().map(Ok))
    }
}

fn streamed() -> Body {
    let mut trailers = Headers::default();
    trailers.append("X-End", "1");
    Body::stream(Script(
        vec![Frame::Data("hello".into()), Frame::Data(" you".into()), Frame::Trailers(trailers)].into_iter(),
    ))
}

async fn answer_to(request: &str, head: ResponseHead, body: Body) -> String {
    let (mut peer, io) = duplex(1 << 16);
    peer.write_all(request.as_bytes()).await.unwrap();
    let mut connection = server(io);
    connection.next_request().await.unwrap();
    connection.respond(&head, body).await.unwrap();
    drop(connection);
    let mut answer = String::new();
    peer.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn an_unknown_length_is_chunked_or_ends_with_the_connection() {
    let get = |version: &str, fields: &str| format!("GET / HTTP/{version}\r\nHost: x\r\n{fields}\r\n");
    let head = || ResponseHead::new(200);
    assert_eq!(
        answer_to(&get("1.1", ""), head(), streamed()).await,
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n4\r\n you\r\n0\r\n\r\n"
    );
    assert_eq!(
        answer_to(&get("1.1", "TE: trailers\r\n"), head(), streamed()).await,
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n4\r\n you\r\n0\r\nX-End: 1\r\n\r\n"
    );
    assert_eq!(
        answer_to(&get("1.0", "Connection: keep-alive\r\n"), head(), streamed()).await,
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello you"
    );
}

#[tokio::test]
async fn answers_without_a_body_keep_only_a_length_that_informs() {
    let head = |status| {
        let mut head = ResponseHead::new(status);
        head.headers.append("Content-Length", "9");
        head
    };
    let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = answer_to("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", head(200), streamed()).await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
    assert_eq!(
        answer_to(get, head(304), Body::empty()).await,
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"
    );
    assert_eq!(answer_to(get, head(204), Body::full("x")).await, "HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(
        answer_to(get, head(200), Body::full("123")).await,
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n123"
    );
}

#[tokio::test]
async fn a_field_cannot_split_an_answer() {
    let mut head = ResponseHead::new(200);
    head.headers.append("X", "a\r\nSet-Cookie: b");
    head.headers.append("Y: z", "a");
    head.headers.append("Connection", "keep-alive");
    head.headers.append("Transfer-Encoding", "chunked");
    let answer = answer_to("GET / HTTP/1.1\r\nHost: x\r\n\r\n", head, Body::empty()).await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
}

#[tokio::test]
async fn up06_interim_responses_go_ahead_of_the_final_one() {
    let (mut peer, io) = duplex(1 << 16);
    peer.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut connection = server(io);
    connection.next_request().await.unwrap();
    let mut hints = Headers::default();
    hints.append("Link", "</a>");
    connection.interim(103, &hints);
    read_until(&mut peer, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await;
    connection.respond(&ResponseHead::new(204), Body::empty()).await.unwrap();
    read_until(&mut peer, "HTTP/1.1 204 No Content\r\n\r\n").await;
}

#[tokio::test]
async fn up01_a_switch_gives_the_stream_back_with_what_was_read_ahead() {
    let (mut peer, io) = duplex(1 << 16);
    let ask = "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    peer.write_all(format!("{ask}frame").as_bytes()).await.unwrap();
    let mut connection = server(io);
    connection.next_request().await.unwrap();
    connection.respond(&ResponseHead::new(101), Body::empty()).await.unwrap();
    let (_io, ahead) = connection.into_io().unwrap();
    assert_eq!(&ahead[..], b"frame");
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    read_until(&mut peer, answer).await;
}

#[tokio::test]
async fn up01_without_the_switch_the_tail_is_the_next_request() {
    let ask = "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let (all, answers) = exchange(format!("{ask}{SMUGGLED}")).await;
    assert_eq!(all, [seen("GET", "/", ""), seen("GET", "/smug", "")]);
    assert!(!answers.contains("upgrade"));
}

#[tokio::test]
async fn hb14_a_slow_head_is_refused_and_an_idle_connection_closed() {
    let limits = Limits {
        head_time: Duration::from_millis(20),
        idle_time: Duration::from_millis(20),
        ..Limits::default()
    };
    let (mut peer, io) = duplex(1 << 16);
    peer.write_all(b"GET /").await.unwrap();
    let mut connection = ServerConnection::new(io, Scheme::Http, limits.clone());
    assert_eq!(connection.next_request().await.unwrap_err().failure, Failure::RequestTimeout);
    let (_peer, io) = duplex(1 << 16);
    let mut connection = ServerConnection::new(io, Scheme::Http, limits);
    assert!(connection.next_request().await.unwrap().is_none());
}

#[tokio::test]
async fn ds09_a_stalled_body_fails() {
    let limits = Limits { stall_time: Duration::from_millis(20), ..Limits::default() };
    let (mut peer, io) = duplex(1 << 16);
    peer.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhi").await.unwrap();
    let mut connection = ServerConnection::new(io, Scheme::Http, limits);
    let (_, body) = connection.next_request().await.unwrap().unwrap();
    assert!(matches!(read(body).await, Err(BodyError::Stalled)));
}

#[tokio::test]
async fn ds07_a_client_that_takes_nothing_is_cut() {
    let limits = Limits { stall_time: Duration::from_millis(20), ..Limits::default() };
    let (mut peer, io) = duplex(64);
    peer.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut connection = ServerConnection::new(io, Scheme::Http, limits);
    connection.next_request().await.unwrap();
    let sent = connection.respond(&ResponseHead::new(200), Body::full(vec![0; 1 << 16])).await;
    assert!(sent.is_err() && !connection.is_persistent());
}

#[tokio::test]
async fn the_client_going_is_noticed_while_its_answer_is_made() {
    let (mut peer, io) = duplex(1 << 16);
    peer.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut connection = server(io);
    connection.next_request().await.unwrap();
    drop(peer);
    connection.gone().await;
}
