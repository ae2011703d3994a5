//! `mesh-echo sniff`: what someone on the wire between pods can read.
//!
//! It captures in its own pod's network namespace and leaves out loopback, where a sidecar and its application talk
//! in the clear by design. It needs CAP_NET_RAW, which containers have unless it is dropped.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketType, recv, socket};
use serde::Serialize;

use super::{print_json, print_line};
use crate::units::parse_duration;

/// `ETH_P_ALL` of `linux/if_ether.h`.
const ALL_PROTOCOLS: u16 = 3;
const ETHERNET_HEADER: usize = 14;
const MAX_FRAME: usize = 64 << 10;
/// Start of a TLS record that carries application data (RFC 8446, section 5.1).
const APPLICATION_DATA: [u8; 3] = [0x17, 0x03, 0x03];

/// Arguments of `sniff`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Text to look for.
    marker: String,
    /// How long to listen.
    #[arg(long, value_parser = parse_duration, default_value = "3s")]
    duration: Duration,
}

#[derive(Default, Serialize)]
struct Seen {
    /// Frames that came or went by the network.
    frames: u64,
    /// Those in which the marker can be read.
    marked: u64,
    /// Those that carry encrypted application data.
    encrypted: u64,
}

/// Prints `listening` as soon as nothing can be missed any more, and in the end what was seen.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let socket = open().context("cannot open a packet socket (it needs CAP_NET_RAW)")?;
    print_line("listening");
    let mut seen = Seen::default();
    let mut buffer = vec![0; MAX_FRAME];
    let end = Instant::now() + arguments.duration;
    while Instant::now() < end {
        match recv(&socket, buffer.as_mut_slice(), RecvFlags::empty()) {
            Ok((_, count)) => seen.add(&buffer[..count.min(MAX_FRAME)], arguments.marker.as_bytes()),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot read from the packet socket"),
        }
    }
    print_json(&seen)
}

fn open() -> anyhow::Result<OwnedFd> {
    let all = Protocol::from_raw(u32::from(ALL_PROTOCOLS.to_be()).try_into()?);
    let socket = socket(AddressFamily::PACKET, SocketType::RAW, Some(all))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_millis(100)))?;
    Ok(socket)
}

impl Seen {
    fn add(&mut self, frame: &[u8], marker: &[u8]) {
        // Loopback frames have no Ethernet addresses.
        if frame.len() <= ETHERNET_HEADER || frame[..12] == [0; 12] {
            return;
        }
        self.frames += 1;
        self.marked += u64::from(contains(frame, marker));
        self.encrypted += u64::from(contains(frame, &APPLICATION_DATA));
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len().max(1)).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_left_out_and_the_marker_is_found() {
        let mut seen = Seen::default();
        let frame = |source: u8| [vec![source; 14], b"GET /marker".to_vec()].concat();
        seen.add(&frame(0), b"marker");
        seen.add(&frame(2), b"marker");
        seen.add(&[vec![2; 14], vec![0x17, 3, 3, 0, 9]].concat(), b"marker");
        assert_eq!((seen.frames, seen.marked, seen.encrypted), (2, 1, 1));
    }
}
