//! The rules as values, and their text in nft's language.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// The table all rules live in, of family `inet`.
pub(crate) const TABLE: &str = "mesh";

/// One rule: when every match holds, the verdict applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The chain the rule is appended to.
    pub(crate) chain: Chain,
    /// All must hold; none holds always.
    pub(crate) matches: Vec<Match>,
    /// What happens to the packet.
    pub(crate) verdict: Verdict,
    /// Why the rule exists; `nft list table inet mesh` shows it.
    pub(crate) why: &'static str,
}

/// The base chains of the table, in the order they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chain {
    /// Protects the proxy's ports. Runs before address translation, so that it sees what the sender dialled.
    Guard,
    /// Captures what comes into the pod.
    Prerouting,
    /// Captures what the pod's applications send.
    Output,
}

impl Chain {
    /// Every chain.
    pub(crate) const ALL: [Self; 3] = [Self::Guard, Self::Prerouting, Self::Output];

    /// The chain's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::Prerouting => "prerouting",
            Self::Output => "output",
        }
    }

    /// `filter` or `nat`.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Guard => "filter",
            Self::Prerouting | Self::Output => "nat",
        }
    }

    /// Where in the kernel's path the chain hangs.
    pub(crate) fn hook(self) -> &'static str {
        match self {
            Self::Guard | Self::Prerouting => "prerouting",
            Self::Output => "output",
        }
    }

    /// The place among other chains of the hook: nft's `mangle` and `dstnat`.
    pub(crate) fn priority(self) -> i32 {
        match self {
            Self::Guard => libc::NF_IP_PRI_MANGLE,
            Self::Prerouting | Self::Output => libc::NF_IP_PRI_NAT_DST,
        }
    }
}

/// A condition on a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Match {
    /// It came in over the loopback interface.
    FromLoopback,
    /// It came in over another interface.
    FromOutside,
    /// It leaves over the loopback interface: to 127.0.0.0/8, ::1 or one of the pod's own addresses.
    ToLoopback,
    /// The sending socket's mark.
    Mark(NonZeroU32),
    /// The sending socket's user, as seen in the network namespace's user namespace.
    Uid(u32),
    /// The transport protocol.
    Protocol(Protocol),
    /// The transport protocol and destination port.
    Port(Protocol, RangeInclusive<u16>),
    /// An address of the packet against a network.
    Address { side: Side, operator: Operator, network: IpNet },
}

/// A transport protocol we look into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// Which of a packet's addresses is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Destination,
}

/// Whether the address lies in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    In,
    NotIn,
}

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No later rule of the chain applies; the packet goes on unchanged.
    Return,
    /// The packet is thrown away without an answer.
    Drop,
    /// The connection goes to this port of the pod.
    Redirect(u16),
}

/// The whole table as a script for `nft -f`.
pub(crate) struct Script<'a>(pub(crate) &'a [Rule]);

impl fmt::Display for Script<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{")?;
        for chain in Chain::ALL {
            writeln!(f, "\tchain {} {{", chain.name())?;
            let (kind, hook, priority) = (chain.kind(), chain.hook(), chain.priority());
            writeln!(f, "\t\ttype {kind} hook {hook} priority {priority}; policy accept;")?;
            for rule in self.0.iter().filter(|rule| rule.chain == chain) {
                writeln!(f, "\t\t{rule} comment \"{}\"", rule.why)?;
            }
            writeln!(f, "\t}}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for condition in &self.matches {
            write!(f, "{condition} ")?;
        }
        match self.verdict {
            Verdict::Return => f.write_str("return"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Redirect(port) => write!(f, "redirect to :{port}"),
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FromLoopback => f.write_str("iifname \"lo\""),
            Self::FromOutside => f.write_str("iifname != \"lo\""),
            Self::ToLoopback => f.write_str("oifname \"lo\""),
            Self::Mark(mark) => write!(f, "meta mark {mark:#x}"),
            Self::Uid(uid) => write!(f, "meta skuid {uid}"),
            Self::Protocol(protocol) => write!(f, "meta l4proto {protocol}"),
            Self::Port(protocol, ports) if ports.start() == ports.end() => {
                write!(f, "{protocol} dport {}", ports.start())
            }
            Self::Port(protocol, ports) => write!(f, "{protocol} dport {}-{}", ports.start(), ports.end()),
            Self::Address { side, operator, network } => {
                let family = if network.addr().is_ipv4() { "ip" } else { "ip6" };
                let side = if *side == Side::Source { "saddr" } else { "daddr" };
                let operator = if *operator == Operator::In { "" } else { "!= " };
                write!(f, "{family} {side} {operator}{network}")
            }
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}
