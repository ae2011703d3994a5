//! A connection while a request is on it.

use std::rc::Rc;
use std::time::Instant;

use super::{Facts, Idle, Key, Multiplexed, Origin};
use crate::engine::body::Body;
use crate::engine::codec::{SendError, h1};
use crate::engine::stream::Transport;
use crate::engine::worker::Worker;
use crate::message::{Headers, RequestHead, ResponseHead};

/// A connection while a request is on it. Dropped when the response has ended, it goes back to its pool if it may be used
/// again, and is closed otherwise.
pub(crate) struct Lease {
    worker: Rc<Worker>,
    kind: Kind,
    /// Whether it has served before: then it may have been closed in the meantime.
    pub(crate) used_before: bool,
}

enum Kind {
    One(Option<Box<Idle>>),
    Shared(Rc<Multiplexed>),
}

impl Lease {
    /// A new HTTP/1.1 connection.
    pub(crate) fn made(
        worker: &Rc<Worker>,
        key: Key,
        connection: h1::ClientConnection<Transport>,
        origin: Origin,
    ) -> Self {
        Self::one(worker, Box::new(Idle { key, connection, origin, served: 0, since: Instant::now() }))
    }

    /// An HTTP/1.1 connection for one request.
    pub(crate) fn one(worker: &Rc<Worker>, one: Box<Idle>) -> Self {
        let used_before = one.served > 0;
        Self { worker: Rc::clone(worker), kind: Kind::One(Some(one)), used_before }
    }

    /// A stream on an HTTP/2 connection.
    pub(crate) fn shared(worker: &Rc<Worker>, connection: Rc<Multiplexed>, used_before: bool) -> Self {
        Self { worker: Rc::clone(worker), kind: Kind::Shared(connection), used_before }
    }

    /// Sends a request and waits for the head of its response. The caller sets the deadline.
    pub(crate) async fn send(
        &mut self,
        head: &RequestHead,
        body: Body,
        interim: impl FnMut(u16, &Headers),
    ) -> Result<(ResponseHead, Body), SendError> {
        match &mut self.kind {
            Kind::One(Some(one)) => one.connection.send(head, body, interim).await,
            Kind::One(None) => Err(SendError::Protocol("connection given away")),
            Kind::Shared(shared) => shared.connection.send(head, body).await,
        }
    }

    /// Who is at the other end.
    pub(crate) fn facts(&self) -> Option<&Facts> {
        match &self.kind {
            Kind::One(one) => one.as_ref().map(|one| &*one.origin.facts),
            Kind::Shared(shared) => Some(&shared.origin.facts),
        }
    }

    /// The byte stream of a connection that has switched protocols, and what was read ahead of it.
    pub(crate) fn into_stream(mut self) -> Option<(Transport, bytes::Bytes)> {
        match &mut self.kind {
            Kind::One(one) => one.take().and_then(|one| one.connection.into_io()),
            Kind::Shared(_) => None,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Kind::One(one) = &mut self.kind
            && let Some(mut one) = one.take()
            && one.connection.is_reusable()
        {
            one.served += 1;
            one.connection.rest();
            self.worker.pool().put(one);
        }
        self.worker.pool().free();
    }
}
