//! A request's body that may be sent more than once: what has been read is kept, up to a bound.
//!
//! The body is read as the upstream takes it, never ahead. Once more has passed than is kept, the request can only be
//! sent by the attempt that is under way.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::engine::body::{Body, BodyError, Frame, Source};
use crate::message::Headers;

/// A request's body, and what has been read of it.
pub(super) struct Replay(Option<Rc<RefCell<Kept>>>);

struct Kept {
    body: Body,
    frames: Vec<Piece>,
    /// Bytes that may still be kept; `None` once something could not be.
    room: Option<usize>,
    /// The attempt that reads; earlier ones may not.
    attempt: u32,
    /// Reading the client's body has failed.
    broken: bool,
    read: Rc<Cell<u64>>,
}

#[derive(Clone)]
enum Piece {
    Data(Bytes),
    Trailers(Headers),
}

impl Replay {
    /// Keeps at most `room` bytes; counts what is read in `read`.
    pub(super) fn new(body: Body, room: usize, read: Rc<Cell<u64>>) -> Self {
        if body.is_end() {
            return Self(None);
        }
        let kept = Kept { body, frames: Vec::new(), room: Some(room), attempt: 0, broken: false, read };
        Self(Some(Rc::new(RefCell::new(kept))))
    }

    /// Whether the request has a body.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the whole body can be sent again.
    pub(super) fn is_possible(&self) -> bool {
        self.0.as_ref().is_none_or(|kept| {
            let kept = kept.borrow();
            kept.room.is_some() && !kept.broken
        })
    }

    /// The body for the next attempt; the attempt before loses it.
    pub(super) fn body(&self) -> Body {
        let Some(kept) = &self.0 else { return Body::empty() };
        let mut now = kept.borrow_mut();
        now.attempt += 1;
        Body::stream(Attempt { kept: Rc::clone(kept), attempt: now.attempt, at: 0 })
    }

    /// There will be no other attempt: nothing more is kept.
    pub(super) fn settle(&self) {
        if let Some(kept) = &self.0 {
            kept.borrow_mut().room = None;
        }
    }
}

/// The body as one attempt reads it.
struct Attempt {
    kept: Rc<RefCell<Kept>>,
    attempt: u32,
    /// How many of the kept frames have been given.
    at: usize,
}

impl Kept {
    fn poll_new(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = self.body.poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                self.read.set(self.read.get() + data.len() as u64);
                self.keep(data.len(), || Piece::Data(data.clone()));
            }
            Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => {
                self.keep(0, || Piece::Trailers(trailers.clone()))
            }
            Poll::Ready(Some(Err(_))) => self.broken = true,
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn keep(&mut self, length: usize, piece: impl FnOnce() -> Piece) {
        self.room = self.room.and_then(|room| room.checked_sub(length));
        if self.room.is_some() {
            self.frames.push(piece());
        }
    }
}

impl Source for Attempt {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let mut kept = self.kept.borrow_mut();
        if kept.attempt != self.attempt {
            return Poll::Ready(Some(Err(BodyError::Reset("another attempt has taken over"))));
        }
        if let Some(piece) = kept.frames.get(self.at) {
            self.at += 1;
            let frame = match piece.clone() {
                Piece::Data(data) => Frame::Data(data),
                Piece::Trailers(trailers) => Frame::Trailers(trailers),
            };
            return Poll::Ready(Some(Ok(frame)));
        }
        let polled = kept.poll_new(context);
        if kept.room.is_none() {
            // Nobody will ask for them again, and this attempt has had them all.
            kept.frames = Vec::new();
        }
        self.at = kept.frames.len();
        polled
    }

    fn remaining(&self) -> Option<u64> {
        let kept = self.kept.borrow();
        let unsent = kept.frames.iter().skip(self.at).map(|piece| match piece {
            Piece::Data(data) => data.len() as u64,
            Piece::Trailers(_) => 0,
        });
        kept.body.remaining().map(|rest| rest + unsent.sum::<u64>())
    }

    fn is_end(&self) -> bool {
        let kept = self.kept.borrow();
        self.at >= kept.frames.len() && kept.body.is_end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pieces(Vec<&'static str>);

    impl Source for Pieces {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
            let next = (!self.0.is_empty()).then(|| self.0.remove(0));
            Poll::Ready(next.map(|text| Ok(Frame::Data(text.into()))))
        }
    }

    async fn read(mut body: Body) -> Result<String, BodyError> {
        let mut text = String::new();
        while let Some(frame) = body.frame().await {
            if let Frame::Data(data) = frame? {
                text.push_str(std::str::from_utf8(&data).unwrap());
            }
        }
        Ok(text)
    }

    #[tokio::test]
    async fn a_small_body_is_sent_again_whole() {
        let count = Rc::default();
        let replay = Replay::new(Body::stream(Pieces(vec!["ab", "cd", "ef"])), 10, Rc::clone(&count));
        let mut first = replay.body();
        first.frame().await.unwrap().unwrap();
        assert!(replay.is_possible());
        assert_eq!(read(replay.body()).await.unwrap(), "abcdef");
        assert_eq!(read(replay.body()).await.unwrap(), "abcdef");
        assert_eq!(count.get(), 6);
        assert!(first.frame().await.unwrap().is_err(), "the first attempt has lost the body");
    }

    #[tokio::test]
    async fn what_is_too_large_to_keep_is_sent_once() {
        let replay = Replay::new(Body::stream(Pieces(vec!["ab", "cd", "ef"])), 3, Rc::default());
        assert_eq!(read(replay.body()).await.unwrap(), "abcdef");
        assert!(!replay.is_possible());
    }
}
