//! What to capture, and the rules that follow from it. Pure: nothing here talks to the kernel.
//!
//! Two kinds of call never leave the pod and are decided here, as Istio decides them:
//! - An application that dials its own Service's ClusterIP is captured like any other call.
//! - An application that dials 127.0.0.1 or its own pod address is not: the packet stays on loopback and
//!   reaches the application directly, without policy and without mTLS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::rule::{Chain, Match, Operator, Protocol, Rule, Side, Verdict};

/// Everything applications send goes here.
const OUTBOUND_PORT: u16 = 15001;
/// Everything sent to the applications goes here.
const INBOUND_PORT: u16 = 15006;
/// DNS queries of the applications go here.
const DNS_PORT: u16 = 15053;
/// Ports of the proxy; connections to them are never captured, or probes and scrapes would need policy.
const RESERVED_PORTS: RangeInclusive<u16> = 15000..=15099;
/// Of the reserved ports, those that nobody outside the pod may dial: admin, both capture ports, DNS.
const PRIVATE_PORTS: [RangeInclusive<u16>; 3] =
    [15000..=OUTBOUND_PORT, INBOUND_PORT..=INBOUND_PORT, DNS_PORT..=DNS_PORT];
/// From here the proxy dials the applications of its own pod when self calls are captured; Istio's address.
const PASSTHROUGH_V4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
/// The same for IPv6.
const PASSTHROUGH_V6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);
/// The mark on the proxy's own sockets unless told otherwise.
pub(super) const DEFAULT_MARK: NonZeroU32 = NonZeroU32::new(1337).expect("1337 is not zero");

/// What to capture in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Capture {
    /// Inbound ports to capture; all by default.
    pub(crate) inbound_ports: Selection<u16>,
    /// Inbound ports never captured.
    pub(crate) excluded_inbound_ports: Vec<u16>,
    /// Destinations to capture; all by default.
    pub(crate) outbound_networks: Selection<IpNet>,
    /// Ports captured even when their destination is not in `outbound_networks`.
    pub(crate) outbound_ports: Vec<u16>,
    /// Destinations never captured.
    pub(crate) excluded_outbound_networks: Vec<IpNet>,
    /// Outbound ports never captured.
    pub(crate) excluded_outbound_ports: Vec<u16>,
    /// The mark on the proxy's sockets, 1337 by default.
    pub(crate) mark: NonZeroU32,
    /// The proxy's user, where the namespace maps it; an unprivileged namespace maps one user only, so none by default.
    pub(crate) uid: Option<u32>,
    /// Whether DNS queries are captured, to any server; no by default.
    pub(crate) captures_dns: bool,
    /// Whether the proxy's own calls to its own pod address enter through the inbound port, no by default.
    ///
    /// With it a call that load balancing leads back to the calling pod gets mTLS and policy like any other. It asks
    /// of the engine that it dials applications from 127.0.0.6 or to 127.0.0.1, otherwise they would loop.
    pub(crate) captures_self_calls: bool,
}

/// All of a kind, or just some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selection<T> {
    /// All of them, written `*`.
    All,
    /// Just these; none when empty.
    Only(Vec<T>),
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            inbound_ports: Selection::All,
            excluded_inbound_ports: Vec::new(),
            outbound_networks: Selection::All,
            outbound_ports: Vec::new(),
            excluded_outbound_networks: Vec::new(),
            excluded_outbound_ports: Vec::new(),
            mark: DEFAULT_MARK,
            uid: None,
            captures_dns: false,
            captures_self_calls: false,
        }
    }
}

impl Capture {
    /// The rules, in the order in which the kernel tries them.
    pub(crate) fn rules(&self) -> Vec<Rule> {
        let mut rules = guard();
        rules.extend(self.inbound());
        rules.extend(self.self_calls());
        rules.extend(self.proxy_is_exempt());
        rules.extend(self.dns());
        rules.extend(self.outbound());
        rules
    }

