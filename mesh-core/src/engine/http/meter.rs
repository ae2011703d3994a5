//! A response's body on its way to the client: counted, bounded in time, and the end of everything that was held for it.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::account::Account;
use crate::engine::body::{Body, BodyError, Frame, Source};
use crate::failure::Failure;

/// A body that is reported when it ends. `held` is dropped then: the connection goes back to its pool, and permits are
/// given back.
pub(super) struct Metered<H> {
    body: Body,
    rest: Option<(Account, H)>,
    deadline: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

/// Watches `body` to its end; it is cut when `deadline` ends before.
pub(super) fn metered<H: 'static>(
    body: Body,
    account: Account,
    held: H,
    deadline: Option<impl Future<Output = ()> + 'static>,
) -> Body {
    let mut metered = Metered { body, rest: Some((account, held)), deadline: None };
    if metered.body.is_end() {
        metered.settle(None);
        return Body::empty();
    }
    metered.deadline = deadline.map(|deadline| Box::pin(deadline) as _);
    Body::stream(metered)
}

impl<H> Metered<H> {
    fn settle(&mut self, failure: Option<Failure>) {
        if let Some((account, held)) = self.rest.take() {
            drop(held);
            account.end(failure);
        }
    }

    fn passed(&mut self, frame: &Frame) {
        let over = self.body.is_end();
        if let Some((account, _)) = &mut self.rest {
            match frame {
                Frame::Data(data) => account.sent(data.len()),
                Frame::Trailers(trailers) => account.grpc_status(trailers),
            }
        }
        // Many consumers stop at the last byte and never ask for the `None` after it.
        if over {
            self.settle(None);
        }
    }

    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(context).is_ready())
    }
}

impl<H> Source for Metered<H> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.rest.is_none() {
            return Poll::Ready(None);
        }
        match self.body.poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.passed(&frame);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.settle(Some(Failure::ResponseCut));
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                self.settle(None);
                Poll::Ready(None)
            }
            Poll::Pending if self.is_late(context) => {
                self.settle(Some(Failure::UpstreamTimeout));
                Poll::Ready(Some(Err(BodyError::Stalled)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn remaining(&self) -> Option<u64> {
        self.body.remaining()
    }

    fn is_end(&self) -> bool {
        self.rest.is_none() || self.body.is_end()
    }
}
