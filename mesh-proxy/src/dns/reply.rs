//! Answers as bytes.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Metadata, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};

use super::Outcome;
use super::question::{LONGEST_UDP, Question};

/// The answer's bytes; none when it cannot be encoded, which no question of ours brings about.
pub(super) fn encode(question: &Question<'_>, outcome: Outcome) -> Option<Vec<u8>> {
    let mut message = start(question);
    match outcome {
        Outcome::Forwarded(bytes) => return Some(bytes),
        Outcome::Failed => message.metadata.response_code = ResponseCode::ServFail,
        Outcome::NoSuchName => message.metadata.response_code = ResponseCode::NXDomain,
        Outcome::Addresses(addresses, ttl) => {
            message.metadata.authoritative = true;
            message.answers = records(question, addresses, ttl);
        }
    }
    fit(message, question.longest_answer())
}

fn start(question: &Question<'_>) -> Message {
    let request = &question.message;
    let mut message = Message::response(request.metadata.id, request.metadata.op_code);
    message.metadata = Metadata::response_from_request(&request.metadata);
    message.metadata.recursion_available = true;
    message.add_query(question.query().clone());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(LONGEST_UDP);
        message.set_edns(edns);
    }
    message
}

/// The addresses of the asked family, beginning with another one each time: most clients take the first.
fn records(question: &Question<'_>, addresses: Vec<IpAddr>, ttl: Duration) -> Vec<Record> {
    let ttl = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
    let mut records: Vec<_> = addresses
        .into_iter()
        .filter_map(|address| match (address, question.record_type()) {
            (IpAddr::V4(address), RecordType::A) => Some(RData::A(address.into())),
            (IpAddr::V6(address), RecordType::AAAA) => Some(RData::AAAA(address.into())),
            _ => None,
        })
        .map(|data| Record::from_rdata(question.query().name().clone(), ttl, data))
        .collect();
    if !records.is_empty() {
        let start = usize::from(question.message.metadata.id) % records.len();
        records.rotate_left(start);
    }
    records
}

/// Leaves out what does not fit, and says so. Clients that cannot ask again over TCP still get some addresses.
fn fit(mut message: Message, longest: usize) -> Option<Vec<u8>> {
    let whole = message.to_vec().ok()?;
    if whole.len() <= longest {
        return Some(whole);
    }
    message.metadata.truncation = true;
    let answers = std::mem::take(&mut message.answers);
    let mut longest_fitting = message.to_vec().ok()?;
    let (mut fitting, mut too_many) = (0, answers.len());
    while too_many - fitting > 1 {
        let middle = fitting.midpoint(too_many);
        message.answers = answers[..middle].to_vec();
        let bytes = message.to_vec().ok()?;
        if bytes.len() <= longest {
            (fitting, longest_fitting) = (middle, bytes);
        } else {
            too_many = middle;
        }
    }
    Some(longest_fitting)
}
