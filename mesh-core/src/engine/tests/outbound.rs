//! From an application through its sidecar to plain upstreams.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::harness::*;
use crate::broker::{Answer, Broker, Questions, Request};
use crate::model::{Cluster, HeaderEdits, Millis, OutboundPolicy, Protocol, Resource, Role, Root, Rule};

#[tokio::test]
async fn a_request_reaches_an_endpoint_and_its_answer_comes_back() {
    let upstream = Upstream::start(ok).await;
    let mesh = Mesh::outbound(service(|_, _| {}, &[upstream.address]));
    let answer = mesh.get("/reviews/7?all").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let lower = answer.to_lowercase();
    for expected in [
        "get /reviews/7?all http/1.1\r\n",
        "host: reviews.default.svc.cluster.local:9080\r\n",
        "x-request-id: ",
        "x-forwarded-proto: http\r\n",
        "x-envoy-attempt-count: 1\r\n",
        "traceparent: 00-",
        "server: envoy\r\n",
        "x-envoy-upstream-service-time: ",
    ] {
        assert!(lower.contains(expected), "{expected} in {answer}");
    }
}

/// RFC 9110 §6.6.1.
#[tokio::test]
async fn every_answer_says_when_it_was_made() {
    let dated = "HTTP/1.1 200 OK\r\ndate: Tue, 15 Nov 1994 08:12:31 GMT\r\ncontent-length: 0\r\n\r\n";
    let upstream =
        Upstream::start(|request| if request.starts_with("GET /dated") { dated.to_owned() } else { ok("") })
            .await;
    let mesh = Mesh::outbound(service(|_, _| {}, &[upstream.address]));
    let answer = mesh.get("/dated").await;
    assert_eq!(answer.matches("date: ").count(), 1, "{answer}");
    assert!(answer.contains("date: Tue, 15 Nov 1994 08:12:31 GMT\r\n"), "{answer}");
    let answer = mesh.get("/").await;
    let date = answer.lines().find_map(|line| line.strip_prefix("date: ")).expect("a date");
    let age = std::time::SystemTime::now().duration_since(httpdate::parse_http_date(date).unwrap()).unwrap();
    assert!(age < Duration::from_secs(60), "{date}");
}

