//! What is known of one request while it runs, reported once at its end, however it ends.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use crate::decide::Permits;
use crate::decide::answer::{Reason, is_grpc};
use crate::engine::connection::Downstream;
use crate::engine::own::OwnFacts;
use crate::engine::pool::Facts;
use crate::engine::tunnel::Counted;
use crate::engine::worker::Worker;
use crate::failure::Failure;
use crate::message::{Headers, RequestHead, ResponseHead};
use crate::model::ProxyHeaders;
use crate::telemetry::record::LoggedRequest;
use crate::telemetry::{Counter, Record, RequestProtocol, Shown};

/// A request's record. When it is dropped without an end, the client has gone.
pub(super) struct Account {
    worker: Rc<Worker>,
    own: Option<Rc<OwnFacts>>,
    record: Box<Record>,
    started: Instant,
    received: Rc<Cell<u64>>,
    ended: bool,
    permits: Permits,
}

impl Account {
    /// Begins with what the connection says.
    pub(super) fn open(worker: &Rc<Worker>, downstream: &Downstream) -> Self {
        let own = worker.own();
        let mut record = Box::<Record>::default();
        record.started = Some(SystemTime::now());
        if let Some(own) = &own {
            own.begin(&mut record, downstream);
        }
        Self {
            worker: Rc::clone(worker),
            own,
            record,
            started: Instant::now(),
            received: Rc::default(),
            ended: false,
            permits: Permits::new(),
        }
    }

    /// What the proxy itself is, as it was when the request came; `None` before it is known.
    pub(super) fn own(&self) -> Option<Rc<OwnFacts>> {
        self.own.clone()
    }

    /// Headers that the proxy writes of its own accord; `None` is as usual.
    pub(super) fn headers(&self) -> Option<&ProxyHeaders> {
        self.own.as_deref().map(|own| &own.headers)
    }

    /// Adds what the request says.
    pub(super) fn request(&mut self, head: &RequestHead) {
        self.record.protocol = if is_grpc(head) { RequestProtocol::Grpc } else { RequestProtocol::Http };
        self.record.request = Some(match &self.own {
            Some(own) => LoggedRequest::of(head, &own.shown),
            None => LoggedRequest::of(head, &Shown::default()),
        });
    }

    /// The client may be another than the peer: what the log names is who was before the trusted proxies.
    pub(super) fn client(&mut self, address: IpAddr) {
        if self.record.downstream_remote.is_some_and(|remote| remote.ip() != address) {
            self.record.downstream_remote = Some(SocketAddr::new(address, 0));
        }
    }

    pub(super) fn record(&mut self) -> &mut Record {
        &mut self.record
    }

    /// Counts the bytes of the request's body.
    pub(super) fn received(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.received)
    }

    /// Adds who is asked.
    pub(super) fn upstream(&mut self, facts: &Facts) {
        facts.write(&mut self.record);
    }

    /// The proxy answers itself.
    pub(super) fn answered(&mut self, reason: Reason) {
        match reason {
            Reason::Failure(failure) => self.record.failure = Some(failure),
            Reason::Fault => self.record.failure = Some(Failure::InjectedFault),
            Reason::Direct | Reason::Redirect | Reason::Preflight => self.record.details = reason.details(),
        }
    }

    /// The destination is forbidden: who was wanted is counted.
    pub(super) fn count_blocked(&mut self) {
        self.record.cluster = Some("BlackHoleCluster".into());
        if let Some(request) = &self.record.request {
            self.worker.count_blocked(&String::from_utf8_lossy(&request.authority));
        }
    }

    /// A rate limit has refused the request.
    pub(super) fn count_limited(&self) {
        self.worker.count(Counter::RateLimited);
    }

    /// Keeps what a request holds until it has ended.
    pub(super) fn hold(&mut self, permits: Permits) {
        self.permits = permits;
    }

    /// gRPC tells how it went in headers or trailers.
    pub(super) fn grpc_status(&mut self, headers: &Headers) {
        if let Some(status) = headers.get_str("grpc-status").and_then(|text| text.parse().ok()) {
            self.record.grpc_status = Some(status);
        }
    }

    /// Adds the headers of the response that are shown.
    pub(super) fn response(&mut self, head: &ResponseHead) {
        self.record.status = head.status;
        if let Some(own) = &self.own {
            self.record.response_headers = own.shown.of_response(&head.headers);
        }
    }

    /// Counts bytes of the response's body.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.record.sent += bytes as u64;
    }

    /// The exchange is over; `failure` when the response was cut.
    pub(super) fn end(mut self, failure: Option<Failure>) {
        self.record.failure = self.record.failure.or(failure);
        self.ended = true;
    }

    /// A tunnel has ended.
    pub(super) fn tunnelled(&mut self, counted: &Counted) {
        self.received.set(counted.sent.get());
        self.record.sent = counted.received.get();
        self.ended = true;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let record = &mut *self.record;
        if !self.ended {
            record.failure = record.failure.or(Some(Failure::DownstreamGone));
        }
        record.received = self.received.get();
        record.duration = self.started.elapsed();
        self.worker.reporter().close(record);
    }
}