    fn inbound(&self) -> Vec<Rule> {
        let rule = |matches, verdict, why| Rule { chain: Chain::Prerouting, matches, verdict, why };
        let redirect = Verdict::Redirect(INBOUND_PORT);
        let mut rules = vec![
            rule(vec![Match::FromLoopback], Verdict::Return, "calls inside the pod"),
            rule(vec![tcp(RESERVED_PORTS)], Verdict::Return, "ports of the proxy"),
        ];
        for &port in &self.excluded_inbound_ports {
            rules.push(rule(vec![tcp(port..=port)], Verdict::Return, "excluded inbound port"));
        }
        match &self.inbound_ports {
            Selection::All => rules.push(rule(vec![Match::Protocol(Protocol::Tcp)], redirect, "inbound")),
            Selection::Only(ports) => {
                rules.extend(
                    ports.iter().map(|&port| rule(vec![tcp(port..=port)], redirect, "included inbound port")),
                );
            }
        }
        rules
    }

    fn proxy_is_exempt(&self) -> Vec<Rule> {
        let exempt = |identity| output(vec![identity], Verdict::Return, "sent by the proxy");
        self.proxy_identities().map(exempt).collect()
    }

    /// What tells the proxy's packets from those of the applications.
    fn proxy_identities(&self) -> impl Iterator<Item = Match> {
        std::iter::once(Match::Mark(self.mark)).chain(self.uid.map(Match::Uid))
    }

    fn self_calls(&self) -> Vec<Rule> {
        if !self.captures_self_calls {
            return Vec::new();
        }
        let families = [
            (IpAddr::V4(PASSTHROUGH_V4).into(), network(Ipv4Addr::new(127, 0, 0, 0), 8)),
            (IpAddr::V6(PASSTHROUGH_V6).into(), IpAddr::V6(Ipv6Addr::LOCALHOST).into()),
        ];
        let rule = |identity: Match, (passthrough, loopback): (IpNet, IpNet)| {
            let matches = vec![
                identity,
                Match::ToLoopback,
                Match::Protocol(Protocol::Tcp),
                Match::Address { side: Side::Source, operator: Operator::NotIn, network: passthrough },
                Match::Address { side: Side::Destination, operator: Operator::NotIn, network: loopback },
            ];
            output(matches, Verdict::Redirect(INBOUND_PORT), "the pod calls itself through a service")
        };
        self.proxy_identities()
            .flat_map(|identity| families.map(|family| rule(identity.clone(), family)))
            .collect()
    }

    fn dns(&self) -> Vec<Rule> {
        if !self.captures_dns {
            return Vec::new();
        }
        // Before the loopback rule: a resolv.conf may name 127.0.0.53.
        [Protocol::Udp, Protocol::Tcp]
            .map(|protocol| output(vec![Match::Port(protocol, 53..=53)], Verdict::Redirect(DNS_PORT), "dns"))
            .into()
    }

    fn outbound(&self) -> Vec<Rule> {
        let redirect = Verdict::Redirect(OUTBOUND_PORT);
        let mut rules = vec![output(vec![Match::ToLoopback], Verdict::Return, "calls inside the pod")];
        for &port in &self.excluded_outbound_ports {
            rules.push(output(vec![tcp(port..=port)], Verdict::Return, "excluded outbound port"));
        }
        for &excluded in &self.excluded_outbound_networks {
            rules.push(output(vec![destination(excluded)], Verdict::Return, "excluded outbound network"));
        }
        for &port in &self.outbound_ports {
            rules.push(output(vec![tcp(port..=port)], redirect, "included outbound port"));
        }
        match &self.outbound_networks {
            Selection::All => rules.push(output(vec![Match::Protocol(Protocol::Tcp)], redirect, "outbound")),
            Selection::Only(networks) => rules.extend(networks.iter().map(|&included| {
                let matches = vec![Match::Protocol(Protocol::Tcp), destination(included)];
                output(matches, redirect, "included outbound network")
            })),
        }
        rules
    }
}

/// Nobody outside may use the proxy's ports as if the kernel had led them there: the original destination of
/// such a connection would be the proxy itself.
fn guard() -> Vec<Rule> {
    let private = |matches, why| Rule { chain: Chain::Guard, matches, verdict: Verdict::Drop, why };
    let mut rules: Vec<Rule> = PRIVATE_PORTS
        .map(|ports| private(vec![Match::FromOutside, tcp(ports)], "dialled from outside the pod"))
        .into();
    let dns = Match::Port(Protocol::Udp, DNS_PORT..=DNS_PORT);
    rules.push(private(vec![Match::FromOutside, dns], "dialled from outside the pod"));
    rules
}

