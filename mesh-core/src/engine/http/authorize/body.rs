//! The beginning of a request's body: shown to an authorizer, then sent on as if nobody had looked.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use crate::engine::body::{Body, BodyError, Frame, Source};
use crate::model::CheckBody;

/// What an authorizer sees.
pub(super) struct Shown {
    pub(super) bytes: Bytes,
    /// Whether there is more.
    pub(super) partial: bool,
    pub(super) as_bytes: bool,
}

/// Why there is nothing to show.
pub(super) enum NotShown {
    TooLarge,
    NotReceived,
}

impl NotShown {
    pub(super) const fn status(&self) -> u16 {
        match self {
            Self::TooLarge => 413,
            Self::NotReceived => 408,
        }
    }

    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge => "the body is larger than it is shown",
            Self::NotReceived => "the body did not arrive",
        }
    }
}

/// Reads as much as is shown, and puts it back.
pub(super) async fn show(body: &mut Body, limit: CheckBody, patience: Duration) -> Result<Shown, NotShown> {
    let most = usize::try_from(limit.max_bytes).unwrap_or(usize::MAX);
    let mut seen = VecDeque::new();
    let mut bytes = BytesMut::new();
    let reading = async {
        // One byte more than is shown tells whether there is more.
        while bytes.len() <= most && !body.is_end() {
            match body.frame().await {
                Some(Ok(Frame::Data(data))) => {
                    bytes.extend_from_slice(&data);
                    seen.push_back(Frame::Data(data));
                    if limit.partial && bytes.len() >= most {
                        break;
                    }
                }
                Some(Ok(trailers)) => seen.push_back(trailers),
                Some(Err(_)) => return Err(NotShown::NotReceived),
                None => break,
            }
        }
        Ok(())
    };
    timeout(patience, reading).await.map_err(|_| NotShown::NotReceived)??;
    let partial = bytes.len() > most || (bytes.len() == most && !body.is_end());
    if bytes.len() > most && !limit.partial {
        return Err(NotShown::TooLarge);
    }
    bytes.truncate(most);
    if !seen.is_empty() {
        let rest = std::mem::take(body);
        *body = Body::stream(PutBack { seen, rest });
    }
    Ok(Shown { bytes: bytes.freeze(), partial, as_bytes: limit.as_bytes })
}

struct PutBack {
    seen: VecDeque<Frame>,
    rest: Body,
}

impl Source for PutBack {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match self.seen.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => self.rest.poll_frame(cx),
        }
    }

    fn remaining(&self) -> Option<u64> {
        let seen = self.seen.iter().map(|frame| match frame {
            Frame::Data(data) => data.len() as u64,
            Frame::Trailers(_) => 0,
        });
        self.rest.remaining().map(|rest| rest + seen.sum::<u64>())
    }

    fn is_end(&self) -> bool {
        self.seen.is_empty() && self.rest.is_end()
    }
}
