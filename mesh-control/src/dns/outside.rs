//! Names outside of the mesh, asked of the broker where there is one.
//!
//! A broker knows addresses only, so other records of such names are answered as if there were none. Names that cannot mean
//! anything outside never leave: those of one label, which a search list makes, and reverse ones.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use mesh_core::broker::{Broker, BrokerError};
use tokio::time::timeout;

use super::answer::Query;

/// Longer than the broker gives itself.
const DEADLINE: Duration = Duration::from_secs(6);

/// The way to names that are not ours.
pub(super) struct Outside {
    broker: Option<Broker>,
}

impl Outside {
    pub(super) fn new(broker: Option<Broker>) -> Self {
        Self { broker }
    }

    /// The reply to a query; refused without a broker.
    pub(super) async fn answer(&self, query: Query) -> Option<Vec<u8>> {
        let Some(broker) = &self.broker else { return query.with_code(ResponseCode::Refused) };
        let name = query.name();
        let name = name.trim_end_matches('.');
        if !leaves(name) {
            return query.with_code(ResponseCode::NXDomain);
        }
        match timeout(DEADLINE, broker.resolve(name)).await {
            Ok(Ok(addresses)) => query.with_addresses(&reachable(addresses)),
            Ok(Err(BrokerError::NoSuchName)) => query.with_code(ResponseCode::NXDomain),
            Ok(Err(error)) => {
                tracing::debug!(name, %error, "cannot look up a name outside of the mesh");
                query.with_code(ResponseCode::ServFail)
            }
            Err(_) => query.with_code(ResponseCode::ServFail),
        }
    }
}

fn leaves(name: &str) -> bool {
    name.contains('.') && !name.ends_with(".arpa")
}

/// Pods have IPv4 only; an address of the other kind would be tried in vain first.
fn reachable(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.retain(IpAddr::is_ipv4);
    addresses
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, MessageType, OpCode};
    use hickory_proto::rr::{Name, RecordType};
    use mesh_core::broker::{Answer, Questions, Request};

    use super::super::answer::{self, Transport, answer};
    use super::*;
    use crate::translate::tests::{service, view};

    fn query(name: &str, kind: RecordType) -> Query {
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.add_query(hickory_proto::op::Query::query(Name::from_ascii(name).unwrap(), kind));
        let bytes = query.to_vec().unwrap();
        match answer(&view(&service("web", 80, &["v1"])), &bytes, Transport::Udp) {
            answer::Answer::Elsewhere(query) => query,
            other => panic!("{name}: {other:?}"),
        }
    }

    async fn ask(outside: &Outside, name: &str, kind: RecordType) -> (ResponseCode, usize) {
        let reply = Message::from_vec(&outside.answer(query(name, kind)).await.unwrap()).unwrap();
        (reply.metadata.response_code, reply.answers.len())
    }

    #[tokio::test]
    async fn without_a_broker_other_resolvers_are_left_to_try() {
        let outside = Outside::new(None);
        assert_eq!(ask(&outside, "example.com.", RecordType::A).await, (ResponseCode::Refused, 0));
    }

    #[tokio::test]
    async fn names_outside_have_the_addresses_that_the_broker_says() {
        let (asker, answerer) = Broker::pair().unwrap();
        let questions = Questions::new(answerer).unwrap();
        let answering = tokio::spawn(async move {
            while let Ok(question) = questions.next().await {
                let both = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
                let answer = match &question.request {
                    Request::Resolve(name) if name == "example.com" => Answer::Addresses(both.to_vec()),
                    Request::Resolve(name) if name == "slow.example" => Answer::Late,
                    _ => Answer::NoSuchName,
                };
                question.answer(&answer, None);
            }
        });
        let outside = Outside::new(Some(Broker::new(asker)));
        for (name, kind, expected) in [
            ("example.com.", RecordType::A, (ResponseCode::NoError, 1)),
            ("example.com.", RecordType::AAAA, (ResponseCode::NoError, 0)),
            ("example.com.", RecordType::TXT, (ResponseCode::NoError, 0)),
            ("none.example.", RecordType::A, (ResponseCode::NXDomain, 0)),
            ("slow.example.", RecordType::A, (ResponseCode::ServFail, 0)),
            ("short.", RecordType::A, (ResponseCode::NXDomain, 0)),
            ("1.2.0.192.in-addr.arpa.", RecordType::PTR, (ResponseCode::NXDomain, 0)),
        ] {
            assert_eq!(ask(&outside, name, kind).await, expected, "{name} {kind}");
        }
        drop(outside);
        answering.await.unwrap();
    }
}