fn output(matches: Vec<Match>, verdict: Verdict, why: &'static str) -> Rule {
    Rule { chain: Chain::Output, matches, verdict, why }
}

fn tcp(ports: RangeInclusive<u16>) -> Match {
    Match::Port(Protocol::Tcp, ports)
}

fn destination(network: IpNet) -> Match {
    Match::Address { side: Side::Destination, operator: Operator::In, network }
}

fn network(address: Ipv4Addr, prefix: u8) -> IpNet {
    IpNet::new(IpAddr::V4(address), prefix).expect("the prefix is at most 32")
}

#[cfg(test)]
mod tests {
    use super::super::rule::Script;
    use super::*;

    fn lines(capture: &Capture, chain: Chain) -> Vec<String> {
        capture.rules().iter().filter(|rule| rule.chain == chain).map(ToString::to_string).collect()
    }

    #[test]
    fn by_default_all_tcp_is_captured_but_the_proxys_own() {
        let capture = Capture::default();

        assert_eq!(
            lines(&capture, Chain::Prerouting),
            ["iifname \"lo\" return", "tcp dport 15000-15099 return", "meta l4proto tcp redirect to :15006"]
        );
        assert_eq!(
            lines(&capture, Chain::Output),
            ["meta mark 0x539 return", "oifname \"lo\" return", "meta l4proto tcp redirect to :15001"]
        );
    }

    #[test]
    fn capture_ports_are_closed_to_the_outside() {
        assert_eq!(
            lines(&Capture::default(), Chain::Guard),
            [
                "iifname != \"lo\" tcp dport 15000-15001 drop",
                "iifname != \"lo\" tcp dport 15006 drop",
                "iifname != \"lo\" tcp dport 15053 drop",
                "iifname != \"lo\" udp dport 15053 drop",
            ]
        );
    }

    #[test]
    fn exclusions_come_before_inclusions() {
        let capture = Capture {
            inbound_ports: Selection::Only(vec![80, 443]),
            excluded_inbound_ports: vec![443],
            outbound_networks: Selection::Only(vec!["10.0.0.0/8".parse().expect("network")]),
            outbound_ports: vec![3306],
            excluded_outbound_networks: vec!["10.9.0.0/16".parse().expect("network")],
            excluded_outbound_ports: vec![5432],
            uid: Some(1337),
            captures_dns: true,
            ..Capture::default()
        };

        assert_eq!(
            lines(&capture, Chain::Prerouting)[2..],
            ["tcp dport 443 return", "tcp dport 80 redirect to :15006", "tcp dport 443 redirect to :15006"]
        );
        assert_eq!(
            lines(&capture, Chain::Output),
            [
                "meta mark 0x539 return",
                "meta skuid 1337 return",
                "udp dport 53 redirect to :15053",
                "tcp dport 53 redirect to :15053",
                "oifname \"lo\" return",
                "tcp dport 5432 return",
                "ip daddr 10.9.0.0/16 return",
                "tcp dport 3306 redirect to :15001",
                "meta l4proto tcp ip daddr 10.0.0.0/8 redirect to :15001",
            ]
        );
    }

    #[test]
    fn self_calls_enter_inbound_before_the_proxy_is_exempt() {
        let capture = Capture { captures_self_calls: true, ..Capture::default() };

        assert_eq!(
            lines(&capture, Chain::Output)[..3],
            [
                "meta mark 0x539 oifname \"lo\" meta l4proto tcp ip saddr != 127.0.0.6/32 ip daddr != 127.0.0.0/8 \
                 redirect to :15006",
                "meta mark 0x539 oifname \"lo\" meta l4proto tcp ip6 saddr != ::6/128 ip6 daddr != ::1/128 \
                 redirect to :15006",
                "meta mark 0x539 return",
            ]
        );
    }

    #[test]
    fn the_script_replaces_the_table() {
        let script = Script(&Capture::default().rules()).to_string();

        assert!(
            script.starts_with("table inet mesh\ndelete table inet mesh\ntable inet mesh {\n"),
            "{script}"
        );
        assert!(script.contains("type nat hook output priority -100; policy accept;"), "{script}");
    }
}
