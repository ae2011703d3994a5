//! A connection while a request is on it.

use std::rc::Rc;

use super::{Facts, Key, Multiplexed, Origin};
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

#[expect(clippy::large_enum_variant, reason = "one per request: a box would cost more than it saves")]
enum Kind {
    One(Option<One>),
    Shared(Rc<Multiplexed>),
}

struct One {
    key: Key,
    connection: h1::ClientConnection<Transport>,
    origin: Origin,
    served: u32,
}

impl Lease {
    /// An HTTP/1.1 connection for one request.
    pub(crate) fn one(
        worker: &Rc<Worker>,
        key: Key,
        connection: h1::ClientConnection<Transport>,
        origin: Origin,
        served: u32,
    ) -> Self {
        let one = One { key, connection, origin, served };
        Self { worker: Rc::clone(worker), kind: Kind::One(Some(one)), used_before: served > 0 }
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
            && let Some(One { key, connection, origin, served }) = one.take()
            && connection.is_reusable()
        {
            self.worker.pool().put(key, connection, origin, served + 1);
        }
        self.worker.pool().free();
    }
}
