//! Names against a scripted resolver.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Message, MessageType, Metadata, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::*;

/// What the resolver says to one query for an address of IPv4; afterwards it says the last one again.
#[derive(Clone)]
enum Say {
    Addresses(&'static [&'static str], u32),
    Code(ResponseCode),
    Nothing,
}

struct Resolver {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

async fn resolver(script: Vec<Say>) -> Resolver {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (socket.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let (count, mut script) = (asked.clone(), VecDeque::from(script));
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let is_v4 = query.queries[0].query_type() == RecordType::A;
            let say = match script.front() {
                Some(say) if !is_v4 => say.clone(),
                Some(_) if script.len() > 1 => script.pop_front().unwrap(),
                say => say.unwrap().clone(),
            };
            count.fetch_add(usize::from(is_v4), Ordering::SeqCst);
            if let Some(reply) = reply(&query, &say, is_v4) {
                // A forger's answer comes first.
                let mut forged = reply.clone();
                forged[0] ^= 0xff;
                socket.send_to(&forged, peer).await.unwrap();
                socket.send_to(&reply, peer).await.unwrap();
            }
        }
    });
    Resolver { address, asked }
}

fn reply(query: &Message, say: &Say, is_v4: bool) -> Option<Vec<u8>> {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&query.metadata);
    reply.metadata.message_type = MessageType::Response;
    reply.add_query(query.queries[0].clone());
    match say {
        Say::Nothing => return None,
        Say::Code(code) => reply.metadata.response_code = *code,
        Say::Addresses(addresses, ttl) => {
            for address in addresses.iter().map(|address| address.parse().unwrap()) {
                let data = match address {
                    IpAddr::V4(address) if is_v4 => RData::A(address.into()),
                    IpAddr::V6(address) if !is_v4 => RData::AAAA(address.into()),
                    _ => continue,
                };
                reply.add_answer(Record::from_rdata(query.queries[0].name().clone(), *ttl, data));
            }
        }
    }
    reply.to_vec().ok()
}

fn names(servers: &[&Resolver]) -> Names {
    Names::new(servers.iter().map(|server| server.address).collect(), None)
}

fn host(name: &str) -> Host {
    Host::parse(name).unwrap()
}

const LIMIT: Duration = Duration::from_secs(10);

async fn resolve(names: &Names) -> Result<Vec<String>, String> {
    let found = names.addresses(&host("api.example.com"), true, LIMIT).await;
    found.map(|all| all.iter().map(ToString::to_string).collect()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn all_addresses_of_an_answer_count_until_its_time_is_over() {
    let server = resolver(vec![
        Say::Addresses(&["203.0.113.1", "203.0.113.2"], 0),
        Say::Addresses(&["203.0.113.3"], 60),
    ])
    .await;
    let names = names(&[&server]);
    assert_eq!(resolve(&names).await.unwrap(), ["203.0.113.1", "203.0.113.2"]);
    // A time of zero counts as a second: no request may make a query each.
    assert_eq!(resolve(&names).await.unwrap().len(), 2);
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
    sleep(Duration::from_millis(1100)).await;
    assert_eq!(resolve(&names).await.unwrap(), ["203.0.113.3"]);
    assert_eq!(server.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn the_last_answer_stays_while_resolvers_fail_and_goes_when_the_name_does() {
    let server = resolver(vec![
        Say::Addresses(&["203.0.113.1"], 1),
        Say::Code(ResponseCode::ServFail),
        Say::Code(ResponseCode::NXDomain),
    ])
    .await;
    let names = names(&[&server]);
    assert_eq!(resolve(&names).await.unwrap(), ["203.0.113.1"]);
    sleep(Duration::from_millis(1100)).await;
    assert_eq!(resolve(&names).await.unwrap(), ["203.0.113.1"]);
    sleep(AGAIN + Duration::from_millis(100)).await;
    assert_eq!(resolve(&names).await.unwrap_err(), "the name does not exist");
}

#[tokio::test]
async fn the_next_resolver_is_asked_when_one_is_silent_or_refuses() {
    let (silent, refusing) =
        (resolver(vec![Say::Nothing]).await, resolver(vec![Say::Code(ResponseCode::Refused)]).await);
    let good = resolver(vec![Say::Addresses(&["203.0.113.9"], 5)]).await;
    assert_eq!(resolve(&names(&[&silent, &refusing, &good])).await.unwrap(), ["203.0.113.9"]);
    let error = resolve(&names(&[&refusing])).await.unwrap_err();
    assert!(error.starts_with("no resolver gave an answer: 127.0.0.1:"), "{error}");
    assert_eq!(resolve(&names(&[])).await.unwrap_err(), "no resolver is configured");
}

#[tokio::test]
async fn ipv6_counts_only_where_there_is_no_ipv4() {
    let both = resolver(vec![Say::Addresses(&["203.0.113.1", "2001:db8::1"], 5)]).await;
    assert_eq!(resolve(&names(&[&both])).await.unwrap(), ["203.0.113.1"]);
    let six = resolver(vec![Say::Addresses(&["2001:db8::1"], 5)]).await;
    assert_eq!(resolve(&names(&[&six])).await.unwrap(), ["2001:db8::1"]);
}

#[tokio::test]
async fn many_who_want_a_name_ask_once() {
    let server = resolver(vec![Say::Addresses(&["203.0.113.1"], 5)]).await;
    let names = names(&[&server]);
    let all = futures_util::future::join_all((0..50).map(|_| resolve(&names))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_name_that_is_not_there_is_asked_for_once_a_second() {
    let server = resolver(vec![Say::Code(ResponseCode::NXDomain)]).await;
    let names = names(&[&server]);
    let all = futures_util::future::join_all((0..50).map(|_| resolve(&names))).await;
    assert!(all.iter().all(Result::is_err));
    assert_eq!(server.asked.load(Ordering::SeqCst), 1);
}

/// security.md EG-04: an answer that flips to an address of ours.
#[tokio::test]
async fn names_outside_the_mesh_never_lead_into_our_neighbourhood() {
    for bad in ["127.0.0.1", "169.254.169.254", "0.0.0.0", "240.240.3.4", "224.0.0.1"] {
        let bad: &'static [&'static str] = vec![bad].leak();
        let server = resolver(vec![Say::Addresses(bad, 5)]).await;
        let names = names(&[&server]);
        let error = resolve(&names).await.unwrap_err();
        assert!(error.starts_with(&format!("it resolves to {} only", bad[0])), "{error}");
        let inside = names.addresses(&host("api.example.com"), false, LIMIT).await;
        assert!(inside.is_ok(), "names of the mesh's own may");
    }
    let mixed = resolver(vec![Say::Addresses(&["127.0.0.1", "203.0.113.1"], 5)]).await;
    assert_eq!(resolve(&names(&[&mixed])).await.unwrap(), ["203.0.113.1"]);
    for literal in [
        "::1",
        "fe80::1",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
    ] {
        assert!(is_forbidden(&literal.parse().unwrap()), "{literal}");
    }
}

#[test]
fn resolv_conf_names_its_resolvers_in_order() {
    let text = "# comment\nsearch a.example\nnameserver 10.0.0.1\n  nameserver\tfd00::1 # late\nnameserver x\n\
                nameserver\noptions ndots:5\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n";

    let servers = nameservers(text).iter().map(ToString::to_string).collect::<Vec<_>>();

    assert_eq!(servers, ["10.0.0.1:53", "[fd00::1]:53", "10.0.0.3:53"]);
}
