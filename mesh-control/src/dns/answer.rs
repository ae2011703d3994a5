//! From the bytes of a query to the bytes of its answer.

use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use mesh_core::model::{Host, HostPattern};

use crate::api::Item;
use crate::api::core::Service;
use crate::api::meta::StringMap;
use crate::translate::scope::CLUSTER_DOMAIN;
use crate::translate::{Client, Scope, sidecar};
use crate::view::View;

/// How a query came, and so how long its answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// How long an answer may be kept, in seconds: pods come and go.
const TTL: u32 = 5;
/// Answers over UDP that every resolver takes.
const SHORTEST_UDP: usize = 512;
/// Hosts that a Service is published under, separated by commas.
const PUBLISHED_NAMES: &str = "external-dns.alpha.kubernetes.io/hostname";
const HEADER_LENGTH: usize = 12;

/// The answer; none to what is not a query, so that two servers never talk to each other for ever.
pub(super) fn answer(view: &View, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let &[high, low, ..] = query else { return None };
    if query.len() < HEADER_LENGTH {
        return None;
    }
    let Ok(request) = Message::from_vec(query) else {
        let id = u16::from_be_bytes([high, low]);
        return Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok();
    };
    if request.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&request.metadata);
    let [question] = &request.queries[..] else {
        reply.metadata.response_code = ResponseCode::FormErr;
        return reply.to_vec().ok();
    };
    reply.add_query(question.clone());
    reply.metadata.response_code = match question.query_class() {
        DNSClass::IN if request.metadata.op_code == OpCode::Query => ResponseCode::NoError,
        _ => ResponseCode::Refused,
    };
    if reply.metadata.response_code == ResponseCode::NoError {
        match Host::parse(&question.name().to_ascii()).ok().map(|host| lookup(view, &host)) {
            Some(Found::Addresses(addresses)) => {
                reply.metadata.authoritative = true;
                for data in addresses.into_iter().filter_map(|address| data(address, question.query_type())) {
                    reply.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
                }
                rotate(&mut reply);
            }
            Some(Found::Nothing) => reply.metadata.response_code = ResponseCode::NXDomain,
            Some(Found::NotOurs) | None => reply.metadata.response_code = ResponseCode::Refused,
        }
    }
    fit(reply, if transport == Transport::Tcp { usize::from(u16::MAX) } else { SHORTEST_UDP })
}

enum Found {
    Addresses(Vec<IpAddr>),
    /// A name of the cluster that nobody has.
    Nothing,
    NotOurs,
}

fn lookup(view: &View, host: &Host) -> Found {
    let labels = StringMap::new();
    // The first label after the service's is its namespace; search lists have completed what was short.
    let namespace = host.as_str().split('.').nth(1).unwrap_or("default");
    let client = Client { namespace, labels: &labels };
    let scope = Scope { world: view.world(), catalog: view.catalog(), client };
    let service =
        view.catalog().canonical(host, namespace).and_then(|host| view.catalog().find(&host, namespace));
    match service {
        Some(service) if service.is_kubernetes() && matches!(service.host, HostPattern::Exact(_)) => {
            Found::Addresses(sidecar::pods(&scope, service))
        }
        _ if host.as_str().ends_with(CLUSTER_DOMAIN) => Found::Nothing,
        _ => published(view, host),
    }
}

/// Names that Services publish, as ExternalDNS would: with them one Service stands in for a host outside.
fn published(view: &View, host: &Host) -> Found {
    let labels = StringMap::new();
    let names = |service: &Item<'_, Service>| {
        let annotation = service.object.meta.annotation(PUBLISHED_NAMES).unwrap_or_default();
        annotation.split(',').filter_map(|name| HostPattern::parse(name.trim()).ok()).collect::<Vec<_>>()
    };
    let services = view.world().oldest_first::<Service>();
    let Some(service) = services.iter().find(|service| names(service).iter().any(|it| it.matches(host)))
    else {
        return Found::NotOurs;
    };
    let client = Client { namespace: service.namespace(), labels: &labels };
    let scope = Scope { world: view.world(), catalog: view.catalog(), client };
    let full = format!("{}.{}.svc.{CLUSTER_DOMAIN}", service.name(), service.namespace());
    let found = Host::parse(&full).ok().and_then(|full| view.catalog().find(&full, service.namespace()));
    found.map_or(Found::NotOurs, |service| Found::Addresses(sidecar::pods(&scope, service)))
}

