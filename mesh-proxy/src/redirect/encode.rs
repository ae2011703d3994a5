//! The rules as nf_tables netlink messages.
//!
//! A rule becomes a list of small expressions that work on registers: load a fact of the packet, compare it, and
//! at the end a verdict. Numbers and names are those of linux/netfilter/nf_tables.h.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::netlink::{FLAG_ACKNOWLEDGE, FLAG_APPEND, FLAG_CREATE, Message};
use super::rule::{Chain, Match, Operator, Protocol, Rule, Side, TABLE, Verdict};

/// The batch that puts exactly these rules in place of whatever the table held.
pub(super) fn replace_table(rules: &[Rule]) -> Vec<Message> {
    // Deleting what is not there is an error, so the table is made first.
    let mut batch = vec![boundary(BATCH_BEGIN), new_table(), delete_table(), new_table()];
    batch.extend(Chain::ALL.map(new_chain));
    batch.extend(rules.iter().map(new_rule));
    // The kernel reports every error unasked; one acknowledgement at the end proves that it read everything.
    batch.push(acknowledged_end_of_changes());
    batch.push(boundary(BATCH_END));
    batch
}

fn boundary(kind: u16) -> Message {
    Message::netfilter("the batch of capture rules", kind, 0, 0, SUBSYSTEM)
}

fn request(what: impl Into<String>, kind: u16, flags: u16) -> Message {
    Message::netfilter(what, SUBSYSTEM << 8 | kind, flags, FAMILY_INET, 0)
}

fn new_table() -> Message {
    let mut message = request(format!("table inet {TABLE}"), NEW_TABLE, FLAG_CREATE);
    message.text(TABLE_NAME, TABLE);
    message
}

fn acknowledged_end_of_changes() -> Message {
    let mut message = request(format!("table inet {TABLE}"), NEW_TABLE, FLAG_CREATE | FLAG_ACKNOWLEDGE);
    message.text(TABLE_NAME, TABLE);
    message
}

fn delete_table() -> Message {
    let mut message = request(format!("the removal of the old table inet {TABLE}"), DELETE_TABLE, 0);
    message.text(TABLE_NAME, TABLE);
    message
}

fn new_chain(chain: Chain) -> Message {
    let hook = match chain {
        Chain::Guard | Chain::Prerouting => HOOK_PREROUTING,
        Chain::Output => HOOK_OUTPUT,
    };
    let mut message = request(format!("chain {}", chain.name()), NEW_CHAIN, FLAG_CREATE);
    message.text(CHAIN_TABLE, TABLE);
    message.text(CHAIN_NAME, chain.name());
    message.nested(CHAIN_HOOK, |attributes| {
        attributes.number(HOOK_NUMBER, hook);
        attributes.number(HOOK_PRIORITY, chain.priority().cast_unsigned());
    });
    message.number(CHAIN_POLICY, VERDICT_ACCEPT);
    message.text(CHAIN_TYPE, chain.kind());
    message
}

fn new_rule(rule: &Rule) -> Message {
    let what = format!("rule `{rule}` of chain {}", rule.chain.name());
    let mut message = request(what, NEW_RULE, FLAG_CREATE | FLAG_APPEND);
    message.text(RULE_TABLE, TABLE);
    message.text(RULE_CHAIN, rule.chain.name());
    message.nested(RULE_EXPRESSIONS, |list| {
        for condition in &rule.matches {
            matching(list, condition);
        }
        verdict(list, rule.verdict);
    });
    message.attribute(RULE_USERDATA, &comment(rule.why));
    message
}

/// A comment as `nft` stores it: type 0, length, text with NUL.
fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).expect("reasons of rules are short");
    [&[0, length], text.as_bytes(), &[0]].concat()
}

fn matching(list: &mut Message, condition: &Match) {
    match condition {
        Match::FromLoopback => interface(list, META_INPUT_NAME, COMPARE_EQUAL),
        Match::FromOutside => interface(list, META_INPUT_NAME, COMPARE_UNEQUAL),
        Match::ToLoopback => interface(list, META_OUTPUT_NAME, COMPARE_EQUAL),
        Match::Mark(mark) => meta_equals(list, META_MARK, &mark.get().to_ne_bytes()),
        Match::Uid(uid) => meta_equals(list, META_SOCKET_UID, &uid.to_ne_bytes()),
        Match::Protocol(protocol) => transport(list, *protocol),
        Match::Port(protocol, ports) => {
            transport(list, *protocol);
            destination_port(list, ports);
        }
        Match::Address { side, operator, network } => address(list, *side, *operator, *network),
    }
}

fn interface(list: &mut Message, key: u32, operator: u32) {
    let mut name = [0; INTERFACE_NAME_LENGTH];
    name[..2].copy_from_slice(b"lo");
    meta(list, key);
    compare(list, operator, &name);
}

fn meta_equals(list: &mut Message, key: u32, value: &[u8]) {
    meta(list, key);
    compare(list, COMPARE_EQUAL, value);
}

fn transport(list: &mut Message, protocol: Protocol) {
    let number = match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    };
    meta_equals(list, META_TRANSPORT, &[number]);
}

/// Both transport protocols have the destination port in the same place.
fn destination_port(list: &mut Message, ports: &RangeInclusive<u16>) {
    payload(list, TRANSPORT_HEADER, 2, 2);
    if ports.start() == ports.end() {
        compare(list, COMPARE_EQUAL, &ports.start().to_be_bytes());
    } else {
        compare(list, COMPARE_AT_LEAST, &ports.start().to_be_bytes());
        compare(list, COMPARE_AT_MOST, &ports.end().to_be_bytes());
    }
}

