//! Netlink: building messages, handing a batch to the kernel, reading its answers.
//!
//! The kernel works through a whole nf_tables batch inside the call that sends it. So every answer is queued when the
//! call returns, and nothing here waits.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::sys;

/// Why the rules could not be programmed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No netlink socket could be had.
    #[error("cannot open a netfilter netlink socket: is nf_tables part of this kernel?")]
    Socket(#[source] io::Error),
    /// The batch did not reach the kernel.
    #[error("cannot send {count} capture rules to the kernel; with very many excluded networks, merge some")]
    Send { count: usize, source: io::Error },
    /// The answers could not be read.
    #[error("cannot read the kernel's answer to the capture rules")]
    Receive(#[source] io::Error),
    /// The kernel refused one message, and with it the whole batch.
    #[error("the kernel refused {what}{}; {}", explained(.detail), next_step(.source))]
    Refused {
        /// The table, chain or rule.
        what: String,
        /// The kernel's own words, when it had any.
        detail: Option<String>,
        source: io::Error,
    },
    /// The kernel said neither yes nor no.
    #[error("the kernel did not acknowledge the capture rules")]
    Silent,
}

fn explained(detail: &Option<String>) -> String {
    detail.as_deref().map(|text| format!(" ({text})")).unwrap_or_default()
}

fn next_step(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => "run with CAP_NET_ADMIN in the user namespace that owns this network namespace",
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT) => {
            "load the kernel modules nf_tables, nft_chain_nat and nft_redir"
        }
        Some(libc::ENOMEM | libc::ENOBUFS) => "the kernel is short of memory for it",
        _ => "`mesh-proxy redirect --dry-run` prints the rules",
    }
}

/// A netlink message under construction, with what it is for.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// What it makes or changes, for errors: "rule `…` of chain output".
    pub(super) what: String,
    bytes: Vec<u8>,
}

/// Length of `nlmsghdr`.
const HEADER_LENGTH: usize = 16;
/// Offset of `nlmsg_seq` in it.
const SEQUENCE_OFFSET: usize = 8;

pub(super) const FLAG_REQUEST: u16 = 0x1;
pub(super) const FLAG_ACKNOWLEDGE: u16 = 0x4;
#[cfg(test)]
pub(super) const FLAG_DUMP: u16 = 0x300;
pub(super) const FLAG_CREATE: u16 = 0x400;
pub(super) const FLAG_APPEND: u16 = 0x800;
/// On a reply: extended attributes follow the error.
const FLAG_EXTENDED: u16 = 0x200;
/// On an attribute: it contains attributes.
const NESTED: u16 = 0x8000;

impl Message {
    /// A message with nothing behind the netlink header.
    pub(super) fn bare(what: impl Into<String>, kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; HEADER_LENGTH];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(FLAG_REQUEST | flags).to_ne_bytes());
        Self { what: what.into(), bytes }
    }

    /// A message to netfilter: the netlink header and `nfgenmsg`.
    pub(super) fn netfilter(
        what: impl Into<String>,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
    ) -> Self {
        let [high, low] = resource.to_be_bytes();
        let mut message = Self::bare(what, kind, flags);
        message.append(&[family, 0, high, low]);
        message
    }

    /// Adds fixed fields that precede the attributes.
    pub(super) fn append(&mut self, fields: &[u8]) {
        self.bytes.extend_from_slice(fields);
    }

    /// Adds an attribute.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.filled(kind, |message| message.append(value));
    }

    /// Adds an attribute with a text, which the kernel wants to end in NUL.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        self.filled(kind, |message| {
            message.append(value.as_bytes());
            message.append(&[0]);
        });
    }

    /// Adds an attribute with a number in network byte order, as nf_tables wants all of its own.
    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_be_bytes());
    }

    /// Adds an attribute that contains attributes.
    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        self.filled(kind | NESTED, fill);
    }

    fn filled(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.append(&[0; 4]);
        fill(self);
        let length =
            u16::try_from(self.bytes.len() - start).expect("an attribute of ours is far below 64 KiB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The finished bytes. Answers carry the sequence number.
    pub(super) fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).expect("a message of ours is far below 4 GiB");
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[SEQUENCE_OFFSET..SEQUENCE_OFFSET + 4].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// Sends a batch and checks the kernel's verdict on it.
pub(super) fn commit(batch: Vec<Message>) -> Result<(), Error> {
    let socket = open().map_err(Error::Socket)?;
    let names: Vec<String> = batch.iter().map(|message| message.what.clone()).collect();
    let bytes: Vec<u8> = (0..).zip(batch).flat_map(|(sequence, message)| message.finish(sequence)).collect();
    send(&socket, &bytes).map_err(|source| Error::Send { count: names.len(), source })?;

    let mut acknowledged = false;
    let mut buffer = vec![0; 64 * 1024];
    while let Some(datagram) = receive(&socket, &mut buffer).map_err(Error::Receive)? {
        for reply in replies(datagram) {
            acknowledged |= reply.verdict(&names)?;
        }
    }
    if acknowledged { Ok(()) } else { Err(Error::Silent) }
}

/// Opens a netfilter socket in the calling thread's network namespace.
pub(super) fn open() -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(NETFILTER),
    )?;
    // Error texts are a comfort; kernels before 4.12 do without.
    let _ = sys::want_extended_acknowledgements(&socket);
    Ok(socket)
}

