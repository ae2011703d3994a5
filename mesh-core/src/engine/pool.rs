//! Connections to upstreams that wait for their next request. One pool per worker: nothing is shared, nothing is locked.
//!
//! A connection is known by its cluster, address, pod, the identity that answered and what is spoken on it; a pod that
//! gets the address of another never gets its connections. A connection made with an earlier certificate or earlier trust
//! anchors of ours is not used again, nor is one of an endpoint that is gone.

mod connect;
mod key;
mod lease;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use hashbrown::HashMap;
use rustls::ClientConfig;
use tokio::sync::{Mutex, Notify};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::codec::{h1, h2};
use super::stream::Transport;
use super::worker::Worker;
use crate::guard::ConnectionPermit;
use crate::identity::SpiffeId;
use crate::model::Workload;
use crate::snapshot::Snapshot;
use crate::telemetry::Record;
use crate::telemetry::record::ServiceLabels;

pub(crate) use connect::{NoConnection, Route, connection, open};
pub(crate) use key::{Key, KeyView};
pub(crate) use lease::Lease;

/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);
/// How often a request that waits for a place looks whether another worker has given one back.
const SIBLINGS: Duration = Duration::from_millis(20);
/// How long a line of the access log may wait to be written.
const FLUSH: Duration = Duration::from_millis(250);

/// A worker's connections.
#[expect(clippy::vec_box, reason = "a connection stays in its box while a request is on it, and is large")]
pub(crate) struct Pool {
    idle: RefCell<HashMap<Key, Vec<Box<Idle>>>>,
    shared: RefCell<HashMap<Key, Vec<Rc<Multiplexed>>>>,
    most_idle: usize,
    /// One request at a time makes an HTTP/2 connection of a kind; the others wait and share it.
    gates: RefCell<HashMap<Key, Rc<Mutex<()>>>>,
    waiting: Cell<usize>,
    freed: Notify,
}

/// What is known of a connection, whatever is spoken on it.
pub(crate) struct Origin {
    /// The configuration its TLS was made with; `None` in the clear.
    pub(crate) made_with: Option<Arc<ClientConfig>>,
    /// Closed after this many requests.
    pub(crate) most_requests: Option<u32>,
    /// Closed after this time without a request.
    pub(crate) idle_time: Duration,
    /// When it is used no more (`maxConnectionDuration`).
    pub(crate) ends: Option<Instant>,
    /// Requests at once on it, if it is HTTP/2.
    pub(crate) most_streams: Option<u32>,
    /// Counts the connection in its cluster.
    #[expect(dead_code, reason = "held for its drop")]
    pub(crate) permit: Option<ConnectionPermit>,
    /// Who is at the other end, as metrics and logs name it.
    pub(crate) facts: Rc<Facts>,
}

/// Who is at the other end of a connection; made once per connection, so that a request copies nothing.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) cluster: Arc<str>,
    pub(crate) service: Option<Arc<ServiceLabels>>,
    pub(crate) workload: Option<Arc<Workload>>,
    pub(crate) identity: Option<SpiffeId>,
    pub(crate) address: SocketAddr,
    pub(crate) local: Option<SocketAddr>,
}

impl Facts {
    /// Adds them to the record of a request or connection.
    pub(crate) fn write(&self, record: &mut Record) {
        if !self.cluster.is_empty() {
            record.cluster = Some(Arc::clone(&self.cluster));
        }
        if let Some(service) = &self.service {
            record.service = Some(Arc::clone(service));
        }
        if let Some(workload) = &self.workload {
            record.destination = Some(Arc::clone(workload));
            record.destination_principal.clone_from(&self.identity);
        }
        record.upstream = Some(self.address);
        record.upstream_local = self.local;
    }
}

/// An HTTP/1.1 connection between two requests, and on the way of one: moved about in its box, with its key.
pub(crate) struct Idle {
    pub(crate) key: Key,
    pub(crate) connection: h1::ClientConnection<Transport>,
    pub(crate) origin: Origin,
    pub(crate) served: u32,
    pub(crate) since: Instant,
}

/// An HTTP/2 connection.
pub(crate) struct Multiplexed {
    pub(crate) connection: h2::H2Client,
    pub(crate) origin: Origin,
    pub(crate) served: Cell<u32>,
    last_used: Cell<Instant>,
}

impl Pool {
    pub(crate) fn new(most_idle: usize) -> Self {
        Self {
            idle: RefCell::default(),
            shared: RefCell::default(),
            most_idle,
            gates: RefCell::default(),
            waiting: Cell::new(0),
            freed: Notify::new(),
        }
    }

    /// The HTTP/1.1 connection that was used last: the others may then grow old and close.
    pub(crate) fn take(&self, key: &KeyView<'_>, current: Option<&Arc<ClientConfig>>) -> Option<Box<Idle>> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(key)?;
        while let Some(found) = connections.pop() {
            if found.origin.is_current(current)
                && !found.origin.is_over()
                && found.since.elapsed() < found.origin.idle_time
            {
                return Some(found);
            }
        }
        None
    }