/// PN-01 and PN-03: what policy and routes look at is what the upstream gets.
#[tokio::test]
async fn s38_paths_are_canonical_before_anything_looks_at_them() {
    let upstream = Upstream::start(ok).await;
    let mesh = Mesh::outbound(service(|_, _| {}, &[upstream.address]));
    for (path, canonical) in [("/app/%2E./admin", "/admin"), ("/app//../a%20b?x=/../", "/app/a%20b?x=/../")] {
        let answer = mesh.get(path).await;
        assert!(answer.contains(&format!("GET {canonical} HTTP/1.1\r\n")), "{path}: {answer}");
    }
    assert!(mesh.get("/admin%00").await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn connections_are_used_again_on_both_sides() {
    let upstream = Upstream::saying("fine").await;
    let mesh = Mesh::outbound(service(|_, _| {}, &[upstream.address]));
    let mut client = mesh.connect().await;
    for _ in 0..5 {
        client.write_all(format!("GET / HTTP/1.1\r\nHost: {SERVICE}\r\n\r\n").as_bytes()).await.unwrap();
        assert!(response(&mut client).await.ends_with("fine"));
    }
    assert_eq!((upstream.requests(), upstream.connections()), (5, 1));
}

#[tokio::test]
async fn weights_split_requests_between_subsets() {
    let (v1, v2) = (Upstream::saying("v1").await, Upstream::saying("v2").await);
    let (first, second) = ("outbound|9080|v1|reviews", "outbound|9080|v2|reviews");
    let mut resources = service(
        |rule, _| {
            *rule = super::harness::rule(vec![backend(first, 90), backend(second, 10)]);
        },
        &[],
    );
    for (name, upstream) in [(first, &v1), (second, &v2)] {
        resources.push(Resource::Cluster(Box::new(cluster(name, Protocol::Http))));
        resources.push(endpoints(name, &[upstream.address]));
    }
    let mesh = Mesh::outbound(resources);
    let mut client = mesh.connect().await;
    for _ in 0..500 {
        client.write_all(format!("GET / HTTP/1.1\r\nHost: {SERVICE}\r\n\r\n").as_bytes()).await.unwrap();
        assert!(response(&mut client).await.starts_with("HTTP/1.1 200"));
    }
    // Six standard deviations of a binomial with p = 0.1 and n = 500.
    assert!((10..=90).contains(&v2.requests()), "{} of 500", v2.requests());
    assert_eq!(v1.requests() + v2.requests(), 500);
}

#[tokio::test]
async fn bodies_of_any_size_pass_unchanged() {
    let upstream = Upstream::start(|request| ok(request.split_once("\r\n\r\n").unwrap().1)).await;
    let mesh = Mesh::outbound(service(|_, _| {}, &[upstream.address]));
    let body = "0123456789abcdef".repeat(64 * 1024);
    let length = body.len();
    let request = format!("POST / HTTP/1.1\r\nHost: {SERVICE}\r\ncontent-length: {length}\r\n\r\n{body}");
    let answer = ask(mesh.connect().await, &request).await;
    assert!(answer.split_once("\r\n\r\n").unwrap().1 == body);
}

#[tokio::test]
async fn headers_are_edited_as_the_route_says() {
    let upstream = Upstream::start(ok).await;
    let mesh = Mesh::outbound(service(
        |rule, _| {
            rule.request_headers = HeaderEdits {
                remove: vec!["x-secret".into()],
                set: vec![("x-user".into(), "jason".into())],
                ..HeaderEdits::default()
            };
            rule.response_headers.set.push(("x-from".into(), "mesh".into()));
        },
        &[upstream.address],
    ));
    let request = format!("GET / HTTP/1.1\r\nHost: {SERVICE}\r\nX-Secret: 1\r\nx-user: me\r\n\r\n");
    let answer = ask(mesh.connect().await, &request).await.to_lowercase();
    assert!(answer.contains("x-user: jason\r\n") && answer.contains("x-from: mesh\r\n"), "{answer}");
    assert!(!answer.contains("x-secret") && !answer.contains("x-user: me"), "{answer}");
}

#[tokio::test]
async fn s39_callers_cannot_forge_who_called() {
    let upstream = Upstream::start(ok).await;
    let mesh = Mesh::outbound(service(|_, _| {}, &[upstream.address]));
    let request =
        format!("GET / HTTP/1.1\r\nHost: {SERVICE}\r\nX-Forwarded-Client-Cert: URI=spiffe://evil\r\n\r\n");
    let answer = ask(mesh.connect().await, &request).await.to_lowercase();
    assert!(!answer.contains("evil"), "{answer}");
}

#[tokio::test]
async fn what_is_not_known_is_asked_for_once_and_waited_for() {
    let upstream = Upstream::saying("found").await;
    let all = service(|_, _| {}, &[upstream.address]);
    let mut mesh = Mesh::outbound(vec![all[0].clone()]);
    let mut client = mesh.connect().await;
    client.write_all(format!("GET / HTTP/1.1\r\nHost: {SERVICE}\r\n\r\n").as_bytes()).await.unwrap();
    let root = mesh.questions.recv().await.unwrap();
    assert_eq!(root, Root::Address(VIRTUAL.parse().unwrap()));
    mesh.change(|config| config.insert(all[1].clone()));
    mesh.demand.answered(&root);
    let root = mesh.questions.recv().await.unwrap();
    assert_eq!(root, Root::Host { host: host(SERVICE), port: 9080 });
    mesh.change(|config| all.into_iter().for_each(|resource| config.insert(resource)));
    mesh.demand.answered(&root);
    assert!(response(&mut client).await.ends_with("found"));
}

#[tokio::test]
async fn undeclared_destinations_pass_or_are_blocked_as_the_policy_says() {
    for (policy, expected) in [(OutboundPolicy::AllowAny, "200"), (OutboundPolicy::RegistryOnly, "502")] {
        let upstream = Upstream::saying("outside").await;
        let mut own = own(Role::Sidecar);
        own.outbound_policy = policy;
        let mut settings = outbound_settings();
        settings.outbound.as_mut().unwrap().capture = crate::engine::Capture::Fixed(upstream.address);
        let mut mesh = Mesh::start(settings, Default::default(), vec![Resource::Own(Box::new(own))]);
        mesh.change(|config| {
            config.set_absent(Root::Address(upstream.address));
            config.set_absent(Root::Host { host: host("example.com"), port: upstream.address.port() });
        });
        let answer = ask(mesh.connect().await, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{policy:?}: {answer}");
    }
}

#[tokio::test]
async fn opaque_connections_are_carried_with_half_close() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all.reverse();
        stream.write_all(&all).await.unwrap();
    });
    let mut resources = service(|_, cluster| cluster.protocol = Protocol::Tcp, &[address]);
    resources[1] = super::harness::address(Protocol::Tcp);
    let mesh = Mesh::outbound(resources);
    let mut client = mesh.connect().await;
    client.write_all(b"\x01\x02\x03").await.unwrap();
    client.shutdown().await.unwrap();
    let mut all = Vec::new();
    timeout(Duration::from_secs(10), client.read_to_end(&mut all)).await.unwrap().unwrap();
    assert_eq!(all, b"\x03\x02\x01");
}

