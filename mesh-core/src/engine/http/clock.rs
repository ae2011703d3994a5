//! The time that a request may take: it runs only while the client waits for us.
//!
//! Envoy begins a timeout when the request has arrived whole. Ours begins anew with each piece of the request's body, and
//! stands still while the next one is the client's to send. So an upload, or a stream in both directions, takes as long as
//! its client does; and a request that has arrived, but that no upstream takes, is not waited on forever.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::engine::body::{Body, BodyError, Frame, Source};

/// Says when a request has taken too long. Of requests without a body it knows only when they began.
#[derive(Clone)]
pub(super) struct Clock {
    begin: Instant,
    arrival: Option<Rc<Arrival>>,
}

struct Arrival {
    /// When the client last sent something, or was last waited for.
    moved: Cell<Instant>,
    /// Whether the client is waited for.
    is_awaited: Cell<bool>,
    resumed: Notify,
}

impl Arrival {
    fn moved(&self, is_awaited: bool) {
        self.moved.set(Instant::now());
        if self.is_awaited.replace(is_awaited) && !is_awaited {
            self.resumed.notify_waiters();
        }
    }
}

impl Clock {
    /// A clock for the request with this body.
    pub(super) fn start(body: Body) -> (Self, Body) {
        let begin = Instant::now();
        if body.is_end() {
            return (Self { begin, arrival: None }, body);
        }
        let arrival = Rc::new(Arrival {
            moved: Cell::new(begin),
            is_awaited: Cell::new(false),
            resumed: Notify::new(),
        });
        let body = Body::stream(Arriving { body, arrival: Rc::clone(&arrival) });
        (Self { begin, arrival: Some(arrival) }, body)
    }

    /// The same clock for what begins now.
    pub(super) fn again(&self) -> Self {
        Self { begin: Instant::now(), arrival: self.arrival.clone() }
    }

    /// Ends when the client has been kept waiting for `limit`.
    pub(super) async fn passed(self, limit: Duration) {
        let Some(arrival) = self.arrival else { return sleep_until(self.begin + limit).await };
        loop {
            if arrival.is_awaited.get() {
                arrival.resumed.notified().await;
                continue;
            }
            let end = self.begin.max(arrival.moved.get()) + limit;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }

    /// Ends when nothing has come from the client for `limit`, whoever waits for whom.
    pub(super) async fn idle(self, limit: Duration) {
        let last = || self.arrival.as_ref().map_or(self.begin, |arrival| arrival.moved.get());
        while last() + limit > Instant::now() {
            sleep_until(last() + limit).await;
        }
    }

    /// Whether the client may still have to send something.
    pub(super) const fn has_body(&self) -> bool {
        self.arrival.is_some()
    }
}

/// A body on its way in.
struct Arriving {
    body: Body,
    arrival: Rc<Arrival>,
}

impl Source for Arriving {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = self.body.poll_frame(context);
        match &polled {
            Poll::Ready(Some(_)) => self.arrival.moved(false),
            Poll::Pending if self.arrival.is_awaited.get() => {}
            Poll::Pending => self.arrival.moved(true),
            // It may be asked again after its end.
            Poll::Ready(None) if self.arrival.is_awaited.get() => self.arrival.moved(false),
            Poll::Ready(None) => {}
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

impl Drop for Arriving {
    /// Nobody wants the rest: the client waits from now on.
    fn drop(&mut self) {
        if self.arrival.is_awaited.get() {
            self.arrival.moved(false);
        }
    }
}
