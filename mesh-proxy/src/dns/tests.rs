//! The server over real sockets.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use mesh_core::name::Host;
use mesh_core::telemetry::{Counter, Metrics};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::{HEADLESS_TTL, Listeners, Lookup, Server, Settings, VIRTUAL_ADDRESS_TTL};

const PATIENCE: Duration = Duration::from_secs(5);

/// A server on a free port that knows a few names.
struct Scene {
    address: SocketAddr,
    asked: Rc<RefCell<Vec<String>>>,
    counts: Box<dyn Fn() -> [u64; 5]>,
}

/// Runs `test` beside a server with these upstream resolvers.
async fn scene(upstream: Vec<SocketAddr>, test: impl AsyncFnOnce(&Scene)) {
    scene_with(settings(upstream), test).await;
}

async fn scene_with(settings: Settings, test: impl AsyncFnOnce(&Scene)) {
    LocalSet::new()
        .run_until(async {
            let asked = Rc::new(RefCell::new(Vec::new()));
            let log = Rc::clone(&asked);
            let metrics = Arc::<Metrics>::default();
            let lookup = async move |host: Host| {
                log.borrow_mut().push(host.as_str().to_owned());
                known(host.as_str()).await
            };
            let server = Rc::new(Server::new(settings, lookup, Arc::clone(&metrics)));
            let listeners = Listeners::bind((Ipv4Addr::LOCALHOST, 0).into()).await.expect("a free port");
            let address = listeners.address().expect("bound");
            let serving = tokio::task::spawn_local(Rc::clone(&server).serve(listeners));
            let counts = Box::new(move || {
                [
                    Counter::DnsAnswered,
                    Counter::DnsForwarded,
                    Counter::DnsFailed,
                    Counter::DnsRefused,
                    Counter::DnsDropped,
                ]
                .map(|counter| metrics.value(counter))
            });
            test(&Scene { address, asked, counts }).await;
            serving.abort();
        })
        .await;
}

fn settings(upstream: Vec<SocketAddr>) -> Settings {
    Settings::new(Host::parse("cluster.local").expect("a host"), upstream, None)
}

async fn known(name: &str) -> Lookup {
    let found = |text: &str, ttl| Lookup::Found {
        addresses: text.split(' ').map(|address| address.parse().expect("an address")).collect(),
        ttl,
    };
    match name {
        "reviews.default.svc.cluster.local" => found("10.96.1.2", VIRTUAL_ADDRESS_TTL),
        "dual.default.svc.cluster.local" => found("10.96.1.3 fd00::3", VIRTUAL_ADDRESS_TTL),
        "kafka.default.svc.cluster.local" => found("10.244.0.7 10.244.0.8 10.244.0.9", HEADLESS_TTL),
        "crowd.default.svc.cluster.local" => {
            let addresses = (1..=120).map(|last| Ipv4Addr::new(10, 244, 1, last).into()).collect();
            Lookup::Found { addresses, ttl: HEADLESS_TTL }
        }
        "payments.example.com" => found("240.240.0.9", VIRTUAL_ADDRESS_TTL),
        "away.example.com" => Lookup::Unavailable,
        "slow.example.com" => std::future::pending().await,
        _ => Lookup::NotFound,
    }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message
}

