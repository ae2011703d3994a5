//! DNS for pods without a sidecar under `mesh up`, where no kube-proxy gives virtual addresses a meaning: a service's
//! name answers with the addresses of its ready pods. Names outside the cluster's domain do not exist here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::serve::Plane;
use crate::translate::hosts;

/// How long answers may be kept, in seconds: pods come and go.
const TTL: u32 = 5;
/// Largest datagram that is read.
const LARGEST: usize = 1232;

/// Answers queries until `stop`.
pub async fn serve(socket: UdpSocket, plane: Arc<Plane>, stop: CancellationToken) {
    let mut buffer = [0; LARGEST];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = stop.cancelled() => return,
        };
        match received {
            Ok((length, client)) => reply(&socket, &plane, &buffer[..length], client),
            Err(error) => {
                tracing::debug!(%error, "cannot receive a query");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn reply(socket: &UdpSocket, plane: &Plane, query: &[u8], client: SocketAddr) {
    let Some(answer) = answer(plane, query) else { return };
    // A full socket buffer may drop it, as any network may.
    if let Err(error) = socket.try_send_to(&answer, client) {
        tracing::debug!(%client, %error, "cannot send an answer");
    }
}

fn answer(plane: &Plane, query: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let question = query.queries.first().filter(|_| query.metadata.message_type == MessageType::Query)?;
    let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.authoritative = true;
    answer.add_query(question.clone());
    let name = question.name().to_ascii().to_ascii_lowercase();
    match addresses(plane, name.trim_end_matches('.')) {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(addresses) if question.query_type() == RecordType::A => {
            let v4 = addresses.iter().filter_map(|address| match address {
                IpAddr::V4(v4) => Some(RData::A(A(*v4))),
                IpAddr::V6(_) => None,
            });
            let name = question.name().clone();
            answer.add_answers(v4.map(|data| Record::from_rdata(name.clone(), TTL, data)));
        }
        Some(_) => {}
    }
    answer.to_vec().ok()
}

fn addresses(plane: &Plane, name: &str) -> Option<Vec<IpAddr>> {
    let local = name.strip_suffix(hosts::CLUSTER_DOMAIN)?.strip_suffix(".svc.")?;
    let view = plane.view();
    let (service, namespace) = local.split_once('.').filter(|(_, namespace)| !namespace.contains('.'))?;
    let service = view.world().get(namespace, service)?;
    Some(view.members(&service))
}
