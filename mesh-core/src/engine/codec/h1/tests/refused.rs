//! Bytes that must never become a request, or only one whose body fails.

use super::*;

/// Each row: the attack's id, then bytes. The first answer is 400 or the failure given, and nothing follows it.
async fn all_refused(rows: &[(&str, Vec<u8>)], failure: Failure) {
    for (id, bytes) in rows {
        let mut bytes = bytes.clone();
        bytes.extend_from_slice(SMUGGLED.as_bytes());
        let (all, answers) = exchange(&bytes).await;
        assert_eq!(all, [Seen::Refused(failure)], "{id}: {}", text(&bytes));
        assert!(answers.contains("connection: close\r\n"), "{id}: {answers}");
    }
}

fn with_fields(fields: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn sm01_hb01_two_framings_are_refused_in_either_order() {
    let body = "0\r\n\r\nG";
    let rows = [
        "Content-Length: 6\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 6",
    ]
    .map(|fields| ("SM-01", [with_fields(fields), body.into()].concat()));
    all_refused(&rows, Failure::BadRequest).await;
}

#[tokio::test]
async fn sm02_hb02_only_plain_chunked_is_a_transfer_encoding() {
    let values: [&[u8]; 16] = [
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: \x0bchunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: ,chunked",
        b"Transfer-Encoding: chunked;q=1",
        b"Transfer-Encoding: \"chunked\"",
        b"Transfer-Encoding: \xffchunked\xff",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding:\r\n chunked",
        b"Transfer-\r\nEncoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity, chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding:",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    ];
    let rows = values
        .map(|value| ("SM-02", [b"POST / HTTP/1.1\r\nHost: x\r\n", value, b"\r\n\r\n0\r\n\r\n"].concat()));
    all_refused(&rows, Failure::BadRequest).await;
}

#[tokio::test]
async fn sm03_http10_has_no_transfer_encoding() {
    let bytes = b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec();
    all_refused(&[("SM-03", bytes)], Failure::BadRequest).await;
}

#[tokio::test]
async fn sm04_hb11_a_length_is_one_plain_number() {
    let values = [
        "1\r\nContent-Length: 2",
        "43\r\nContent-Length: 43",
        "\r\nContent-Length: 43",
        "",
        "+6",
        "0x6",
        "6 6",
        "6,6",
        "-48",
        "01",
        "18446744073709551622",
        "6\0",
    ];
    let rows = values.map(|value| ("SM-04", with_fields(&format!("Content-Length: {value}"))));
    all_refused(&rows, Failure::BadRequest).await;
}

#[tokio::test]
async fn sm08_names_are_tokens() {
    let fields: [&[u8]; 8] =
        [b": empty", b"X\x85: a", b"X\0: a", b"X\x01: a", b"X\x1f: a", b"no colon", b"X : a", b"X\t: a"];
    let rows = fields.map(|field| ("SM-08", [b"GET / HTTP/1.1\r\nHost: x\r\n", field, b"\r\n\r\n"].concat()));
    all_refused(&rows, Failure::BadRequest).await;
}

#[tokio::test]
async fn sm09_values_hold_no_control_bytes() {
    let fields: [&[u8]; 4] = [b"X: a\0b", b"X: a\rb", b"X: a\nb: c", b"X: a\r\r\nb: c"];
    let rows = fields.map(|field| ("SM-09", [b"GET / HTTP/1.1\r\nHost: x\r\n", field, b"\r\n\r\n"].concat()));
    all_refused(&rows, Failure::BadRequest).await;
}

#[tokio::test]
async fn sm10_hb05_lines_end_in_crlf_and_do_not_fold() {
    let heads: [&[u8]; 9] = [
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost: x\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\n",
        b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n\tX: y\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
        b"\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\rX",
    ];
    all_refused(&heads.map(|head| ("SM-10", head.to_vec())), Failure::BadRequest).await;
}

#[tokio::test]
async fn sm11_a_request_line_has_one_form() {
    let lines: [&[u8]; 11] = [
        b"GET / HTTP/1.2",
        b"GET / HTTP/1.32",
        b"GET / HTTP/2.0",
        b"GET / HTTP/4294967295.255",
        b"GET / HTTP/0.9",
        b"GET /",
        b"GET /\nHTTP/1.1",
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b"GET / http/1.1",
    ];
    let rows = lines.map(|line| ("SM-11", [line, b"\r\nHost: x\r\n\r\n"].concat()));
    all_refused(&rows, Failure::BadRequest).await;
}

#[tokio::test]
async fn sm12_hb03_a_request_has_one_valid_host() {
    let fields = [
        "X: y",
        "Host: x\r\nHost: x",
        "Host: x\r\nHost: y",
        "Host:",
        "Host: a,b",
        "Host: x:99999",
        "Host: [::1",
        "Host: u@x",
        "Host: a b",
        "Host: c@d",
        "Host: a/b",
        "Host: x:",
        "Host: é",
    ];
    let rows = fields.map(|field| ("SM-12", format!("GET / HTTP/1.1\r\n{field}\r\n\r\n").into_bytes()));
    all_refused(&rows, Failure::BadRequest).await;
    let lines = ["GET http://evil/ HTTP/1.1", "GET http:///x HTTP/1.1", "GET x:80 HTTP/1.1"];
    let rows = lines.map(|line| ("HB-03", format!("{line}\r\nHost: x\r\n\r\n").into_bytes()));
    all_refused(&rows, Failure::BadRequest).await;
}

#[tokio::test]
async fn hb04_hb06_targets_and_methods_are_plain() {
    let lines: [&[u8]; 9] = [
        b"GET a HTTP/1.1",
        b"GET * HTTP/1.1",
        b"get / HTTP/1.1",
        b"Get / HTTP/1.1",
        b"GET /\xc3\xa9 HTTP/1.1",
        b"GET /admin#x HTTP/1.1",
        b"GET /\x7f HTTP/1.1",
        b"GET http://x#y HTTP/1.1",
        b"OPTIONS *a HTTP/1.1",
    ];
    let rows = lines.map(|line| ("HB-04", [line, b"\r\nHost: x\r\n\r\n"].concat()));
    all_refused(&rows, Failure::BadRequest).await;
}

#[tokio::test]
async fn hb10_an_unknown_expectation_is_417() {
    for value in ["y 100-continue", "100-continue, y", ""] {
        let bytes = with_fields(&format!("Expect: {value}\r\nContent-Length: 1"));
        all_refused(&[("HB-10", bytes)], Failure::ExpectationFailed).await;
    }
}

#[tokio::test]
async fn hb13_ds11_heads_are_bounded() {
    let fields = "X: y\r\n".repeat(100);
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes();
    all_refused(&[("DS-11", head)], Failure::HeadTooLarge).await;
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(64 << 10)).into_bytes();
    all_refused(&[("DS-11", head)], Failure::HeadTooLarge).await;
    for size in [40 << 10, 70 << 10] {
        let head = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(size)).into_bytes();
        all_refused(&[("HB-13", head)], Failure::TargetTooLong).await;
    }
}

