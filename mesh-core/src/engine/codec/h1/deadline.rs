//! A deadline that is set for every request and hardly ever passes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The runtime's timer is made when something first has to wait, and stays where it is when the deadline is set anew. It
/// is moved only when it fires too early: setting costs a look at the clock.
#[derive(Default)]
pub(super) struct Deadline {
    at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Sets it, always by the same span from now: a deadline never moves to an earlier time.
    pub(super) fn set(&mut self, span: Duration) {
        self.at = Instant::now().checked_add(span);
    }

    /// Whether it has passed; else the task is woken when it does.
    pub(super) fn poll_passed(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(at) = self.at else { return false };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        while let Poll::Ready(()) = timer.as_mut().poll(cx) {
            if Instant::now() >= at {
                return true;
            }
            timer.as_mut().reset(at);
        }
        false
    }
}