impl Scene {
    async fn udp(&self, query: &Message) -> Message {
        let answer = exchange(self.address, &query.to_vec().expect("encodes")).await.expect("an answer");
        Message::from_vec(&answer).expect("a message")
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Message {
        let query = query(name, kind);
        let answer = self.udp(&query).await;
        assert_eq!(answer.metadata.id, query.metadata.id);
        assert_eq!(answer.queries, query.queries);
        answer
    }
}

/// Sends a datagram and waits for one back.
async fn exchange(server: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    socket.connect(server).await.expect("connects");
    socket.send(bytes).await.expect("sends");
    let mut buffer = vec![0; 65535];
    let length = timeout(PATIENCE, socket.recv(&mut buffer)).await.ok()?.ok()?;
    buffer.truncate(length);
    Some(buffer)
}

fn addresses(message: &Message) -> Vec<String> {
    let mut list: Vec<_> = message.answers.iter().map(|record| record.data.to_string()).collect();
    list.sort();
    list
}

#[tokio::test]
async fn service_names_get_their_virtual_address_in_any_case() {
    scene(vec![], async |scene| {
        let answer = scene.ask("Reviews.DEFAULT.svc.cluster.local.", RecordType::A).await;

        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert_eq!(addresses(&answer), ["10.96.1.2"]);
        assert_eq!(answer.answers[0].ttl, 30);
        assert_eq!(answer.answers[0].name.to_ascii(), "Reviews.DEFAULT.svc.cluster.local.");
        assert_eq!(*scene.asked.borrow(), ["reviews.default.svc.cluster.local"]);
    })
    .await;
}

#[tokio::test]
async fn members_of_a_headless_service_are_all_named_and_kept_shortly() {
    scene(vec![], async |scene| {
        let answer = scene.ask("kafka.default.svc.cluster.local.", RecordType::A).await;

        assert_eq!(addresses(&answer), ["10.244.0.7", "10.244.0.8", "10.244.0.9"]);
        assert!(answer.answers.iter().all(|record| record.ttl == 5));
    })
    .await;
}

#[tokio::test]
async fn a_family_or_type_the_service_lacks_is_empty_but_no_error() {
    scene(vec![], async |scene| {
        for kind in [RecordType::AAAA, RecordType::HTTPS, RecordType::SRV] {
            let answer = scene.ask("reviews.default.svc.cluster.local.", kind).await;
            assert_eq!(
                (answer.metadata.response_code, answer.answers.len()),
                (ResponseCode::NoError, 0),
                "{kind}"
            );
        }
        let answer = scene.ask("dual.default.svc.cluster.local.", RecordType::AAAA).await;
        assert_eq!(addresses(&answer), ["fd00::3"]);
    })
    .await;
}

#[tokio::test]
async fn unknown_cluster_names_do_not_exist_and_impossible_ones_are_not_looked_up() {
    let nowhere = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    scene(vec![nowhere.local_addr().expect("bound")], async |scene| {
        let unknown = scene.ask("ghost.default.svc.cluster.local.", RecordType::A).await;
        assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(scene.asked.take(), ["ghost.default.svc.cluster.local"]);

        let expanded = "reviews.default.svc.cluster.local.default.svc.cluster.local.";
        let impossible = scene.ask(expanded, RecordType::A).await;
        assert_eq!(impossible.metadata.response_code, ResponseCode::NXDomain);
        assert!(scene.asked.borrow().is_empty());
        // A domain that only ends alike is somebody else's.
        assert_eq!(
            super::labels_below(&Host::parse("a.notcluster.local").expect("a host"), &host("cluster.local")),
            None
        );
    })
    .await;
}

fn host(text: &str) -> Host {
    Host::parse(text).expect("a host")
}

#[tokio::test]
async fn other_names_are_forwarded_unless_the_mesh_has_them() {
    LocalSet::new()
        .run_until(async {
            let upstream = resolver(|query| {
                let mut answer = query.clone().into_response();
                let name = query.queries[0].name().clone();
                answer.add_answer(Record::from_rdata(name, 77, RData::A(Ipv4Addr::new(192, 0, 2, 1).into())));
                Some(answer)
            })
            .await;
            scene(vec![upstream], async |scene| {
                let outside = scene.ask("www.example.com.", RecordType::A).await;
                assert_eq!(addresses(&outside), ["192.0.2.1"]);
                assert_eq!(outside.answers[0].ttl, 77);
                let entry = scene.ask("payments.example.com.", RecordType::A).await;
                assert_eq!(addresses(&entry), ["240.240.0.9"]);
                let reverse = scene.ask("1.0.96.10.in-addr.arpa.", RecordType::A).await;
                assert_eq!(addresses(&reverse), ["192.0.2.1"]);
                assert_eq!(*scene.asked.borrow(), ["www.example.com", "payments.example.com"]);
                assert_eq!((scene.counts)(), [1, 2, 0, 0, 0]);
            })
            .await;
        })
        .await;
}

#[tokio::test]
async fn a_silent_resolver_is_passed_over_and_forged_answers_are_skipped() {
    LocalSet::new()
        .run_until(async {
            let silent = resolver(|_| None).await;
            let noisy = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
            let address = noisy.local_addr().expect("bound");
            tokio::task::spawn_local(async move {
                let mut buffer = [0; 512];
                let (length, client) = noisy.recv_from(&mut buffer).await.expect("a query");
                let query = Message::from_vec(&buffer[..length]).expect("a message");
                let mut forged = query.clone().into_response();
                forged.metadata.id = forged.metadata.id.wrapping_add(1);
                let mut real = query.into_response();
                real.metadata.response_code = ResponseCode::NXDomain;
                for answer in [forged, real] {
                    noisy.send_to(&answer.to_vec().expect("encodes"), client).await.expect("sends");
                }
            });
            let settings =
                Settings { upstream_deadline: Duration::from_millis(400), ..settings(vec![silent, address]) };
            scene_with(settings, async |scene| {
                let answer = scene.ask("www.example.com.", RecordType::A).await;
                assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
                // Nobody listens to the second question.
                let failed = scene.ask("www.example.com.", RecordType::A).await;
                assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
            })
            .await;
        })
        .await;
}

#[tokio::test]
async fn without_resolvers_only_the_mesh_exists() {
    scene(vec![], async |scene| {
        let answer = scene.ask("www.example.com.", RecordType::A).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    })
    .await;
}

#[tokio::test]
async fn a_lookup_without_a_result_fails_and_never_leaves_the_mesh() {
    LocalSet::new()
        .run_until(async {
            let upstream = resolver(|_| panic!("asked")).await;
            let settings =
                Settings { lookup_deadline: Duration::from_millis(50), ..settings(vec![upstream]) };
            scene_with(settings, async |scene| {
                for name in ["away.example.com.", "slow.example.com."] {
                    let answer = scene.ask(name, RecordType::A).await;
                    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail, "{name}");
                }
                assert_eq!((scene.counts)(), [0, 0, 2, 0, 0]);
            })
            .await;
        })
        .await;
}

