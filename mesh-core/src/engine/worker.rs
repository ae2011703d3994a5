//! One worker: a thread with its own runtime, listeners, pools and dice. Nothing on a request's way is shared between
//! workers but the snapshot and a cluster's atomics.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener as StdListener;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use rustls::pki_types::TrustAnchor;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::{LocalSet, spawn_local};

use super::codec::h1;
use super::connection::terminate::GatewayCertificates;
use super::drain::Drain;
use super::gateway_listeners::{self, Opened};
use super::listen::{self, Door};
use super::names::{self, Names};
use super::origination::Originations;
use super::own::{OwnCache, OwnFacts};
use super::pool::Pool;
use super::settings::{Limits, Settings};
use super::{Handles, Shared};
use crate::dice::Dice;
use crate::model::Workload;
use crate::snapshot::Snapshot;
use crate::telemetry::{Counter, Reporter};
use crate::tls::{Signatures, system};

/// What everything on one worker's thread uses.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    /// Bounds of HTTP/1.1 connections, which share them.
    http1: Rc<h1::Limits>,
    pool: Pool,
    dice: RefCell<Dice>,
    places: Arc<Semaphore>,
    gateway_certificates: GatewayCertificates,
    originations: Originations,
    reporter: Reporter,
    own: OwnCache,
    random: RefCell<fastrand::Rng>,
    policy: watch::Sender<()>,
    tokens: Signatures,
}

/// The listening sockets a worker starts with.
pub(crate) type Doors = Vec<(Door, StdListener)>;

/// Starts a worker's thread; it ends when the engine is stopped.
pub(crate) fn start(shared: Arc<Shared>, index: usize, doors: Doors) -> io::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let stopped = shared.stopped.clone();
        let tasks = LocalSet::new();
        tasks.block_on(&runtime, async {
            let worker = Rc::new(Worker::new(shared));
            if let Err(error) = worker.open(doors) {
                tracing::error!(%error, worker = index, "cannot listen");
                return;
            }
            stopped.cancelled().await;
        });
    })
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let limits = &shared.settings.limits;
        let http1 = h1::Limits { idle_time: limits.keep_alive, ..limits.http1.clone() };
        Self {
            http1: Rc::new(http1),
            pool: Pool::new(limits.idle_per_endpoint),
            dice: RefCell::new(Dice::seeded(fastrand::u64(..))),
            places: Arc::new(Semaphore::new(limits.connections)),
            gateway_certificates: GatewayCertificates::default(),
            originations: Originations::default(),
            reporter: Reporter::new(&shared.handles.sinks),
            own: OwnCache::default(),
            random: RefCell::default(),
            policy: watch::Sender::new(()),
            tokens: Signatures::default(),
            shared,
        }
    }

    fn open(self: &Rc<Self>, doors: Doors) -> io::Result<()> {
        for (door, listener) in doors {
            let listener = TcpListener::from_std(listener)?;
            spawn_local(listen::serve(Rc::clone(self), listener, door));
        }
        if self.settings().gateway.is_some() {
            spawn_local(gateway_listeners::follow(Rc::clone(self)));
        }
        spawn_local(super::pool::sweep(Rc::clone(self)));
        spawn_local(names::follow(Rc::clone(self)));
        spawn_local(follow_policy(Rc::clone(self)));
        Ok(())
    }

    /// The configuration now. A request takes it once.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.handles.snapshot.load_full()
    }

    pub(crate) fn handles(&self) -> &Handles {
        &self.shared.handles
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.shared.settings.limits
    }

    /// Bounds of HTTP/1.1 connections.
    pub(crate) fn http1(&self) -> Rc<h1::Limits> {
        Rc::clone(&self.http1)
    }

    pub(crate) fn drain(&self) -> &Drain {
        &self.shared.drain
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn gateway_certificates(&self) -> &GatewayCertificates {
        &self.gateway_certificates
    }

    pub(crate) fn originations(&self) -> &Originations {
        &self.originations
    }

    /// What names of destinations resolve to.
    pub(crate) fn names(&self) -> &Names {
        &self.shared.names
    }

    /// The authorities that the system trusts.
    pub(crate) fn system_anchors(&self) -> Arc<[TrustAnchor<'static>]> {
        let extra = self.settings().extra_roots.as_deref();
        let report = |path: &Path, error| {
            tracing::warn!(path = %path.display(), %error, "trust anchors cannot be read");
        };
        Arc::clone(self.shared.system_anchors.get_or_init(|| system::system_anchors(extra, report)))
    }

    /// Where records of this worker go.
    pub(crate) fn reporter(&self) -> &Reporter {
        &self.reporter
    }

    pub(crate) fn opened(&self) -> &Opened {
        &self.shared.opened
    }

    /// Rolls dice; `with` must not wait.
    pub(crate) fn dice<T>(&self, with: impl FnOnce(&mut Dice) -> T) -> T {
        with(&mut self.dice.borrow_mut())
    }

    /// Randomness for names: of traces and spans.
    pub(crate) fn random<T>(&self, with: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        with(&mut self.random.borrow_mut())
    }

    /// What the proxy itself is, as records carry it.
    pub(crate) fn own(&self) -> Option<Rc<OwnFacts>> {
        self.own.of(&self.shared.handles.snapshot.load())
    }

    /// Whether this is the workload beside us.
    pub(crate) fn is_own(&self, workload: &Workload) -> bool {
        !workload.uid.is_empty() && self.own().is_some_and(|own| own.workload().uid == workload.uid)
    }

    /// Checks the signatures of tokens.
    pub(crate) const fn tokens(&self) -> &Signatures {
        &self.tokens
    }

    /// Room for this worker's downstream connections.
    pub(crate) fn places(&self) -> Arc<Semaphore> {
        Arc::clone(&self.places)
    }

    /// Tells when the snapshot has been replaced.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Tells when the proxy's own configuration has been replaced: seldom, while endpoints come and go all the time.
    pub(crate) fn policy_changes(&self) -> watch::Receiver<()> {
        self.policy.subscribe()
    }

    /// Counts one of these.
    pub(crate) fn count(&self, counter: Counter) {
        self.shared.handles.sinks.metrics.count(counter);
    }

    /// Counts a destination that is forbidden.
    pub(crate) fn count_blocked(&self, host: &str) {
        self.shared.handles.sinks.metrics.count_blocked(host);
    }

    /// The ports that the configuration wants open on a gateway.
    pub(crate) fn listener_ports(&self) -> BTreeSet<u16> {
        let snapshot = self.snapshot();
        snapshot
            .own()
            .map(|own| own.model().listeners.iter().map(|listener| listener.port).collect())
            .unwrap_or_default()
    }
}

/// Wakes open connections when the proxy's own configuration has been replaced, or whom it trusts.
async fn follow_policy(worker: Rc<Worker>) {
    let mut changes = worker.changes();
    let mut before = worker.snapshot();
    let mut trusted = worker.handles().tls.trust_generation();
    while changes.changed().await.is_ok() {
        let now = worker.snapshot();
        let same = match (before.own(), now.own()) {
            // Both snapshots are held, so equal addresses are the same configuration.
            (Some(before), Some(now)) => std::ptr::eq(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        let trust = worker.handles().tls.trust_generation();
        if !same || trust != trusted {
            worker.policy.send_replace(());
        }
        (before, trusted) = (now, trust);
    }
}
