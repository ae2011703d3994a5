//! HTTP/1.1, both sides: strict about framing and syntax, and without a task, channel or copy of its own.
//!
//! One [`Rc`](std::rc::Rc) holds the connection; the message body being read shares it, so a request body can be read
//! while its response is written. No lock, for all of it runs on one worker, and no borrow outlives a poll.
//!
//! Invariants: a line ends in CRLF; a head is parsed once, whole; a message has one framing and it is ours; a
//! connection that has seen anything unexpected is never used again. An idle connection holds no buffer.
//!
//! Not here: routing, retries, pools, and any repair of what a peer sent.

mod client;
mod deadline;
mod decode;
mod encode;
mod fields;
mod head;
mod outgoing;
mod server;
mod shared;
#[cfg(test)]
mod tests;
mod wire;

use std::time::Duration;

pub use client::ClientConnection;
pub(super) use head::{Target, is_trailer, parse_authority};
pub use server::{RespondError, ServerConnection};

/// The bounds of a connection.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From the first byte of a request head to its last; 10 s.
    pub head_time: Duration,
    /// How long a connection may lie idle between requests, and before its first; 60 s.
    pub idle_time: Duration,
    /// How long a peer may neither send nor take a byte of a message under way; 5 min, as Envoy's stream idle timeout.
    pub stall_time: Duration,
    /// How long a request body that nobody read is thrown away before the connection is closed instead; 1 s.
    pub drain_time: Duration,
    /// How many bytes of such a body are thrown away at most; 64 KiB.
    pub drain_size: usize,
    /// A head, with its first line; 64 KiB.
    pub head_size: usize,
    /// A request target; 32 KiB.
    pub target_size: usize,
    /// Interim responses taken before a final one; 100.
    pub interim_responses: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(60),
            stall_time: Duration::from_secs(300),
            drain_time: Duration::from_secs(1),
            drain_size: 64 << 10,
            head_size: 64 << 10,
            target_size: 32 << 10,
            interim_responses: 100,
        }
    }
}

/// Fields in one head or trailer section; not an operator's choice, since the parser's room is on the stack.
const MAX_FIELDS: usize = 100;