/// The server says something every 20 ms: what is busy is closed only when it has been open for long enough.
#[tokio::test]
async fn a_tcp_connection_ends_when_it_is_silent_or_old_as_its_destination_says() {
    let talking = talker(Duration::from_millis(20)).await;
    let silent = talker(Duration::MAX).await;
    let (short, never) = (Millis::new(300), Millis::new(0));
    for (case, server, idle, duration) in [
        ("silent for too long", silent, short, None),
        ("open for too long", talking, never, Some(short)),
        ("open for too long, though silent", silent, never, Some(short)),
    ] {
        let cluster = |_: &mut Rule, cluster: &mut Cluster| {
            cluster.protocol = Protocol::Tcp;
            cluster.pool.tcp_idle_timeout = idle;
            cluster.pool.max_connection_duration = duration;
        };
        let mut resources = service(cluster, &[server]);
        resources[1] = address(Protocol::Tcp);
        let mesh = Mesh::outbound(resources);
        let began = Instant::now();
        let mut client = mesh.connect().await;
        let mut all = Vec::new();
        let read = timeout(Duration::from_secs(10), client.read_to_end(&mut all)).await;
        assert!(read.is_ok(), "{case}: still open");
        assert!(began.elapsed() >= Duration::from_millis(300), "{case}: {:?}", began.elapsed());
    }
}

/// A server that takes what it is sent and says a byte as often as this.
async fn talker(every: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                loop {
                    let mut read = [0];
                    match timeout(every, stream.read(&mut read)).await {
                        Ok(Ok(0) | Err(_)) => return,
                        Ok(Ok(_)) => {}
                        Err(_) if stream.write_all(b".").await.is_err() => return,
                        Err(_) => {}
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn servers_that_speak_first_are_not_kept_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 ready\r\n").await.unwrap();
    });
    let mut resources = service(|_, cluster| cluster.protocol = Protocol::Detect, &[address]);
    resources[1] = super::harness::address(Protocol::Detect);
    let mesh = Mesh::outbound(resources);
    let mut greeting = [0; 11];
    let mut client = mesh.connect().await;
    timeout(Duration::from_secs(10), client.read_exact(&mut greeting)).await.unwrap().unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
}

/// A mesh on one machine has no route to the outside: somebody else opens the connections.
#[tokio::test]
async fn what_is_outside_is_reached_through_the_broker_if_there_is_one() {
    let upstream = Upstream::saying("outside").await;
    // Of a block that is only for documentation: nobody answers there.
    let outside = "192.0.2.7:80".parse().unwrap();
    let (asker, answerer) = Broker::pair().unwrap();
    let questions = Questions::new(answerer).unwrap();
    let mut settings = outbound_settings();
    settings.outbound.as_mut().unwrap().capture = crate::engine::Capture::Fixed(outside);
    settings.broker = Some(Broker::new(asker));
    let mut mesh =
        Mesh::start(settings, Default::default(), vec![Resource::Own(Box::new(own(Role::Sidecar)))]);
    mesh.change(|config| {
        config.set_absent(Root::Address(outside));
        config.set_absent(Root::Host { host: host("example.com"), port: 80 });
    });
    let target = upstream.address;
    let answering = async {
        let question = questions.next().await.unwrap();
        assert_eq!(question.request, Request::Connect(outside));
        let socket = std::net::TcpStream::connect(target).unwrap();
        socket.set_nonblocking(true).unwrap();
        question.answer(&Answer::Connected, Some(&socket.into()));
        let question = questions.next().await.unwrap();
        question.answer(&Answer::Forbidden("not today".into()), None);
    };
    let asking = async {
        let request = "GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n";
        let first = ask(mesh.connect().await, request).await;
        assert!(first.ends_with("outside"), "{first}");
        // The idle connection is used again; only a new one is asked for.
        assert!(ask(mesh.connect().await, request).await.ends_with("outside"));
        let opaque = timeout(Duration::from_secs(10), async {
            let mut stream = mesh.connect().await;
            stream.write_all(b"\x01").await.unwrap();
            stream.read(&mut [0]).await
        });
        assert!(matches!(opaque.await.unwrap(), Ok(0) | Err(_)), "what is forbidden is cut");
    };
    timeout(Duration::from_secs(20), async { tokio::join!(answering, asking) }).await.unwrap();
}
