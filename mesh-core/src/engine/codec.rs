//! From bytes to message heads and bodies, and back.
//!
//! HTTP/1.1 is our own strict codec, HTTP/2 is hyper's behind our types; no hyper type is seen above this module.
//! Ambiguous input is refused, never repaired: what was parsed is the only thing that is ever forwarded, and every
//! message is framed anew. Hop-by-hop fields end here, on the way in and on the way out.
//!
//! A codec does not route, retry, log or pool. Every limit is a field of a `Limits`.

pub mod h1;
pub mod h2;
pub mod preface;

use std::io;

use crate::engine::body::BodyError;
use crate::failure::{Failure, Replay};

/// A request that is refused before anybody sees it. The connection still takes one answer and then closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("request refused: {reason}")]
pub struct Reject {
    /// What to answer.
    pub failure: Failure,
    /// What was wrong, for the log; never holds bytes of the request.
    pub reason: &'static str,
}

impl Reject {
    pub(crate) const fn bad(reason: &'static str) -> Self {
        Self { failure: Failure::BadRequest, reason }
    }
}

/// How much of a request had left us when its connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// No byte: the upstream cannot have seen it.
    Nothing,
    /// Some bytes, but not the whole message.
    Part,
    /// The whole message.
    Whole,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The connection ended before the first byte of a response.
    #[error("upstream connection closed before a response ({sent:?} sent)")]
    Closed {
        /// How much of the request was out.
        sent: Sent,
        /// What the transport said.
        #[source]
        source: io::Error,
    },
    /// The upstream says it has not begun to process the request (REFUSED_STREAM, GOAWAY below our stream).
    #[error("upstream refused the stream")]
    Refused,
    /// The upstream reset the stream.
    #[error("upstream reset the stream: {0}")]
    Reset(String),
    /// What the upstream sent is not a valid response, or it broke off inside the response head.
    #[error("upstream protocol error: {0}")]
    Protocol(&'static str),
    /// The request's own body failed while it was sent.
    #[error("request body failed")]
    RequestBody(#[source] BodyError),
}

impl SendError {
    /// The failure this is to the downstream.
    pub const fn failure(&self) -> Failure {
        match self {
            Self::Closed { .. } => Failure::UpstreamClosed,
            Self::Refused => Failure::StreamRefused,
            Self::Reset(_) => Failure::UpstreamReset,
            Self::Protocol(_) => Failure::UpstreamProtocol,
            Self::RequestBody(BodyError::Malformed(_)) => Failure::BadRequest,
            Self::RequestBody(BodyError::TooLarge(_)) => Failure::BodyTooLarge,
            Self::RequestBody(BodyError::Stalled) => Failure::RequestTimeout,
            Self::RequestBody(BodyError::Cut(_) | BodyError::Reset(_)) => Failure::DownstreamGone,
        }
    }

    /// Whether the request may be sent again. Sharper than the failure's own: a connection that failed before the
    /// first byte has surely shown the upstream nothing.
    pub const fn replay(&self) -> Replay {
        match self {
            Self::Closed { sent: Sent::Nothing, .. } => Replay::NeverSeen,
            other => other.failure().consequence().replay,
        }
    }
}
