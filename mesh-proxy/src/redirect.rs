//! Transparent capture: nf_tables rules that lead a pod's connections into the proxy.
//!
//! [`Capture`] says what to capture, `capture` turns it into typed `Rule`s, `encode` into netlink messages, and
//! `netlink` hands them to the kernel. Neither `nft` nor `iptables` is needed.
//!
//! What it does not do: it watches nothing and keeps nothing running. The rules live in the network namespace until it
//! ends or they are replaced. Which connections the listeners accept is the engine's decision.
//!
//! Invariants:
//! - Everything is in the table `inet mesh`, replaced in one transaction: after an error the old rules still stand,
//!   and running twice changes nothing.
//! - Packets of the proxy itself (by socket mark, or by uid where it is mapped) are never led back to its outbound port.
//! - The redirect of outgoing packets goes to 127.0.0.1 or ::1, that of incoming ones to the address of the interface.
//!   So 15001 and 15053 may listen on loopback only; 15006 must listen on all addresses.

mod capture;
mod encode;
mod flags;
mod netlink;
mod rule;

#[cfg(test)]
mod tests;

pub(crate) use capture::{Capture, Selection};
pub(crate) use flags::Flags;
pub(crate) use netlink::Error;

/// Programs the rules of the calling thread's network namespace, replacing those of an earlier call.
///
/// Needs CAP_NET_ADMIN in the user namespace that owns the network namespace.
pub(crate) fn install(capture: &Capture) -> Result<(), Error> {
    netlink::commit(encode::replace_table(&capture.rules()))
}