fn address(list: &mut Message, side: Side, operator: Operator, network: IpNet) {
    let (family, source, destination) = match network {
        IpNet::V4(_) => (FAMILY_IPV4, 12, 16),
        IpNet::V6(_) => (FAMILY_IPV6, 8, 24),
    };
    let offset = if side == Side::Source { source } else { destination };
    let operator = if operator == Operator::In { COMPARE_EQUAL } else { COMPARE_UNEQUAL };
    let (value, mask) = (octets(network.network()), octets(network.netmask()));
    meta_equals(list, META_NETWORK, &[family]);
    payload(list, NETWORK_HEADER, offset, mask.len());
    if network.prefix_len() < network.max_prefix_len() {
        and(list, &mask);
    }
    compare(list, operator, &value);
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

fn verdict(list: &mut Message, verdict: Verdict) {
    match verdict {
        Verdict::Return => immediate_verdict(list, VERDICT_RETURN),
        Verdict::Drop => immediate_verdict(list, VERDICT_DROP),
        Verdict::Redirect(port) => redirect(list, port),
    }
}

// The expressions. Each works on register 1, which the next may overwrite.

fn expression(list: &mut Message, name: &str, fill: impl FnOnce(&mut Message)) {
    list.nested(LIST_ELEMENT, |element| {
        element.text(EXPRESSION_NAME, name);
        element.nested(EXPRESSION_DATA, fill);
    });
}

fn meta(list: &mut Message, key: u32) {
    expression(list, "meta", |data| {
        data.number(1, REGISTER);
        data.number(2, key);
    });
}

fn payload(list: &mut Message, base: u32, offset: u32, length: usize) {
    expression(list, "payload", |data| {
        data.number(1, REGISTER);
        data.number(2, base);
        data.number(3, offset);
        data.number(4, register_length(length));
    });
}

fn and(list: &mut Message, mask: &[u8]) {
    expression(list, "bitwise", |data| {
        data.number(1, REGISTER);
        data.number(2, REGISTER);
        data.number(3, register_length(mask.len()));
        data.nested(4, |value| value.attribute(DATA_VALUE, mask));
        data.nested(5, |value| value.attribute(DATA_VALUE, &vec![0; mask.len()]));
    });
}

fn compare(list: &mut Message, operator: u32, with: &[u8]) {
    expression(list, "cmp", |data| {
        data.number(1, REGISTER);
        data.number(2, operator);
        data.nested(3, |value| value.attribute(DATA_VALUE, with));
    });
}

fn immediate_verdict(list: &mut Message, code: u32) {
    expression(list, "immediate", |data| {
        data.number(1, VERDICT_REGISTER);
        data.nested(2, |value| value.nested(DATA_VERDICT, |verdict| verdict.number(1, code)));
    });
}

fn redirect(list: &mut Message, port: u16) {
    expression(list, "immediate", |data| {
        data.number(1, REGISTER);
        data.nested(2, |value| value.attribute(DATA_VALUE, &port.to_be_bytes()));
    });
    expression(list, "redir", |data| {
        data.number(1, REGISTER);
        data.number(3, RANGE_HAS_PORTS);
    });
}

fn register_length(length: usize) -> u32 {
    u32::try_from(length).expect("a register holds 16 bytes")
}

/// `NFNL_SUBSYS_NFTABLES`.
pub(super) const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
pub(super) const FAMILY_INET: u8 = 1;
const FAMILY_IPV4: u8 = 2;
const FAMILY_IPV6: u8 = 10;

// NFT_MSG_*
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;

// NFTA_TABLE_*, NFTA_CHAIN_*, NFTA_HOOK_*, NFTA_RULE_*
const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
pub(super) const RULE_TABLE: u16 = 1;
pub(super) const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
pub(super) const RULE_USERDATA: u16 = 7;

// NFTA_LIST_*, NFTA_EXPR_*, NFTA_DATA_*
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

// NF_INET_*, verdicts
const HOOK_PREROUTING: u32 = 0;
const HOOK_OUTPUT: u32 = 3;
const VERDICT_DROP: u32 = 0;
const VERDICT_ACCEPT: u32 = 1;
const VERDICT_RETURN: u32 = (-5_i32).cast_unsigned();

// NFT_REG_*, NFT_META_*, NFT_CMP_*, NFT_PAYLOAD_*, NF_NAT_RANGE_PROTO_SPECIFIED
const VERDICT_REGISTER: u32 = 0;
const REGISTER: u32 = 1;
const META_MARK: u32 = 3;
const META_INPUT_NAME: u32 = 6;
const META_OUTPUT_NAME: u32 = 7;
const META_SOCKET_UID: u32 = 10;
const META_NETWORK: u32 = 15;
const META_TRANSPORT: u32 = 16;
const COMPARE_EQUAL: u32 = 0;
const COMPARE_UNEQUAL: u32 = 1;
const COMPARE_AT_MOST: u32 = 3;
const COMPARE_AT_LEAST: u32 = 5;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const RANGE_HAS_PORTS: u32 = 2;
/// `IFNAMSIZ`: interface names are compared whole.
const INTERFACE_NAME_LENGTH: usize = 16;
