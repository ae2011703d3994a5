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

/// What becomes of a query.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is no query: to answer could make two servers talk to each other for ever.
    Nothing,
    Ready(Vec<u8>),
    /// The name is not ours.
    Elsewhere(Query),
}

/// A query for a name outside of the mesh.
#[derive(Debug)]
pub(super) struct Query {
    reply: Message,
    transport: Transport,
}

pub(super) fn answer(view: &View, query: &[u8], transport: Transport) -> Answer {
    let &[high, low, ..] = query else { return Answer::Nothing };
    if query.len() < HEADER_LENGTH {
        return Answer::Nothing;
    }
    let Ok(request) = Message::from_vec(query) else {
        let id = u16::from_be_bytes([high, low]);
        return ready(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok());
    };
    if request.metadata.message_type != MessageType::Query {
        return Answer::Nothing;
    }
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&request.metadata);
    let [question] = &request.queries[..] else {
        reply.metadata.response_code = ResponseCode::FormErr;
        return ready(reply.to_vec().ok());
    };
    reply.add_query(question.clone());
    let query = Query { reply, transport };
    match question.query_class() {
        DNSClass::IN if request.metadata.op_code == OpCode::Query => {}
        _ => return ready(query.with_code(ResponseCode::Refused)),
    }
    match Host::parse(&question.name().to_ascii()).ok().map(|host| lookup(view, &host)) {
        Some(Found::Addresses(addresses)) => ready(query.authoritative().with_addresses(&addresses)),
        Some(Found::Nothing) => ready(query.with_code(ResponseCode::NXDomain)),
        Some(Found::NotOurs) => Answer::Elsewhere(query),
        None => ready(query.with_code(ResponseCode::Refused)),
    }
}

fn ready(reply: Option<Vec<u8>>) -> Answer {
    reply.map_or(Answer::Nothing, Answer::Ready)
}

impl Query {
    /// The name that is asked for, with the dot at its end.
    pub(super) fn name(&self) -> String {
        self.reply.queries.first().map(|query| query.name().to_ascii()).unwrap_or_default()
    }

    /// Answers with the addresses of the kind that was asked for, perhaps none.
    pub(super) fn with_addresses(mut self, addresses: &[IpAddr]) -> Option<Vec<u8>> {
        let question = self.reply.queries.first().cloned()?;
        for data in addresses.iter().filter_map(|address| data(*address, question.query_type())) {
            self.reply.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
        }
        rotate(&mut self.reply);
        self.with_code(ResponseCode::NoError)
    }

    /// Answers with no more than a code.
    pub(super) fn with_code(mut self, code: ResponseCode) -> Option<Vec<u8>> {
        self.reply.metadata.response_code = code;
        fit(self.reply, if self.transport == Transport::Tcp { usize::from(u16::MAX) } else { SHORTEST_UDP })
    }

    fn authoritative(mut self) -> Self {
        self.reply.metadata.authoritative = true;
        self
    }
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
    let client = Client::of_namespace(namespace, &labels);
    let scope = Scope { world: view.world(), catalog: view.catalog(), client };
    let service =
        view.catalog().canonical(host, namespace).and_then(|host| view.catalog().find(&host, namespace));
    match service {
        Some(service) if service.is_kubernetes() && matches!(service.host, HostPattern::Exact(_)) => {
            Found::Addresses(sidecar::pods(&scope, service))
        }
        _ if host.as_str().ends_with(CLUSTER_DOMAIN) => {
            sidecar::pod(&scope, host).map_or(Found::Nothing, |address| Found::Addresses(vec![address]))
        }
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
    let client = Client::of_namespace(service.namespace(), &labels);
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
    use hickory_proto::rr::Name;

    use super::*;
    use crate::translate::tests::{service, view};

    fn query(name: &str, kind: RecordType) -> Vec<u8> {
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.add_query(hickory_proto::op::Query::query(Name::from_ascii(name).unwrap(), kind));
        query.to_vec().unwrap()
    }

    fn ask(view: &View, name: &str, kind: RecordType, transport: Transport) -> Message {
        match answer(view, &query(name, kind), transport) {
            Answer::Ready(reply) => Message::from_vec(&reply).unwrap(),
            other => panic!("{name}: {other:?}"),
        }
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
        ] {
            let reply = ask(&view, name, kind, Transport::Udp);
            assert_eq!((reply.metadata.response_code, reply.answers.len()), (code, count), "{name} {kind}");
        }
        let Answer::Elsewhere(asked) = answer(&view, &query("example.com.", RecordType::A), Transport::Udp)
        else {
            panic!("example.com is not a name of the mesh")
        };
        assert_eq!(asked.name(), "example.com.");
    }

    #[test]
    fn names_that_services_publish_lead_to_their_pods() {
        let annotation = "metadata: {annotations: {external-dns.alpha.kubernetes.io/hostname: \"a.example.com, *.b.example.com\"}, ";
        let yaml = service("web", 80, &["v1", "v2"]).replacen("metadata: {", annotation, 1);
        assert!(yaml.contains("external-dns"), "{yaml}");
        let view = view(&yaml);
        for (name, code, count) in
            [("a.example.com.", ResponseCode::NoError, 2), ("x.y.b.example.com.", ResponseCode::NoError, 2)]
        {
            let reply = ask(&view, name, RecordType::A, Transport::Udp);
            assert_eq!((reply.metadata.response_code, reply.answers.len()), (code, count), "{name}");
        }
        let apex = answer(&view, &query("b.example.com.", RecordType::A), Transport::Udp);
        assert!(matches!(apex, Answer::Elsewhere(_)), "{apex:?}");
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
        assert!(matches!(answer(&view, b"short", Transport::Udp), Answer::Nothing));
        let mut reply = Message::response(1, OpCode::Query).to_vec().unwrap();
        assert!(matches!(answer(&view, &reply, Transport::Udp), Answer::Nothing));
        reply.truncate(11);
        assert!(matches!(answer(&view, &reply, Transport::Udp), Answer::Nothing));
    }
}
