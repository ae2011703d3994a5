//! A request's body that is copied as it passes.
//!
//! The copies never hold up the original: each is kept for its reader up to a bound, and one whose reader falls further
//! behind ends with an error.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::engine::body::{Body, BodyError, Frame, Source};
use crate::message::Headers;

/// How far a copy's reader may be behind, in bytes; as much as Envoy keeps for a mirror.
const MOST_BEHIND: usize = 1 << 20;

/// The body, and as many copies as asked for.
pub(super) fn tee(body: Body, copies: usize) -> (Body, Vec<Body>) {
    if body.is_end() || copies == 0 {
        return (body, std::iter::repeat_with(Body::empty).take(copies).collect());
    }
    let readers: Vec<Rc<RefCell<Behind>>> = std::iter::repeat_with(Rc::default).take(copies).collect();
    let length = body.remaining();
    let copies = readers.iter().map(|behind| Body::stream(Copied { behind: Rc::clone(behind), length }));
    let copies = copies.collect();
    (Body::stream(Tee { body, readers }), copies)
}

/// What a reader has still to read.
#[derive(Default)]
struct Behind {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// How it ends, once that is known.
    end: Option<Result<(), BodyError>>,
    waiting: Option<Waker>,
}

impl Behind {
    fn add(&mut self, frame: &Frame) {
        if self.end.is_some() {
            return;
        }
        match frame {
            Frame::Data(data) if self.bytes + data.len() > MOST_BEHIND => {
                self.frames = VecDeque::new();
                self.end(Err(BodyError::Reset("the copy's reader is too slow")));
            }
            Frame::Data(data) => {
                self.bytes += data.len();
                self.frames.push_back(Frame::Data(Bytes::clone(data)));
            }
            Frame::Trailers(trailers) => self.frames.push_back(Frame::Trailers(Headers::clone(trailers))),
        }
        self.wake();
    }

    fn end(&mut self, end: Result<(), BodyError>) {
        self.end.get_or_insert(end);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }
}

struct Tee {
    body: Body,
    readers: Vec<Rc<RefCell<Behind>>>,
}

impl Source for Tee {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = self.body.poll_frame(context);
        if let Poll::Ready(passed) = &polled {
            // A copy that nobody reads any more is not kept.
            self.readers.retain(|reader| Rc::strong_count(reader) > 1);
            for reader in &self.readers {
                let mut behind = reader.borrow_mut();
                match passed {
                    Some(Ok(frame)) => behind.add(frame),
                    Some(Err(error)) => behind.end(Err(error.clone())),
                    None => behind.end(Ok(())),
                }
            }
        }
        polled
    }

    fn remaining(&self) -> Option<u64> {
        self.body.remaining()
    }

    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}

impl Drop for Tee {
    /// Many consumers stop at the last byte and never ask for the end after it.
    fn drop(&mut self) {
        let end =
            if self.body.is_end() { Ok(()) } else { Err(BodyError::Reset("the original was given up")) };
        for reader in &self.readers {
            reader.borrow_mut().end(end.clone());
        }
    }
}

/// A copy, as its reader has it.
struct Copied {
    behind: Rc<RefCell<Behind>>,
    length: Option<u64>,
}

impl Source for Copied {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let mut behind = self.behind.borrow_mut();
        if let Some(frame) = behind.frames.pop_front() {
            if let Frame::Data(data) = &frame {
                behind.bytes -= data.len();
                self.length = self.length.map(|length| length - data.len() as u64);
            }
            return Poll::Ready(Some(Ok(frame)));
        }
        match behind.end.clone() {
            Some(end) => Poll::Ready(end.err().map(Err)),
            None => {
                behind.waiting = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn remaining(&self) -> Option<u64> {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Yields so many pieces of so many bytes.
    struct Pieces(usize, usize);

    impl Source for Pieces {
        fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
            let next = self.0.checked_sub(1).inspect(|left| self.0 = *left);
            Poll::Ready(next.map(|_| Ok(Frame::Data(vec![b'x'; self.1].into()))))
        }
    }

    async fn length(body: &mut Body) -> Result<usize, BodyError> {
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            if let Frame::Data(data) = frame? {
                length += data.len();
            }
        }
        Ok(length)
    }

    #[tokio::test]
    async fn every_copy_is_whole() {
        let (mut body, mut copies) = tee(Body::stream(Pieces(5, 100)), 2);
        assert_eq!(length(&mut body).await.unwrap(), 500);
        for copy in &mut copies {
            assert_eq!(length(copy).await.unwrap(), 500);
        }
    }

    #[tokio::test]
    async fn a_slow_reader_loses_its_copy_and_nothing_else() {
        let (mut body, mut copies) = tee(Body::stream(Pieces(3, MOST_BEHIND / 2)), 1);
        assert_eq!(length(&mut body).await.unwrap(), MOST_BEHIND / 2 * 3);
        assert!(length(&mut copies[0]).await.is_err());
    }

    #[tokio::test]
    async fn a_copy_of_what_was_given_up_does_not_pass_for_whole() {
        let (mut body, mut copies) = tee(Body::stream(Pieces(3, 10)), 1);
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert!(length(&mut copies[0]).await.is_err());
    }
}
