//! Capture and the DNS server together: a resolver in the pod, the proxy, and a name server outside.

use std::net::{Ipv4Addr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use mesh_core::name::Host;
use tokio::task::{LocalSet, spawn_blocking, spawn_local};

use super::PATIENCE;
use super::pod::{ROUTER, in_pod};
use crate::dns::{Listeners, Lookup, Server, Settings, VIRTUAL_ADDRESS_TTL};
use crate::redirect::{Capture, install};

#[test]
fn captured_queries_are_answered_and_the_proxys_own_leave_the_pod() {
    in_pod(
        "redirect::tests::dns::captured_queries_are_answered_and_the_proxys_own_leave_the_pod",
        |outside| {
            let capture = Capture { captures_dns: true, ..Capture::default() };
            install(&capture).expect("the rules are accepted");
            let name_server = outside.run(|| UdpSocket::bind((ROUTER, 53)).expect("free port"));
            std::thread::spawn(move || refuse_one(&name_server));

            let settings =
                Settings::new(host("cluster.local"), vec![(ROUTER, 53).into()], Some(capture.mark));
            let lookup = async |name: Host| match name.as_str() {
                "reviews.default.svc.cluster.local" => Lookup::Found {
                    addresses: vec![Ipv4Addr::new(10, 96, 1, 2).into()],
                    ttl: VIRTUAL_ADDRESS_TTL,
                },
                _ => Lookup::NotFound,
            };
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            LocalSet::new().block_on(&runtime, async {
                let listeners =
                    Listeners::bind((Ipv4Addr::LOCALHOST, 15053).into()).await.expect("free port");
                spawn_local(Rc::new(Server::new(settings, lookup, Arc::default())).serve(listeners));

                let inside = spawn_blocking(|| resolve("reviews.default.svc.cluster.local."))
                    .await
                    .expect("an answer");
                assert_eq!(inside.answers[0].data.to_string(), "10.96.1.2");
                let elsewhere = spawn_blocking(|| resolve("www.example.com.")).await.expect("an answer");
                assert_eq!(
                    elsewhere.metadata.response_code,
                    ResponseCode::Refused,
                    "the name server's own answer"
                );
            });
        },
    );
}

fn host(text: &str) -> Host {
    Host::parse(text).expect("a host")
}

/// Asks the cluster's name server, which no pod runs: only capture makes it answer.
fn resolve(name: &str) -> Message {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("free port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.connect((Ipv4Addr::new(10, 96, 0, 10), 53)).expect("a route");
    socket.send(&query.to_vec().expect("encodes")).expect("sent");
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).expect("answered");
    Message::from_vec(&buffer[..length]).expect("a message")
}

fn refuse_one(name_server: &UdpSocket) {
    let mut buffer = [0; 512];
    let (length, client) = name_server.recv_from(&mut buffer).expect("a query");
    let mut answer = Message::from_vec(&buffer[..length]).expect("a message").into_response();
    answer.metadata.response_code = ResponseCode::Refused;
    name_server.send_to(&answer.to_vec().expect("encodes"), client).expect("sent");
}