#[tokio::test]
async fn up04_connect_is_refused() {
    let head = b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n".to_vec();
    all_refused(&[("UP-04", head)], Failure::MethodRefused).await;
}

/// The head is good, the body is not: whoever reads it must learn, and nothing after it is a request.
#[tokio::test]
async fn sm05_sm06_sm07_hb12_a_bad_chunk_ends_the_connection() {
    let long = format!("1;{}\r\nZ\r\n", "e".repeat(20 << 10));
    let many = "1;eeeeeeeeeeeeeeeeeeeeeeeeeeeeeee\r\nZ\r\n".repeat(1000);
    let trailers = format!("0\r\n{}\r\n", "T: v\r\n".repeat(101));
    let bodies = [
        ("SM-05", "0_2e\r\n"),
        ("SM-05", "0x5\r\nhello\r\n"),
        ("SM-05", "+5\r\nhello\r\n"),
        ("SM-05", " 5\r\nhello\r\n"),
        ("SM-05", "\r\nhello\r\n"),
        ("SM-05", "5zz\r\nhello\r\n"),
        ("SM-05", "FFFFFFFFFFFFFFFFF\r\n"),
        ("SM-05", "ZXX\r\n"),
        ("SM-06", "1;a\nZ\r\n"),
        ("SM-06", "1;a\rb\r\nZ\r\n"),
        ("SM-06", "2\r\r;a\r\nZZ\r\n"),
        ("SM-06", &long),
        ("SM-06", &many),
        ("SM-07", "1\r\nZ\rX0\r\n\r\n"),
        ("SM-07", "1\r\nZZ\r\n0\r\n\r\n"),
        ("SM-07", "0\r\nX:\rY\r\n\r\n"),
        ("SM-07", "0\r\n\rX\r\n\r\n"),
        ("HB-12", "1\nZ\r\n0\r\n\r\n"),
        ("HB-13", &trailers),
    ];
    for (id, body) in bodies {
        let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (all, _) = exchange(format!("{head}{body}{SMUGGLED}")).await;
        assert!(matches!(all[..], [Seen::BodyFailed(_)]), "{id} {:.40}: {all:?}", body);
    }
}

#[tokio::test]
async fn a_body_cut_short_fails() {
    for bytes in ["Content-Length: 9\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
        let (all, _) = exchange(format!("POST / HTTP/1.1\r\nHost: x\r\n{bytes}")).await;
        assert!(matches!(all[..], [Seen::BodyFailed(_)]), "{all:?}");
    }
}
