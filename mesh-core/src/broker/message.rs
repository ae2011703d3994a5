//! What is asked and answered, as one line of text each. Both ends are of one build, so there are no versions.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A connection to this address.
    Connect(SocketAddr),
    /// The addresses of this name.
    Resolve(String),
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The connected socket comes beside it.
    Connected,
    /// All addresses of a name, at most 64.
    Addresses(Vec<IpAddr>),
    /// Not allowed, and why.
    Forbidden(String),
    /// Too much is being done at once.
    Busy,
    /// Not done in time.
    Late,
    /// The name does not exist.
    NoSuchName,
    /// An error of the system, by its number.
    System(i32),
}

/// What fits into one message.
pub(super) const LONGEST: usize = 4096;
/// Each takes at most 40 bytes.
const MOST_ADDRESSES: usize = 64;
/// Longer than any name that DNS can hold.
const LONGEST_NAME: usize = 255;

impl fmt::Display for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(address) => write!(formatter, "connect {address}"),
            Self::Resolve(name) => write!(formatter, "resolve {name}"),
        }
    }
}

impl Request {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (word, rest) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
        match word {
            "connect" => rest.parse().ok().map(Self::Connect),
            "resolve" if is_name(rest) => Some(Self::Resolve(rest.to_owned())),
            _ => None,
        }
    }
}

/// Whether a resolver may be asked for it: letters, digits and the signs of host names, nothing that it could misread.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty()
        && text.len() <= LONGEST_NAME
        && text.bytes().all(allowed)
        && !text.starts_with(['-', '.'])
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => formatter.write_str("connected"),
            Self::Addresses(addresses) => {
                formatter.write_str("addresses")?;
                addresses.iter().take(MOST_ADDRESSES).try_for_each(|address| write!(formatter, " {address}"))
            }
            Self::Forbidden(why) => write!(formatter, "forbidden {why}"),
            Self::Busy => formatter.write_str("busy"),
            Self::Late => formatter.write_str("late"),
            Self::NoSuchName => formatter.write_str("unknown"),
            Self::System(number) => write!(formatter, "system {number}"),
        }
    }
}

impl Answer {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "connected" => Some(Self::Connected),
            "addresses" => rest
                .split_whitespace()
                .map(|word| word.parse().ok())
                .collect::<Option<_>>()
                .map(Self::Addresses),
            "forbidden" => Some(Self::Forbidden(rest.to_owned())),
            "busy" => Some(Self::Busy),
            "late" => Some(Self::Late),
            "unknown" => Some(Self::NoSuchName),
            "system" => rest.parse().ok().map(Self::System),
            _ => None,
        }
    }
}
