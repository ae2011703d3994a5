//! Failures: what is tried again, what is answered, and how long it may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use super::harness::*;
use crate::model::{AbortStatus, Fault, Millis, PerMillion, RetryOn, RetryPolicy};

#[tokio::test]
async fn one_dead_endpoint_of_three_fails_no_request() {
    let (a, b) = (Upstream::saying("a").await, Upstream::saying("b").await);
    let mesh = Mesh::outbound(service(|_, _| {}, &[a.address, dead().await, b.address]));
    for _ in 0..30 {
        let answer = mesh.get("/").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(a.requests() + b.requests(), 30);
}

#[tokio::test]
async fn nobody_there_is_503_with_envoys_words() {
    let mesh = Mesh::outbound(service(|_, _| {}, &[dead().await]));
    let answer = mesh.get("/").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("reset reason: connection failure"), "{answer}");
    let mesh = Mesh::outbound(service(|_, _| {}, &[]));
    let answer = mesh.get("/").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("no healthy upstream"), "{answer}");
}

#[tokio::test]
async fn a_plain_503_is_passed_on_unless_the_route_retries_it() {
    let failing = Upstream::start(|_| status(503)).await;
    let mesh = Mesh::outbound(service(|_, _| {}, &[failing.address]));
    assert!(mesh.get("/").await.starts_with("HTTP/1.1 503 "));
    assert_eq!(failing.requests(), 1);
    let on = vec![RetryOn::Any5xx];
    let retry = RetryPolicy { attempts: 3, on, backoff: Millis::new(1), ..RetryPolicy::default() };
    let mesh = Mesh::outbound(service(|rule, _| rule.retry = retry, &[failing.address]));
    assert!(mesh.get("/").await.starts_with("HTTP/1.1 503 "));
    assert_eq!(failing.requests(), 1 + 4);
}

#[tokio::test]
async fn the_routes_timeout_spans_all_tries() {
    let silent = Upstream::start(|_| "hang".into()).await;
    let mesh = Mesh::outbound(service(
        |rule, _| {
            rule.timeout = Some(Millis::new(500));
            let per_try_timeout = Some(Millis::new(200));
            let on = vec![RetryOn::Any5xx];
            rule.retry = RetryPolicy {
                attempts: 9,
                per_try_timeout,
                on,
                backoff: Millis::new(1),
                ..RetryPolicy::default()
            };
        },
        &[silent.address],
    ));
    let began = Instant::now();
    let answer = mesh.get("/").await;
    let took = began.elapsed();
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.ends_with("upstream request timeout"), "{answer}");
    assert!((Duration::from_millis(450)..Duration::from_millis(1500)).contains(&took), "{took:?}");
    assert_eq!(silent.requests(), 3, "tries of 200 ms within 500 ms");
}

/// The client's own time is not the route's: an upload may take as long as the client likes.
#[tokio::test]
async fn a_slow_upload_does_not_use_up_the_routes_timeout() {
    let upstream = Upstream::start(ok).await;
    let per_try = Some(Millis::new(150));
    let mesh = Mesh::outbound(service(
        |rule, _| {
            rule.timeout = Some(Millis::new(200));
            rule.retry = RetryPolicy { per_try_timeout: per_try, ..RetryPolicy::default() };
        },
        &[upstream.address],
    ));
    let mut stream = mesh.connect().await;
    let head = format!("POST / HTTP/1.1\r\nHost: {SERVICE}:9080\r\nContent-Length: 8\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    for piece in ["half", "half"] {
        // Time itself is what is tested.
        tokio::time::sleep(Duration::from_millis(300)).await;
        stream.write_all(piece.as_bytes()).await.unwrap();
    }
    let answer = response(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("halfhalf"), "{answer}");
}