    /// Keeps an HTTP/1.1 connection for the next request, if it may have one.
    pub(crate) fn put(&self, mut connection: Box<Idle>) {
        if connection.origin.most_requests.is_some_and(|most| connection.served >= most) {
            return;
        }
        connection.since = Instant::now();
        let mut idle = self.idle.borrow_mut();
        match idle.get_mut(&connection.key) {
            Some(others) if others.len() < self.most_idle => others.push(connection),
            Some(_) => {}
            None if self.most_idle > 0 => {
                idle.insert(connection.key.clone(), vec![connection]);
            }
            None => {}
        }
    }

    /// An HTTP/2 connection with room for one more stream.
    pub(crate) fn share(
        &self,
        key: &KeyView<'_>,
        current: Option<&Arc<ClientConfig>>,
    ) -> Option<Rc<Multiplexed>> {
        let mut shared = self.shared.borrow_mut();
        let connections = shared.get_mut(key)?;
        connections.retain(|each| each.is_usable(current));
        let found = connections.iter().find(|each| each.has_room())?;
        found.count();
        Some(Rc::clone(found))
    }

    /// Lets others use an HTTP/2 connection too.
    pub(crate) fn offer(&self, key: Key, connection: h2::H2Client, origin: Origin) -> Rc<Multiplexed> {
        let last_used = Cell::new(Instant::now());
        let made = Rc::new(Multiplexed { connection, origin, served: Cell::new(1), last_used });
        self.shared.borrow_mut().entry(key).or_default().push(Rc::clone(&made));
        made
    }

    /// The turn of those who want an HTTP/2 connection of this kind and found none.
    pub(crate) fn gate(&self, key: &KeyView<'_>) -> Rc<Mutex<()>> {
        let mut gates = self.gates.borrow_mut();
        if let Some(gate) = gates.get(key) {
            return Rc::clone(gate);
        }
        let gate = Rc::default();
        gates.insert(key.to_key(), Rc::clone(&gate));
        gate
    }

    /// Closes an idle connection of a cluster; false when there is none.
    pub(crate) fn evict(&self, cluster: &str) -> bool {
        let mut idle = self.idle.borrow_mut();
        let mut of_cluster = idle.iter_mut().filter(|(key, _)| key.cluster() == cluster);
        of_cluster.find_map(|(_, connections)| connections.pop()).is_some()
    }

    /// Waits until a connection of this worker may have become free; those of other workers are looked for now and then.
    pub(crate) async fn place(&self) {
        self.waiting.set(self.waiting.get() + 1);
        let _ = timeout(SIBLINGS, self.freed.notified()).await;
        self.waiting.set(self.waiting.get().saturating_sub(1));
    }

    /// A connection has become free, or has gone.
    fn free(&self) {
        if self.waiting.get() > 0 {
            self.freed.notify_waiters();
        }
    }

    /// Closes what is useless, too old, or leads to an endpoint that is gone.
    fn sweep(&self, snapshot: &Snapshot) {
        self.idle.borrow_mut().retain(|key, connections| {
            let present = key.is_present(snapshot);
            connections.retain(|each| present && each.is_worth_keeping());
            !connections.is_empty()
        });
        self.gates.borrow_mut().retain(|_, gate| Rc::strong_count(gate) > 1);
        self.shared.borrow_mut().retain(|key, connections| {
            let present = key.is_present(snapshot);
            // Streams under way hold their connection themselves and end in peace.
            connections.retain(|each| present && each.is_worth_keeping());
            !connections.is_empty()
        });
    }
}

impl Origin {
    fn is_current(&self, current: Option<&Arc<ClientConfig>>) -> bool {
        match (&self.made_with, current) {
            (Some(made_with), Some(current)) => Arc::ptr_eq(made_with, current),
            (made_with, _) => made_with.is_none(),
        }
    }

    fn is_over(&self) -> bool {
        self.ends.is_some_and(|end| end <= Instant::now())
    }
}

impl Idle {
    fn is_worth_keeping(&self) -> bool {
        self.since.elapsed() < self.origin.idle_time && self.connection.useless().now_or_never().is_none()
    }
}

impl Multiplexed {
    fn is_usable(&self, current: Option<&Arc<ClientConfig>>) -> bool {
        let spent = self.origin.most_requests.is_some_and(|most| self.served.get() >= most);
        !spent && !self.origin.is_over() && !self.connection.is_closed() && self.origin.is_current(current)
    }

    fn has_room(&self) -> bool {
        let most = self.origin.most_streams.map_or(usize::MAX, |most| most as usize);
        self.connection.is_ready() && self.connection.active_streams() < most
    }

    fn is_worth_keeping(&self) -> bool {
        !self.connection.is_closed()
            && !self.origin.is_over()
            && self.last_used.get().elapsed() < self.origin.idle_time
    }

    fn count(&self) {
        self.served.set(self.served.get().saturating_add(1));
        self.last_used.set(Instant::now());
    }
}

/// Looks through the pool from time to time, and after every change of the configuration.
pub(crate) async fn sweep(worker: Rc<Worker>) {
    let mut changes = worker.changes();
    let (mut time, mut log) = (interval(SWEEP), interval(FLUSH));
    time.set_missed_tick_behavior(MissedTickBehavior::Delay);
    log.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            _ = time.tick() => {}
            _ = log.tick() => {
                worker.reporter().flush();
                continue;
            }
        }
        worker.pool().sweep(&worker.snapshot());
    }
}
