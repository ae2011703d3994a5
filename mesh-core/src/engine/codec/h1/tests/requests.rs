//! Requests that are served, and what is taken out of them.

use super::*;

/// The fields of the only request in `bytes`.
async fn head_of(bytes: &str) -> RequestHead {
    let (mut client, io) = duplex(1 << 16);
    client.write_all(bytes.as_bytes()).await.unwrap();
    server(io).next_request().await.unwrap().unwrap().0
}

fn fields(headers: &Headers) -> Vec<(String, String)> {
    headers.iter().map(|field| (text(&field.name), text(&field.value))).collect()
}

#[tokio::test]
async fn sm16_pipelined_requests_are_answered_in_order() {
    let two = "POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhiGET /2 HTTP/1.1\r\nHost: x\r\n\r\n";
    let (all, answers) = exchange(format!("{two}GET /bad HTTP/1.1\r\n\r\n{SMUGGLED}")).await;
    assert_eq!(all, [seen("POST", "/1", "hi"), seen("GET", "/2", ""), Seen::Refused(Failure::BadRequest)]);
    let status: Vec<_> = answers.matches("HTTP/1.1 ").collect();
    assert_eq!(status.len(), 3);
    assert!(answers.ends_with("content-length: 0\r\nconnection: close\r\n\r\n"), "{answers}");
}

#[tokio::test]
async fn sm16_nothing_follows_connection_close() {
    let (all, _) =
        exchange(format!("GET /1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n{SMUGGLED}")).await;
    assert_eq!(all, [seen("GET", "/1", "")]);
}

#[tokio::test]
async fn sm03_an_http10_post_without_length_has_no_body_and_is_the_last() {
    let head = "POST / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(exchange(format!("{head}{SMUGGLED}")).await.0, [seen("POST", "/", "")]);
}

#[tokio::test]
async fn http10_persists_only_when_asked() {
    let get = |fields: &str| format!("GET / HTTP/1.0\r\nHost: x\r\n{fields}\r\n").repeat(2);
    assert_eq!(exchange(get("")).await.0.len(), 1);
    let (all, answers) = exchange(get("Connection: keep-alive\r\n")).await;
    assert_eq!(all.len(), 2);
    assert!(answers.contains("connection: keep-alive\r\n"));
}

#[tokio::test]
async fn hb05_one_empty_line_may_precede_a_request() {
    let (all, _) =
        exchange("\r\nGET /1 HTTP/1.1\r\nHost: x\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n\r\n").await;
    assert_eq!(all, [seen("GET", "/1", ""), seen("GET", "/2", "")]);
}

#[tokio::test]
async fn sm13_any_method_may_have_a_body() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let bytes = format!("{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi{SMUGGLED}");
        let (all, _) = exchange(bytes).await;
        assert_eq!(all[0], seen(method, "/", "hi"));
    }
}

#[tokio::test]
async fn absolute_targets_give_path_and_query() {
    for (target, path, query) in [
        ("http://X:80/a?b", "/a", Some("b")),
        ("HTTP://x:80", "/", None),
        ("http://x:80?q", "/", Some("q")),
        ("/a?", "/a", Some("")),
    ] {
        let head = head_of(&format!("GET {target} HTTP/1.1\r\nHost: x:80\r\n\r\n")).await;
        assert_eq!((text(&head.path), head.query.as_deref().map(text)), (path.into(), query.map(Into::into)));
        assert_eq!((head.host.as_str(), &head.authority[..]), ("x", &b"x:80"[..]));
    }
}

#[tokio::test]
async fn names_keep_their_case_and_order_and_values_their_bytes() {
    let (mut peer, io) = duplex(1 << 16);
    peer.write_all(b"GET / HTTP/1.1\r\nX-B: 1\r\nHost: x\r\nx-a:  \xff \r\nX-B: 2\r\n\r\n").await.unwrap();
    let (head, _) = server(io).next_request().await.unwrap().unwrap();
    let names: Vec<_> = head.headers.iter().map(|field| text(&field.name)).collect();
    assert_eq!(names, ["X-B", "x-a", "X-B"]);
    assert_eq!(head.headers.get("X-A"), Some(&b"\xff"[..]), "HB-07");
}

#[tokio::test]
async fn hb08_hd04_only_hop_by_hop_fields_are_taken_out() {
    let head = head_of(
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: close, X-Secret, Host, X-Forwarded-For, Authorization, traceparent\r\n\
         Keep-Alive: 1\r\nProxy-Connection: a\r\nX-Secret: 1\r\nX-Forwarded-For: 1\r\nAuthorization: 2\r\n\
         traceparent: 3\r\nTE: trailers, gzip\r\n\r\n",
    )
    .await;
    let expected =
        [("X-Forwarded-For", "1"), ("Authorization", "2"), ("traceparent", "3"), ("te", "trailers")];
    assert_eq!(fields(&head.headers), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(head.host.as_str(), "x");
}

#[tokio::test]
async fn h2_08_h2c_is_not_seen_and_other_upgrades_are() {
    let ask = |protocol: &str, more: &str| {
        format!(
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\n\
             HTTP2-Settings: AAMAAABkAAQAAP__\r\n{more}\r\n"
        )
    };
    let head = head_of(&ask("h2c", "")).await;
    assert!(head.upgrade.is_none() && head.headers.is_empty());
    assert!(head_of(&ask("websocket, h2c", "")).await.upgrade.is_none());
    assert!(head_of(&ask("websocket", "Content-Length: 1\r\n")).await.upgrade.is_none());
    assert_eq!(head_of(&ask("websocket", "")).await.upgrade.as_deref(), Some(&b"websocket"[..]));
}

#[tokio::test]
async fn hb09_forbidden_trailers_are_dropped() {
    let (mut peer, io) = duplex(1 << 16);
    let trailers = "Content-Length: 1\r\nHost: y\r\nAuthorization: z\r\nX-Checksum: 1\r\n";
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    peer.write_all(format!("{head}2;ext=1\r\nhi\r\n0\r\n{trailers}\r\n").as_bytes()).await.unwrap();
    let (_, body) = server(io).next_request().await.unwrap().unwrap();
    let (data, trailers) = read(body).await.unwrap();
    assert_eq!((&data[..], fields(&trailers)), (&b"hi"[..], vec![("X-Checksum".to_owned(), "1".to_owned())]));
}

#[tokio::test]
async fn any_split_of_the_bytes_gives_the_same_requests() {
    let bytes = "POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
                 GET /2 HTTP/1.1\r\nHost: x\r\n\r\n";
    let (peer, io) = duplex(1);
    let (mut reader, mut writer) = tokio::io::split(peer);
    let write = async {
        writer.write_all(bytes.as_bytes()).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let take = async {
        let mut answers = String::new();
        reader.read_to_string(&mut answers).await.unwrap();
    };
    let serve = async move {
        let mut connection = server(io);
        let mut paths = Vec::new();
        while let Some((head, body)) = connection.next_request().await.unwrap() {
            let (data, _) = read(body).await.unwrap();
            paths.push((text(&head.path), text(&data)));
            connection.respond(&ResponseHead::new(204), Body::empty()).await.unwrap();
        }
        paths
    };
    let ((), (), paths) = tokio::join!(write, take, serve);
    assert_eq!(paths, [("/1".into(), "abc".into()), ("/2".into(), String::new())]);
}