fn data(address: IpAddr, wanted: RecordType) -> Option<RData> {
    match (address, wanted) {
        (IpAddr::V4(address), RecordType::A) => Some(RData::A(address.into())),
        (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA(address.into())),
        _ => None,
    }
}

/// Begins with another address each time: most clients take the first.
fn rotate(reply: &mut Message) {
    let count = reply.answers.len();
    if count > 0 {
        reply.answers.rotate_left(usize::from(reply.metadata.id) % count);
    }
}

/// Leaves out the last answers until the rest fits.
fn fit(mut reply: Message, longest: usize) -> Option<Vec<u8>> {
    loop {
        let bytes = reply.to_vec().ok()?;
        if bytes.len() <= longest || reply.answers.is_empty() {
            return Some(bytes);
        }
        reply.metadata.truncation = true;
        let keep = reply.answers.len() / 2;
        reply.answers.truncate(keep);
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use hickory_proto::rr::Name;

    use super::*;
    use crate::translate::tests::{service, view};

    fn ask(view: &View, name: &str, kind: RecordType, transport: Transport) -> Message {
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        Message::from_vec(&answer(view, &query.to_vec().unwrap(), transport).unwrap()).unwrap()
    }

    #[test]
    fn services_answer_with_their_pods_and_other_names_are_left_to_others() {
        let view = view(&service("web", 80, &["v1", "v2"]));
        let full = "web.default.svc.cluster.local.";
        for (name, kind, code, count) in [
            (full, RecordType::A, ResponseCode::NoError, 2),
            ("WEB.default.svc.cluster.local.", RecordType::A, ResponseCode::NoError, 2),
            (full, RecordType::AAAA, ResponseCode::NoError, 0),
            ("none.default.svc.cluster.local.", RecordType::A, ResponseCode::NXDomain, 0),
            ("example.com.", RecordType::A, ResponseCode::Refused, 0),
        ] {
            let reply = ask(&view, name, kind, Transport::Udp);
            assert_eq!((reply.metadata.response_code, reply.answers.len()), (code, count), "{name} {kind}");
        }
    }

    #[test]
    fn names_that_services_publish_lead_to_their_pods() {
        let annotation = "metadata: {annotations: {external-dns.alpha.kubernetes.io/hostname: \"a.example.com, *.b.example.com\"}, ";
        let yaml = service("web", 80, &["v1", "v2"]).replacen("metadata: {", annotation, 1);
        assert!(yaml.contains("external-dns"), "{yaml}");
        let view = view(&yaml);
        for (name, code, count) in [
            ("a.example.com.", ResponseCode::NoError, 2),
            ("x.y.b.example.com.", ResponseCode::NoError, 2),
            ("b.example.com.", ResponseCode::Refused, 0),
        ] {
            let reply = ask(&view, name, RecordType::A, Transport::Udp);
            assert_eq!((reply.metadata.response_code, reply.answers.len()), (code, count), "{name}");
        }
    }

    #[test]
    fn long_answers_are_cut_over_udp_only_and_noise_is_not_answered() {
        let versions: Vec<String> = (0..60).map(|at| format!("v{at}")).collect();
        let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
        let view = view(&service("web", 80, &versions));
        let full = "web.default.svc.cluster.local.";
        let cut = ask(&view, full, RecordType::A, Transport::Udp);
        assert!(cut.metadata.truncation && !cut.answers.is_empty() && cut.answers.len() < 60);
        assert_eq!(ask(&view, full, RecordType::A, Transport::Tcp).answers.len(), 60);
        assert_eq!(answer(&view, b"short", Transport::Udp), None);
        let mut reply = Message::response(1, OpCode::Query).to_vec().unwrap();
        assert_eq!(answer(&view, &reply, Transport::Udp), None);
        reply.truncate(11);
        assert_eq!(answer(&view, &reply, Transport::Udp), None);
    }
}