pub(super) fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    let sent = rustix::net::sendto(socket, bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// The next datagram of the kernel, or nothing when all are read.
pub(super) fn receive<'a>(socket: &OwnedFd, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
    match rustix::net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
        Ok((length, _)) => Ok(Some(&buffer[..length])),
        Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// One message of the kernel.
#[derive(Debug)]
pub(super) struct Reply<'a> {
    pub(super) kind: u16,
    flags: u16,
    sequence: u32,
    pub(super) body: &'a [u8],
}

/// `NLMSG_ERROR`: an error, or with number 0 an acknowledgement.
pub(super) const ERROR: u16 = 2;
/// `NLMSGERR_ATTR_MSG`: the error in words.
const ERROR_TEXT: u16 = 1;

impl Reply<'_> {
    /// Whether it acknowledges; an error when it refuses.
    fn verdict(&self, names: &[String]) -> Result<bool, Error> {
        let Some(number) = (self.kind == ERROR).then(|| word(self.body, 0)).flatten() else {
            return Ok(false);
        };
        if number == 0 {
            return Ok(true);
        }
        let index = usize::try_from(self.sequence).unwrap_or(usize::MAX);
        Err(Error::Refused {
            what: names.get(index).cloned().unwrap_or_else(|| "the capture rules".into()),
            detail: self.error_text(),
            source: io::Error::from_raw_os_error(number.cast_signed().wrapping_neg()),
        })
    }

    /// With capped replies, only the header of the refused message lies between the number and the attributes.
    fn error_text(&self) -> Option<String> {
        if self.flags & FLAG_EXTENDED == 0 {
            return None;
        }
        let text = attributes(self.body.get(4 + HEADER_LENGTH..)?).find(|(kind, _)| *kind == ERROR_TEXT)?.1;
        Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
    }
}

/// The messages of a datagram. What is cut short is not shown.
pub(super) fn replies(datagram: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = usize::try_from(word(rest, 0)?).ok()?;
        let message = rest.get(..length).filter(|message| message.len() >= HEADER_LENGTH)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Reply {
            kind: half_word(message, 4)?,
            flags: half_word(message, 6)?,
            sequence: word(message, SEQUENCE_OFFSET)?,
            body: &message[HEADER_LENGTH..],
        })
    })
}

/// The attributes in a message's tail, as kind and value. What is cut short is not shown.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(half_word(rest, 0)?);
        let kind = half_word(rest, 2)? & !NESTED;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The attributes behind `nfgenmsg`.
#[cfg(test)]
pub(super) fn netfilter_attributes(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const FAMILY_HEADER_LENGTH: usize = 4;
    attributes(body.get(FAMILY_HEADER_LENGTH..).unwrap_or_default())
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

fn half_word(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nest() {
        let mut message = Message::bare("test", 7, FLAG_CREATE);
        message.nested(1, |inner| inner.text(2, "lo"));
        message.number(3, 0x0102_0304);

        let bytes = message.finish(9);

        assert_eq!(bytes.len(), 16 + 12 + 8);
        let reply = replies(&bytes).next().expect("a message");
        assert_eq!((reply.kind, reply.sequence), (7, 9));
        let outer: Vec<_> = attributes(reply.body).collect();
        assert_eq!(outer[1], (3, &[1, 2, 3, 4][..]));
        assert_eq!(attributes(outer[0].1).next(), Some((2, &b"lo\0"[..])));
    }

    #[test]
    fn refusal_names_the_rule_and_quotes_the_kernel() {
        let mut message = Message::bare("", ERROR, FLAG_EXTENDED);
        message.append(&(-libc::EPERM).to_ne_bytes());
        message.append(&[0; HEADER_LENGTH]);
        message.text(ERROR_TEXT, "no way");
        let bytes = message.finish(1);

        let names = ["the table".to_owned(), "rule `tcp dport 1`".to_owned()];
        let error = replies(&bytes).next().expect("a message").verdict(&names).expect_err("refused");

        assert_eq!(
            error.to_string(),
            "the kernel refused rule `tcp dport 1` (no way); run with CAP_NET_ADMIN in the user namespace that owns \
             this network namespace"
        );
    }

    #[test]
    fn truncated_answers_are_ignored() {
        let mut message = Message::bare("", ERROR, 0);
        message.append(&[0; 20]);
        let bytes = message.finish(0);

        for length in 0..bytes.len() {
            assert_eq!(replies(&bytes[..length]).count(), 0);
        }
    }
}