#[tokio::test]
async fn long_answers_are_cut_to_what_the_client_takes() {
    scene(vec![], async |scene| {
        let mut asked = query("crowd.default.svc.cluster.local.", RecordType::A);
        let small = scene.udp(&asked).await;
        assert!(small.metadata.truncation);
        assert!(small.answers.len() >= 20);

        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        asked.set_edns(edns);
        let large = scene.udp(&asked).await;
        assert!(!large.metadata.truncation);
        assert_eq!((large.answers.len(), large.edns.expect("answered in kind").max_payload()), (120, 4096));
    })
    .await;
}

#[tokio::test]
async fn tcp_carries_several_queries_and_long_answers() {
    scene(vec![], async |scene| {
        let mut stream = TcpStream::connect(scene.address).await.expect("connects");
        for (name, expected) in [("crowd", 120), ("kafka", 3)] {
            let query = query(&format!("{name}.default.svc.cluster.local."), RecordType::A)
                .to_vec()
                .expect("encodes");
            stream.write_u16(query.len().try_into().expect("short")).await.expect("sends");
            stream.write_all(&query).await.expect("sends");
            let mut answer = vec![0; stream.read_u16().await.expect("an answer").into()];
            stream.read_exact(&mut answer).await.expect("an answer");
            let answer = Message::from_vec(&answer).expect("a message");
            assert_eq!((answer.answers.len(), answer.metadata.truncation), (expected, false));
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_no_question_gets_an_error_and_noise_gets_nothing() {
    scene(vec![], async |scene| {
        let name = "reviews.default.svc.cluster.local.";
        let mut update = query(name, RecordType::A);
        update.metadata.op_code = OpCode::Notify;
        let mut chaos = query(name, RecordType::A);
        chaos.queries[0].set_query_class(DNSClass::CH);
        let mut future = query(name, RecordType::A);
        let mut edns = Edns::new();
        edns.set_version(1);
        future.set_edns(edns);
        let mut two = query(name, RecordType::A);
        two.add_query(Query::query(Name::root(), RecordType::A));
        let refused = [
            (update, ResponseCode::NotImp),
            (chaos, ResponseCode::Refused),
            // BADVERS and BADSIG are the same number.
            (future, ResponseCode::BADVERS),
            (two, ResponseCode::FormErr),
        ];
        for (message, code) in refused {
            assert_eq!(u16::from(scene.udp(&message).await.metadata.response_code), u16::from(code));
        }
        let malformed = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xff];
        assert_eq!(exchange(scene.address, &malformed).await.expect("an answer")[..4], [0x12, 0x34, 0x80, 1]);

        let noise = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let response = query(name, RecordType::A).into_response().to_vec().expect("encodes");
        for message in [&response[..], b"short"] {
            noise.send_to(message, scene.address).await.expect("sends");
        }
        // The server works in order: once it answers this, it has seen the noise.
        scene.ask(name, RecordType::A).await;
        assert!(noise.try_recv(&mut [0; 16]).is_err());
        assert_eq!((scene.counts)()[3], 7);
    })
    .await;
}

#[tokio::test]
async fn queries_beyond_the_limit_are_dropped_and_counted() {
    let settings = Settings { queries: 1, ..settings(vec![]) };
    scene_with(settings, async |scene| {
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let stuck = query("slow.example.com.", RecordType::A).to_vec().expect("encodes");
        for _ in 0..3 {
            client.send_to(&stuck, scene.address).await.expect("sends");
        }
        let all_seen = async {
            while (scene.counts)()[4] < 2 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, all_seen).await.expect("two are dropped");
        assert_eq!(scene.asked.borrow().len(), 1);
    })
    .await;
}

/// A resolver that answers over UDP with what `answer` makes of each query.
async fn resolver(answer: impl Fn(Message) -> Option<Message> + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let address = socket.local_addr().expect("bound");
    let started = Rc::new(Notify::new());
    let ready = Rc::clone(&started);
    tokio::task::spawn_local(async move {
        ready.notify_one();
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..length]).expect("a query");
            if let Some(answer) = answer(query) {
                socket.send_to(&answer.to_vec().expect("encodes"), client).await.expect("sends");
            }
        }
    });
    started.notified().await;
    address
}