#[tokio::test]
async fn a_request_that_has_arrived_is_answered_in_time_whether_or_not_it_was_taken() {
    let silent = Upstream::start(|_| "hang".into()).await;
    let mesh = Mesh::outbound(service(|rule, _| rule.timeout = Some(Millis::new(200)), &[silent.address]));
    let began = Instant::now();
    let request = format!("POST / HTTP/1.1\r\nHost: {SERVICE}:9080\r\nContent-Length: 4\r\n\r\nbody");
    let answer = ask(mesh.connect().await, &request).await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// FT-22: the upstream closes an idle connection just when the next request goes out.
#[tokio::test]
async fn a_pooled_connection_that_was_closed_costs_no_request() {
    let answered = Arc::new(AtomicBool::new(false));
    // Answers one request per connection, then hangs up without having said so.
    let upstream = {
        let answered = answered.clone();
        Upstream::start(
            move |_| if answered.fetch_xor(true, Ordering::SeqCst) { String::new() } else { ok("once") },
        )
        .await
    };
    let mesh = Mesh::outbound(service(|_, _| {}, &[upstream.address]));
    let mut client = mesh.connect().await;
    for _ in 0..6 {
        client.write_all(format!("GET / HTTP/1.1\r\nHost: {SERVICE}\r\n\r\n").as_bytes()).await.unwrap();
        let answer = response(&mut client).await;
        assert!(answer.ends_with("once"), "{answer}");
    }
    assert!(upstream.connections() >= 6);
}

#[tokio::test]
async fn a_post_that_may_have_been_seen_is_not_sent_twice() {
    let upstream = Upstream::start(|_| String::new()).await;
    let mesh = Mesh::outbound(service(|_, _| {}, &[upstream.address]));
    let request = format!("POST / HTTP/1.1\r\nHost: {SERVICE}\r\ncontent-length: 2\r\n\r\nab");
    let answer = ask(mesh.connect().await, &request).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test]
async fn a_posts_body_is_sent_again_when_the_route_says_so() {
    let first = Arc::new(AtomicBool::new(true));
    let upstream = Upstream::start(move |request| {
        if first.swap(false, Ordering::SeqCst) {
            status(503)
        } else {
            ok(request.split_once("\r\n\r\n").unwrap().1)
        }
    })
    .await;
    let retry = RetryPolicy { on: vec![RetryOn::Any5xx], backoff: Millis::new(1), ..RetryPolicy::default() };
    let mesh = Mesh::outbound(service(|rule, _| rule.retry = retry, &[upstream.address]));
    let request = format!("POST / HTTP/1.1\r\nHost: {SERVICE}\r\ncontent-length: 5\r\n\r\nagain");
    let answer = ask(mesh.connect().await, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("again"), "{answer}");
}

#[tokio::test]
async fn injected_faults_delay_and_abort() {
    let upstream = Upstream::saying("never").await;
    let mesh = Mesh::outbound(service(
        |rule, _| {
            let delay = Some((Millis::new(120), PerMillion::ALWAYS));
            let abort = Some((AbortStatus::Http(418), PerMillion::ALWAYS));
            rule.fault = Some(Fault { delay, abort });
        },
        &[upstream.address],
    ));
    let began = Instant::now();
    let answer = mesh.get("/").await;
    assert!(answer.starts_with("HTTP/1.1 418 ") && answer.ends_with("fault filter abort"), "{answer}");
    assert!(began.elapsed() >= Duration::from_millis(120));
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn limits_of_requests_answer_with_overflow() {
    let silent = Upstream::start(|_| "hang".into()).await;
    let mesh = Mesh::outbound(service(|_, cluster| cluster.pool.max_requests = Some(1), &[silent.address]));
    let mut first = mesh.connect().await;
    first.write_all(format!("GET / HTTP/1.1\r\nHost: {SERVICE}\r\n\r\n").as_bytes()).await.unwrap();
    while silent.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = mesh.get("/").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.to_lowercase().contains("x-envoy-overloaded: true"), "{answer}");
}

#[tokio::test]
async fn at_the_limit_of_connections_requests_wait_for_one() {
    let upstream = Upstream::start(|_| format!("slow:{}", ok("turn"))).await;
    let mesh =
        Mesh::outbound(service(|_, cluster| cluster.pool.max_connections = Some(1), &[upstream.address]));
    let (first, second) = tokio::join!(mesh.get("/1"), mesh.get("/2"));
    assert!(first.ends_with("turn") && second.ends_with("turn"), "{first} {second}");
    assert_eq!((upstream.requests(), upstream.connections()), (2, 1));
}

#[tokio::test]
async fn an_idle_connection_elsewhere_does_not_block_the_limit() {
    let (a, b) = (Upstream::saying("a").await, Upstream::saying("b").await);
    let mesh =
        Mesh::outbound(service(|_, cluster| cluster.pool.max_connections = Some(1), &[a.address, b.address]));
    for _ in 0..10 {
        assert!(mesh.get("/").await.starts_with("HTTP/1.1 200 "));
    }
}
