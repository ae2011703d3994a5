//! A request's body that may not exceed a number of bytes, for bodies whose length is not announced.

use std::task::{Context, Poll, ready};

use crate::engine::body::{Body, BodyError, Frame, Source};

/// The body, failing once it has had more than `most` bytes. One that is known to be shorter is not looked at.
pub(super) fn bounded(body: Body, most: Option<u64>) -> Body {
    match most {
        Some(most) if body.remaining().is_none_or(|known| known > most) => {
            Body::stream(Bounded { body, most, left: most })
        }
        _ => body,
    }
}

struct Bounded {
    body: Body,
    most: u64,
    left: u64,
}

impl Source for Bounded {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = ready!(self.body.poll_frame(context));
        if let Some(Ok(Frame::Data(data))) = &frame {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Some(Err(BodyError::TooLarge(self.most)))),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end(&self) -> bool {
        self.body.is_end()
    }
}
