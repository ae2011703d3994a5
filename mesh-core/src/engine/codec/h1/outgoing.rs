//! A message on its way out: its body is pulled, framed and written, with the head in the first write.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use super::encode::Encoder;
use super::shared::Shared;
use super::wire::Output;
use crate::engine::body::{Body, BodyError};

/// No more of a body is pulled while this much waits to be written.
const HIGH_WATER: usize = 64 << 10;

/// Why a message was not sent whole.
#[derive(Debug)]
pub(super) enum Cut {
    /// The connection took no more.
    Write(io::Error),
    /// The body ended before its end.
    Body(BodyError),
}

/// A message on its way out.
pub(super) struct Outgoing {
    body: Body,
    encoder: Encoder,
    output: Output,
    ended: bool,
}

impl Outgoing {
    /// `output` holds the head.
    pub(super) fn new(output: Output, encoder: Encoder, body: Body) -> Self {
        Self { body, encoder, output, ended: false }
    }

    /// Moves on as far as body and connection allow; ready when all is written.
    ///
    /// Polling the body may borrow another connection, or this one to read a request: so `shared` is borrowed only
    /// to write.
    pub(super) fn poll<Io: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        shared: &RefCell<Shared<Io>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Cut>> {
        loop {
            let gathered = self.poll_gather(cx)?;
            ready!(shared.borrow_mut().poll_write(&mut self.output, cx)).map_err(Cut::Write)?;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(gathered);
        }
    }

    /// Frames what the body has ready; pending when that is not all and there is room for more.
    fn poll_gather(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        while !self.ended && self.output.len() < HIGH_WATER {
            let frame = if self.encoder == Encoder::None || self.body.is_end() {
                None
            } else {
                ready!(self.body.poll_frame(cx)).transpose().map_err(Cut::Body)?
            };
            let framed = match frame {
                Some(frame) => self.encoder.frame(frame, &mut self.output),
                None => {
                    self.ended = true;
                    self.encoder.finish(&mut self.output)
                }
            };
            framed.map_err(Cut::Body)?;
        }
        Poll::Ready(Ok(()))
    }
}
